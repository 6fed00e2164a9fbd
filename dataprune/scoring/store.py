"""What is known of each example, kept over epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.files import read_tensors, write_tensors
from dataprune.errors import InvalidValueError, StateError, check_choice, check_count, check_finite, check_fraction

SMOOTHINGS = ("last", "mean", "ema", "ema_plus_std")
"""How one example's visits combine over time."""

OBSERVED, PASS = 1, 2
"""Where the newest score of an example came from: the training pass, or a scoring pass."""

MAX_NOTES, ROWS_PER_COUNT = 1 << 17, 1 << 14
"""Visits that wait to be counted, at most, and how many are counted at a time: both take memory beside the table."""

_ARRAYS = {"counts": np.int32, "last_epoch": np.int32, "source": np.int8}


@dataclass(frozen=True)
class Visits:
    """Visits that are not counted yet.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        Examples.
    values : ndarray of float32, shape (n, ...)
        What was seen of them.
    epoch : ndarray of int64, shape (n,)
        When.
    source : ndarray of int64, shape (n,)
        `OBSERVED` or `PASS`.
    """

    index: NDArray[np.int64]
    values: NDArray[np.float32]
    epoch: NDArray[np.int64]
    source: NDArray[np.int64]


class ExampleStore(ABC):
    """A table with one row per example, filled from batches; what its columns mean is up to the subclass.

    `update` only takes notes on the device that computed the values; they are moved and counted when somebody reads, or
    when 131,072 visits are noted.
    A subclass implements `_add` and `scores`, and names its columns and settings for the file.

    Parameters
    ----------
    n_examples : int
        Rows of the full data set.

    Attributes
    ----------
    scores : ndarray of float32, shape (n_examples,)
        One score per example; NaN = never seen.
    counts : ndarray of int32, shape (n_examples,)
        Visits.
    last_epoch : ndarray of int32, shape (n_examples,)
        Epoch of the newest visit; -1 = never seen, or not since `restart`.
    source : ndarray of int8, shape (n_examples,)
        0 = never seen, 1 = observed while training, 2 = scoring pass.
    provenance : dict
        Where the scores come from, in words that JSON can hold; kept in the file. A `DynamicPruner` notes its data's
        fingerprint, its settings and versions, and refuses scores of other data.

    Notes
    -----
    One visit per example and epoch: the first value wins. Loaders that pad a last batch show an example twice; a
    scoring pass runs before its epoch's first batch and so takes the place of the epoch's observations.

    Examples
    --------
    >>> isinstance(ScoreStore(3), ExampleStore)
    True
    """

    _arrays: ClassVar[Mapping[str, Any]] = _ARRAYS
    """Columns: attribute ``_<name>`` and its dtype."""

    _settings: ClassVar[tuple[str, ...]] = ("n_examples",)
    """Attributes that must agree when a state is loaded; arguments of the constructor."""

    _value_shape: ClassVar[tuple[int, ...]] = ()
    """Shape of what `update` takes for one visit of one example."""

    def __init__(self, n_examples: int) -> None:
        self.n_examples = check_count(type(self).__name__, "n_examples", n_examples)
        self._counts = np.zeros(self.n_examples, np.int32)
        self._last_epoch = np.full(self.n_examples, -1, np.int32)
        self._source = np.zeros(self.n_examples, np.int8)
        self._pending: list[tuple[Tensor, Tensor, int, int]] = []
        self._n_pending = 0
        self.provenance: dict[str, Any] = {}
        # In a run of several processes: what one rank saw waits until it is counted on all of them together.
        self.holds_notes = False

    @property
    @abstractmethod
    def scores(self) -> NDArray[np.float32]:
        """One score per example, NaN = never seen; a new array at each call."""

    @abstractmethod
    def _add(self, index: NDArray[np.int64], values: NDArray[np.float32], seen: NDArray[np.bool_]) -> None:
        """Count a visit of each example in `index` (n,), unique; `seen` tells which had one before."""

    def update(self, index: Tensor, values: Tensor, *, epoch: int, source: int = OBSERVED) -> None:
        """Note the scores of one batch; changes nothing that it was given, and rarely waits for the device.

        Parameters
        ----------
        index : Tensor
            Shape (B,), integer rows of the full data set.
        values : Tensor
            Shape (B,), or (B, k) for a table that takes k values of a visit.
        epoch : int
            Epoch in which the values were computed.
        source : int, default=OBSERVED
            `OBSERVED` (training pass) or `PASS` (scoring pass).

        Raises
        ------
        InvalidValueError
            If there is not one value per index.

        Examples
        --------
        >>> store = ScoreStore(2)
        >>> store.update(torch.tensor([1]), torch.tensor([3.0]), epoch=0)
        >>> store.counts
        array([0, 1], dtype=int32)
        """
        if index.dim() != 1 or values.shape != (*index.shape, *self._value_shape):
            raise InvalidValueError(
                f"{type(self).__name__}.update() needs one value per index, "
                f"got {tuple(index.shape)} and {tuple(values.shape)}."
            )
        values = values.detach()
        # A copy: the caller may reuse its buffers before the notes are read.
        self._pending.append((index.detach().clone(), values.to(torch.float32, copy=True), int(epoch), int(source)))
        self._n_pending += len(index)
        if self._n_pending >= MAX_NOTES:
            self.flush()

    def flush(self) -> None:
        """Move all notes to the host and count them; reading does this by itself, unless they are held.

        Raises
        ------
        InvalidValueError
            If an index is out of range, or a score is NaN; all other scores are counted.

        Examples
        --------
        >>> ScoreStore(2).flush()
        """
        if self.holds_notes:
            return
        pending, self._pending, self._n_pending = self._pending, [], 0
        errors = []
        while pending:  # in pieces: to sort and compare takes several times the memory of the notes
            n_notes = int(np.searchsorted(np.cumsum([len(note[0]) for note in pending]), ROWS_PER_COUNT)) + 1
            try:
                self.count_notes(self._joined(pending[:n_notes]))
            except InvalidValueError as error:
                errors.append(error)
            del pending[:n_notes]
        if errors:
            raise errors[0]

    def take_notes(self) -> Visits:
        """Hand out, and forget, what was noted since the last flush; waits for the device.

        Returns
        -------
        Visits
            In the order of arrival.

        Examples
        --------
        >>> store = ScoreStore(2)
        >>> store.update(torch.tensor([1]), torch.tensor([3.0]), epoch=0)
        >>> store.take_notes().index, store.counts
        (array([1]), array([0, 0], dtype=int32))
        """
        pending, self._pending, self._n_pending = self._pending, [], 0
        return self._joined(pending)

    def _joined(self, pending: list[tuple[Tensor, Tensor, int, int]]) -> Visits:
        if not pending:
            nothing = np.zeros(0, np.int64)
            return Visits(nothing, np.zeros((0, *self._value_shape), np.float32), nothing, nothing)
        lengths = [len(note[0]) for note in pending]
        return Visits(
            torch.cat([note[0] for note in pending]).cpu().numpy().astype(np.int64),
            torch.cat([note[1] for note in pending]).cpu().numpy(),
            np.repeat([note[2] for note in pending], lengths),
            np.repeat([note[3] for note in pending], lengths),
        )

    def count_notes(self, notes: Visits) -> None:
        """Count notes, of this store or of one in another process.

        Parameters
        ----------
        notes : Visits
            In the order of arrival.

        Raises
        ------
        InvalidValueError
            If an index is out of range, or a score is NaN; all other scores are counted.
        """
        bad: tuple[int, int] | None = None
        outside = (notes.index < 0) | (notes.index >= self.n_examples)
        wrong = notes.index[outside]
        if len(wrong):
            inside = ~outside
            notes = Visits(notes.index[inside], notes.values[inside], notes.epoch[inside], notes.source[inside])
        changes = np.flatnonzero((np.diff(notes.epoch) != 0) | (np.diff(notes.source) != 0)) + 1
        # Runs of one epoch and source, in the order of arrival.
        for rows in np.split(np.arange(len(notes.index)), changes):
            if not len(rows):
                continue
            index, values = notes.index[rows], notes.values[rows]
            epoch, source = int(notes.epoch[rows[0]]), int(notes.source[rows[0]])
            numbers = ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
            self._count(index[numbers], values[numbers], epoch, source)
            if not numbers.all():
                bad = bad or (int(index[~numbers][0]), epoch)
        if len(wrong):
            raise InvalidValueError(
                f"An index must be in [0, {self.n_examples}), got {wrong.min()} to {wrong.max()}. "
                "Pass positions in the full data set, not in a subset."
            )
        if bad is not None:
            raise InvalidValueError(
                f"The score of example {bad[0]} is NaN in epoch {bad[1]}. "
                "Look at that row; if it is fine, lower the learning rate or train without mixed precision."
            )

    def _count(self, index: NDArray[np.int64], values: NDArray[np.float32], epoch: int, source: int) -> None:
        if not len(index):
            return
        index, first = np.unique(index, return_index=True)
        fresh = self._last_epoch[index] != epoch
        index, first = index[fresh], first[fresh]
        self._add(index, values[first], self._counts[index] > 0)
        self._counts[index] += 1
        self._last_epoch[index] = epoch
        self._source[index] = source

    def restart(self) -> None:
        """Let the epochs of a new run begin: values and visits stay, but lie before its epoch 0.

        Without it, observations of an epoch in which the earlier run saw the example too would count as repeated.

        Examples
        --------
        >>> store = ScoreStore(1)
        >>> store.update(torch.tensor([0]), torch.tensor([2.0]), epoch=0)
        >>> store.restart()
        >>> store.scores, store.last_epoch
        (array([2.], dtype=float32), array([-1], dtype=int32))
        """
        self.flush()
        self._last_epoch[:] = -1

    @property
    def counts(self) -> NDArray[np.int32]:
        """Visits of each example."""
        self.flush()
        return self._counts.copy()

    @property
    def last_epoch(self) -> NDArray[np.int32]:
        """Epoch of each example's newest visit; -1 = never seen."""
        self.flush()
        return self._last_epoch.copy()

    @property
    def source(self) -> NDArray[np.int8]:
        """Where each newest score came from: 0 nowhere, 1 training pass, 2 scoring pass."""
        self.flush()
        return self._source.copy()

    def state_dict(self) -> dict[str, Any]:
        """Return the table and its settings: arrays, numbers and strings only.

        Returns
        -------
        dict
            Copies; what `load_state_dict` takes.

        Examples
        --------
        >>> sorted(ScoreStore(1).state_dict())[:3]
        ['counts', 'ema_weight', 'last_epoch']
        """
        self.flush()
        return {
            **{name: getattr(self, name) for name in self._settings},
            **{name: getattr(self, f"_{name}").copy() for name in self._arrays},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a table of the same number of examples and the same settings.

        Parameters
        ----------
        state : mapping
            From `state_dict`.

        Raises
        ------
        StateError
            If keys are missing, or the state is of another size or has other settings.

        Examples
        --------
        >>> store, other = ScoreStore(1), ScoreStore(1)
        >>> store.update(torch.tensor([0]), torch.tensor([2.0]), epoch=0)
        >>> other.load_state_dict(store.state_dict())
        >>> other.scores
        array([2.], dtype=float32)
        """
        owner, expected = type(self).__name__, {*self._settings, *self._arrays}
        if set(state) != expected:
            raise StateError(f"A {owner}'s state must have the keys {sorted(expected)}, got {sorted(state)}.")
        for name in self._settings:
            if state[name] != getattr(self, name):
                raise StateError(
                    f"These scores were saved with {name}={state[name]!r}, but this run has {getattr(self, name)!r}."
                )
        for name, dtype in self._arrays.items():
            array = np.asarray(state[name], dtype=dtype).copy()
            if array.shape != (self.n_examples,):
                raise StateError(f"A {owner}'s {name!r} must have shape ({self.n_examples},), got {array.shape}.")
            setattr(self, f"_{name}", array)
        self._pending, self._n_pending = [], 0

    def save(self, path: str | Path) -> None:
        """Write the table to one safetensors file, atomically.

        Parameters
        ----------
        path : str or Path
            The file; its folder must exist.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ScoreStore(2).save(f"{folder}/scores.safetensors")
        ...     ScoreStore.load(f"{folder}/scores.safetensors").n_examples
        2
        """
        state = self.state_dict()
        arrays = {name: state.pop(name) for name in self._arrays}
        write_tensors(
            path, {**arrays, "scores": self.scores}, {"format": self._format(), "provenance": self.provenance, **state}
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a table that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        ExampleStore
            An equal table of this class.

        Raises
        ------
        StateError
            If the file is missing, damaged, or no table of scores.

        Examples
        --------
        >>> ScoreStore.load("missing.safetensors")
        Traceback (most recent call last):
        dataprune.errors.StateError: The file missing.safetensors does not exist.
        """
        arrays, settings = read_tensors(path)
        if settings.pop("format", None) != cls._format():
            raise StateError(
                f"The file {path} holds no scores ({cls.__name__}) that this version of dataprune can read."
            )
        provenance = settings.pop("provenance", {})
        store = cls(**settings)
        store.provenance = provenance
        arrays.pop("scores", None)  # for readers that know only safetensors
        store.load_state_dict({**settings, **arrays})
        return store

    @classmethod
    def _format(cls) -> str:
        return f"dataprune.{cls.__name__}/1"


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Read where the scores of a file come from, whatever table it holds.

    Parameters
    ----------
    path : str or Path
        A file that `ExampleStore.save` wrote.

    Returns
    -------
    dict
        Its ``provenance``.

    Raises
    ------
    StateError
        If the file is missing, damaged or not ours.

    Examples
    --------
    >>> read_provenance("missing.safetensors")
    Traceback (most recent call last):
    dataprune.errors.StateError: The file missing.safetensors does not exist.
    """
    note: dict[str, Any] = read_tensors(path)[1].get("provenance", {})
    return note


class ScoreStore(ExampleStore):
    """The table of scores: newest value, smoothed value, visits, and when each example was last seen.

    Parameters
    ----------
    n_examples : int
        Rows of the full data set.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        Combine visits as the newest value, their mean, a moving average, or that plus a bonus for examples whose score
        moves (the seed paper's choice for joint tasks).
    ema_weight : float, default=0.8
        Weight of the newest value in the moving average, in (0, 1].
    std_bonus : float, default=1.0
        Moving standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores : ndarray of float32, shape (n_examples,)
        Smoothed scores; NaN = never seen.
    counts : ndarray of int32, shape (n_examples,)
        Visits.
    last_epoch : ndarray of int32, shape (n_examples,)
        Epoch of the newest visit; -1 = never seen, or not since `restart`.
    source : ndarray of int8, shape (n_examples,)
        0 = never seen, 1 = observed while training, 2 = scoring pass.

    Notes
    -----
    One visit per example and epoch: the first value wins. The moving standard deviation is bias-corrected, as
    ``ewm(alpha=ema_weight, adjust=False).std()`` in pandas. Memory: 33 bytes per example.

    References
    ----------
    Attendu and Corbeil 2023, arXiv 2306.03208 (the smoothing is in the authors' code).

    Examples
    --------
    >>> store = ScoreStore(3)
    >>> store.update(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]), epoch=0)
    >>> store.scores
    array([0.25,  nan, 0.5 ], dtype=float32)
    """

    _arrays: ClassVar[Mapping[str, Any]] = {**_ARRAYS, "mean": np.float64, "var": np.float64, "weight2": np.float64}
    _settings: ClassVar[tuple[str, ...]] = ("n_examples", "smoothing", "ema_weight", "std_bonus")

    def __init__(
        self, n_examples: int, *, smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        super().__init__(n_examples)
        self.smoothing = check_choice("ScoreStore", "smoothing", smoothing, SMOOTHINGS)
        self.ema_weight = check_fraction("ScoreStore", "ema_weight", ema_weight)
        self.std_bonus = check_finite("ScoreStore", "std_bonus", std_bonus)  # scores of NaN would count as never seen
        n = self.n_examples
        self._mean = np.zeros(n, np.float64)
        self._var = np.zeros(n, np.float64)  # moving variance, before bias correction
        self._weight2 = np.ones(n, np.float64)  # sum of squared weights, for the correction

    @property
    def scores(self) -> NDArray[np.float32]:
        """Smoothed scores, NaN = never seen; a new array at each call."""
        self.flush()
        scores = self._mean.copy()
        if self.smoothing == "ema_plus_std":
            several = (self._counts > 1) & (self._weight2 < 1.0)
            scores[several] += self.std_bonus * np.sqrt(self._var[several] / (1.0 - self._weight2[several]))
        scores[self._counts == 0] = np.nan
        return scores.astype(np.float32)

    def _add(self, index: NDArray[np.int64], values: NDArray[np.float32], seen: NDArray[np.bool_]) -> None:
        x = values.astype(np.float64)
        # A first visit sets the mean and leaves no variance: its weight is 1.
        newest = {"last": 1.0, "mean": 1.0 / (self._counts[index] + 1)}.get(self.smoothing, self.ema_weight)
        a = np.where(seen, np.asarray(newest), 1.0)
        old = np.where(seen, self._mean[index], x)
        with np.errstate(invalid="ignore"):  # inf - inf
            delta = x - old
        usable = np.isfinite(delta)  # an infinite score has no average: the newest value stands
        delta = np.where(usable, delta, 0.0)
        mean = np.where(usable & (a < 1.0), old + a * delta, x)
        self._var[index] = np.where(seen, (1 - a) * (self._var[index] + a * delta**2), 0.0)
        self._weight2[index] = np.where(seen, (1 - a) ** 2 * self._weight2[index] + a**2, 1.0)
        self._mean[index] = mean
