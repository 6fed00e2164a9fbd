"""Several scores as one: the weighted mean of their ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.metaestimators import _BaseComposition
from torch import nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, check_numbers
from dataprune.scoring.base import DatasetScorer, Scorer


class Combined(DatasetScorer, _BaseComposition):
    """Several scorers as one: the weighted mean of the ranks that they give.

    Ranks, for scores of different kinds have no common unit. Higher = harder. Costs as much as its parts together.

    Parameters
    ----------
    scorers : list of (str, Scorer)
        Names and scorers; they are cloned, and the clones fitted.
    weights : sequence of float or None, default=None
        One per scorer, at least 0; None weighs all alike.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        In [0, 1].
    scorers_ : dict of str to Scorer
        The fitted clones.

    Notes
    -----
    Each scorer is fitted with those of `fit`'s arguments that its own ``fit`` takes. What one alone wants is given
    under its name in `fit_arguments`: another model and its tokenizer for a `Perplexity` or a `PrototypeDistance` of
    texts, the null model of a `PVI`, the checkpoints of a `VarianceOfGradients`. Scores that exist already are combined
    with `rank_average`. ``set_params(tfidf__column="utterance")`` reaches the parameters of the scorer named ``tfidf``.

    `transform` ranks rows among the fitted ones: other rows get what rows between the same neighbours have, and the
    fitted rows their ``scores_``, where each part gives its own again to the last bit. A model's scores may round
    otherwise in other batches, which moves a row by half a rank, or beside those that it tied with.

    Examples
    --------
    >>> from dataprune.scoring.metadata import ColumnScore
    >>> rows = [{"words": 3, "votes": 9}, {"words": 8, "votes": 1}, {"words": 5, "votes": 0}]
    >>> scorer = Combined([("words", ColumnScore("words")), ("votes", ColumnScore("votes"))], weights=[3, 1])
    >>> scorer.fit(rows).scores_
    array([0.25 , 0.875, 0.375], dtype=float32)
    """

    def __init__(self, scorers: list[tuple[str, Scorer]], *, weights: Sequence[float] | None = None) -> None:
        self.scorers = scorers
        self.weights = weights

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - as in scikit-learn
        """Return the parameters, with ``<name>__<parameter>`` those of the scorers.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include those of the scorers.

        Returns
        -------
        dict of str to object
            Parameters.
        """
        params: dict[str, Any] = self._get_params("scorers", deep=deep)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those of the scorers.

        Parameters
        ----------
        **params : object
            Names as in `get_params`.

        Returns
        -------
        self
            The scorer.
        """
        self._set_params("scorers", **params)
        return self

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        fit_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Fit a clone of each scorer and average the ranks.

        Parameters
        ----------
        dataset : map-style data set
            The full data set.
        model : nn.Module, optional
            For all scorers that take one.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals.
        batch_size : int, default=64
            Examples in a batch.
        collate_fn : callable, optional
            Makes a batch of a list of examples.
        fit_arguments : mapping of str to mapping, optional
            A scorer's name -> keywords of its own ``fit``, which go before those above.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidTypeError
            If `scorers` are no pairs of a name and a scorer, or a scorer's own ``fit`` does not take its arguments.
        InvalidValueError
            If two names are equal, the weights are no weights of the scorers, or `fit_arguments` has another name.
        """
        self._check_scorers()
        _checked_weights("Combined", self.weights, len(self.scorers))
        shared = {"model": model, "forward": forward, "batch_size": batch_size, "collate_fn": collate_fn}
        parts = {name: clone(scorer) for name, scorer in self.scorers}
        keywords = _keywords("fit", parts, shared, fit_arguments)
        for name, scorer in parts.items():
            scorer.fit(dataset, **keywords[name])
        self.scorers_ = parts
        scores = rank_average([scorer.scores_ for scorer in self.scorers_.values()], self.weights)
        return self._keep(scores, n_examples=len(dataset))

    def transform(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        fit_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> NDArray[np.float32]:
        """Return the mean ranks of any rows among the fitted ones and leave ``scores_`` untouched.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            For all scorers that take one.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals.
        batch_size : int, default=64
            Examples in a batch.
        collate_fn : callable, optional
            Makes a batch of a list of examples.
        fit_arguments : mapping of str to mapping, optional
            A scorer's name -> keywords of its own ``transform``, which go before those above: for the same
            models as in `fit`, with what belongs to these rows.

        Returns
        -------
        ndarray of float32, shape (n,)
            Scores.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        scores = self.score_dataset(
            dataset,
            model=model,
            forward=forward,
            batch_size=batch_size,
            collate_fn=collate_fn,
            fit_arguments=fit_arguments,
        )
        return self._checked(scores, n_examples=len(dataset))

    def score_dataset(
        self,
        dataset: Any,
        *,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        batch_size: int = 64,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        fit_arguments: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> NDArray[Any]:
        """Score rows by their mean rank among the fitted ones.

        Parameters
        ----------
        dataset : map-style data set
            Rows to score.
        model : nn.Module, optional
            For all scorers that take one.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals.
        batch_size : int, default=64
            Examples in a batch.
        collate_fn : callable, optional
            Makes a batch of a list of examples.
        fit_arguments : mapping of str to mapping, optional
            A scorer's name -> keywords of its own ``transform``, which go before those above: for the same
            models as in `fit`, with what belongs to these rows.

        Returns
        -------
        ndarray of float64, shape (n,)
            Scores.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        if not hasattr(self, "scorers_"):
            raise NotFittedError("Combined has no fitted scorers yet. Call fit(dataset) first.")
        shared = {"model": model, "forward": forward, "batch_size": batch_size, "collate_fn": collate_fn}
        keywords = _keywords("transform", self.scorers_, shared, fit_arguments)
        ranks = [
            ranks_among(scorer.transform(dataset, **keywords[name]), scorer.scores_)
            for name, scorer in self.scorers_.items()
        ]
        return _weighted_mean(ranks, _checked_weights("Combined", self.weights, len(ranks)))

    def _check_scorers(self) -> None:
        pairs = self.scorers if isinstance(self.scorers, (list, tuple)) else []
        if not pairs or not all(
            isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[1], Scorer) for pair in pairs
        ):
            raise InvalidTypeError(f"Combined.scorers must be a list of pairs (name, scorer), got {self.scorers!r}.")
        try:
            self._validate_names([name for name, _ in pairs])  # unique, no parameter's name, no "__"
        except ValueError as error:
            raise InvalidValueError(f"Combined.scorers must have usable names: {error}.") from error


def _keywords(
    method: str,
    scorers: Mapping[str, Scorer],
    shared: Mapping[str, Any],
    fit_arguments: Mapping[str, Mapping[str, Any]] | None,
) -> dict[str, dict[str, Any]]:
    """Return what each scorer's method is called with: of the shared keywords those that it takes, and its own."""
    own = {} if fit_arguments is None else fit_arguments
    if not isinstance(own, Mapping) or not all(isinstance(keywords, Mapping) for keywords in own.values()):
        raise InvalidTypeError(
            f"Combined.{method}().fit_arguments must be a mapping {{name: {{keyword: value}}}}, got {fit_arguments!r}."
        )
    strangers = [name for name in own if name not in scorers]
    if strangers:
        names = ", ".join(map(repr, scorers))
        raise InvalidValueError(
            f"Combined.{method}().fit_arguments must be for scorers named {names}, got {strangers[0]!r}."
        )
    found = {}
    for name, scorer in scorers.items():
        takes = signature(getattr(scorer, method))
        found[name] = {key: value for key, value in shared.items() if key in takes.parameters} | dict(own.get(name, {}))
        try:
            takes.bind(None, **found[name])  # None for the data set
        except TypeError as error:
            raise InvalidTypeError(
                f"Combined.{method}().fit_arguments[{name!r}] must be keywords of {type(scorer).__name__}.{method}(), "
                f"got {sorted(own.get(name, {}))}: {error}."
            ) from error
    return found


def rank_average(scores: Sequence[ArrayLike], weights: Sequence[float] | None = None) -> NDArray[np.float32]:
    """Combine scores of the same examples: the weighted mean of their ranks, scaled to [0, 1].

    Parameters
    ----------
    scores : sequence of array-like, each of shape (n_examples,)
        Scores; NaN = never seen.
    weights : sequence of float or None, default=None
        One per score, at least 0; None weighs all alike.

    Returns
    -------
    ndarray of float32, shape (n_examples,)
        In [0, 1]; NaN where a score is NaN.

    Raises
    ------
    InvalidValueError
        If the scores are not of one length, or the weights are no weights of them.

    Notes
    -----
    The lowest score has rank 0, the highest 1; equal scores share the mean of their ranks; all equal: 0.5. Ranks are
    among the examples that this score has seen.

    Examples
    --------
    >>> rank_average([[0.1, 0.9, 0.5], [7.0, 7.0, 1.0]])
    array([0.375, 0.875, 0.25 ], dtype=float32)
    """
    columns = [check_numbers("rank_average()", "scores", column) for column in scores]
    shapes = sorted({column.shape for column in columns})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise InvalidValueError(f"rank_average() needs scores of one shape (n_examples,), got {shapes}.")
    ranks = [ranks_among(column, column) for column in columns]
    return _weighted_mean(ranks, _checked_weights("rank_average()", weights, len(ranks))).astype(np.float32)


def ranks_among(values: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Return the ranks that values have among scores, scaled to [0, 1].

    Parameters
    ----------
    values : array-like, shape (n,)
        Values to rank.
    scores : array-like, shape (n_examples,)
        What they are ranked among; NaN is left out.

    Returns
    -------
    ndarray of float64, shape (n,)
        Mean rank of equal scores; NaN for NaN.

    Examples
    --------
    >>> ranks_among([1, 2, 2.5, 9], [1, 2, 2, 3])
    array([0.        , 0.5       , 0.83333333, 1.        ])
    """
    found, ordered = np.asarray(values, dtype=np.float64), np.sort(np.asarray(scores, dtype=np.float64))
    ordered = ordered[: len(ordered) - np.count_nonzero(np.isnan(ordered))]  # NaN sorts last
    below = np.searchsorted(ordered, found, side="left") + np.searchsorted(ordered, found, side="right") - 1
    span = len(ordered) - 1
    ranks = np.clip(below / (2 * span), 0.0, 1.0) if span > 0 else np.full(len(found), 0.5)
    return np.where(np.isnan(found), np.nan, ranks)


def _weighted_mean(ranks: list[NDArray[np.float64]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = weights @ np.stack(ranks) / weights.sum()
    return mean


def _checked_weights(owner: str, weights: Sequence[float] | None, n_scores: int) -> NDArray[np.float64]:
    checked = np.ones(n_scores) if weights is None else check_numbers(owner, "weights", weights)
    if checked.shape != (n_scores,) or not (np.isfinite(checked).all() and (checked >= 0).all() and checked.sum() > 0):
        raise InvalidValueError(
            f"{owner}.weights must be {n_scores} numbers of at least 0, not all 0, one per scorer, got {weights!r}."
        )
    return checked
