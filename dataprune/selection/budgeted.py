"""A selector that counts what training on an example costs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import check_fraction
from dataprune.selection.base import Candidates, Seed, Selector
from dataprune.selection.ranked import TopK

_N_HALVINGS = 60  # more would not change a float64 multiplier


class BudgetedTopK(Selector):
    """The hardest examples within a cost: half of the examples, and at most half of the tokens.

    Hard examples tend to be long, so that `TopK` with half of the examples trains on more than half of the tokens. This
    one prefers the shorter of two hard examples just as much as the budget asks. At most 120 times the work of `TopK`.

    Parameters
    ----------
    cost_fraction : float or None, default=None
        Share of the whole data set's cost that may be spent, in (0, 1]; by default the share of the examples kept.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : None, default=None
        Not used: there is nothing to draw.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    Of all sets of n rows within the budget, the one of the highest total score is a knapsack with a fixed count; its
    Lagrangian relaxation is taken: the n highest of ``score - multiplier * cost``, with the smallest multiplier that
    meets the budget. A budget that not even the n cheapest rows meet gives those; with the default that cannot
    be. Rows of an infinite score are always in, whatever they cost. A run passes ``cost`` by itself where it knows the
    length of each example in tokens. Ties keep the lower index.

    References
    ----------
    Our own; the relaxation is the textbook's (Martello and Toth 1990, *Knapsack Problems*).

    Examples
    --------
    >>> scores, cost = [4.0, 3.0, 2.0, 1.0], [9.0, 1.0, 1.0, 1.0]
    >>> BudgetedTopK(keep_fraction=0.5).fit(scores, cost=cost).indices_
    array([1, 2])
    """

    needs: ClassVar[frozenset[str]] = frozenset({"cost"})

    def __init__(
        self, *, cost_fraction: float | None = None, keep_fraction: float = 1.0, random_state: Seed = None
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.cost_fraction = cost_fraction

    def _check_parameters(self) -> None:
        if self.cost_fraction is not None:
            check_fraction(type(self).__name__, "cost_fraction", self.cost_fraction)

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        cost, scores = candidates.cost, candidates.scores.astype(np.float64)
        assert cost is not None  # noqa: S101 - `needs`
        share = n_keep / len(scores) if self.cost_fraction is None else self.cost_fraction
        budget = share * cost.sum()
        finite = np.isfinite(scores)
        if finite.any():  # to a range of 1: neither a huge score nor a tiny one may lose its digits to the multiplier
            lowest, highest = scores[finite].min(), scores[finite].max()
            scale = max(abs(lowest), abs(highest), np.finfo(np.float64).tiny)
            scores = scores / scale
            scores /= max(highest / scale - lowest / scale, np.finfo(np.float64).tiny)

        def hardest(multiplier: float) -> NDArray[np.int64]:
            return TopK().fit(scores - multiplier * (cost / cost.max()), n_keep=n_keep).indices_

        def affordable(kept: NDArray[np.int64]) -> bool:
            return bool(cost[kept].sum() <= budget * (1 + 1e-12))

        kept = hardest(0.0)
        if affordable(kept):
            return kept
        low, high = 0.0, 1.0
        for _ in range(_N_HALVINGS):
            if affordable(kept := hardest(high)):
                break
            low, high = high, 2 * high
        else:
            never_first = np.where(np.isposinf(scores), -np.inf, np.where(np.isneginf(scores), np.inf, cost))
            return np.lexsort((-scores, never_first))[:n_keep]
        for _ in range(_N_HALVINGS):
            middle = (low + high) / 2
            trial = hardest(middle)
            if affordable(trial):
                kept, high = trial, middle
            else:
                low = middle
        return kept
