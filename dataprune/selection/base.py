"""Selectors: scores and a budget in, kept examples and their loss weights out; asked n, got n."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from dataprune.data.counting import count_to_keep
from dataprune.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotFittedError,
    check_count,
    check_fraction,
    check_numbers,
)
from dataprune.selection.columns import several_values

Seed = int | Sequence[int] | None


@dataclass(frozen=True)
class Candidates:
    """What a selector chooses among: scores, and what else is known of the same rows.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Higher = harder; inside `Selector._choose` none is NaN.
    labels : ndarray, shape (n,), optional
        Class of each row; for selectors that take several also a list of them, or bool of shape (n, n_classes).
    groups : ndarray, shape (n,), optional
        Group of each row: a dialogue, a source, a task; or several, as of labels.
    features : ndarray, shape (n, D), optional
        Where each row lies.
    cost : ndarray of float, shape (n,), optional
        What training on each row costs, such as its tokens.

    Examples
    --------
    >>> Candidates(np.array([0.1, 0.9]), labels=np.array(["a", "b"])).take(np.array([1])).labels
    array(['b'], dtype='<U1')
    """

    scores: NDArray[np.floating[Any]]
    labels: NDArray[Any] | None = None
    groups: NDArray[Any] | None = None
    features: NDArray[np.floating[Any]] | None = None
    cost: NDArray[np.floating[Any]] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[Any]) -> Candidates:
        """Return some of the rows.

        Parameters
        ----------
        rows : ndarray of int64 or bool
            Row numbers, or a mask.

        Returns
        -------
        Candidates
            The same columns.
        """
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[rows] for name, column in columns.items() if column is not None})


Selection = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Kept positions and their loss weights."""


class Selector(BaseEstimator, ABC):
    """Which examples to keep, and with what loss weight.

    A new one implements `_choose` (or `_choose_weighted`, if it weighs the loss), and `_check_parameters` if it has
    parameters of its own; counts, unseen examples, sorting and `transform` stand here.

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
    ...     def _choose(self, candidates, n_keep, rng):
    ...         return np.argsort(candidates.scores, kind="stable")[:n_keep]
    >>> EasiestK(keep_fraction=0.5).fit([0.3, 0.1, 0.2, 0.4]).indices_
    array([1, 2])
    """

    # Whether the scores matter; if not, unseen examples are as good as any.
    uses_scores: ClassVar[bool] = True

    # Keywords of `fit` (``labels``, ``groups``, ``features``, ``cost``) that may not be left out.
    needs: ClassVar[frozenset[str]] = frozenset()

    # Those of ``labels`` and ``groups`` that may hold several values per example.
    takes_several: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, *, keep_fraction: float = 1.0, random_state: Seed = None) -> None:
        self.keep_fraction = keep_fraction
        self.random_state = random_state

    @property
    def reweighs(self) -> bool:
        """Whether the loss weights undo the choice: the mean of many draws' weighted gradients is the full gradient."""
        return False

    def check(self) -> None:
        """Raise unless every parameter is in range; `fit` does so, and a `DynamicPruner` before its run.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        check_fraction(type(self).__name__, "keep_fraction", self.keep_fraction)
        self._check_parameters()

    def _check_parameters(self) -> None:
        """Raise unless the parameters beside `keep_fraction` and `random_state` are in range."""

    def _choose(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Choose exactly `n_keep` positions, 0 < n_keep < len(candidates), in any order; no score is NaN."""
        raise NotImplementedError(f"{type(self).__name__} must implement _choose or _choose_weighted.")

    def _choose_weighted(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        """Choose as `_choose` does, and weigh the loss of what is kept."""
        return self._choose(candidates, n_keep, rng), np.ones(n_keep, np.float32)

    def fit(
        self,
        scores: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        n_keep: int | None = None,
        groups: ArrayLike | None = None,
        features: ArrayLike | None = None,
        cost: ArrayLike | None = None,
    ) -> Self:
        """Choose which examples to keep.

        Parameters
        ----------
        scores : array-like, shape (n_examples,)
            Higher = harder; NaN = never seen.
        labels : array-like, shape (n_examples,), optional
            Class of each example, for selectors that balance classes; the others ignore it. `ClassFloor` also takes a
            list or set of classes per example, or a boolean matrix of shape (n_examples, n_classes).
        n_keep : int, optional
            How many to keep; by default ``keep_fraction`` of all, to the nearest, half up, at least 1.
        groups : array-like, shape (n_examples,), optional
            Group of each example, for selectors that know groups; `ClassFloor` also takes several, as of labels.
        features : array-like, shape (n_examples, D), optional
            Where each example lies, for selectors that look for coverage.
        cost : array-like, shape (n_examples,), optional
            What training on each example costs (tokens, say), for selectors that count it.

        Returns
        -------
        self
            The selector.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If the scores are no vector, a budget is out of range, or something is missing or of another length.
        """
        owner = type(self).__name__
        self.check()
        candidates = self._checked_candidates(scores, labels=labels, groups=groups, features=features, cost=cost)
        n_examples = len(candidates)
        if n_keep is None:
            n_keep = count_to_keep(n_examples, float(self.keep_fraction))
        check_count(owner, "n_keep", n_keep)
        if n_keep > n_examples:
            raise InvalidValueError(f"{owner}.n_keep must be at most {n_examples}, the number of scores, got {n_keep}.")
        self.n_examples_ = n_examples
        rng = _generator(owner, self.random_state)
        indices, weights = self._choose_unseen_first(candidates, n_keep, rng)
        if not (indices[1:] > indices[:-1]).all():
            order = np.argsort(indices)
            indices, weights = indices[order], weights[order]
        self.indices_: NDArray[np.int64] = indices
        self.weights_: NDArray[np.float32] = weights
        return self

    def _checked_candidates(self, scores: ArrayLike, **columns: ArrayLike | None) -> Candidates:
        owner = type(self).__name__
        values = check_numbers(f"{owner}.fit()", "scores", scores, None)
        if values.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
            values = check_numbers(f"{owner}.fit()", "scores", scores)
        if values.ndim != 1:
            raise InvalidValueError(f"{owner}.fit() needs scores of shape (n_examples,), got {values.shape}.")
        arrays: dict[str, NDArray[Any]] = {}
        for name, column in columns.items():
            if column is None:
                if name in self.needs:
                    raise InvalidValueError(f"{owner}.fit() needs {name}=..., got None.")
                continue
            array = several_values(column) if name in self.takes_several else _column(owner, name, column)
            if array.ndim == 0 or len(array) != len(values):
                got = "one value" if array.ndim == 0 else len(array)
                raise InvalidValueError(f"{owner}.fit() needs {name} for each of {len(values)} scores, got {got}.")
            if name == "cost" and array.ndim != 1:
                raise InvalidValueError(f"{owner}.fit() needs cost of shape (n_examples,), got {array.shape}.")
            if name in {"features", "cost"} and not (
                np.isfinite(array).all() and (name == "features" or (array > 0).all())
            ):
                rule = "above 0 and finite" if name == "cost" else "finite"
                raise InvalidValueError(f"{owner}.fit() needs {name} that is {rule} for each example.")
            arrays[name] = array
        return Candidates(values, **arrays)

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        unseen = np.isnan(candidates.scores) if self.uses_scores else np.zeros(0, bool)
        if not unseen.any():
            return self._choose_some(candidates, n_keep, rng)
        never, judged = np.flatnonzero(unseen), np.flatnonzero(~unseen)
        n_never = min(n_keep, len(never))
        unjudged = replace(candidates.take(never), scores=np.zeros(len(never)))
        first, first_weights = self._choose_some(unjudged, n_never, rng)
        rest, rest_weights = self._choose_some(candidates.take(judged), n_keep - n_never, rng)
        return np.concatenate([never[first], judged[rest]]), np.concatenate([first_weights, rest_weights])

    def _choose_some(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        if n_keep in {0, len(candidates)}:
            return np.arange(n_keep), np.ones(n_keep, np.float32)
        return self._choose_weighted(candidates, n_keep, rng)

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


def _column(owner: str, name: str, column: ArrayLike) -> NDArray[Any]:
    if name in {"features", "cost"}:
        return check_numbers(f"{owner}.fit()", name, column, np.float32 if name == "features" else np.float64)
    try:
        return np.asarray(column)
    except ValueError:
        raise InvalidTypeError(
            f"{owner}.fit() needs {name} with one value per example, got rows of different lengths."
        ) from None


def _generator(owner: str, random_state: Seed) -> np.random.Generator:
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        kind = InvalidValueError if isinstance(error, ValueError) else InvalidTypeError
        raise kind(
            f"{owner}.random_state must be a whole number of at least 0, a sequence of them or None, "
            f"got {random_state!r}."
        ) from None


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
