"""Scores of the words: how far a text is from the middle of all texts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dataprune.data.columns import read_column
from dataprune.errors import DataError, NotFittedError, check_count, check_positive
from dataprune.scoring.base import DatasetScorer

ROWS_PER_PART = 10_000
"""Rows of a mapped data set that are read at a time."""

SAME_POINT = 1e-7
"""Below this share of the longest row, a distance is rounding: the two are one point."""


class TfidfDistance(DatasetScorer):
    """How far a text's TF-IDF vector is from the geometric median of all: the unusual texts score highest.

    Needs neither a model nor labels. Higher = farther from the others; the top also holds garbled texts. Linear in the
    number of words, and sparse throughout.

    Parameters
    ----------
    column : str or None, default="text"
        Column of texts, or of lists of tokens; None: the rows themselves.
    max_features : int or None, default=None
        Keep only that many of the most frequent words; None keeps all.
    tolerance : float, default=1e-6
        The median is found when it moves by no more than this (every text has length 1).
    max_iterations : int, default=200
        Moves of the median at most; a warning says if they did not do.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        In [0, 2].
    median_ : ndarray of float64, shape (n_features,)
        The geometric median.
    vectorizer_ : sklearn.feature_extraction.text.TfidfVectorizer
        The fitted vocabulary and its weights.
    n_iterations_ : int
        Moves that were made.

    Notes
    -----
    `transform` scores other texts against the fitted vocabulary and median. Words are scikit-learn's: at least two
    letters or digits, in lower case. A text without a known word is the zero vector: its distance is the median's own
    length, less than that of most texts. Distances below 1e-7 count as 0. Memory: the sparse vectors (12 bytes per
    distinct word of a text) and a few vectors of length n_features and n_examples; never (n_examples, n_features).

    References
    ----------
    Nguyen and He 2025, *Swift Cross-Dataset Pruning*, arXiv 2501.02432.

    Examples
    --------
    >>> texts = ["play jazz", "play jazz", "play some jazz", "cancel everything"]
    >>> TfidfDistance(column=None).fit(texts).scores_.round(2)
    array([0.  , 0.  , 0.81, 1.41], dtype=float32)
    """

    def __init__(
        self,
        *,
        column: str | None = "text",
        max_features: int | None = None,
        tolerance: float = 1e-6,
        max_iterations: int = 200,
    ) -> None:
        self.column = column
        self.max_features = max_features
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    def fit(self, dataset: Any, *, model: nn.Module | None = None) -> Self:  # noqa: ARG002 - every scorer takes one
        """Learn the vocabulary and the median of `dataset`, and score its rows.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module, optional
            Not used.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidValueError
            If a parameter is out of range.
        DataError
            If a row holds no text, or no text holds a word.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.feature_extraction.text import TfidfVectorizer

        if self.max_features is not None:
            check_count("TfidfDistance", "max_features", self.max_features, minimum=1)
        check_positive("TfidfDistance", "tolerance", self.tolerance)
        check_count("TfidfDistance", "max_iterations", self.max_iterations, minimum=1)
        self.vectorizer_ = TfidfVectorizer(max_features=self.max_features)
        try:
            vectors = self.vectorizer_.fit_transform(iterate_texts(dataset, self.column))
        except DataError:
            raise
        except ValueError as error:  # the one thing that is not checked above: there are no words
            raise DataError(
                f"TfidfDistance.fit() needs at least one text with a word of two letters or digits, got {len(dataset)} "
                "texts without. Look at the column."
            ) from error
        found = geometric_median(vectors, tolerance=self.tolerance, max_iterations=self.max_iterations)
        if not found.converged:
            warnings.warn(
                f"TfidfDistance did not find the median in {found.n_iterations} iterations: it still moved by more "
                f"than {self.tolerance}. Raise max_iterations or tolerance.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.median_, self.n_iterations_ = found.median, found.n_iterations
        return self._keep(distances(vectors, self.median_), n_examples=len(dataset))

    def score_dataset(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[Any]:  # noqa: ARG002
        """Score rows against the fitted vocabulary and median.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            Not used.

        Returns
        -------
        ndarray of float64, shape (n,)
            Distances.

        Raises
        ------
        NotFittedError
            Before `fit`.
        DataError
            If a row holds no text.
        """
        if not hasattr(self, "median_"):
            raise NotFittedError("TfidfDistance has no median yet. Call fit(dataset) first.")
        texts = read_texts(dataset, self.column)
        if not texts:  # scikit-learn refuses to look at nothing
            return np.empty(0)
        return distances(self.vectorizer_.transform(texts), self.median_)


class GeometricMedian(NamedTuple):
    """What `geometric_median` found.

    Parameters
    ----------
    median : ndarray of float64, shape (n_features,)
        The point.
    n_iterations : int
        Moves made.
    converged : bool
        Whether the last move was within the tolerance.
    """

    median: NDArray[np.float64]
    n_iterations: int
    converged: bool


def geometric_median(X: Any, *, tolerance: float = 1e-6, max_iterations: int = 200) -> GeometricMedian:
    """Find the point whose distances to all rows have the least sum.

    Parameters
    ----------
    X : sparse matrix, shape (n, n_features)
        Rows; n >= 1.
    tolerance : float, default=1e-6
        Stop when the point moves by no more than this.
    max_iterations : int, default=200
        Moves at most.

    Returns
    -------
    GeometricMedian
        The point, the moves made, and whether the last one was within the tolerance.

    Notes
    -----
    Weiszfeld's iteration from the mean, with the step of Vardi and Zhang where the point meets rows: it then stays if
    the pull of the others is less than the number of rows there. O(nnz) time per move; one dense vector of n_features.

    References
    ----------
    Vardi and Zhang 2000, *The multivariate L1-median and associated data depth*, PNAS 97(4).

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> geometric_median(csr_array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 5.0]])).median.round(3)
    array([1., 0.])
    """
    X = X.astype(np.float64, copy=False)
    squares = _squares(X)
    median = np.asarray(X.sum(axis=0), dtype=np.float64).ravel() / X.shape[0]
    n_iterations, move = 0, np.inf
    while move > tolerance and n_iterations < max_iterations:
        n_iterations += 1
        apart = _distances(X, squares, median)
        pull, total = _pull(X, apart, median)
        strength = float(np.linalg.norm(pull))
        n_here = np.count_nonzero(apart == 0.0)
        move = (strength - n_here) / total if strength > n_here else 0.0
        if move:
            median += pull * (move / strength)
    # A row that is the median itself is approached ever more slowly: it is tried out, with room for rounding.
    row = X[[int(np.argmin(apart))]].toarray().ravel()
    apart = _distances(X, squares, row)
    if np.linalg.norm(_pull(X, apart, row)[0]) <= np.count_nonzero(apart == 0.0) * (1.0 + 1e-9):
        return GeometricMedian(row, n_iterations, converged=True)
    return GeometricMedian(median, n_iterations, converged=bool(move <= tolerance))


def distances(X: Any, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Euclidean distance of each sparse row to a dense point.

    Parameters
    ----------
    X : sparse matrix, shape (n, n_features)
        Rows.
    point : ndarray of float64, shape (n_features,)
        The point.

    Returns
    -------
    ndarray of float64, shape (n,)
        Distances; exactly 0 below 1e-7 of the longest row, where the difference of squares is rounding.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> distances(csr_array([[3.0, 0.0], [0.0, 0.0]]), np.array([0.0, 4.0]))
    array([5., 4.])
    """
    X = X.astype(np.float64, copy=False)
    return _distances(X, _squares(X), point)


def _squares(X: Any) -> NDArray[np.float64]:
    return np.asarray(X.multiply(X).sum(axis=1), dtype=np.float64).ravel()


def _distances(X: Any, squares: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    # |x|^2 - 2 x.m + |m|^2, in float64: in float32 rows within 3e-4 of the point could not be told apart.
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares - 2.0 * (X @ point) + point @ point, 0.0))
    found[found < SAME_POINT * np.sqrt(squares.max(initial=0.0))] = 0.0
    return found


def _pull(X: Any, apart: NDArray[np.float64], point: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    # The sum of the unit vectors from the point to all rows that are elsewhere, (n_features,), and of 1 / distance.
    weights = np.divide(1.0, apart, out=np.zeros_like(apart), where=apart > 0.0)
    total = float(weights.sum())
    return X.T @ weights - total * point, total


def read_texts(dataset: Any, column: str | None) -> list[str]:
    """Return a column of texts; lists of tokens are joined by spaces.

    Parameters
    ----------
    dataset : map-style data set
        Rows.
    column : str or None
        Column of texts, or of lists of tokens; None: the rows themselves.

    Returns
    -------
    list of str
        One text per row; it may be empty.

    Raises
    ------
    DataError
        If there is no such column, or a row holds something else; the message names the row.

    Examples
    --------
    >>> read_texts([{"tokens": ["play", "jazz"]}], "tokens")
    ['play jazz']
    """
    return as_texts(read_column(dataset, column), column)


def iterate_texts(dataset: Any, column: str | None) -> Iterator[str]:
    """Yield the texts of `read_texts` one by one; of a `datasets.Dataset` few thousand are in memory at a time.

    Parameters
    ----------
    dataset : map-style data set
        Rows.
    column : str or None
        Column of texts, or of lists of tokens; None: the rows themselves.

    Yields
    ------
    str
        One text per row; it may be empty.

    Raises
    ------
    DataError
        If there is no such column, or a row holds something else; the message names the row.

    Examples
    --------
    >>> list(iterate_texts(["play", "stop"], None))
    ['play', 'stop']
    """
    is_mapped = hasattr(dataset, "with_format") and column in dataset.column_names
    if is_mapped:
        parts = dataset.with_format(None).select_columns([column]).iter(batch_size=ROWS_PER_PART)
        values: Any = (value for part in parts for value in part[column])
    else:
        values = dataset if column is None and isinstance(dataset, Sequence) else read_column(dataset, column)
    for row, value in enumerate(values):
        yield _as_text(value, row, column)


def as_texts(values: Sequence[Any], column: str | None) -> list[str]:
    """Return values as texts; lists of tokens are joined by spaces.

    Parameters
    ----------
    values : sequence of str or of list of str
        One per row.
    column : str or None
        What the message names.

    Returns
    -------
    list of str
        One text per row; it may be empty.

    Raises
    ------
    DataError
        If a value is something else; the message names the row.

    Examples
    --------
    >>> as_texts(["play jazz", ["play", "jazz"]], None)
    ['play jazz', 'play jazz']
    """
    return [_as_text(value, row, column) for row, value in enumerate(values)]


def _as_text(value: Any, row: int, column: str | None) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(token, str) for token in value):
        return " ".join(value)
    where = "Rows" if column is None else f"Column {column!r}"
    raise DataError(
        f"{where} must hold texts or lists of tokens, got {value!r} in row {row}. Correct or drop that row."
    )
