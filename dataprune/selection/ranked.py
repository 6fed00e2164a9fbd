"""Selectors that keep a part of the ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import check_share
from dataprune.selection._shares import count_of_share
from dataprune.selection._threshold import add_ties, kth_largest, rows_of, top_mask
from dataprune.selection.base import Candidates, Seed, Selector


class TopK(Selector):
    """The hardest examples.

    The plain choice of the seed paper. Drops easy examples only; keeps mislabelled ones, which look hard: with more
    than a few percent of label noise prefer a draw (`WeightedK`). O(n).

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
    Ties keep the lower index; never-seen examples (NaN) come first. A smaller budget keeps a subset. The threshold is
    found by a histogram over the scores' bits, not by a sort; beside the result it takes a byte per example.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075; Attendu and Corbeil 2023, arXiv 2306.03208.

    Examples
    --------
    >>> TopK(keep_fraction=0.5).fit([0.1, 0.9, 0.5, 0.9]).indices_
    array([1, 3])
    """

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        return rows_of(top_mask(candidates.scores, n_keep))


class ScoreWindow(Selector):
    """The hardest examples after an offset: the very hardest, where mislabelled ones sit, are dropped.

    For data with some label noise, once the score tells noise from difficulty. With ``offset_fraction=0`` it is
    `TopK`. O(n).

    Parameters
    ----------
    offset_fraction : float, default=0.05
        Share of all examples dropped at the hard end, in [0, 1]; to the nearest, half up.
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
    The count goes before the offset: where fewer examples than the budget are left below the window's upper end, the
    offset shrinks. Ties keep the lower index, at both ends. Never-seen examples (NaN) come first; the share is one of
    the others then. A smaller budget keeps a subset.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075; Fayyaz et al. 2022, arXiv 2211.05610 (abstract read).

    Examples
    --------
    >>> ScoreWindow(offset_fraction=0.2).fit([0.1, 0.9, 0.5, 0.4, 0.3], n_keep=2).indices_
    array([2, 3])
    """

    def __init__(self, *, offset_fraction: float = 0.05, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.offset_fraction = offset_fraction

    def _check_parameters(self) -> None:
        check_share(type(self).__name__, "offset_fraction", self.offset_fraction)

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        scores = candidates.scores
        n_offset = min(count_of_share(len(scores), self.offset_fraction), len(scores) - n_keep)
        if n_offset == 0:
            return rows_of(top_mask(scores, n_keep))
        low, high = kth_largest(scores, n_offset + n_keep, n_offset)
        if low.value == high.value:
            mask = np.zeros(len(scores), bool)
            add_ties(mask, scores, high.value, n_keep)
        else:
            mask = scores < high.value
            mask &= scores > low.value
            add_ties(mask, scores, high.value, high.n_above + high.n_equal - n_offset)
            add_ties(mask, scores, low.value, n_offset + n_keep - low.n_above)
        return rows_of(mask)


class BothEnds(Selector):
    """A share of the hardest examples and, for the rest, the easiest: what lies between is dropped.

    The easy ones keep the model anchored while it trains on hard ones alone. O(n).

    Parameters
    ----------
    hard_fraction : float, default=0.7
        Share of the kept examples that come from the hard end, in [0, 1]; to the nearest, half up.
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
    Ties keep the lower index, at both ends. Never-seen examples (NaN) come first; the shares are those of the rest of
    the budget then. A smaller budget keeps a subset.

    References
    ----------
    Swayamdipta et al. 2020, *Dataset Cartography* (70 / 30 in the authors' code).

    Examples
    --------
    >>> BothEnds(hard_fraction=0.5).fit([0.1, 0.9, 0.5, 0.4, 0.3], n_keep=2).indices_
    array([0, 1])
    """

    def __init__(self, *, hard_fraction: float = 0.7, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.hard_fraction = hard_fraction

    def _check_parameters(self) -> None:
        check_share(type(self).__name__, "hard_fraction", self.hard_fraction)

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        scores = candidates.scores
        n_hard = count_of_share(n_keep, self.hard_fraction)
        n_easy = n_keep - n_hard
        mask = top_mask(scores, n_hard)
        if n_easy == 0:
            return rows_of(mask)
        n_examples = len(scores)
        low = kth_largest(scores, n_examples - n_easy + 1)[0]
        mask |= scores < low.value
        # Where the hard end stops among the same ties, it has the first of them, and these are the next.
        n_taken = max(0, min(low.n_equal, n_hard - low.n_above))
        n_below = n_examples - low.n_above - low.n_equal
        add_ties(mask, scores, low.value, n_taken + n_easy - n_below)
        return rows_of(mask)
