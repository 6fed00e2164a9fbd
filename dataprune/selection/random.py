"""Selectors that draw."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import check_share
from dataprune.selection._drawing import draw_by_odds, draw_within
from dataprune.selection._shares import count_of_share
from dataprune.selection._threshold import finite_range, rows_of, top_mask
from dataprune.selection.base import Candidates, Seed, Selector

MANY_ROWS = 1 << 22
"""From here on numpy's draw takes several times the time and memory of `draw_within`; below, its draws are kept."""


class RandomK(Selector):
    """A uniform draw without replacement: the baseline that a score has to beat.

    With a `CyclicScheduler` a fresh draw each cycle (RS2 of Okanovic et al. 2024). Ignores the scores, also those that
    are missing. O(n).

    Parameters
    ----------
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    References
    ----------
    Raju et al. 2021, *Accelerating Deep Learning with Dynamic Data Pruning*, arXiv 2111.12621. Okanovic et al. 2024,
    *Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning*, arXiv 2305.18424.

    Examples
    --------
    >>> len(RandomK(keep_fraction=0.5, random_state=0).fit([0.0] * 6).indices_)
    3
    """

    uses_scores: ClassVar[bool] = False

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        n_rows = len(candidates)
        if n_rows < MANY_ROWS:
            return rng.choice(n_rows, size=n_keep, replace=False, shuffle=False)

        def stratum_of(rows: slice) -> NDArray[np.int8]:
            return np.zeros(rows.stop - rows.start, np.int8)

        return rows_of(draw_within(n_rows, stratum_of, 1, lambda _sizes: np.array([n_keep]), rng))


class WeightedK(Selector):
    """A draw without replacement whose odds are the scores: hard examples often, easy ones sometimes.

    Between `TopK` and `RandomK`: easy examples stay in touch, and mislabelled ones do not fill every selection. O(n).

    Parameters
    ----------
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1: the kept set is meant to be harder than the data, not to stand for it.

    Notes
    -----
    The odds are ``score - min(score)``, so that a constant added to all scores changes nothing; equal scores give a
    uniform draw, an infinite score is kept for certain, and the lowest scores (odds 0) only fill up what is left. Each
    example gets an exponential key ``-log(u) / odds``; the smallest keys win. The threshold is found by a histogram
    over the keys' bits, not by a sort; beside the result it takes a byte per example.

    References
    ----------
    Efraimidis and Spirakis 2006, *Weighted random sampling with a reservoir* (the draw; the odds are our own).

    Examples
    --------
    >>> WeightedK(random_state=0).fit([0.0, 5.0, 0.0, float("inf")], n_keep=2).indices_
    array([1, 3])
    """

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        scores = candidates.scores
        lowest, highest, n_finite = finite_range(scores)
        n_infinite = int(np.count_nonzero(scores == np.inf))
        n_drawn = n_finite - int(np.count_nonzero(scores == lowest))
        # Certain, drawn by odds, lowest, -inf: the budget ends in one of these classes, and only there is a draw.
        if n_keep <= n_infinite:
            return _positions(scores, n_keep, rng, certain_above=np.inf)
        if n_keep > n_infinite + n_drawn:
            return _positions(scores, n_keep, rng, certain_above=lowest if n_keep <= n_infinite + n_finite else -np.inf)
        scale = max(abs(lowest), abs(highest))  # divided by first: a difference of float64 extremes would overflow
        bottom, width = lowest / scale, highest / scale - lowest / scale

        def odds_of(rows: slice) -> NDArray[np.float64]:
            odds: NDArray[np.float64] = scores[rows] / scale
            odds -= bottom
            odds /= width
            # What rounds to nothing must not fall to the class below, which -inf is in with 0.
            return np.maximum(odds, np.where(scores[rows] > lowest, 1e-300, 0.0), out=odds)

        return rows_of(draw_by_odds(len(scores), odds_of, n_keep, rng))


def _positions(
    scores: NDArray[np.floating[Any]], n_keep: int, rng: np.random.Generator, *, certain_above: float
) -> NDArray[np.int64]:
    """Keep what is above a score, and fill up with a uniform draw of what is on it."""

    def stratum_of(rows: slice) -> NDArray[np.int8]:
        return (scores[rows] >= certain_above).astype(np.int8) + (scores[rows] > certain_above)

    def share_out(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([0, n_keep - sizes[2], sizes[2]])

    return rows_of(draw_within(len(scores), stratum_of, 3, share_out, rng))


class EpsilonGreedy(Selector):
    """Mostly the hardest examples, and a few drawn from all others.

    The draw keeps the scores of easy examples fresh, and gives each a chance to come back: with
    ``refresh="observed"`` a `TopK` never looks again at what it dropped. O(n).

    Parameters
    ----------
    epsilon : float, default=0.1
        Share of the kept examples that are drawn, in [0, 1]; to the nearest, half up.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    ``(1 - epsilon) * n_keep`` rows by score, ties to the lower index, then ``epsilon * n_keep`` uniformly from the
    rest. Never-seen examples (NaN) come first; the shares are those of the rest of the budget then.

    References
    ----------
    Raju et al. 2021, *Accelerating Deep Learning with Dynamic Data Pruning*, arXiv 2111.12621 (abstract read; the value
    of epsilon is ours).

    Examples
    --------
    >>> kept = EpsilonGreedy(epsilon=0.5, random_state=0).fit([0.1, 0.9, 0.5, 0.4, 0.3], n_keep=2).indices_
    >>> len(kept), 1 in kept
    (2, True)
    """

    def __init__(self, *, epsilon: float = 0.1, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.epsilon = epsilon

    def _check_parameters(self) -> None:
        check_share(type(self).__name__, "epsilon", self.epsilon)

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        n_drawn = count_of_share(n_keep, self.epsilon)
        hardest = top_mask(candidates.scores, n_keep - n_drawn).view(np.int8)

        def share_out(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.array([n_drawn, sizes[1]])

        return rows_of(draw_within(len(hardest), hardest.__getitem__, 2, share_out, rng))
