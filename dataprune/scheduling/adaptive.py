"""Schedulers that look at the scores: how many to keep follows from what the scores are."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidValueError, check_share
from dataprune.scheduling.base import FULL, Decision, Scheduler


class SoftPruneScheduler(Scheduler):
    """As many as InfoBatch keeps: all but a share of the examples that score below the mean.

    Meant for `SoftPrune`, whose weights are then InfoBatch's 1 / (1 - r) for what is left of that group.

    Parameters
    ----------
    drop_fraction : float, default=0.5
        Share of the examples below the mean that each pruned epoch drops, rounded down, in [0, 1); InfoBatch's r.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_full_final_epochs : int, default=1
        Last epochs on all examples; InfoBatch has an eighth of the run (delta = 0.875).

    Notes
    -----
    A new choice in each epoch. The mean is that of the finite scores; an example that was never seen is not below it.

    References
    ----------
    Qin et al. 2024, *InfoBatch*, arXiv 2303.04947.

    Examples
    --------
    >>> scheduler = SoftPruneScheduler(drop_fraction=0.5)
    >>> scheduler.decide(1, 8, scores=np.array([0.0, 0.0, 0.0, 0.0, 5.0], np.float32)).keep_fraction
    0.6
    """

    adaptive: ClassVar[bool] = True
    keep_fraction = 1.0  # at most: how many follows from the scores

    def __init__(self, *, drop_fraction: float = 0.5, n_warmup_epochs: int = 1, n_full_final_epochs: int = 1) -> None:
        self.drop_fraction = drop_fraction
        self.n_warmup_epochs = n_warmup_epochs
        self.n_full_final_epochs = n_full_final_epochs

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        owner = type(self).__name__
        if check_share(owner, "drop_fraction", self.drop_fraction) == 1.0:
            raise InvalidValueError(f"{owner}.drop_fraction must be below 1, got {self.drop_fraction!r}.")
        super().check()

    def decide(
        self,
        epoch: int,
        n_epochs: int,
        *,
        scores: NDArray[np.float32] | None = None,
        history: Any = None,
    ) -> Decision:
        """Say how many examples `epoch` keeps; without scores as many as there may be at most, all.

        Parameters
        ----------
        epoch : int
            From 0.
        n_epochs : int
            Length of the run.
        scores : ndarray of float32, shape (n_examples,), optional
            NaN for examples that were never seen.
        history : PruningHistory, optional
            Not used.

        Returns
        -------
        Decision
            Share to keep, and to choose anew.

        Raises
        ------
        InvalidValueError
            If a parameter or the epoch is out of range.
        """
        if super().decide(epoch, n_epochs, scores=scores, history=history) is FULL or scores is None:
            return FULL
        finite = scores[np.isfinite(scores)]
        if not len(finite):
            return FULL
        # What lies on the mean must not fall below it by rounding.
        mean = finite.mean(dtype=np.float64) - 1e-12 * float(np.abs(finite).max())
        n_dropped = int(self.drop_fraction * np.count_nonzero(scores < mean) + 1e-9)
        return Decision(keep_fraction=1.0 - n_dropped / len(scores), reselect=True) if n_dropped else FULL

    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:  # noqa: ARG002
        return Decision(keep_fraction=1.0 - self.drop_fraction, reselect=True)  # that it prunes; how much: `decide`
