"""Scorers: signals in, one number per example out; higher = harder, for every scorer, never configurable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from dataprune.data.fingerprint import fingerprint
from dataprune.data.forward import Forward, default_forward
from dataprune.data.indexed import IndexedDataset
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.provenance import check_same_data, provenance
from dataprune.scoring.scoring_pass import scoring_pass
from dataprune.scoring.store import OBSERVED, PASS, ExampleStore, ScoreStore


class Scorer(BaseEstimator, ABC):
    """One number per example: the higher, the harder or the more informative.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Scores of the fitted rows; NaN = never seen.

    Examples
    --------
    >>> from dataprune import EL2N
    >>> isinstance(EL2N(), Scorer)
    True
    """

    @abstractmethod
    def fit(self, dataset: Any, *, model: nn.Module | None = None) -> Self:
        """Score `dataset` and keep the result in ``scores_``.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module, optional
            The model whose view of the data is asked for.

        Returns
        -------
        self
            The scorer.
        """

    @abstractmethod
    def transform(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[np.float32]:
        """Return the scores of any rows and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            The model whose view of the data is asked for.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.
        """


class BatchScorer(Scorer):
    """A scorer that reads the signals of a training or scoring pass, batch by batch.

    A new one implements `requires` and `score_batch`, and `_check_parameters` if it has any; everything else stands
    here. One that keeps more than a smoothed score overrides `make_store` and `store_values`; one that needs gradients,
    `needs_gradients` and `wrap_forward`.

    Parameters
    ----------
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    store_ : ExampleStore
        The table behind ``scores_``.
    scores_ : ndarray of float32, shape (n_examples,)
        Smoothed scores; NaN = never seen.

    Examples
    --------
    >>> class Doubt(BatchScorer):
    ...     requires = frozenset({"logits"})
    ...
    ...     def score_batch(self, **signals):
    ...         return 1 - signals["logits"].float().softmax(-1).amax(-1)
    >>> Doubt().reset(1).update(torch.tensor([0]), logits=torch.zeros(1, 4)).scores_
    array([0.75], dtype=float32)
    """

    # Whether its signals can be read off a training pass.
    supports_observe: ClassVar[bool] = True

    # Whether a scoring pass runs with gradients enabled.
    needs_gradients: ClassVar[bool] = False

    def __init__(self, *, smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0) -> None:
        self.smoothing = smoothing
        self.ema_weight = ema_weight
        self.std_bonus = std_bonus

    @property
    @abstractmethod
    def requires(self) -> frozenset[str]:
        """Names of the signals that `update` needs."""

    @abstractmethod
    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            At least those named by `requires`.

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """

    def store_values(self, **signals: Tensor) -> Tensor:
        """Return what the table takes in of one batch; by default its scores.

        Parameters
        ----------
        **signals : Tensor
            At least those named by `requires`.

        Returns
        -------
        Tensor
            Shape (B,) or (B, k), float32.
        """
        return self.score_batch(**signals)

    def make_store(self, n_examples: int) -> ExampleStore:
        """Return an empty table; by default one smoothed score per example.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        ExampleStore
            The table.
        """
        return ScoreStore(n_examples, smoothing=self.smoothing, ema_weight=self.ema_weight, std_bonus=self.std_bonus)

    def wrap_forward(self, forward: Forward) -> Forward:
        """Return the forward of a scoring pass; by default the one given.

        Parameters
        ----------
        forward : callable
            ``forward(model, batch) -> dict`` of signals.

        Returns
        -------
        callable
            A forward whose signals `requires` names.
        """
        return forward

    @property
    def scores_(self) -> NDArray[np.float32]:
        """Smoothed scores of all examples; NaN = never seen."""
        return self._fitted_store().scores

    def _fitted_store(self) -> ExampleStore:
        if not hasattr(self, "store_"):
            raise NotFittedError(f"{type(self).__name__} has no scores yet. Call fit(dataset, model=...) first.")
        return self.store_

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
        InvalidTypeError
            If a parameter is of another kind.
        InvalidValueError
            If a parameter is out of range.
        """
        self._check_parameters()
        self.store_ = self.make_store(n_examples)
        self.set_epoch(0)
        return self

    def _check_parameters(self) -> None:
        """Raise unless the parameters beside those of smoothing are in range."""

    def set_epoch(self, epoch: int, *, source: int = OBSERVED) -> None:
        """Tell which epoch and pass the next `update` calls belong to.

        Parameters
        ----------
        epoch : int
            From 0.
        source : int, default=OBSERVED
            `OBSERVED` for a training pass, `PASS` for a scoring pass.
        """
        self.epoch_ = epoch
        self.source_ = source

    def update(self, index: Tensor, **signals: Tensor) -> Self:
        """Take in one batch of the training pass; changes no tensor and never waits for the device.

        Parameters
        ----------
        index : Tensor
            Shape (B,), rows of the full data set.
        **signals : Tensor
            At least those named by `requires`; others are ignored. `index` itself is a signal, too.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        NotFittedError
            Before `reset` or `fit`.
        InvalidValueError
            If a signal is missing.
        """
        store, index = self._fitted_store(), as_index(index)
        signals = {**signals, "index": index}
        self.check_signals(signals)
        with torch.no_grad():
            values = self.store_values(**{name: signal.detach() for name, signal in signals.items()})
        store.update(index, values, epoch=self.epoch_, source=self.source_)
        return self

    def check_signals(self, signals: Mapping[str, Tensor]) -> None:
        """Raise unless all signals are there that `update` needs.

        Parameters
        ----------
        signals : mapping of str to Tensor
            What a forward returned.

        Raises
        ------
        InvalidValueError
            If one is missing.
        """
        missing = sorted(self.requires - signals.keys() - {"index"})
        if missing:
            needs = " and ".join(map(repr, sorted(self.requires - {"index"})))
            got = ", ".join(map(repr, sorted(signals.keys() - {"index"}))) or "none"
            raise InvalidValueError(
                f"{type(self).__name__}.update() needs the signals {needs}, got only {got}. "
                f"Pass {', '.join(f'{name}=...' for name in missing)} to observe(), or return them from forward."
            )

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> Self:
        """Score `dataset` with one forward pass of `model`, in eval mode.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module
            Its parameters and its training mode stay as they are.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals; by default `default_forward`, in float32.
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
            If there is no model, or the data set cannot be indexed.
        """
        self.reset(len(IndexedDataset(dataset)))
        return self.partial_fit(
            dataset,
            model=model,
            forward=forward,
            batch_size=batch_size,
            collate_fn=collate_fn,
        )

    def partial_fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> Self:
        """Add the view of another checkpoint or seed; ``smoothing="mean"`` gives the average over runs of Paul et al.

        Parameters
        ----------
        dataset : map-style data set
            The data set that was fitted.
        model : nn.Module
            Another checkpoint, or the model of another seed.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals; by default `default_forward`, in float32.
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
            If the data set has another length than the fitted one, or a score is NaN.
        StateError
            If the data set has other rows than the fitted one.
        """
        n_examples = len(IndexedDataset(dataset))
        if not hasattr(self, "store_"):
            self.reset(n_examples)
        if n_examples != self.store_.n_examples:
            raise InvalidValueError(
                f"{type(self).__name__} was fitted on {self.store_.n_examples} examples, got {n_examples}. "
                "Call fit() for other data."
            )
        model = self._checked(model)
        data_fingerprint = fingerprint(dataset)
        check_same_data(self.store_.provenance, data_fingerprint)
        before = self.store_.state_dict()
        # Behind all that the table has seen, wherever it comes from: an epoch counts once per example.
        self.set_epoch(max(self.epoch_, int(before["last_epoch"].max(initial=-1)) + 1), source=PASS)
        try:
            for index, signals in scoring_pass(
                dataset,
                model,
                forward=self.wrap_forward(default_forward if forward is None else forward),
                batch_size=batch_size,
                collate_fn=collate_fn,
                with_gradients=self.needs_gradients,
            ):
                self.update(index, **signals)
            self.store_.flush()
        except BaseException:
            self.store_.load_state_dict(before)  # a checkpoint counts for all rows or for none
            raise
        self.store_.provenance = provenance(self, data_fingerprint=data_fingerprint, model=model, epoch=self.epoch_)
        self.set_epoch(self.epoch_ + 1)
        return self

    def transform(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores of any rows and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module
            The model whose view of the rows is asked for.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals; by default `default_forward`, in float32.
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
        InvalidTypeError
            If there is no model.
        InvalidValueError
            If a score is NaN.
        """
        from sklearn.base import clone

        fresh: Self = clone(self)
        fresh.fit(
            dataset,
            model=model,
            forward=forward,
            batch_size=batch_size,
            collate_fn=collate_fn,
        )
        return fresh.scores_

    def _checked(self, model: nn.Module | None) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(
                f"{type(self).__name__}.fit() needs model=... as a torch.nn.Module, got {type(model).__name__}."
            )
        return model


class DatasetScorer(Scorer):
    """A scorer that reads the data set itself: its texts, its embeddings, a column, or another model's view of them.

    A new one implements `score_dataset`; one that needs more than a model (a tokenizer, say) overrides `fit` and
    `transform` with further keywords.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Scores of the fitted rows.

    Examples
    --------
    >>> class TextLength(DatasetScorer):
    ...     def score_dataset(self, dataset, *, model=None):
    ...         return np.array([len(text) for text in dataset])
    >>> TextLength().fit(["a", "bcd"]).scores_
    array([1., 3.], dtype=float32)
    """

    @abstractmethod
    def score_dataset(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[Any]:
        """Score rows.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            For scorers that look through a model.

        Returns
        -------
        ndarray, shape (n,)
            One number per row, no NaN; higher = harder or more informative.
        """

    def fit(self, dataset: Any, *, model: nn.Module | None = None) -> Self:
        """Score `dataset` and keep the result in ``scores_``.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module, optional
            For scorers that look through a model.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidTypeError
            If the data set is a stream.
        InvalidValueError
            If there is not one number per row.
        """
        return self._keep(self.score_dataset(dataset, model=model), n_examples=_length(dataset))

    def transform(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[np.float32]:
        """Return the scores of any rows and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            For scorers that look through a model.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.

        Raises
        ------
        InvalidTypeError
            If the data set is a stream.
        InvalidValueError
            If there is not one number per row.
        """
        return self._checked(self.score_dataset(dataset, model=model), n_examples=_length(dataset))

    def _keep(self, values: NDArray[Any], *, n_examples: int) -> Self:
        self.scores_ = self._checked(values, n_examples=n_examples)
        return self

    def _checked(self, values: NDArray[Any], *, n_examples: int) -> NDArray[np.float32]:
        owner = type(self).__name__
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            scores = np.asarray(values, dtype=np.float32)
        if scores.shape != (n_examples,):
            raise InvalidValueError(f"{owner} must give one score for each of {n_examples} rows, got {scores.shape}.")
        if np.isnan(scores).any():
            raise InvalidValueError(
                f"{owner}'s score of row {int(np.flatnonzero(np.isnan(scores))[0])} is NaN. Look at that row."
            )
        return scores


def _length(dataset: Any) -> int:
    if not hasattr(dataset, "__len__"):
        raise InvalidTypeError(
            f"A data set must have a length and rows by number, got the stream {type(dataset).__name__}."
        )
    return len(dataset)


def as_index(index: Any) -> Tensor:
    """Return row numbers as an int64 tensor of one dimension.

    Parameters
    ----------
    index : Tensor, ndarray, list or int
        Row numbers; floats are refused, for they round above 2048 (float16) or 16,777,216 (float32).

    Returns
    -------
    Tensor
        Shape (B,), int64.

    Raises
    ------
    InvalidTypeError
        If the row numbers are no integers.

    Examples
    --------
    >>> as_index(torch.tensor(3))
    tensor([3])
    """
    tensor = torch.as_tensor(index)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise InvalidTypeError(f"An index must be integers, got {tensor.dtype}. Pass the index that came in the batch.")
    return tensor.reshape(-1).to(torch.int64)
