"""StaticPruner: score a data set once, keep a part of it, train on that as you like."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from torch import nn

from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.base import Scorer
from dataprune.selection.base import Selector
from dataprune.selection.ranked import TopK
from dataprune.training.fixed_scores import fixed_scores


class StaticPruner(BaseEstimator):
    """Score a data set once and keep a part of it, before any training.

    For scores of the data itself (texts, embeddings, columns), for those of a model that is trained already, and for
    cleaning. Where a model is to be trained anyway, `DynamicPruner` gets its scores for free and may change its mind.

    Parameters
    ----------
    scorer : Scorer or None
        How hard, informative or rare an example is; None for selectors that look at features alone. If it is fitted
        already, its scores are taken; so a `BatchScorer` that needs a forward or a collate function is fitted before.
    selector : Selector, optional
        Which to keep, and how many (``keep_fraction``); by default ``TopK()``, which keeps all.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Scores; 0 without a scorer.
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        Their loss weights.

    Examples
    --------
    >>> from dataprune import ColumnScore, StaticPruner, TopK
    >>> data = [{"length": 3}, {"length": 9}, {"length": 5}, {"length": 1}]
    >>> StaticPruner(ColumnScore("length"), TopK(keep_fraction=0.5)).fit_transform(data)
    [{'length': 9}, {'length': 5}]
    """

    def __init__(self, scorer: Scorer | None, selector: Selector | None = None) -> None:
        self.scorer = scorer
        self.selector = selector

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        labels: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        features: ArrayLike | None = None,
        cost: ArrayLike | None = None,
    ) -> Self:
        """Score `dataset` and choose.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module, optional
            For scorers that look through a model.
        labels : array-like, shape (n_examples,), optional
            Class of each example, for selectors that balance classes.
        groups : array-like, shape (n_examples,), optional
            Group of each example: a dialogue, a source, a task.
        features : array-like, shape (n_examples, D), optional
            Where each example lies, for instance from `embed_texts`.
        cost : array-like, shape (n_examples,), optional
            What training on each example costs, such as its tokens.

        Returns
        -------
        self
            The pruner.

        Raises
        ------
        InvalidTypeError
            If a part is of the wrong kind.
        InvalidValueError
            If a fitted scorer belongs to another number of examples, or the selector refuses its budget.
        """
        selector = self.selector or TopK()
        for name, part, kind in (("scorer", self.scorer, Scorer), ("selector", selector, Selector)):
            if part is not None and not isinstance(part, kind):
                raise InvalidTypeError(f"StaticPruner.{name} must be a {kind.__name__}, got {part!r}.")
        if self.scorer is None:
            if selector.uses_scores:
                raise InvalidValueError(f"StaticPruner.scorer must be given for {type(selector).__name__}, got None.")
            self.scores_: NDArray[np.float32] = np.zeros(len(dataset), np.float32)
        else:
            self.scores_ = fixed_scores(self.scorer, dataset, model=model)
        self.selector_: Selector = clone(selector).fit(
            self.scores_, labels, groups=groups, features=features, cost=cost
        )
        self.indices_, self.weights_ = self.selector_.indices_, self.selector_.weights_
        return self

    def transform(self, dataset: Any) -> Any:
        """Return the kept rows of `dataset`, in their old order.

        Parameters
        ----------
        dataset : datasets.Dataset, torch Dataset, ndarray, DataFrame or list
            The data set that was fitted, or another view of its rows.

        Returns
        -------
        same kind as `dataset`
            The kept rows; a `torch.utils.data.Subset` for a torch data set.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if not hasattr(self, "selector_"):
            raise NotFittedError("StaticPruner has chosen nothing yet. Call fit(dataset) first.")
        return self.selector_.transform(dataset)

    def fit_transform(self, dataset: Any, **known: Any) -> Any:
        """Score `dataset`, choose, and return the kept rows.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        **known : object
            ``model``, ``labels``, ``groups``, ``features`` and ``cost``, as for `fit`.

        Returns
        -------
        same kind as `dataset`
            The kept rows, in their old order.
        """
        return self.fit(dataset, **known).transform(dataset)
