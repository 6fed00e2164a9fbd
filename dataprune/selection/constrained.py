"""Selectors that keep a promise about single rows or groups, and leave the choice to another selector."""

from __future__ import annotations

from copy import copy
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.errors import InvalidTypeError, InvalidValueError, check_choice
from dataprune.selection._wrapper import SelectorWrapper, class_numbers
from dataprune.selection.base import Candidates, Seed, Selection, Selector
from dataprune.selection.clustered import group_means, with_points

REDUCTIONS = ("mean", "max")
KNOWN_OF_GROUPS = frozenset({"features"})
"""Keywords of `fit` that a group has a value of its own for, beside its score."""


class KeepAlways(SelectorWrapper):
    """Never drops the listed rows; for the rest of the budget another selector chooses.

    For examples that must stay whatever their score: checked by hand, required, rare. O(n) beside the inner choice.

    Parameters
    ----------
    selector : Selector, optional
        Who chooses among the other rows; by default `TopK`.
    indices : array-like of int, default=()
        Rows of the full data set that are always kept.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the inner selector; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        1 for the listed rows, those of the inner selector for the others.

    Notes
    -----
    The listed rows count towards the budget; one below their number is refused. They go before never-seen examples
    (NaN). If the inner selector undoes its choice by weights, the listed rows stand for themselves and the others for
    what is left, which stays unbiased. Row numbers are those of the full data set, so it has to be the outermost
    wrapper.

    Examples
    --------
    >>> KeepAlways(indices=[0]).fit([0.1, 0.9, 0.5, 0.4], n_keep=2).indices_
    array([0, 1])
    """

    names_rows: ClassVar[bool] = True

    def __init__(
        self,
        selector: Selector | None = None,
        *,
        indices: ArrayLike = (),
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(selector, keep_fraction=keep_fraction, random_state=random_state)
        self.indices = indices

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        always = self._rows(len(candidates))
        if n_keep < len(always):
            raise InvalidValueError(
                f"{type(self).__name__}.n_keep must be at least {len(always)}, the number of rows always kept, "
                f"got {n_keep}. Keep more, or list fewer."
            )
        if n_keep == len(candidates):
            return np.arange(n_keep), np.ones(n_keep, np.float32)
        return self._fill_up(candidates, always, np.ones(len(always), np.float32), n_keep, rng)

    def _rows(self, n_examples: int) -> NDArray[np.int64]:
        owner = type(self).__name__
        try:
            listed = np.asarray(self.indices)
        except ValueError:
            raise InvalidTypeError(f"{owner}.indices must be a list of row numbers, got {self.indices!r}.") from None
        if listed.size == 0:
            return np.zeros(0, np.int64)
        if not np.issubdtype(listed.dtype, np.integer) or listed.ndim != 1:
            raise InvalidTypeError(
                f"{owner}.indices must be a list of row numbers, got {listed.dtype} of shape {listed.shape}."
            )
        rows = np.unique(listed)
        if rows[0] < 0 or rows[-1] >= n_examples:
            wrong = rows[0] if rows[0] < 0 else rows[-1]
            raise InvalidValueError(f"{owner}.indices must be in [0, {n_examples}), got {wrong}.")
        return rows.astype(np.int64)


class KeepTogether(SelectorWrapper):
    """Groups stay or go together: dialogues, documents, duplicates.

    The groups are what another selector chooses among, by their mean or highest score. O(n log n), and as many choices
    among the groups as their number has binary digits.

    Parameters
    ----------
    selector : Selector, optional
        Who chooses among the groups, by their scores or features alone and without loss weights; by default `TopK`.
    reduction : {"mean", "max"}, default="mean"
        How the scores of a group's examples combine.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the inner selector; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    Whole groups and an exact count cannot be had at once. The count is kept: as many groups as fit are whole, and of
    the next one only a part is kept, chosen by the same selector; so **at most one group is split**. Where none may be,
    drop the rows of that group afterwards. With `TopK` a smaller budget keeps a subset. Of two groups with the same
    score the one that begins at the lower row is kept. A group's score is that of its seen rows; it is never seen
    (NaN), and comes first, if none of them was. For a selector that needs ``features``, such as `ClusteredK`, a group
    lies at the mean of its rows' features. One that needs ``cost`` is refused: its budget could not be kept at an exact
    count of examples. For balance as well, put the balance outside: ``ClassBalanced(KeepTogether())``.

    Examples
    --------
    >>> KeepTogether().fit([0.1, 0.9, 0.8, 0.5], groups=["a", "a", "b", "b"], n_keep=2).indices_
    array([2, 3])
    """

    def __init__(
        self,
        selector: Selector | None = None,
        *,
        reduction: str = "mean",
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(selector, keep_fraction=keep_fraction, random_state=random_state)
        self.reduction = reduction

    def _own_needs(self) -> frozenset[str]:
        return frozenset({"groups"})

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner, inner = type(self).__name__, self._inner
        check_choice(owner, "reduction", self.reduction, REDUCTIONS)
        if inner.reweighs:
            raise InvalidValueError(
                f"{owner}.selector must be one without loss weights, got {inner!r}. Groups of unequal size cannot be "
                "drawn without bias at an exact count."
            )
        if more := inner.needs - KNOWN_OF_GROUPS:
            remedy = (
                f"Wrap the other way round: {type(inner).__name__}({owner}())."
                if isinstance(inner, SelectorWrapper) and not isinstance(inner, KeepTogether)
                else "Take one that chooses by these, such as TopK, WeightedK or ClusteredK."
            )
            raise InvalidValueError(
                f"{owner}.selector must look at the scores or features of whole groups alone, but "
                f"{type(inner).__name__} needs {' and '.join(sorted(more))}. {remedy}"
            )

    def _choose_weighted(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        assert candidates.groups is not None  # noqa: S101 - `needs`
        _, numbers = class_numbers(type(self).__name__, "groups", candidates.groups)
        sizes = np.bincount(numbers)
        first_rows = np.empty(len(sizes), np.int64)
        first_rows[numbers[::-1]] = np.arange(len(numbers))[::-1]  # of several rows the last one assigned, the lowest
        # Groups are numbered by their first rows: so ties between groups go to the one that begins first.
        numbers = np.argsort(np.argsort(first_rows))[numbers]
        by_group = np.argsort(numbers, kind="stable")
        sizes = np.bincount(numbers)
        scores = group_scores(candidates.scores[by_group], np.cumsum(sizes) - sizes, self.reduction)
        of_groups = Candidates(scores)
        if "features" in self._inner.needs:
            features = with_points(type(self).__name__, candidates).features
            assert features is not None  # noqa: S101 - `needs`
            of_groups = Candidates(scores, features=group_means(features, numbers, sizes))

        whole, split, n_of_split = self._fill(of_groups, sizes, n_keep, rng)
        is_whole = np.zeros(len(sizes), bool)
        is_whole[whole] = True
        kept = np.flatnonzero(is_whole[numbers])
        if n_of_split > 0:
            rows = np.flatnonzero(numbers == split)
            positions, _ = self._fit_inner(candidates.take(rows), n_of_split, rng)
            kept = np.concatenate([kept, rows[positions]])
        return kept, np.ones(n_keep, np.float32)

    def _fill(
        self, of_groups: Candidates, sizes: NDArray[np.int64], n_keep: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], int, int]:
        """Return the groups that are whole, the one that is split, and how many of its rows are kept."""
        inner = copy(self._inner)
        inner.random_state = int(rng.integers(2**63))  # the same for all numbers of groups
        fits, too_many = np.zeros(0, np.int64), np.arange(len(sizes))
        n_fits, n_too_many = 0, len(sizes)
        while n_too_many - n_fits > 1:
            n_groups = (n_fits + n_too_many) // 2
            chosen = inner.fit(of_groups.scores, n_keep=n_groups, features=of_groups.features).indices_
            if sizes[chosen].sum() <= n_keep:
                fits, n_fits = chosen, n_groups
            else:
                too_many, n_too_many = chosen, n_groups
        # One group more is too many. Of a ranking that is the next group; a draw may have chosen quite others.
        next_ones = rng.permutation(np.setdiff1d(too_many, fits))
        n_up_to = np.cumsum(sizes[next_ones]) + sizes[fits].sum()
        n_more = int(np.searchsorted(n_up_to, n_keep, side="right"))
        whole = np.concatenate([fits, next_ones[:n_more]])
        return whole, int(next_ones[n_more]), n_keep - int(sizes[whole].sum())


def group_scores(scores: NDArray[np.floating], starts: NDArray[np.int64], reduction: str) -> NDArray[np.float64]:
    """Return one score per group: the mean or the highest of the scores that are not NaN.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Sorted by group.
    starts : ndarray of int64, shape (n_groups,)
        Where each group begins.
    reduction : {"mean", "max"}
        How they combine.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        NaN only for a group of NaN alone; the mean of a group with an infinite score is infinite.

    Examples
    --------
    >>> group_scores(np.array([1.0, 3.0, np.nan, np.nan]), np.array([0, 2, 3]), "mean")
    array([ 2., nan, nan])
    """
    highest = np.fmax.reduceat(scores.astype(np.float64), starts)
    if reduction == "max":
        return highest
    is_seen = ~np.isnan(scores)
    n_seen = np.maximum(np.add.reduceat(is_seen, starts, dtype=np.int64), 1)
    per_row = np.repeat(n_seen, np.diff(starts, append=len(scores)))
    finite = np.where(np.isfinite(scores), scores, 0.0) / per_row  # divided first: a sum of extremes would overflow
    mean = np.add.reduceat(finite, starts)
    lowest = np.fmin.reduceat(scores.astype(np.float64), starts)
    # An infinity decides; between two the upper one does, for it may not be read as "never seen".
    mean = np.where(lowest == -np.inf, -np.inf, mean)
    mean = np.where(highest == np.inf, np.inf, mean)
    return np.where(np.isnan(highest), np.nan, mean)
