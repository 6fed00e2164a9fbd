"""Selectors that maximise a submodular function of what is kept: coverage by similarity, alone or task by task."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.errors import check_share
from dataprune.selection._wrapper import class_numbers
from dataprune.selection.base import Candidates, Seed, Selector
from dataprune.selection.clustered import group_means, with_points

COLUMNS_PER_BLOCK = 8192
"""Examples whose similarities to the candidates are held at once."""

CANDIDATES_PER_CHUNK = 16
"""Candidates whose gains are computed at once."""

ROUNDING = 5e-7
"""What a float32 cosine may be off: a similarity that is higher by less adds nothing."""

TIE = 1e-5
"""Gains that differ by a smaller share are equal: of two rows that represent each other, both gain the same."""

NOTHING = 1e-6
"""A gain up to this is rounding."""


class FacilityLocation(Selector):
    """The examples that represent all others best: each one wants someone similar among the kept.

    Keeps the centres of what is dense, and something of each region as the budget grows; outliers count for little.
    Ignores the scores, also those that are missing. O(n^2 D): for up to some 100,000 rows.

    Parameters
    ----------
    epsilon : float, default=0.01
        What the stochastic greedy search may lose, in [0, 1]; 0 looks at all examples each time, 1 at one.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the search; not used with ``epsilon=0``.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    `fit` needs ``features`` of shape (n_examples, D). Maximised is the sum, over all examples, of the highest cosine
    similarity to a kept one; a negative cosine counts as 0 (nothing is represented by its opposite), as does any cosine
    of a zero vector. Each time, the best of ``n / n_keep * log(1 / epsilon)`` random examples is taken: in expectation
    at least ``1 - 1/e - epsilon`` of the optimum; with ``epsilon=0`` at least ``1 - 1/e``, for certain, and what a
    naive greedy search finds. Gains that were computed earlier are upper bounds, so most are not computed again (lazy
    greedy). Ties, gains within 1e-5 of each other, keep the lower index. Time O(n^2 D log(1 / epsilon)), with
    ``epsilon=0`` up to O(n^2 n_keep D). Memory: one float32 copy of the features, vectors of length n, and blocks of
    0.5 MiB of similarities; never an n x n matrix.

    References
    ----------
    Mirzasoleiman et al. 2015, *Lazier Than Lazy Greedy*, arXiv 1409.7938 (abstract read); Minoux 1978 for lazy greedy.

    Examples
    --------
    >>> features = [[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [-1.0, 0.0], [-1.0, 0.1], [-1.0, 0.4]]
    >>> FacilityLocation(epsilon=0).fit([0.0] * 6, features=features, n_keep=2).indices_
    array([1, 4])
    """

    uses_scores: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, *, epsilon: float = 0.01, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.epsilon = epsilon

    def _check_parameters(self) -> None:
        check_share("FacilityLocation", "epsilon", self.epsilon)

    def _checked_candidates(self, scores: ArrayLike, **columns: ArrayLike | None) -> Candidates:
        return with_points("FacilityLocation", super()._checked_candidates(scores, **columns))

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        assert candidates.features is not None  # noqa: S101 - `needs`
        return facility_location(candidates.features, n_keep, epsilon=self.epsilon, rng=rng)


class SubmodularMixture(Selector):
    """A mixture of tasks: budgets by what each task adds to the others, then the most representative examples of each.

    For instruction data of many tasks, which ``groups`` names. A task that resembles many others, and none taken before
    it, gets more. Ignores the scores, also those that are missing. Cost: `FacilityLocation` in each task.

    Parameters
    ----------
    redundancy_weight : float, default=0.4
        What similarity among the tasks taken costs (lambda in the paper), in [0, 1]; above 0.5 a task that resembles
        the others can lose by its gain.
    epsilon : float, default=0.01
        What the stochastic greedy search inside a task may lose, in [0, 1], as in `FacilityLocation`.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the search; not used with ``epsilon=0``.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    `fit` needs ``features`` of shape (n_examples, D) and ``groups``. A task lies at the mean of its features. Tasks are
    taken greedily by their gain g in the graph cut, the sum of a task's similarities to all minus
    ``redundancy_weight`` times those among the tasks taken (cosine; negative counts as 0). Budgets are proportional to
    ``1 + g + g**2 / 2``, whatever the sizes of the tasks; what a task has not goes to the others in the same
    proportion, and the rest by largest remainder. With fewer kept than tasks some tasks get none. Time O(t^2 D) for t
    tasks, and O(m^2 D log(1 / epsilon)) for a task of m rows; memory as in `FacilityLocation`.

    References
    ----------
    Renduchintala, Bhatia and Ramakrishnan 2024, *SMART*, arXiv 2403.08370 (code read). Theirs can leave tasks out,
    hands surplus budget round one by one, lets negative cosines count in the graph cut, and orders each of a task's
    prompt templates apart.

    Examples
    --------
    >>> features = [[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [-1.0, 0.0], [-1.0, 0.1], [-1.0, 0.4]]
    >>> tasks = ["play", "play", "play", "book", "book", "book"]
    >>> SubmodularMixture(epsilon=0).fit([0.0] * 6, features=features, groups=tasks, n_keep=2).indices_
    array([1, 4])
    """

    uses_scores: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"features", "groups"})

    def __init__(
        self,
        *,
        redundancy_weight: float = 0.4,
        epsilon: float = 0.01,
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.redundancy_weight = redundancy_weight
        self.epsilon = epsilon

    def _check_parameters(self) -> None:
        check_share("SubmodularMixture", "redundancy_weight", self.redundancy_weight)
        check_share("SubmodularMixture", "epsilon", self.epsilon)

    def _checked_candidates(self, scores: ArrayLike, **columns: ArrayLike | None) -> Candidates:
        return with_points("SubmodularMixture", super()._checked_candidates(scores, **columns))

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        features, groups = candidates.features, candidates.groups
        assert features is not None  # noqa: S101 - `needs`
        assert groups is not None  # noqa: S101 - `needs`
        _, tasks = class_numbers(type(self).__name__, "groups", groups)
        sizes = np.bincount(tasks)
        means = group_means(features, tasks, sizes)
        gains = graph_cut_gains(means, redundancy_weight=self.redundancy_weight)
        budgets = budgets_up_to(n_keep, 1.0 + gains + gains**2 / 2.0, sizes)
        by_task = np.split(np.argsort(tasks, kind="stable"), np.cumsum(sizes)[:-1])
        kept = [
            rows[facility_location(features[rows], int(budget), epsilon=self.epsilon, rng=rng)]
            for rows, budget in zip(by_task, budgets, strict=True)
        ]
        return np.concatenate(kept)


def facility_location(
    features: NDArray[np.floating[Any]], n_keep: int, *, epsilon: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose rows that represent all rows, by lazy stochastic greedy search.

    Parameters
    ----------
    features : ndarray of float, shape (n, D)
        Rows, compared by their cosine, at least 0.
    n_keep : int
        How many, in [0, n].
    epsilon : float
        What the search may lose, in [0, 1]; 0 looks at all rows each time, 1 at one.
    rng : numpy.random.Generator
        Draws the rows that are looked at.

    Returns
    -------
    ndarray of int64, shape (n_keep,)
        Rows in the order they were chosen; all of them, in theirs, where all are asked for.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [1.0, 0.2], [1.0, 0.5], [-1.0, 0.0]])
    >>> facility_location(rows, 2, epsilon=0, rng=np.random.default_rng(0))
    array([1, 3])
    """
    n = len(features)
    if n_keep in {0, n}:
        return np.arange(n_keep)
    n_looked_at = n if epsilon == 0 else max(1, math.ceil(n / n_keep * math.log(1.0 / epsilon)))
    coverage = _Coverage(features)
    bounds = np.full(n, np.inf)  # the gain of a row when it was last computed; it can only have shrunk
    left, chosen = np.arange(n), np.empty(n_keep, np.int64)
    for i in range(n_keep):
        n_left = n - i
        places = np.arange(n_left)
        if n_looked_at < n_left:
            places = rng.choice(n_left, n_looked_at, replace=False, shuffle=False)
        pool = left[places]
        gains = bounds[pool]
        is_old, best = np.ones(len(pool), bool), 0.0
        while len(promising := np.flatnonzero(is_old & (gains > NOTHING) & (gains >= _as_good_as(best)))):
            if len(promising) > CANDIDATES_PER_CHUNK:
                highest = np.argpartition(-gains[promising], CANDIDATES_PER_CHUNK)[:CANDIDATES_PER_CHUNK]
                promising = promising[highest]
            gains[promising] = coverage.gains(pool[promising])
            is_old[promising] = False
            best = gains[~is_old].max()
        bounds[pool] = gains
        winners = np.flatnonzero(gains >= _as_good_as(best))  # an old bound among them is at most `NOTHING`
        winner = winners[np.argmin(pool[winners])]
        chosen[i] = pool[winner]
        coverage.add(chosen[i])
        left[places[winner]] = left[n_left - 1]
    return chosen


def _as_good_as(gain: float) -> float:
    return gain - max(TIE * gain, NOTHING)


class _Coverage:
    """How similar each row is to the most similar of those added."""

    def __init__(self, features: NDArray[np.floating[Any]]) -> None:
        n, n_dimensions = features.shape
        # One row more than the features have: minus the coverage. A product with a candidate, whose last number is 1,
        # is then the similarity minus the coverage, and no other pass over the block is needed to subtract it.
        self._columns = np.empty((n_dimensions + 1, n), np.float32)
        np.divide(features.T, lengths(features), out=self._columns[:-1], casting="same_kind")
        self._columns[-1] = -ROUNDING

    def gains(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return what each candidate would add to the sum of all coverages."""
        rows = np.ascontiguousarray(self._columns[:, candidates].T)
        rows[:, -1] = 1.0
        total = np.zeros(len(candidates))
        for start in range(0, self._columns.shape[1], COLUMNS_PER_BLOCK):
            excess = rows @ self._columns[:, start : start + COLUMNS_PER_BLOCK]  # (candidates, block)
            np.maximum(excess, 0.0, out=excess)
            total += excess.sum(axis=1)
        return total

    def add(self, row: np.int64) -> None:
        """Let `row` represent what it is most similar to."""
        similarities = self._columns[:-1, row] @ self._columns[:-1]
        np.minimum(self._columns[-1], -ROUNDING - similarities, out=self._columns[-1])


def lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return by what to divide rows for their cosines: their lengths, 1 for a row of zeros.

    Parameters
    ----------
    rows : ndarray of float, shape (n, D)
        Rows.

    Returns
    -------
    ndarray of float64, shape (n,)
        Above 0; right also where a float32 square would overflow or vanish.

    Examples
    --------
    >>> lengths(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([5., 1.])
    """
    found: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    found[found == 0] = 1.0
    return found


def graph_cut_gains(rows: NDArray[np.floating[Any]], *, redundancy_weight: float) -> NDArray[np.float64]:
    """Return what each row adds to a graph cut when all are taken, the best first.

    Parameters
    ----------
    rows : ndarray of float, shape (n, D)
        Rows, compared by their cosine, at least 0.
    redundancy_weight : float
        What similarity among the rows taken costs, in [0, 1].

    Returns
    -------
    ndarray of float64, shape (n,)
        Gains by row; ties take the lower row first.

    Examples
    --------
    >>> graph_cut_gains(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), redundancy_weight=0.4).round(6)
    array([1.6, 0.8, 0.6])
    """
    unit = rows / lengths(rows)[:, None]

    def similarities(row: int) -> NDArray[Any]:
        found: NDArray[Any] = np.maximum(unit @ unit[row], 0.0)
        return found

    itself = np.einsum("ij,ij->i", unit, unit)
    gain = np.array([similarities(row).sum() for row in range(len(unit))]) - redundancy_weight * itself
    gains = np.zeros(len(unit))
    is_left = np.ones(len(unit), bool)
    for _ in range(len(unit)):
        best = int(np.argmax(np.where(is_left, gain, -np.inf)))
        gains[best], is_left[best] = gain[best], False
        gain -= 2.0 * redundancy_weight * similarities(best)
    return gains


def budgets_up_to(n: int, weights: NDArray[np.floating[Any]], sizes: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Share a count out in proportion to weights, no part getting more than it has.

    Parameters
    ----------
    n : int
        What is shared out, at most the sum of `sizes`.
    weights : ndarray of float, shape (n_parts,)
        Above 0.
    sizes : ndarray of int, shape (n_parts,)
        The most that each part can get; what it would get beyond goes to the others in proportion.

    Returns
    -------
    ndarray of int64, shape (n_parts,)
        Adds up to `n`; rounded by largest remainder, ties to the lower part.

    Examples
    --------
    >>> budgets_up_to(8, np.array([2.0, 1.0, 1.0]), np.array([2, 9, 9]))
    array([2, 3, 3])
    """
    budgets, is_open = np.zeros(len(sizes), np.int64), np.ones(len(sizes), bool)
    while is_open.any():
        shares = np.where(is_open, weights, 0.0)
        # Rounded: 3 * (1 / 3) of a weight must not lose a whole for its last bit.
        shares = np.round((n - budgets.sum()) * (shares / shares.sum()), 9)
        is_full = is_open & (shares >= sizes)
        if not is_full.any():
            budgets[is_open] = np.floor(shares[is_open])
            remainders = np.where(is_open, shares - np.floor(shares), -1.0)
            budgets[np.argsort(-remainders, kind="stable")[: n - budgets.sum()]] += 1
            break
        budgets[is_full], is_open[is_full] = sizes[is_full], False
    return budgets
