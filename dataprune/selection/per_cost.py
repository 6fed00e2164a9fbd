"""A selector that ranks by what an example's score costs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.selection.base import Candidates, Selector
from dataprune.selection.ranked import TopK


class ScorePerCost(Selector):
    """The examples with the most score for their cost: the best use of a budget of tokens.

    With ``Budget(token_fraction=...)`` it keeps as many as the tokens are enough for, and no other choice within those
    tokens has more score in total, but for what the last example leaves over. O(n).

    Parameters
    ----------
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
    The n highest of ``score / cost``. Scores are counted from 0, or, if there are
    negative ones, from the lowest. Ties keep the lower index. It has a bias to short examples, as `TopK` has one to
    long ones; `BudgetedTopK` lies in between, with the number of examples given as well.

    References
    ----------
    Dantzig 1957, *Discrete-Variable Extremum Problems*: the greedy rule for the knapsack.

    Examples
    --------
    >>> ScorePerCost(keep_fraction=0.5).fit([4.0, 3.0, 2.0, 1.0], cost=[9.0, 1.0, 1.0, 1.0]).indices_
    array([1, 2])
    """

    needs: ClassVar[frozenset[str]] = frozenset({"cost"})

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        scores, cost = candidates.scores.astype(np.float64), candidates.cost
        assert cost is not None  # noqa: S101 - `needs`
        finite = scores[np.isfinite(scores)]
        if len(finite):
            scale = max(float(np.abs(finite).max()), np.finfo(np.float64).tiny)  # a difference of extremes overflows
            scores = scores / scale - min(float(finite.min()) / scale, 0.0)
        share = np.maximum(cost / cost.max(), np.finfo(np.float64).tiny)  # 0 / 0 would count as never seen
        return TopK().fit(scores / share, n_keep=n_keep).indices_
