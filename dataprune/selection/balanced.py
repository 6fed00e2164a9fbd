"""Selectors that give each class its share or its minimum, and leave the choice inside a class to another selector."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidTypeError, InvalidValueError, check_choice, check_count, check_share
from dataprune.selection._shares import equal_counts, proportional_counts
from dataprune.selection._wrapper import SelectorWrapper, class_numbers
from dataprune.selection.base import Candidates, Seed, Selection, Selector
from dataprune.selection.columns import COLLECTIONS, has_several, several_values

SHARES = {"proportional": proportional_counts, "equal": equal_counts}
COLUMNS = ("labels", "groups")


class _ByClass(SelectorWrapper):
    """A wrapper that knows classes: of the labels, or of the groups."""

    by: str

    def _own_needs(self) -> frozenset[str]:
        return frozenset({check_choice(type(self).__name__, "by", self.by, COLUMNS)})

    def _check_parameters(self) -> None:
        self._own_needs()
        super()._check_parameters()

    def _classes(self, candidates: Candidates) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.int64]]:
        """Return the values of the classes, which each row has, and how many rows each has."""
        values, numbers = class_numbers(type(self).__name__, self.by, getattr(candidates, self.by))
        return values, numbers, np.bincount(numbers, minlength=len(values))

    def _choose_in_classes(
        self, candidates: Candidates, numbers: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator
    ) -> Selection:
        """Let the inner selector choose that many of each class; the weights are those inside the class."""
        sizes = np.bincount(numbers, minlength=len(counts))
        by_class = np.split(np.argsort(numbers, kind="stable"), np.cumsum(sizes)[:-1])
        kept: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        weights: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        for rows, count in zip(by_class, counts.tolist(), strict=True):
            if count == len(rows):
                kept.append(rows)
                weights.append(np.ones(count, np.float32))
            elif count > 0:
                positions, inner_weights = self._fit_inner(candidates.take(rows), count, rng)
                kept.append(rows[positions])
                weights.append(inner_weights)
        return np.concatenate(kept), np.concatenate(weights)


class ClassBalanced(_ByClass):
    """Each class gets its share of the budget; another selector chooses inside it.

    Against selections that lose a class: with a score that is low for all of an easy class, `TopK` drops it whole.
    O(n log n), and one choice per class.

    Parameters
    ----------
    selector : Selector, optional
        Who chooses inside a class; by default `TopK`.
    share : {"proportional", "equal"}, default="proportional"
        Share of a class: that of its size, or the same for all, where a class that is too small is kept whole and gives
        the rest to the others.
    by : {"labels", "groups"}, default="labels"
        What the classes are: the labels or the groups given to `fit`.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the inner selector; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        Those of the inner selector.

    Notes
    -----
    Proportional counts are rounded by the largest remainder, ties to the lower class: within 1 of the share, so that a
    class with less than half an example's share may get none (`ClassFloor` gives it a minimum). Equal counts differ by
    at most 1, the lower classes getting more. The balance goes before never-seen examples (NaN): these come first
    inside their class. Weights of a selector that undoes its choice (`ImportanceSample`, `SoftPrune`) are scaled so
    that the whole stays unbiased, under either share, as long as each class gets at least one example.

    Examples
    --------
    >>> selector = ClassBalanced(share="equal")
    >>> selector.fit([0.9, 0.8, 0.7, 0.1, 0.2], labels=["a", "a", "a", "b", "b"], n_keep=2).indices_
    array([0, 4])
    """

    def __init__(
        self,
        selector: Selector | None = None,
        *,
        share: str = "proportional",
        by: str = "labels",
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(selector, keep_fraction=keep_fraction, random_state=random_state)
        self.share = share
        self.by = by

    def _check_parameters(self) -> None:
        check_choice(type(self).__name__, "share", self.share, SHARES)
        super()._check_parameters()

    def _choose_weighted(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        share = SHARES[self.share]
        _, numbers, sizes = self._classes(candidates)
        counts = share(sizes, n_keep)
        kept, weights = self._choose_in_classes(candidates, numbers, counts, rng)
        if self._inner.reweighs:
            # Inside a class the mean over the kept stands for that over the class, which counts by its size.
            scale = sizes * n_keep / (np.maximum(counts, 1) * len(candidates))
            weights = (weights * scale[numbers[kept]]).astype(np.float32)
        return kept, weights


class ClassFloor(_ByClass):
    """Each class keeps a minimum; for the rest of the budget another selector chooses freely.

    Against the loss of a rare class, at less cost to the ranking than `ClassBalanced`. A row has one class (its label,
    intent, source) or any number of them (the slot types of a sentence). O(n log n), n counting each class of each row,
    and one choice per class.

    Parameters
    ----------
    selector : Selector, optional
        Who chooses; by default `TopK`.
    n_min : int, default=1
        Examples that each class keeps at least; all of a class that has fewer.
    min_fraction : float, default=0.0
        Share of each class that is kept at least, in [0, 1]; rounded down, and never below ``n_min``.
    by : {"labels", "groups"}, default="labels"
        What the classes are: the labels or the groups given to `fit`.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the inner selector; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        Those of the inner selector.

    Notes
    -----
    First the inner selector chooses the minimum inside each class, then the rest of the budget from all rows that are
    left; with `TopK` that is the selection of the highest total score among all that keep the floors. A budget below
    the sum of the floors is refused.

    Several classes per row are a list or set for each (empty: none), or a boolean matrix of shape (n_examples,
    n_classes). The floors are then filled from the rarest class up, ties to the lower class: what the rows kept so far
    lack of a class, the inner selector chooses among its other rows. Every floor is kept; the rows that this takes are
    at most the sum of the floors, but depend on the scores, and may be more than the fewest that would do (to find
    these is set cover). A budget below their number is refused.

    The floors go before never-seen examples (NaN): these come first inside their class, and again in the rest. If the
    inner selector undoes its choice by weights, the rows of the floors stand for themselves and the others for what is
    left, which stays unbiased.

    References
    ----------
    Bandyopadhyay et al. 2024, arXiv 2406.04892 (abstract read), on what pruning does to a minority class; the rule is
    our own.

    Examples
    --------
    >>> selector = ClassFloor(n_min=1)
    >>> selector.fit([0.9, 0.8, 0.7, 0.1, 0.2], labels=["a", "a", "a", "b", "b"], n_keep=3).indices_
    array([0, 1, 4])
    >>> slots = [["city"], [], ["city"], ["city", "airline"], ["day"]]
    >>> ClassFloor(by="groups").fit([0.9, 0.8, 0.7, 0.1, 0.2], groups=slots, n_keep=3).indices_
    array([0, 3, 4])
    """

    def __init__(
        self,
        selector: Selector | None = None,
        *,
        n_min: int = 1,
        min_fraction: float = 0.0,
        by: str = "labels",
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(selector, keep_fraction=keep_fraction, random_state=random_state)
        self.n_min = n_min
        self.min_fraction = min_fraction
        self.by = by

    @property
    def takes_several(self) -> frozenset[str]:  # type: ignore[override]
        """The column that the classes are read from, and those of the inner selector."""
        return self._inner.takes_several | {self.by}

    def _check_parameters(self) -> None:
        check_count(type(self).__name__, "n_min", self.n_min)
        check_share(type(self).__name__, "min_fraction", self.min_fraction)
        super()._check_parameters()

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        column = getattr(candidates, self.by)
        if has_several(column):
            return self._choose_with_several(candidates, column, n_keep, rng)
        values, numbers, sizes = self._classes(candidates)
        floors = self._floors(sizes)
        if n_keep < (n_least := int(floors.sum())):
            raise InvalidValueError(
                f"{type(self).__name__}.n_keep must be at least {n_least}, the sum of the floors of {len(values)} "
                f"classes of {self.by}, got {n_keep}. Keep more, or lower n_min or min_fraction."
            )
        if n_keep == len(candidates):
            return np.arange(n_keep), np.ones(n_keep, np.float32)
        first, first_weights = self._choose_in_classes(candidates, numbers, floors, rng)
        return self._fill_up(candidates, first, first_weights, n_keep, rng)

    def _choose_with_several(
        self, candidates: Candidates, column: NDArray[Any], n_keep: int, rng: np.random.Generator
    ) -> Selection:
        """Fill the floors from the rarest class up, counting what earlier classes brought along."""
        members = class_members(type(self).__name__, self.by, column)
        if n_keep == len(candidates):
            return np.arange(n_keep), np.ones(n_keep, np.float32)
        sizes = np.array([len(rows) for rows in members], np.int64)
        floors = self._floors(sizes)
        if self.by not in self._inner.needs:
            unread: dict[str, Any] = {self.by: None}
            candidates = replace(candidates, **unread)  # what none reads is not copied for each class
        is_kept = np.zeros(len(candidates), bool)
        weights = np.ones(len(candidates), np.float32)
        for number in np.argsort(sizes, kind="stable").tolist():
            rows = members[number]
            others = rows[~is_kept[rows]]
            n_lacking = int(floors[number]) - (len(rows) - len(others))
            if n_lacking <= 0:
                continue
            if n_lacking < len(others):
                positions, inner_weights = self._fit_inner(candidates.take(others), n_lacking, rng)
                others = others[positions]
                weights[others] = inner_weights
            is_kept[others] = True
        first = np.flatnonzero(is_kept)
        if n_keep < len(first):
            raise InvalidValueError(
                f"{type(self).__name__}.n_keep must be at least {len(first)}, the rows that the floors of {len(sizes)} "
                f"classes of {self.by} take, got {n_keep}. Keep more, or lower n_min or min_fraction."
            )
        return self._fill_up(candidates, first, weights[first], n_keep, rng)

    def _floors(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        # Rounded down, so that a floor at the budget's own share is never refused. 6 decimals: see `count_to_keep`.
        parts = [math.floor(round(size * float(self.min_fraction), 6)) for size in sizes.tolist()]
        return np.minimum(sizes, np.maximum(parts, self.n_min).astype(np.int64))


def check_classes(selector: Selector, by: str, column: NDArray[Any]) -> None:
    """Raise unless a selector can read its classes from a column; `fit` does so, and a run before it begins.

    Parameters
    ----------
    selector : Selector
        That needs the column.
    by : str
        ``labels`` or ``groups``.
    column : ndarray
        One entry per row.

    Raises
    ------
    InvalidTypeError
        If the values are not of one kind.
    InvalidValueError
        If rows have several classes, and the selector takes one.

    Examples
    --------
    >>> check_classes(ClassFloor(by="groups"), "groups", np.array([{"a"}, {"a", "b"}]))
    """
    read = class_members if by in selector.takes_several and has_several(column) else class_numbers
    read(type(selector).__name__, by, column)


def class_members(owner: str, by: str, column: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Return the rows of each class, where a row may have any number of classes.

    Parameters
    ----------
    owner : str
        Class that a message names.
    by : str
        Column that a message names.
    column : ndarray
        Lists or sets of classes, shape (n,), or bool of shape (n, n_classes).

    Returns
    -------
    list of ndarray of int64
        Sorted rows, each once; the classes are sorted too.

    Raises
    ------
    InvalidTypeError
        If a row is neither list nor set, a matrix is not boolean, or classes cannot be sorted.
    InvalidValueError
        If a class is itself a list.

    Examples
    --------
    >>> class_members("ClassFloor", "groups", np.array([{"a"}, {"b", "a"}, set()]))
    [array([0, 1]), array([1])]
    """
    if column.ndim == 1:
        if not COLLECTIONS.issuperset(map(type, column)):
            kinds = sorted({type(value).__name__ for value in column})
            raise InvalidTypeError(
                f"{owner}.fit() needs {by} of one kind, got {' and '.join(kinds)}. Of several classes per example pass "
                "a list or set for each; an empty one stands for none."
            )
        values, numbers = class_numbers(owner, by, several_values(list(chain.from_iterable(column))))
        rows = np.repeat(np.arange(len(column)), np.fromiter(map(len, column), np.int64, len(column)))
        # Sorted by class and, inside it, by row; a class that a row names twice counts once.
        pairs = np.sort(numbers * len(column) + rows)
        numbers, rows = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], len(column))
        n_classes = len(values)
    elif column.ndim == 2 and column.dtype == bool:
        numbers, rows = np.nonzero(column.T)
        n_classes = column.shape[1]
    else:
        raise InvalidTypeError(
            f"{owner}.fit() needs {by} with one class per example, a list or set of them, or a boolean matrix of shape "
            f"(n_examples, n_classes), got {column.dtype} of shape {column.shape}."
        )
    return np.split(rows, np.searchsorted(numbers, np.arange(1, n_classes))) if n_classes else []
