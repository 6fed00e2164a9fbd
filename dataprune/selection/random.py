"""Selectors that draw."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.selection.base import Selector


class RandomK(Selector):
    """A uniform draw without replacement: the baseline that a score has to beat.

    With a `CyclicScheduler` a fresh draw each cycle (RS2). Ignores the scores, also those that are missing. O(n).

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
    Raju et al. 2021, *Accelerating Deep Learning with Dynamic Data Pruning*, arXiv 2111.12621.

    Examples
    --------
    >>> len(RandomK(keep_fraction=0.5, random_state=0).fit([0.0] * 6).indices_)
    3
    """

    uses_scores: ClassVar[bool] = False

    def _choose_unseen_first(
        self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return self._choose_some(scores, n_keep, rng)  # uniform: an unseen example has the same odds as any other

    def _choose(self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.choice(len(scores), size=n_keep, replace=False, shuffle=False)


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
    example gets an exponential key ``-log(u) / odds``; the smallest keys win.

    References
    ----------
    Efraimidis and Spirakis 2006, *Weighted random sampling with a reservoir* (the draw; the odds are our own).

    Examples
    --------
    >>> WeightedK(random_state=0).fit([0.0, 5.0, 0.0, float("inf")], n_keep=2).indices_
    array([1, 3])
    """

    def _choose(self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        keys = rng.exponential(size=len(scores))
        finite = np.isfinite(scores)
        odds = np.where(scores == np.inf, np.inf, 0.0)
        if finite.any():
            lowest, highest = scores[finite].min(), scores[finite].max()
            if highest > lowest:
                # Divided by the range first: a difference of float64 extremes would overflow.
                scale = max(abs(lowest), abs(highest))
                odds[finite] = scores[finite] / scale - lowest / scale
            else:
                odds[finite] = 1.0
        # Four classes, each ordered by its keys: certain, drawn by the odds, fillers, and those below any number.
        drawn = (odds > 0) & (odds < np.inf)
        keys[drawn] /= odds[drawn]
        rank = np.select([odds == np.inf, drawn, finite], [0, 1, 2], default=3)
        return np.lexsort((keys, rank))[:n_keep]
