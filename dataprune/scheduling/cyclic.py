"""Schedulers with one share: choose once, or anew every few epochs."""

from __future__ import annotations

from dataprune.errors import check_count
from dataprune.scheduling.base import Decision, Scheduler
from dataprune.scheduling.budget import Budget


class ConstantScheduler(Scheduler):
    """Choose once after the warm-up and keep that selection: static pruning inside a run.

    The baseline for dynamic pruning, and the choice when scores come from an earlier run.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in pruned epochs, in (0, 1].
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075: scores from early training, then one selection.

    Examples
    --------
    >>> [ConstantScheduler(keep_fraction=0.3).decide(epoch, 3).reselect for epoch in range(3)]
    [False, True, False]
    """

    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:  # noqa: ARG002
        return Decision(keep_fraction=self._keep_fraction, reselect=n_pruned_epochs == 0)


class CyclicScheduler(Scheduler):
    """Warm up on everything, then choose anew every few epochs: the seed paper's schedule.

    A pruned example can come back at each new selection.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of the examples kept in pruned epochs, in (0, 1].
    n_warmup_epochs : int, default=1
        First epochs on all examples (tau in the paper, 1 to 6).
    n_cycle_epochs : int, default=1
        Epochs on one selection (T in the paper, 1 to 5).
    n_full_final_epochs : int, default=0
        Last epochs on all examples (0 in the paper).

    References
    ----------
    Attendu and Corbeil 2023, *NLU on Data Diets*, arXiv 2306.03208, figure 1.

    Examples
    --------
    >>> scheduler = CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=1, n_cycle_epochs=2)
    >>> [scheduler.decide(epoch, 4).reselect for epoch in range(4)]
    [False, True, False, True]
    """

    def __init__(
        self,
        *,
        keep_fraction: float | Budget = 0.5,
        n_warmup_epochs: int = 1,
        n_cycle_epochs: int = 1,
        n_full_final_epochs: int = 0,
    ) -> None:
        super().__init__(
            keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_full_final_epochs=n_full_final_epochs
        )
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
        check_count(type(self).__name__, "n_cycle_epochs", self.n_cycle_epochs, minimum=1)

    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:  # noqa: ARG002
        return Decision(keep_fraction=self._keep_fraction, reselect=n_pruned_epochs % self.n_cycle_epochs == 0)
