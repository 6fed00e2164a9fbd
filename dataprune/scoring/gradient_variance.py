"""Variance of gradients (VoG): how much the view of an example's input changes from checkpoint to checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dataprune.data.files import read_tensors, write_tensors
from dataprune.data.fingerprint import fingerprint
from dataprune.data.forward import Forward, default_forward
from dataprune.data.indexed import IndexedDataset
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, StateError
from dataprune.scoring._gradients_input import with_input_gradients
from dataprune.scoring.base import Scorer
from dataprune.scoring.provenance import check_same_data, provenance
from dataprune.scoring.scoring_pass import scoring_pass

_FORMAT = "dataprune.VarianceOfGradients/2"
_ARRAYS = {
    "means": np.float32,  # mean gradients of all inputs, one after the other as the first pass visits them
    "starts": np.int64,  # where an example's begins there, and how long it is
    "sizes": np.int64,
    "squares": np.float64,  # squared deviations, summed over dimensions
    "labels": np.int64,
}


class VarianceOfGradients(Scorer):
    """How much the gradient of the label's logit with respect to the input varies over checkpoints of one run.

    For single-label classifiers whose checkpoints were kept. Higher = harder. Costs a forward and a backward pass per
    checkpoint, and keeps one array of the input's size per example.

    Parameters
    ----------
    normalize_by_class : bool, default=True
        Give the variances as standard scores within each class, as the paper does: scores are then below 0 for what is
        easy for its class, and a class of one example scores 0.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Variances, or their standard scores.
    variances_ : ndarray of float32, shape (n_examples,)
        Variances, at least 0.
    n_checkpoints_ : int
        Checkpoints seen.
    provenance_ : dict
        Where the scores come from: data fingerprint, parameters, hash of the last checkpoint, versions.

    Notes
    -----
    The input is the output of the first ``nn.Embedding`` that the model calls; in a model without one it is the first
    floating-point tensor of the batch. The variance (ddof = 0) is taken per dimension and averaged over the example's
    own dimensions: tokens where the batch's ``attention_mask`` is 0 are left out. Without a mask, token models need the
    same batches at each checkpoint.

    Memory: the running mean gradient, 4 bytes per dimension of each input (31 kB for 20 tokens of 384 dimensions). The
    squared deviations are summed over the dimensions as they come (Welford's update): exact, and no second array.

    References
    ----------
    Agarwal, D'souza and Hooker 2022, *Estimating Example Difficulty Using Variance of Gradients*, arXiv 2008.11600.
    Their code takes the mean of the standard deviations, of gradients that are averaged over the colours of an image.

    Examples
    --------
    >>> import torch
    >>> model, later = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    >>> _ = later.weight.data.copy_(torch.tensor([[1.0, 4.0], [0.0, 0.0]]))
    >>> data = [(torch.ones(2), 0), (torch.ones(2), 1)]
    >>> VarianceOfGradients(normalize_by_class=False).fit(data, model=[model, later]).scores_
    array([0.5, 0. ], dtype=float32)
    """

    def __init__(self, *, normalize_by_class: bool = True) -> None:
        self.normalize_by_class = normalize_by_class

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | Sequence[nn.Module] | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> Self:
        """Start afresh with one checkpoint or several.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module or sequence of nn.Module
            Checkpoints; their parameters, gradients and training modes stay as they are.
        forward : callable, optional
            ``forward(model, batch) -> dict`` with ``logits`` (B, C) and ``labels`` (B,); by default `default_forward`.
        batch_size : int, default=64
            Examples in a batch.
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
            If the signals or the inputs do not fit.
        """
        n_examples = len(IndexedDataset(dataset))
        self.n_checkpoints_ = 0
        self.provenance_: dict[str, Any] = {}
        self._means, self._squares = np.empty(0, np.float32), np.zeros(n_examples)
        self._starts, self._sizes = np.zeros((2, n_examples), np.int64)
        self._labels = np.zeros(n_examples, np.int64)
        for checkpoint in [model] if model is None or isinstance(model, nn.Module) else model:
            self.partial_fit(dataset, model=checkpoint, forward=forward, batch_size=batch_size, collate_fn=collate_fn)
        return self

    def partial_fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> Self:
        """Add the view of another checkpoint.

        Parameters
        ----------
        dataset : map-style data set
            The data set of all calls.
        model : nn.Module
            Another checkpoint.
        forward : callable, optional
            As in `fit`.
        batch_size : int, default=64
            Examples in a batch.
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
            If the signals or the inputs do not fit, or the data set has another length than the fitted one.
        StateError
            If the data set has other rows than the fitted one.
        """
        if not isinstance(model, nn.Module):
            raise InvalidTypeError(
                "VarianceOfGradients.fit() needs model=... as a torch.nn.Module or a list of them, "
                f"got {type(model).__name__}."
            )
        n_examples = len(IndexedDataset(dataset))
        if not hasattr(self, "_sizes"):
            return self.fit(dataset, model=model, forward=forward, batch_size=batch_size, collate_fn=collate_fn)
        if n_examples and not len(self._sizes):
            raise NotFittedError(
                "VarianceOfGradients lost its checkpoints when the last pass failed half way. Load the file that you "
                "saved before, or fit() anew."
            )
        if n_examples != len(self._sizes):
            raise InvalidValueError(
                f"VarianceOfGradients was fitted on {len(self._sizes)} examples, got {n_examples}. "
                "Call fit() for other data."
            )
        data_fingerprint = fingerprint(dataset)
        check_same_data(self.provenance_, data_fingerprint)
        # An error half way leaves an unfitted scorer, not one whose first rows have seen a checkpoint more.
        (sizes, n_seen), (self._sizes, self.n_checkpoints_) = (self._sizes, self.n_checkpoints_), (self._sizes[:0], 0)
        visited: list[NDArray[np.float32]] = []  # gradients of the first checkpoint, a batch each
        n_visited = 0
        for index, signals in scoring_pass(
            dataset,
            model,
            forward=with_input_gradients(default_forward if forward is None else forward),
            batch_size=batch_size,
            collate_fn=collate_fn,
            with_gradients=True,
        ):
            rows = index.numpy()
            gradients = signals["input_gradients"].float().cpu().numpy()  # (B, ..., D)
            kept = signals["input_mask"].cpu().numpy()  # (B, ...)
            values, n_values = gradients[kept].ravel(), kept.reshape(len(rows), -1).sum(1) * gradients.shape[-1]
            self._labels[rows] = signals["labels"].cpu().numpy()
            if n_seen == 0:
                sizes[rows] = n_values
                self._starts[rows] = n_visited + n_values.cumsum() - n_values
                visited.append(values)
                n_visited += len(values)
                continue
            if not np.array_equal(n_values, sizes[rows]):
                at = np.flatnonzero(n_values != sizes[rows])[0]
                raise InvalidValueError(
                    f"The input of example {rows[at]} had {sizes[rows][at]} dimensions at the first checkpoint, got "
                    f"{n_values[at]}. Use the same batch_size, or a batch with an attention_mask."
                )
            self._update(rows, values, n_values, n_seen + 1)
        if n_seen == 0:
            self._means = _joined(visited, n_visited)
        self._sizes, self.n_checkpoints_ = sizes, n_seen + 1
        self.provenance_ = provenance(self, data_fingerprint=data_fingerprint, model=model, epoch=n_seen)
        return self

    def _update(self, rows: NDArray[Any], values: NDArray[np.float32], n_values: NDArray[Any], n: int) -> None:
        """Bring the mean gradients and the squared deviations of a batch from n - 1 checkpoints to n."""
        offsets = n_values.cumsum() - n_values
        shifts = self._starts[rows] - offsets
        place: Any = slice(shifts[0], shifts[0] + len(values))
        if (shifts != shifts[0]).any():  # not the batches of the first checkpoint, which lie in one piece
            place = np.repeat(shifts, n_values) + np.arange(len(values))
        means = self._means[place]
        deviations = values - means
        filled = n_values > 0
        sums = np.add.reduceat(deviations * deviations, offsets[filled])
        self._squares[rows[filled]] += (1 - 1 / n) * sums
        self._means[place] = means + deviations / np.float32(n)

    def save(self, path: str | Path) -> None:
        """Write what the checkpoints so far have told to one safetensors file, atomically; `load` goes on from it.

        Parameters
        ----------
        path : str or Path
            The file; its folder must exist. It is as large as all inputs: one gradient per example.

        Raises
        ------
        NotFittedError
            Before the first checkpoint.

        Examples
        --------
        >>> import tempfile, torch
        >>> data, model = [(torch.ones(2), 0)], nn.Linear(2, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     VarianceOfGradients().fit(data, model=model).save(f"{folder}/vog.safetensors")
        ...     loaded = VarianceOfGradients.load(f"{folder}/vog.safetensors")
        >>> loaded.partial_fit(data, model=model).n_checkpoints_
        2
        """
        if not getattr(self, "n_checkpoints_", 0):
            raise NotFittedError("VarianceOfGradients has seen no checkpoint yet. Call fit(dataset, model=...) first.")
        arrays = {name: getattr(self, f"_{name}") for name in _ARRAYS}
        settings = {
            "format": _FORMAT,
            "normalize_by_class": self.normalize_by_class,
            "n_checkpoints": self.n_checkpoints_,
            "provenance": self.provenance_,
        }
        write_tensors(path, arrays, settings)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a scorer that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        VarianceOfGradients
            As it was; `partial_fit` adds checkpoints, of the same data only.

        Raises
        ------
        StateError
            If the file is missing, damaged, or of another kind.

        Examples
        --------
        >>> VarianceOfGradients.load("missing.safetensors")
        Traceback (most recent call last):
        dataprune.errors.StateError: The file missing.safetensors does not exist.
        """
        arrays, settings = read_tensors(path)
        is_whole = settings.get("format") == _FORMAT and {n: a.dtype for n, a in arrays.items()} == _ARRAYS
        if not is_whole or arrays["sizes"].sum() != len(arrays["means"]):
            raise StateError(f"The file {path} holds no VarianceOfGradients that this version of dataprune can read.")
        scorer = cls(normalize_by_class=settings["normalize_by_class"])
        scorer.n_checkpoints_, scorer.provenance_ = settings["n_checkpoints"], settings["provenance"]
        for name, array in arrays.items():
            setattr(scorer, f"_{name}", array.copy())  # what was read is read-only
        return scorer

    @property
    def variances_(self) -> NDArray[np.float32]:
        """Variances over the checkpoints, averaged over the dimensions of the input."""
        n = getattr(self, "n_checkpoints_", 0)
        if n < 2:
            raise NotFittedError(
                f"VarianceOfGradients needs at least 2 checkpoints, got {n}. Call partial_fit(dataset, model=...) with "
                "another, or fit() with a list."
            )
        variances: NDArray[np.float32] = (self._squares / n / self._sizes.clip(min=1)).astype(np.float32)
        if np.isnan(variances).any():
            row = int(np.flatnonzero(np.isnan(variances))[0])
            raise InvalidValueError(f"The score of example {row} is NaN. Look at that row.")
        return variances

    @property
    def scores_(self) -> NDArray[np.float32]:
        """Variances, or their standard scores within each class."""
        scores = self.variances_.astype(np.float64)
        if self.normalize_by_class:
            for label in np.unique(self._labels):
                rows = self._labels == label
                spread = scores[rows].std()
                scores[rows] = (scores[rows] - scores[rows].mean()) / (spread if spread > 0 else 1.0)
        return scores.astype(np.float32)

    def transform(
        self,
        dataset: Any,
        *,
        model: nn.Module | Sequence[nn.Module] | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> NDArray[np.float32]:
        """Return the scores of any rows under a list of checkpoints, and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : sequence of nn.Module
            At least two checkpoints.
        forward : callable, optional
            As in `fit`.
        batch_size : int, default=64
            Examples in a batch.
        collate_fn : callable, optional
            Makes a batch of a list of examples.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores; with ``normalize_by_class``, relative to these rows.

        Raises
        ------
        InvalidTypeError
            If there is no model.
        NotFittedError
            If there are fewer than two.
        """
        from sklearn.base import clone

        fresh: Self = clone(self)
        return fresh.fit(dataset, model=model, forward=forward, batch_size=batch_size, collate_fn=collate_fn).scores_


def _joined(pieces: list[NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    """Return the pieces as one array, and let go of each as it is copied: memory never holds all of them twice."""
    whole = np.empty(size, np.float32)
    while pieces:
        piece = pieces.pop()
        whole[size - len(piece) : size] = piece
        size -= len(piece)
    return whole
