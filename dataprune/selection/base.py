"""Selectors: scores and a budget in, kept examples and their loss weights out; asked n, got n."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from dataprune.data.counting import count_to_keep
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, check_count, check_fraction

Seed = int | Sequence[int] | None


class Selector(BaseEstimator, ABC):
    """Which examples to keep, and with what loss weight.

    A new one implements `_choose`; counts, unseen examples, sorting and `transform` stand here.

    Parameters
    ----------
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``. Inside a `DynamicPruner` it stays 1.0:
        there the scheduler says how many.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time. Inside a `DynamicPruner` it stays None: there the seed follows from
        the pruner's and the epoch.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        Loss weights of the kept rows.
    n_examples_ : int
        Rows that were chosen from.

    Notes
    -----
    An example that was never seen (score NaN) cannot be judged and is kept before any other. Ties keep the lower index
    in ranked selectors. A budget of all keeps all, whatever the scores.

    Examples
    --------
    >>> class EasiestK(Selector):
    ...     def _choose(self, scores, n_keep, rng):
    ...         return np.argsort(scores, kind="stable")[:n_keep]
    >>> EasiestK(keep_fraction=0.5).fit([0.3, 0.1, 0.2, 0.4]).indices_
    array([1, 2])
    """

    uses_scores: ClassVar[bool] = True

    def __init__(self, *, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        self.keep_fraction = keep_fraction
        self.random_state = random_state

    @abstractmethod
    def _choose(self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose exactly `n_keep` positions, 0 < n_keep < len(scores); no score is NaN."""

    def fit(self, scores: ArrayLike, labels: ArrayLike | None = None, *, n_keep: int | None = None) -> Self:
        """Choose which examples to keep.

        Parameters
        ----------
        scores : array-like, shape (n_examples,)
            Higher = harder; NaN = never seen.
        labels : array-like, shape (n_examples,), optional
            Class of each example, for selectors that balance classes; the others ignore it.
        n_keep : int, optional
            How many to keep; by default ``keep_fraction`` of all, to the nearest, half up, at least 1.

        Returns
        -------
        self
            The selector.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If the scores are no vector, or a budget is out of range.
        """
        owner = type(self).__name__
        values = np.asarray(scores, dtype=np.float64)
        if values.ndim != 1:
            raise InvalidValueError(f"{owner}.fit() needs scores of shape (n_examples,), got {values.shape}.")
        if labels is not None and len(np.asarray(labels)) != len(values):
            raise InvalidValueError(
                f"{owner}.fit() needs one label per score, got {len(np.asarray(labels))} and {len(values)}."
            )
        fraction = check_fraction(owner, "keep_fraction", self.keep_fraction)
        n_examples = len(values)
        n_keep = count_to_keep(n_examples, fraction) if n_keep is None else check_count(owner, "n_keep", n_keep)
        if n_keep > n_examples:
            raise InvalidValueError(f"{owner}.n_keep must be at most {n_examples}, the number of scores, got {n_keep}.")
        self.n_examples_ = n_examples
        self.indices_ = np.sort(self._choose_unseen_first(values, n_keep, np.random.default_rng(self.random_state)))
        self.weights_ = np.ones(n_keep, dtype=np.float32)
        return self

    def _choose_unseen_first(
        self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        unseen = np.isnan(scores)
        if not unseen.any():
            return self._choose_some(scores, n_keep, rng)
        never, judged = np.flatnonzero(unseen), np.flatnonzero(~unseen)
        n_never = min(n_keep, len(never))
        return np.concatenate(
            [
                never[self._choose_some(np.zeros(len(never)), n_never, rng)],
                judged[self._choose_some(scores[judged], n_keep - n_never, rng)],
            ]
        )

    def _choose_some(self, scores: NDArray[np.float64], n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        if n_keep in {0, len(scores)}:
            return np.arange(n_keep)
        return self._choose(scores, n_keep, rng)

    def get_support(self, indices: bool = False) -> NDArray[Any]:  # noqa: FBT001, FBT002 - as in scikit-learn
        """Return which rows were kept, as scikit-learn's feature selectors do.

        Parameters
        ----------
        indices : bool, default=False
            Return row numbers instead of a mask.

        Returns
        -------
        ndarray
            Bool of shape (n_examples,), or int64 of shape (n_kept,).

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        if indices:
            return self.indices_
        mask = np.zeros(self.n_examples_, dtype=bool)
        mask[self.indices_] = True
        return mask

    def transform(self, dataset: Any) -> Any:
        """Return the kept rows of `dataset`, in their old order.

        Parameters
        ----------
        dataset : datasets.Dataset, torch Dataset, ndarray, DataFrame or list
            The data set that was scored.

        Returns
        -------
        same kind as `dataset`
            The kept rows; a `torch.utils.data.Subset` for a torch data set.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidValueError
            If the data set has another length than the scores had.
        """
        self._check_fitted()
        if len(dataset) != self.n_examples_:
            raise InvalidValueError(
                f"{type(self).__name__}.transform() needs the {self.n_examples_} examples that were scored, "
                f"got {len(dataset)}."
            )
        return take_rows(dataset, self.indices_)

    def _check_fitted(self) -> None:
        if not hasattr(self, "indices_"):
            raise NotFittedError(f"{type(self).__name__} has chosen nothing yet. Call fit(scores) first.")


def take_rows(dataset: Any, indices: NDArray[np.int64]) -> Any:
    """Return some rows of a data set of any common kind.

    Parameters
    ----------
    dataset : datasets.Dataset, torch Dataset, ndarray, DataFrame or list
        Rows.
    indices : ndarray of int64, shape (n,)
        Row numbers.

    Returns
    -------
    same kind as `dataset`
        The rows; a `torch.utils.data.Subset` for a torch data set.

    Raises
    ------
    InvalidTypeError
        If the kind is unknown.

    Examples
    --------
    >>> take_rows(["a", "b", "c"], np.array([0, 2]))
    ['a', 'c']
    """
    from torch.utils.data import Dataset, Subset

    if hasattr(dataset, "iloc"):  # pandas
        return dataset.iloc[indices]
    if hasattr(dataset, "select") and hasattr(dataset, "column_names"):  # datasets
        return dataset.select(indices)
    if isinstance(dataset, np.ndarray):
        return dataset[indices]
    if isinstance(dataset, (list, tuple)):
        return type(dataset)(dataset[i] for i in indices)
    if isinstance(dataset, Dataset) or (hasattr(dataset, "__getitem__") and not isinstance(dataset, Mapping)):
        return Subset(dataset, indices.tolist())
    raise InvalidTypeError(
        "A data set must be a datasets.Dataset, torch Dataset, ndarray, DataFrame or list, "
        f"got {type(dataset).__name__}."
    )
