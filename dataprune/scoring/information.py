"""How much an input tells about its label (PVI), and how much of a loss can still be learned (RHO-Loss)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, check_numbers
from dataprune.scoring.base import BatchScorer, DatasetScorer
from dataprune.scoring.scoring_pass import scoring_pass

Collate = Callable[[list[Any]], Any]


class PVI(DatasetScorer):
    """Pointwise V-information: how much the input tells the model about the label, in bits; the score is its negative.

    For labelled data, to rank how usable each example's input is. Higher score = harder; the top (negative PVI) also
    holds the mislabelled examples. One forward pass, and one of the null model if there is one.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``-pvi_``.
    pvi_ : ndarray of float32, shape (n_examples,)
        log2 p'(y | x) - log2 p(y | null), in bits; negative where the model does worse than not looking at the input.
    label_frequencies_ : ndarray of float64, shape (n_classes,), or None
        Share of each label in the fitted data; None if a null model was given.

    Notes
    -----
    The null model is one fine-tuned on empty inputs, and `null_dataset` the same rows with empty inputs. The best such
    a model can do is to predict the label frequencies, which stand for it by default; `transform` then uses those of
    the fitted data. Fine-tune the model on other data than it scores, or for few epochs: once it has memorised an
    example, PVI tells no more than how rare the label is.

    References
    ----------
    Ethayarajh, Choi and Swayamdipta 2022, *Understanding Dataset Difficulty with V-Usable Information*,
    arXiv 2110.08420.

    Examples
    --------
    >>> data = [(torch.tensor([2.0, 0.0]), 0), (torch.tensor([2.0, 0.0]), 1)]
    >>> scorer = PVI().fit(data, model=nn.Identity())
    >>> scorer.pvi_.round(3), scorer.scores_.round(3)
    (array([ 0.817, -2.069], dtype=float32), array([-0.817,  2.069], dtype=float32))
    """

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        null_model: nn.Module | None = None,
        null_dataset: Any = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Collate | None = None,
    ) -> Self:
        """Score `dataset` and keep the result in ``scores_`` and ``pvi_``.

        Parameters
        ----------
        dataset : map-style data set
            Labelled rows.
        model : nn.Module
            A model fine-tuned on inputs and labels.
        null_model : nn.Module, optional
            A model fine-tuned on empty inputs and labels; by default the label frequencies.
        null_dataset : map-style data set, optional
            The rows of `dataset` with empty inputs, for the null model.
        forward : callable, optional
            ``forward(model, batch) -> dict`` with ``loss`` (B,), in nats; by default `default_forward`.
        batch_size : int, default=64
            Examples in a batch; does not change the scores.
        collate_fn : callable, optional
            Makes a batch of a list of examples.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidTypeError
            If there is no model.
        InvalidValueError
            If null model and null data do not go together, or there is no single label per example.
        """
        options = {"forward": forward, "batch_size": batch_size, "collate_fn": collate_fn}
        losses, labels = _losses_and_labels(dataset, model, **options)
        self.label_frequencies_ = None if null_model is not None or labels is None else _frequencies(labels)
        nulls = self._null_losses(labels, null_model, null_dataset, **options)
        self._keep(-pvi(losses, nulls), n_examples=len(losses))
        self.pvi_ = -self.scores_
        return self

    def transform(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        null_model: nn.Module | None = None,
        null_dataset: Any = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Collate | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores of any rows and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Labelled rows.
        model : nn.Module
            A model fine-tuned on inputs and labels.
        null_model : nn.Module, optional
            A model fine-tuned on empty inputs and labels; by default the label frequencies of the fitted data.
        null_dataset : map-style data set, optional
            The rows of `dataset` with empty inputs, for the null model.
        forward : callable, optional
            ``forward(model, batch) -> dict`` with ``loss`` (B,), in nats; by default `default_forward`.
        batch_size : int, default=64
            Examples in a batch; does not change the scores.
        collate_fn : callable, optional
            Makes a batch of a list of examples.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.

        Raises
        ------
        NotFittedError
            If there is neither a null model nor label frequencies.
        """
        values = self.score_dataset(
            dataset,
            model=model,
            null_model=null_model,
            null_dataset=null_dataset,
            forward=forward,
            batch_size=batch_size,
            collate_fn=collate_fn,
        )
        return self._checked(values, n_examples=len(values))

    def score_dataset(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        null_model: nn.Module | None = None,
        null_dataset: Any = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Collate | None = None,
    ) -> NDArray[np.float64]:
        """Score rows.

        Parameters
        ----------
        dataset : map-style data set
            Labelled rows.
        model : nn.Module
            A model fine-tuned on inputs and labels.
        null_model : nn.Module, optional
            A model fine-tuned on empty inputs and labels; by default the label frequencies of the fitted data.
        null_dataset : map-style data set, optional
            The rows of `dataset` with empty inputs, for the null model.
        forward : callable, optional
            ``forward(model, batch) -> dict`` with ``loss`` (B,), in nats; by default `default_forward`.
        batch_size : int, default=64
            Examples in a batch.
        collate_fn : callable, optional
            Makes a batch of a list of examples.

        Returns
        -------
        ndarray of float64, shape (n,)
            Negative PVI, in bits.
        """
        options = {"forward": forward, "batch_size": batch_size, "collate_fn": collate_fn}
        losses, labels = _losses_and_labels(dataset, model, **options)
        return -pvi(losses, self._null_losses(labels, null_model, null_dataset, **options))

    def _null_losses(
        self, labels: NDArray[np.int64] | None, null_model: nn.Module | None, null_dataset: Any, **options: Any
    ) -> NDArray[np.float64]:
        if (null_model is None) != (null_dataset is None):
            raise InvalidValueError(
                "PVI needs null_model=... and null_dataset=... (the same rows with empty inputs) together, "
                f"got only the {'data set' if null_model is None else 'model'}."
            )
        if null_model is not None:
            losses, null_labels = _losses_and_labels(null_dataset, null_model, **options)
            if labels is not None and (null_labels is None or not np.array_equal(labels, null_labels)):
                raise InvalidValueError("PVI.null_dataset must have the labels of the data set, row by row.")
            return losses
        if labels is None:
            raise InvalidValueError(
                "PVI needs one class per example, or null_model=... and null_dataset=... for other tasks."
            )
        frequencies = getattr(self, "label_frequencies_", None)
        if frequencies is None:
            raise NotFittedError("PVI has no label frequencies yet. Call fit(dataset, model=...) first.")
        chances = np.append(frequencies, 0.0)[np.clip(labels, 0, len(frequencies))]
        chances[labels < 0] = 1.0  # a label that does not count costs nothing
        if not chances.all():
            row = int(np.flatnonzero(chances == 0)[0])
            raise InvalidValueError(
                f"PVI knows no frequency of label {labels[row]} in row {row}: fit() did not see it."
            )
        return np.asarray(-np.log(chances))


def pvi(losses: ArrayLike, null_losses: ArrayLike) -> NDArray[np.float64]:
    """Return the pointwise V-information of each example, in bits.

    Parameters
    ----------
    losses : array-like of float, shape (n,)
        Cross entropy of each label under a model that sees the input, in nats.
    null_losses : array-like of float, shape (n,)
        The same under a model that does not.

    Returns
    -------
    ndarray of float64, shape (n,)
        High where the input helps; the score `PVI` is its negative.

    References
    ----------
    Ethayarajh, Choi and Swayamdipta 2022, arXiv 2110.08420.

    Examples
    --------
    >>> pvi([0.0, np.log(4)], [np.log(2), np.log(2)])
    array([ 1., -1.])
    """
    return np.asarray((np.asarray(null_losses) - np.asarray(losses)) / np.log(2))


def _frequencies(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    counted = labels[labels >= 0]
    return np.bincount(counted) / max(1, len(counted))


def _losses_and_labels(
    dataset: Any, model: nn.Module | None, **options: Any
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Return each example's loss, and its class where every example has just one."""
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"PVI.fit() needs model=... as a torch.nn.Module, got {type(model).__name__}.")
    losses, labels, single = np.zeros(len(dataset)), np.zeros(len(dataset), np.int64), True
    for index, signals in scoring_pass(dataset, model, **options):
        if "loss" not in signals:
            got = ", ".join(map(repr, signals)) or "nothing"
            raise InvalidValueError(f"PVI needs a forward that returns 'loss', one value per example, got only {got}.")
        rows, classes = index.numpy(), signals.get("labels")
        losses[rows] = signals["loss"].float().cpu().numpy()
        single = single and classes is not None and classes.dim() == 1 and not classes.dtype.is_floating_point
        if single:
            labels[rows] = signals["labels"].cpu().numpy()
    return losses, labels if single else None


class ReducibleLoss(BatchScorer):
    """RHO-Loss: the example's loss beyond what a model trained on held-out data has on it.

    High for what can be learned and is not learned yet; noise and wrong labels have a high irreducible loss and so
    score low. Higher = more worth learning now. Free with ``refresh="observed"``, once a held-out model has been
    trained and has seen the train set.

    Parameters
    ----------
    irreducible_loss : array-like of float, shape (n_examples,)
        Loss of each example under a model trained on other data, of the same kind as the signal ``loss``: for instance
        ``Loss().fit(train, model=held_out_model).scores_``.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    irreducible_ : Tensor, shape (n_examples,)
        The losses given, float32.
    scores_ : ndarray of float32, shape (n_examples,)
        Reducible losses, negative where the model does better than the held-out one; NaN = never seen.

    Notes
    -----
    The paper chooses inside each large batch before training on it; as a score for whole epochs the values are as old
    as the last visit. Rows are known by their index, so `transform` takes the fitted data set only.

    References
    ----------
    Mindermann et al. 2022, *Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt*,
    arXiv 2206.07137.

    Examples
    --------
    >>> scorer = ReducibleLoss([0.25, 2.0]).reset(2)
    >>> scorer.update(torch.tensor([0, 1]), loss=torch.tensor([1.0, 2.0])).scores_
    array([0.75, 0.  ], dtype=float32)
    """

    def __init__(
        self,
        irreducible_loss: Any,
        *,
        smoothing: str = "last",
        ema_weight: float = 0.8,
        std_bonus: float = 1.0,
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.irreducible_loss = irreducible_loss

    def reset(self, n_examples: int) -> Self:
        """Forget all scores and make room for a data set.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidValueError
            If there is not one finite irreducible loss per example, or a smoothing parameter is out of range.
        """
        table = check_numbers("ReducibleLoss", "irreducible_loss", self.irreducible_loss, np.float32)
        if table.shape != (n_examples,):
            raise InvalidValueError(
                f"ReducibleLoss.irreducible_loss must have shape ({n_examples},), got {table.shape}. "
                "Score the whole train set with the held-out model."
            )
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table))[0])
            raise InvalidValueError(f"ReducibleLoss.irreducible_loss must be finite, got {table[row]} in row {row}.")
        self.irreducible_ = torch.tensor(table)  # a copy
        return super().reset(n_examples)

    @property
    def requires(self) -> frozenset[str]:
        """``loss`` (B,) and ``index`` (B,), which `update` passes on."""
        return frozenset({"loss", "index"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``loss`` (B,) and ``index`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        if not hasattr(self, "irreducible_"):
            raise NotFittedError("ReducibleLoss has no table yet. Call reset(n_examples) or fit() first.")
        self.irreducible_ = self.irreducible_.to(signals["loss"].device)  # moves once; a pass's index is on the CPU
        index = signals["index"].to(self.irreducible_.device).clamp(0, len(self.irreducible_) - 1)  # (B,)
        known = self.irreducible_[index]  # (B,); the store refuses other rows
        return reducible_loss(signals["loss"], known)


def reducible_loss(losses: Tensor, irreducible: Tensor) -> Tensor:
    """Return what can still be learned of each example's loss.

    Parameters
    ----------
    losses : Tensor
        Shape (B,): losses under the model that is trained.
    irreducible : Tensor
        Shape (B,): losses under a model trained on held-out data.

    Returns
    -------
    Tensor
        Shape (B,), float32; negative where the model does better than the held-out one.

    References
    ----------
    Mindermann et al. 2022, arXiv 2206.07137.

    Examples
    --------
    >>> reducible_loss(torch.tensor([2.0, 0.5]), torch.tensor([0.5, 1.0]))
    tensor([ 1.5000, -0.5000])
    """
    return losses.float() - irreducible.float()
