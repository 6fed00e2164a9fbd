"""Selectors that look at where examples lie: by cluster, or spread as far apart as can be."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.errors import InvalidValueError, check_count, check_share
from dataprune.selection._shares import count_of_share, proportional_counts
from dataprune.selection.base import Candidates, Seed, Selector

ROWS_PER_BLOCK = 10_000
"""Rows whose distances are taken at once."""

SAME_POINT = 1e-12
"""Squared distance below which two points are one, where all lie within 1 of their mean."""


class ClusteredK(Selector):
    """From each k-means cluster its share: the examples nearest to the centroid and those farthest from it.

    Keeps every region of the data, typical and unusual examples of each, before any model is trained. Ignores the
    scores, also those that are missing. Mini-batch k-means, then O(n log n).

    Parameters
    ----------
    n_clusters : int, default=7
        Clusters; at most as many as there are rows are made.
    hard_fraction : float, default=0.5
        Share of what is kept that is taken from far out, in [0, 1]; the rest is taken from close by.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the k-means; None clusters anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    `fit` needs ``features`` of shape (n_examples, D), such as sentence embeddings. A cluster's budget is proportional
    to its size, and the far part of it to its budget, both rounded by largest remainder (ties to the lower cluster).
    Distances are Euclidean; divide embeddings by their lengths beforehand for those of the cosine. Equal distances keep
    the lower index. Mini-batch k-means reads rows in an order, so permuted rows may be clustered otherwise. Memory: two
    copies of the features.

    References
    ----------
    Das and Khetan 2023, *DEFT-UCS*, arXiv 2310.16776; read about, not read. A re-implementation of others takes the
    same number from each cluster, where ours is proportional to its size, and ranks by the cosine.

    Examples
    --------
    >>> features = [[0.0], [0.1], [0.4], [8.0], [8.1], [8.4]]
    >>> ClusteredK(n_clusters=2, random_state=0).fit([0.0] * 6, features=features, n_keep=4).indices_
    array([1, 2, 4, 5])
    """

    uses_scores: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(
        self,
        *,
        n_clusters: int = 7,
        hard_fraction: float = 0.5,
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.n_clusters = n_clusters
        self.hard_fraction = hard_fraction

    def _check_parameters(self) -> None:
        check_count("ClusteredK", "n_clusters", self.n_clusters, minimum=1)
        check_share("ClusteredK", "hard_fraction", self.hard_fraction)

    def _checked_candidates(self, scores: ArrayLike, **columns: ArrayLike | None) -> Candidates:
        return with_points("ClusteredK", super()._checked_candidates(scores, **columns))

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        state = random.getstate()
        from sklearn.cluster import MiniBatchKMeans

        random.setstate(state)  # that import draws from it, and only the first selection of a process would

        assert candidates.features is not None  # noqa: S101 - `needs`
        X = centred(candidates.features, np.float32)
        # No centroid is moved to another place at random: in few rows that splits and merges true clusters.
        kmeans = MiniBatchKMeans(
            min(self.n_clusters, len(X)), random_state=int(rng.integers(2**31)), n_init=3, reassignment_ratio=0.0
        )
        _, clusters, sizes = np.unique(kmeans.fit(X).labels_, return_inverse=True, return_counts=True)
        means, distances = group_means(X, clusters, sizes), np.empty(len(X))
        for start in range(0, len(X), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            distances[block] = np.linalg.norm(X[block] - means[clusters[block]], axis=1)
        budgets = proportional_counts(sizes, n_keep)
        n_far = proportional_counts(budgets, count_of_share(n_keep, self.hard_fraction))
        far = first_of_each(clusters, -distances, n_far)
        is_left = np.ones(len(X), bool)
        is_left[far] = False
        left = np.flatnonzero(is_left)
        near = left[first_of_each(clusters[left], distances[left], budgets - n_far)]
        return np.concatenate([far, near])


class KCenter(Selector):
    """A cover of the data: no example is far from a kept one (greedy k-center).

    Spreads the budget over the whole space, whatever the density: rare examples are kept, and so are outliers. Ignores
    the scores, also those that are missing. O(n k D) for k kept examples.

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
    `fit` needs ``features`` of shape (n_examples, D). The first is the example nearest to the mean; each next one the
    farthest from all kept so far, by the Euclidean distance; ties keep the lower index. The largest distance from any
    example to its nearest kept one is at most twice that of the best choice of as many. A smaller budget keeps a
    subset. Points nearer to each other than a millionth of the data's radius count as one. Memory: one float64 copy of
    the features, and vectors of length n.

    References
    ----------
    Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*, algorithm 1;
    there, the labelled examples come first. Gonzalez 1985 for the bound. Both from general knowledge.

    Examples
    --------
    >>> KCenter().fit([0.0] * 5, features=[[0.0], [1.0], [1.1], [1.2], [9.0]], n_keep=3).indices_
    array([0, 3, 4])
    """

    uses_scores: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def _checked_candidates(self, scores: ArrayLike, **columns: ArrayLike | None) -> Candidates:
        return with_points("KCenter", super()._checked_candidates(scores, **columns))

    def _choose(
        self,
        candidates: Candidates,
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        assert candidates.features is not None  # noqa: S101 - `needs`
        X = centred(candidates.features, np.float64)
        squares = np.einsum("ij,ij->i", X, X)
        nearest = np.full(len(X), np.inf)  # squared distance to the nearest kept example; -1: kept
        kept = np.empty(n_keep, np.int64)
        for i in range(n_keep):
            rank = nearest if i else -squares
            kept[i] = newest = np.argmax(
                rank >= rank.max() - SAME_POINT
            )  # the first of those as good, but for rounding
            # By products, not subtraction: three times as fast, and in float64 as good as `SAME_POINT` asks.
            distances = X @ X[newest]
            distances *= -2.0
            distances += squares
            distances += squares[newest]
            distances[distances < SAME_POINT] = 0.0
            np.minimum(nearest, distances, out=nearest)
            nearest[newest] = -1.0
        return kept


def with_points(owner: str, candidates: Candidates) -> Candidates:
    """Return `candidates` if their features are points of one dimension or more.

    Parameters
    ----------
    owner : str
        Class that the message names.
    candidates : Candidates
        With features.

    Returns
    -------
    Candidates
        The same.

    Raises
    ------
    InvalidValueError
        If the features are no matrix.

    Examples
    --------
    >>> with_points("KCenter", Candidates(np.zeros(2), features=np.zeros((2, 3)))).features.shape
    (2, 3)
    """
    features = candidates.features
    assert features is not None  # noqa: S101 - `needs`
    if len(features) and (features.ndim != 2 or not features.size):
        raise InvalidValueError(f"{owner}.fit() needs features of shape (n_examples, D), got {features.shape}.")
    return candidates


def centred(features: NDArray[np.floating[Any]], dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Return points moved to a mean of 0 and divided by their extent, so that no square overflows or vanishes.

    Parameters
    ----------
    features : ndarray of float, shape (n, D)
        Points, n > 0.
    dtype : float32 or float64
        Of the result.

    Returns
    -------
    ndarray, shape (n, D)
        Of length 1 at most; a copy.

    Examples
    --------
    >>> centred(np.array([[0.0], [4e30]], np.float32), np.float32)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    X: NDArray[Any] = np.divide(features, max(features.max(), -features.min()) or 1.0, dtype=dtype)
    X -= X.mean(axis=0, dtype=np.float64).astype(dtype)
    X /= np.sqrt(np.einsum("ij,ij->i", X, X).max()) or 1.0
    return X


def group_means(
    X: NDArray[np.floating[Any]], groups: NDArray[np.integer[Any]], sizes: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Return the mean of each group's rows.

    Parameters
    ----------
    X : ndarray of float, shape (n, D)
        Rows.
    groups : ndarray of int, shape (n,)
        Group of each row, in [0, n_groups).
    sizes : ndarray of int, shape (n_groups,)
        Rows of each group, above 0.

    Returns
    -------
    ndarray of float64, shape (n_groups, D)
        Means.

    Examples
    --------
    >>> group_means(np.array([[1.0], [5.0], [3.0]]), np.array([0, 1, 0]), np.array([2, 1]))
    array([[2.],
           [5.]])
    """
    by_group = X[np.argsort(groups, kind="stable")]
    sums: NDArray[np.float64] = np.add.reduceat(by_group, np.cumsum(sizes) - sizes, axis=0, dtype=np.float64)
    return sums / sizes[:, None]


def first_of_each(
    parts: NDArray[np.integer[Any]], keys: NDArray[np.floating[Any]], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows of each part that have its lowest keys; ties keep the lower row.

    Parameters
    ----------
    parts : ndarray of int, shape (n,)
        Part of each row, in [0, n_parts).
    keys : ndarray of float, shape (n,)
        What the rows of a part are ordered by.
    counts : ndarray of int64, shape (n_parts,)
        Rows to take from each part.

    Returns
    -------
    ndarray of int64, shape (sum of counts,)
        Rows, part by part.

    Examples
    --------
    >>> first_of_each(np.array([0, 1, 0, 1]), np.array([0.5, 0.2, 0.1, 0.9]), np.array([1, 2]))
    array([2, 1, 3])
    """
    order = np.lexsort((keys, parts))
    sizes = np.bincount(parts, minlength=len(counts))
    rank = np.arange(len(parts)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[rank < np.repeat(counts, sizes)]
