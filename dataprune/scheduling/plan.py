"""Plan: what a run will do, epoch by epoch."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate

BAR_WIDTH = 20
"""Characters of a full epoch's bar in a printed plan."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, epoch by epoch, known before it starts.

    Parameters
    ----------
    n_examples : int
        Rows of the full data set.
    n_kept : tuple of int
        Examples trained on in each epoch.
    reselects : tuple of bool
        Whether the epoch starts with a new selection.
    updates : tuple of int
        Optimizer updates of each epoch.
    n_updates_full : int
        Optimizer updates of the same epochs on the full data.
    n_scored : int
        Examples that go through scoring passes.
    exact : bool
        False if the counts follow from the run (scores, tokens or seconds): the figures are upper bounds then.

    Examples
    --------
    >>> from dataprune import CyclicScheduler
    >>> plan = CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=1).plan(100, 3, 10)
    >>> plan.n_kept, plan.n_updates, round(plan.compute_fraction, 3)
    ((100, 50, 50), 20, 0.667)
    """

    n_examples: int
    n_kept: tuple[int, ...]
    reselects: tuple[bool, ...]
    updates: tuple[int, ...]
    n_updates_full: int
    n_scored: int = 0
    exact: bool = True

    @property
    def n_updates(self) -> int:
        """Optimizer updates of the whole run."""
        return sum(self.updates)

    def cut(self, n_updates: int, *, n_per_update: int) -> Plan:
        """Return this plan, ended where the whole run has made `n_updates`.

        Parameters
        ----------
        n_updates : int
            At most those planned.
        n_per_update : int
            Examples in an update.

        Returns
        -------
        Plan
            The epochs up to there, the last one with what its updates take.

        Examples
        --------
        >>> from dataprune import CyclicScheduler
        >>> plan = CyclicScheduler(keep_fraction=0.5).plan(100, 3, 10).cut(17, n_per_update=10)
        >>> plan.n_kept, plan.updates
        ((100, 50, 20), (10, 5, 2))
        """
        last = bisect_left(tuple(accumulate(self.updates)), n_updates)
        n_left = n_updates - sum(self.updates[:last])
        n_kept = self.n_kept[last] if n_left == self.updates[last] else n_left * n_per_update
        reselects = self.reselects[: last + 1]
        return replace(
            self,
            n_kept=(*self.n_kept[:last], n_kept),
            reselects=reselects,
            updates=(*self.updates[:last], n_left),
            n_updates_full=self.n_updates_full // len(self.updates) * (last + 1),
            n_scored=self.n_scored * sum(reselects) // max(1, sum(self.reselects)),
        )

    @property
    def compute_fraction(self) -> float:
        """Share of the full run's compute: an example scored costs a third of one trained (no backward pass)."""
        return (sum(self.n_kept) + self.n_scored / 3) / (self.n_examples * len(self.n_kept))

    def __str__(self) -> str:
        """Print as a table with a bar per line, runs of equal epochs on one line."""
        lines = [f"{'epochs':>9} {'kept':>9} {'share':>6} {'updates':>8}  selection"]
        start = 0
        for end in range(1, len(self.n_kept) + 1):
            same = end < len(self.n_kept) and (self.n_kept[end], self.reselects[end]) == (
                self.n_kept[start],
                self.reselects[start],
            )
            if same:
                continue
            epochs = f"{start}" if end == start + 1 else f"{start}-{end - 1}"
            kept, updates = self.n_kept[start], sum(self.updates[start:end])
            what = "new" if self.reselects[start] else "all" if kept == self.n_examples else "as before"
            share = kept / self.n_examples
            bar = "#" * max(1, round(BAR_WIDTH * share))  # ASCII: any terminal and any file can take it
            lines.append(f"{epochs:>9} {kept:>9,} {share:>6.0%} {updates:>8,}  {what:<9}  {bar}")
            start = end
        bound = "" if self.exact else "at most "
        lines.append(
            f"{bound}{self.n_updates:,} updates instead of {self.n_updates_full:,}; "
            f"{bound}{self.compute_fraction:.0%} of the full run's compute"
        )
        return "\n".join(lines)
