"""Schedulers whose share changes over the run: ramps, and full epochs in between."""

from __future__ import annotations

import math
from abc import abstractmethod

from dataprune.errors import InvalidValueError, check_count, check_fraction
from dataprune.scheduling.base import FULL, Decision, Scheduler
from dataprune.scheduling.budget import Budget
from dataprune.scheduling.cyclic import CyclicScheduler


class RampScheduler(Scheduler):
    """A share that goes from one value to another over the pruned epochs; up or down.

    A new one implements `_progress`, the shape of the way.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in the last pruned epoch, in (0, 1].
    initial_keep_fraction : float, default=1.0
        Share that the ramp comes from, in (0, 1]; the first pruned epoch is one stretch of the way behind it.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection, and on one share.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Examples
    --------
    >>> class Early(RampScheduler):
    ...     def _progress(self, time):
    ...         return time**0.5
    >>> Early(keep_fraction=0.2).plan(100, 5, batch_size=10).n_kept
    (100, 60, 43, 31, 20)
    """

    def __init__(
        self,
        *,
        keep_fraction: float | Budget = 0.5,
        initial_keep_fraction: float = 1.0,
        n_warmup_epochs: int = 1,
        n_cycle_epochs: int = 1,
        n_full_final_epochs: int = 0,
    ) -> None:
        super().__init__(
            keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_full_final_epochs=n_full_final_epochs
        )
        self.initial_keep_fraction = initial_keep_fraction
        self.n_cycle_epochs = n_cycle_epochs

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        super().check()
        if isinstance(self.keep_fraction, Budget) and self.keep_fraction.seconds is not None:
            raise InvalidValueError(
                f"{type(self).__name__}.keep_fraction must not be a budget of seconds, got {self.keep_fraction!r}. "
                "What time is left for has no ramp: use CyclicScheduler."
            )
        check_fraction(type(self).__name__, "initial_keep_fraction", self.initial_keep_fraction)
        check_count(type(self).__name__, "n_cycle_epochs", self.n_cycle_epochs, minimum=1)

    @abstractmethod
    def _progress(self, time: float) -> float:
        """Return how much of the way is behind, in [0, 1], when `time`, in (0, 1], is; 1 at 1."""

    def _share(self, progress: float) -> float:
        # Weighted so that the end is met to the last bit.
        return (1.0 - progress) * self.initial_keep_fraction + progress * self._keep_fraction

    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:
        cycle, n_cycles = n_pruned_epochs // self.n_cycle_epochs, math.ceil(n_to_prune / self.n_cycle_epochs)
        low, high = sorted((self.initial_keep_fraction, self._keep_fraction))
        share = min(high, max(low, self._share(self._progress((cycle + 1) / n_cycles))))
        return Decision(keep_fraction=share, reselect=n_pruned_epochs % self.n_cycle_epochs == 0)


class LinearScheduler(RampScheduler):
    """The share goes in equal stretches from one value to another.

    The plain ramp: prune little while scores are young, and more as they settle.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in the last pruned epoch, in (0, 1].
    initial_keep_fraction : float, default=1.0
        Share that the ramp comes from, in (0, 1]; the first pruned epoch is one stretch of the way behind it.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection, and on one share.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Notes
    -----
    After the t-th of T selections the share is ``initial + (keep - initial) * t / T``.

    Examples
    --------
    >>> LinearScheduler(keep_fraction=0.2).plan(100, 5, batch_size=10).n_kept
    (100, 80, 60, 40, 20)
    """

    def _progress(self, time: float) -> float:
        return time


class CosineScheduler(RampScheduler):
    """The share goes from one value to another along half a cosine: slowly, fast, slowly.

    Long near both ends, so the change falls into the middle of the run.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in the last pruned epoch, in (0, 1].
    initial_keep_fraction : float, default=1.0
        Share that the ramp comes from, in (0, 1]; the first pruned epoch is one stretch of the way behind it.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection, and on one share.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Notes
    -----
    After the t-th of T selections the share is ``keep + (initial - keep) * (1 + cos(pi * t / T)) / 2``.

    Examples
    --------
    >>> CosineScheduler(keep_fraction=0.2).plan(100, 5, batch_size=10).n_kept
    (100, 88, 60, 32, 20)
    """

    def _progress(self, time: float) -> float:
        return (1.0 - math.cos(math.pi * time)) / 2.0


class ExponentialScheduler(RampScheduler):
    """The share changes by the same factor at each selection.

    Going down, it drops fastest at the start: more is saved than on a linear ramp, from younger scores.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in the last pruned epoch, in (0, 1].
    initial_keep_fraction : float, default=1.0
        Share that the ramp comes from, in (0, 1]; the first pruned epoch is one stretch of the way behind it.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection, and on one share.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Notes
    -----
    After the t-th of T selections the share is ``initial * (keep / initial) ** (t / T)``.

    Examples
    --------
    >>> ExponentialScheduler(keep_fraction=0.2).plan(100, 5, batch_size=10).n_kept
    (100, 67, 45, 30, 20)
    """

    def _progress(self, time: float) -> float:
        return time

    def _share(self, progress: float) -> float:
        return float(self.initial_keep_fraction ** (1.0 - progress) * self._keep_fraction**progress)


class StepScheduler(RampScheduler):
    """The share goes from one value to another in a few equal stairs.

    Each level lasts about as long as the others; within it, a new selection each cycle as in `CyclicScheduler`.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept on the last level, in (0, 1].
    initial_keep_fraction : float, default=1.0
        Share that the stairs come from, in (0, 1]; the first level is one stair away from it.
    n_levels : int, default=3
        Levels; in a run of fewer selections some are left out, never the last.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Notes
    -----
    After the t-th of T selections the share is that of `LinearScheduler` with ``t / T`` rounded up to a multiple of
    ``1 / n_levels``.

    Examples
    --------
    >>> StepScheduler(keep_fraction=0.2, n_levels=2).plan(100, 7, batch_size=10).n_kept
    (100, 60, 60, 60, 20, 20, 20)
    """

    def __init__(
        self,
        *,
        keep_fraction: float | Budget = 0.5,
        initial_keep_fraction: float = 1.0,
        n_levels: int = 3,
        n_warmup_epochs: int = 1,
        n_cycle_epochs: int = 1,
        n_full_final_epochs: int = 0,
    ) -> None:
        super().__init__(
            keep_fraction=keep_fraction,
            initial_keep_fraction=initial_keep_fraction,
            n_warmup_epochs=n_warmup_epochs,
            n_cycle_epochs=n_cycle_epochs,
            n_full_final_epochs=n_full_final_epochs,
        )
        self.n_levels = n_levels

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        super().check()
        check_count(type(self).__name__, "n_levels", self.n_levels, minimum=1)

    def _progress(self, time: float) -> float:
        # Rounded first: 3 * (1 / 3) must not climb a stair for a last bit.
        return min(1.0, math.ceil(round(time * self.n_levels, 9)) / self.n_levels)


class InterleavedScheduler(CyclicScheduler):
    """Cycles of pruned epochs with a full epoch after each: every example is seen again, and scored again.

    The answer to stale scores where a scoring pass costs too much. With the default every other epoch is full.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in pruned epochs, in (0, 1].
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=1
        Epochs on one selection; the epoch after them is full.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Examples
    --------
    >>> InterleavedScheduler(keep_fraction=0.2, n_cycle_epochs=2).plan(100, 7, batch_size=10).n_kept
    (100, 20, 20, 100, 20, 20, 100)
    """

    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:  # noqa: ARG002
        since_full = n_pruned_epochs % (self.n_cycle_epochs + 1)
        if since_full == self.n_cycle_epochs:
            return FULL
        return Decision(keep_fraction=self._keep_fraction, reselect=since_full == 0)
