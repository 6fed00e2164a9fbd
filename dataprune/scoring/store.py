"""One score per example, kept over epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.files import read_tensors, write_tensors
from dataprune.errors import InvalidValueError, StateError, check_choice, check_count

SMOOTHINGS = ("last", "mean", "ema", "ema_plus_std")
"""How one example's visits combine over time."""

OBSERVED, PASS = 1, 2
"""Where the newest score of an example came from: the training pass, or a scoring pass."""

_FORMAT = "dataprune.ScoreStore/1"


class ScoreStore:
    """The table of scores: newest value, smoothed value, visits, and when each example was last seen.

    `update` only takes notes on the device that computed the values; they are moved and counted when somebody reads.

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
    One visit per example and epoch: the first value wins. Loaders that pad a last batch show an example twice; a
    scoring pass runs before its epoch's first batch and so takes the place of the epoch's observations. The moving
    standard deviation is bias-corrected, as ``ewm(alpha=ema_weight, adjust=False).std()`` in pandas. Memory: 33 bytes
    per example.

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

    def __init__(
        self, n_examples: int, *, smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        self.n_examples = check_count("ScoreStore", "n_examples", n_examples)
        self.smoothing = check_choice("ScoreStore", "smoothing", smoothing, SMOOTHINGS)
        if not 0.0 < ema_weight <= 1.0:
            raise InvalidValueError(f"ScoreStore.ema_weight must be in (0, 1], got {ema_weight!r}.")
        self.ema_weight = float(ema_weight)
        self.std_bonus = float(std_bonus)
        n = self.n_examples
        self._mean = np.zeros(n, np.float64)
        self._var = np.zeros(n, np.float64)  # moving variance, before bias correction
        self._weight2 = np.ones(n, np.float64)  # sum of squared weights, for the correction
        self._counts = np.zeros(n, np.int32)
        self._last_epoch = np.full(n, -1, np.int32)
        self._source = np.zeros(n, np.int8)
        self._pending: list[tuple[Tensor, Tensor, int, int]] = []

    def update(self, index: Tensor, values: Tensor, *, epoch: int, source: int = OBSERVED) -> None:
        """Note the scores of one batch; neither waits for the device nor changes what it was given.

        Parameters
        ----------
        index : Tensor
            Shape (B,), integer rows of the full data set.
        values : Tensor
            Shape (B,).
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
        if index.shape != values.shape or index.dim() != 1:
            raise InvalidValueError(
                f"ScoreStore.update() needs one value per index, got {tuple(index.shape)} and {tuple(values.shape)}."
            )
        values = values.detach()
        # A copy: the caller may reuse its buffers before the notes are read.
        self._pending.append((index.detach().clone(), values.to(torch.float32, copy=True), int(epoch), int(source)))

    def flush(self) -> None:
        """Move all notes to the host and count them; reading does this by itself.

        Raises
        ------
        InvalidValueError
            If an index is out of range, or a score is NaN; all other scores are counted.

        Examples
        --------
        >>> ScoreStore(2).flush()
        """
        pending, self._pending = self._pending, []
        bad: tuple[int, int] | None = None
        start = 0
        while start < len(pending):  # runs of one (epoch, source), in the order of arrival
            key = pending[start][2:]
            end = start
            while end < len(pending) and pending[end][2:] == key:
                end += 1
            index = torch.cat([note[0] for note in pending[start:end]]).cpu().numpy().astype(np.int64)
            values = torch.cat([note[1] for note in pending[start:end]]).cpu().numpy()
            numbers = ~np.isnan(values)
            self._count(index[numbers], values[numbers], *key)
            if not numbers.all():
                bad = bad or (int(index[~numbers][0]), key[0])
            start = end
        if bad is not None:
            raise InvalidValueError(
                f"The score of example {bad[0]} is NaN in epoch {bad[1]}. "
                "Look at that row; if it is fine, lower the learning rate or train without mixed precision."
            )

    def _count(self, index: NDArray[np.int64], values: NDArray[np.float32], epoch: int, source: int) -> None:
        if not len(index):
            return
        if index.min() < 0 or index.max() >= self.n_examples:
            raise InvalidValueError(
                f"An index must be in [0, {self.n_examples}), got {index.min()} to {index.max()}. "
                "Pass positions in the full data set, not in a subset."
            )
        index, first = np.unique(index, return_index=True)
        fresh = self._last_epoch[index] != epoch
        index, x = index[fresh], values[first[fresh]].astype(np.float64)
        seen = self._counts[index] > 0
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
    def scores(self) -> NDArray[np.float32]:
        """Smoothed scores, NaN = never seen; a new array at each call."""
        self.flush()
        scores = self._mean.copy()
        if self.smoothing == "ema_plus_std":
            several = (self._counts > 1) & (self._weight2 < 1.0)
            scores[several] += self.std_bonus * np.sqrt(self._var[several] / (1.0 - self._weight2[several]))
        scores[self._counts == 0] = np.nan
        return scores.astype(np.float32)

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
        arrays = {name: getattr(self, f"_{name}").copy() for name in _ARRAYS}
        return {
            "n_examples": self.n_examples,
            "smoothing": self.smoothing,
            "ema_weight": self.ema_weight,
            "std_bonus": self.std_bonus,
            **arrays,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a table of the same number of examples and the same smoothing.

        Parameters
        ----------
        state : mapping
            From `state_dict`.

        Raises
        ------
        StateError
            If keys are missing, or the state is of another size or smoothing.

        Examples
        --------
        >>> store, other = ScoreStore(1), ScoreStore(1)
        >>> store.update(torch.tensor([0]), torch.tensor([2.0]), epoch=0)
        >>> other.load_state_dict(store.state_dict())
        >>> other.scores
        array([2.], dtype=float32)
        """
        expected = {"n_examples", "smoothing", "ema_weight", "std_bonus", *_ARRAYS}
        if set(state) != expected:
            raise StateError(f"A ScoreStore's state must have the keys {sorted(expected)}, got {sorted(state)}.")
        for name in ("n_examples", "smoothing", "ema_weight", "std_bonus"):
            if state[name] != getattr(self, name):
                raise StateError(
                    f"These scores were saved with {name}={state[name]!r}, but this run has {getattr(self, name)!r}."
                )
        for name, dtype in _ARRAYS.items():
            array = np.asarray(state[name], dtype=dtype).copy()
            if array.shape != (self.n_examples,):
                raise StateError(f"A ScoreStore's {name!r} must have shape ({self.n_examples},), got {array.shape}.")
            setattr(self, f"_{name}", array)
        self._pending = []

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
        arrays = {name: state.pop(name) for name in _ARRAYS}
        write_tensors(path, {**arrays, "scores": self.scores}, {"format": _FORMAT, **state})

    @classmethod
    def load(cls, path: str | Path) -> ScoreStore:
        """Read a table that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        ScoreStore
            An equal table.

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
        if settings.pop("format", None) != _FORMAT:
            raise StateError(f"The file {path} holds no scores that this version of dataprune can read.")
        store = cls(**settings)
        arrays.pop("scores", None)  # for readers that know only safetensors
        store.load_state_dict({**settings, **arrays})
        return store


_ARRAYS = {
    "mean": np.float64,
    "var": np.float64,
    "weight2": np.float64,
    "counts": np.int32,
    "last_epoch": np.int32,
    "source": np.int8,
}
