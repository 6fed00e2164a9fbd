"""Selectors that cover the whole range of the scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import check_count, check_share
from dataprune.selection._drawing import draw_within
from dataprune.selection._shares import count_of_share, equal_counts
from dataprune.selection._threshold import add_ties, finite_range, kth_largest, rows_of
from dataprune.selection.base import Candidates, Seed, Selector
from dataprune.selection.ranked import TopK


class StratifiedK(Selector):
    """A draw that covers the whole range of scores, after the examples most likely mislabelled are dropped.

    For small budgets, where the hardest examples alone are too one-sided and too noisy to learn from. O(n).

    Parameters
    ----------
    n_strata : int, default=50
        Strata of equal width, at least 1.
    cutoff_fraction : float, default=0.0
        Share of all examples dropped at the hard end before, in [0, 1]; to the nearest, half up. With `AUM` as the
        score these are the examples most likely mislabelled; the paper tunes the share to the budget.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1: sparse strata are meant to be over-represented.

    Notes
    -----
    The finite scores' range, after the cut-off, is divided into equal widths; the last stratum holds its upper edge,
    and infinite scores lie in the outermost strata. The budget is shared out evenly, from the smallest stratum up: one
    that holds less than its share is kept whole and gives the rest to the others, where the lower ones get what is left
    over by rounding. Inside a stratum the draw is uniform. A cut-off that would leave less than the budget shrinks.
    Ties at the cut-off keep the lower index. Never-seen examples (NaN) come first; they are no part of any stratum.

    References
    ----------
    Zheng et al. 2023, *Coverage-centric Coreset Selection*, arXiv 2210.15809. In the authors' code the top
    edge of the last stratum is lost for negative scores, and equal scores give nothing.

    Examples
    --------
    >>> selector = StratifiedK(n_strata=2, random_state=0)
    >>> selector.fit([0.0, 0.0, 0.0, 0.0, 0.9, 1.0], n_keep=4).indices_[-2:]
    array([4, 5])
    """

    def __init__(
        self,
        *,
        n_strata: int = 50,
        cutoff_fraction: float = 0.0,
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.n_strata = n_strata
        self.cutoff_fraction = cutoff_fraction

    def _check_parameters(self) -> None:
        check_count(type(self).__name__, "n_strata", self.n_strata, minimum=1)
        check_share(type(self).__name__, "cutoff_fraction", self.cutoff_fraction)

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        scores, n_strata = candidates.scores, self.n_strata
        n_cut = min(count_of_share(len(scores), self.cutoff_fraction), len(scores) - n_keep)
        lowest, highest, _ = finite_range(scores)
        is_left = None
        if n_cut > 0:
            last_cut, first_left = kth_largest(scores, n_cut, n_cut + 1)
            is_left = scores < last_cut.value
            add_ties(is_left, scores, last_cut.value, last_cut.n_above + last_cut.n_equal - n_cut)
            highest = min(highest, np.float64(first_left.value))
            if highest < lowest:  # only -inf is left
                lowest = highest = np.float64(0)
        scale = max(abs(lowest), abs(highest), np.finfo(np.float64).tiny)  # a difference of extremes would overflow
        bottom, width = lowest / scale, highest / scale - lowest / scale
        per_width = n_strata / width if width > 0 else 0.0

        def stratum_of(rows: slice) -> NDArray[np.int32]:
            place = np.clip(scores[rows], lowest, highest) / scale
            place -= bottom
            place *= per_width
            strata: NDArray[np.int32] = np.minimum(place, n_strata - 1).astype(
                np.int32
            )  # the upper edge belongs to the last
            if is_left is not None:
                strata[~is_left[rows]] = n_strata
            return strata

        def share_out(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.append(equal_counts(sizes[:n_strata], n_keep), 0)

        return rows_of(draw_within(len(scores), stratum_of, n_strata + 1, share_out, rng))


class TopOrStratified(Selector):
    """The hardest where few are kept, an even draw over the range of the scores where many are (SCDP).

    Parameters
    ----------
    n_ranked : int, default=1500
        Up to this count the hardest are kept, above it strata are drawn from.
    n_strata : int, default=100
        Strata of equal width, at least 1.
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
    Nguyen and He 2025, *Swift Cross-Dataset Pruning*, arXiv 2501.02432, with the distance from the geometric median as
    the score (`TfidfDistance`).

    Examples
    --------
    >>> TopOrStratified(n_ranked=2).fit([0.1, 0.9, 0.8, 0.3], n_keep=2).indices_
    array([1, 2])
    """

    def __init__(
        self,
        *,
        n_ranked: int = 1500,
        n_strata: int = 100,
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.n_ranked = n_ranked
        self.n_strata = n_strata

    def _check_parameters(self) -> None:
        check_count(type(self).__name__, "n_ranked", self.n_ranked)
        check_count(type(self).__name__, "n_strata", self.n_strata, minimum=1)

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if n_keep <= self.n_ranked:
            return TopK().fit(candidates.scores, n_keep=n_keep).indices_
        strata = StratifiedK(n_strata=self.n_strata, random_state=int(rng.integers(2**31)))
        return strata.fit(candidates.scores, n_keep=n_keep).indices_
