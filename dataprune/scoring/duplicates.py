"""A score of redundancy: how like an example is to one that came before it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dataprune.data.columns import read_column
from dataprune.errors import check_count
from dataprune.scoring.base import DatasetScorer
from dataprune.scoring.embedding import read_embeddings
from dataprune.scoring.text import as_texts

BLOCK = 2048
"""Rows on each side of one product: at most 50 MB of similarities at a time."""


class NearDuplicate(DatasetScorer):
    """How unlike a row is to all earlier rows: copies score lowest, the first of a group of copies stays high.

    Texts are compared by their character n-grams, embeddings by their cosine. Higher = newer. Needs neither a model nor
    labels. The time is quadratic in the number of distinct rows; with `n_clusters`, in the size of a cluster.

    Parameters
    ----------
    column : str or None, default="text"
        Column of texts, of lists of tokens, or of embeddings; None: the rows themselves.
    n_clusters : int or None, default=None
        None compares each row with all before it. A number is an approximation for more than some 100,000 distinct
        rows: k-means puts them into that many clusters, and each is compared with those of its own cluster only. A few
        near copies of rows in other clusters are missed then; exact copies never.
    random_state : int, default=0
        Seed of the k-means.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        The negated cosine similarity to the most similar earlier row, in [-1, 0]: -1 for a copy; 0 for the first row
        and for one that shares nothing with those before it, as a negative cosine counts as 0.

    Notes
    -----
    A text's vector holds the TF-IDF weights of its runs of three characters within words, spaces at the edges
    included, in lower case. Copies are found first, by hashing, and are not compared. `transform` treats its rows as a
    data set of their own. n distinct rows take n * n / 2 comparisons, in blocks: memory stays bounded, time does not.
    With clusters no row scores lower than without.

    References
    ----------
    Own construction; removing near copies helps language models: Lee et al. 2022, arXiv 2107.06499. The same with
    embeddings, inside clusters: Abbas et al. 2023, *SemDeDup*, arXiv 2303.09540.

    Examples
    --------
    >>> texts = ["play some jazz", "book a table", "play some jazzz", "book a table"]
    >>> NearDuplicate(column=None).fit(texts).scores_.round(2)
    array([ 0.  ,  0.  , -0.93, -1.  ], dtype=float32)
    """

    def __init__(self, *, column: str | None = "text", n_clusters: int | None = None, random_state: int = 0) -> None:
        self.column = column
        self.n_clusters = n_clusters
        self.random_state = random_state

    def score_dataset(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[Any]:  # noqa: ARG002
        """Score rows, each against those before it.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            Not used.

        Returns
        -------
        ndarray of float64, shape (n,)
            Scores.

        Raises
        ------
        DataError
            If a row holds neither a text nor an embedding.
        InvalidValueError
            If ``n_clusters`` is out of range.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        if self.n_clusters is not None:
            check_count("NearDuplicate", "n_clusters", self.n_clusters, minimum=1)
        values: Any = dataset if isinstance(dataset, (np.ndarray, Tensor)) else read_column(dataset, self.column)
        if not len(values):
            return np.empty(0)
        scores = np.full(len(values), -1.0)
        if not _is_text(next((value for value in values if value is not None), "")):
            X = read_embeddings(dataset, self.column)
            firsts = _first_rows([row.tobytes() for row in X + 0.0])  # -0.0 is 0.0
            scores[firsts] = 0.0 - self._similarity(_unit_rows(X[firsts]))
            return scores
        texts = as_texts(values, self.column)
        firsts = _first_rows(texts)
        scores[firsts] = 0.0
        if any(text.strip() for text in texts):  # scikit-learn refuses texts of nothing but spaces
            vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3))
            scores[firsts] -= self._similarity(vectorizer.fit_transform([texts[row] for row in firsts]))
        return scores

    def _similarity(self, X: Any) -> NDArray[np.float64]:
        if self.n_clusters is None:
            return earlier_similarity(X)
        return earlier_similarity_in_clusters(X, self.n_clusters, random_state=self.random_state)


def earlier_similarity(X: Any) -> NDArray[np.float64]:
    """Return the similarity of each row to the most similar row before it.

    Parameters
    ----------
    X : ndarray or sparse array, shape (n, n_features)
        Rows of length 1 (or 0).

    Returns
    -------
    ndarray of float64, shape (n,)
        Cosines in [0, 1]; 0 for the first row.

    Notes
    -----
    n * n / 2 products of rows, in blocks of `BLOCK` x `BLOCK`.

    Examples
    --------
    >>> earlier_similarity(np.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])).round(2)
    array([0.  , 0.6 , 0.96])
    """
    n_rows = X.shape[0]
    best = np.zeros(n_rows)
    for earlier in range(0, n_rows, BLOCK):
        turned = X[earlier : earlier + BLOCK].T
        turned = turned.tocsr() if hasattr(turned, "tocsr") else turned  # else converted anew in every product
        for start in range(earlier, n_rows, BLOCK):
            alike = X[start : start + BLOCK] @ turned  # (block, block)
            alike = alike.toarray() if hasattr(alike, "toarray") else alike
            if start == earlier:
                alike = np.tril(alike, -1)
            part = slice(start, start + BLOCK)
            best[part] = np.maximum(best[part], alike.max(axis=1))
    return np.minimum(best, 1.0)


def _first_rows(values: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return the first row of each distinct value, sorted."""
    rows = {value: row for row, value in reversed(list(enumerate(values)))}
    return np.sort(np.fromiter(rows.values(), dtype=np.int64))


def earlier_similarity_in_clusters(X: Any, n_clusters: int, *, random_state: int = 0) -> NDArray[np.float64]:
    """Return the similarity of each row to the most similar row before it in its own cluster.

    Parameters
    ----------
    X : ndarray or sparse array, shape (n, n_features)
        Rows of length 1 (or 0).
    n_clusters : int
        Clusters of a mini-batch k-means; at most as many as there are rows.
    random_state : int, default=0
        Its seed.

    Returns
    -------
    ndarray of float64, shape (n,)
        Cosines in [0, 1], none above that of `earlier_similarity`.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    >>> earlier_similarity_in_clusters(rows, 2).round(2)
    array([0. , 0. , 0.8, 1. ])
    """
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(min(n_clusters, X.shape[0]), n_init=1, random_state=random_state).fit(X)
    best = np.zeros(X.shape[0])
    order = np.argsort(kmeans.labels_, kind="stable")  # in a cluster, the rows stay in their order
    for rows in np.split(order, np.cumsum(np.bincount(kmeans.labels_))[:-1]):
        best[rows] = earlier_similarity(X[rows])
    return best


def _is_text(value: Any) -> bool:
    is_tokens = isinstance(value, (list, tuple)) and all(isinstance(token, str) for token in value)
    return isinstance(value, str) or is_tokens


def _unit_rows(X: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(X, lengths, out=np.zeros_like(X), where=lengths > 0)
    return unit
