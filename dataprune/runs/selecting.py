"""Keep a part of a file's rows: what ``dataprune select`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from dataprune.data.fingerprint import fingerprint
from dataprune.data.score_files import mean_scores, read_note
from dataprune.data.streaming import ColumnTexts
from dataprune.errors import DataError, InvalidValueError, StateError, check_choice
from dataprune.recipes import RECIPES
from dataprune.runs.compose import ERROR_NORMS, SCORERS, SELECTORS, make_recipe
from dataprune.runs.scoring import embedded
from dataprune.scoring.base import DatasetScorer, Scorer
from dataprune.scoring.error_norm import EL2N
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.scoring.information import PVI
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.provenance import check_same_data, scorer_of
from dataprune.selection.base import Selector
from dataprune.selection.constrained import KeepTogether
from dataprune.training.pruner import DynamicPruner

FILE_SELECTORS: dict[str, type[Selector]] = {**SELECTORS, "keep-together": KeepTogether}
"""Names of the selectors for the rows of a file."""

OF_TRAINED_MODELS = (PVI, VarianceOfGradients)
"""Scorers that no command makes the scores of."""

OF_MODELS = (*OF_TRAINED_MODELS, Perplexity)
"""Scorers of data sets whose scores are worth a file of their own: those of the rows alone are made anew in no time."""

SELECT_OPTIONS = {"keep_fraction": "--keep-fraction", "random_state": "--seed", "column": "--text-column"}
"""Parameters of recipes that options of `select` set."""

WEIGHT_COLUMN = "loss_weight"
"""Where `with_weights` puts a selector's weights."""


def scores_of_rows(
    paths: Sequence[str | Path], rows: datasets.Dataset
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the scores of some rows from files, the mean of several.

    Parameters
    ----------
    paths : sequence of str or Path
        Files as for `mean_scores`.
    rows : datasets.Dataset
        All rows of the data.

    Returns
    -------
    rows : ndarray of int64, shape (n,)
        Which rows have a score in any file, sorted.
    scores : ndarray of float32, shape (n,)
        Theirs.

    Raises
    ------
    DataError
        If a file is missing or broken, lacks a column, or has scores of rows that there are not.
    StateError
        If a file says that its scores are of other data, or several files have scores of different scorers.

    Examples
    --------
    >>> scores_of_rows(["missing.parquet"], datasets.Dataset.from_dict({"text": ["hi"]}))
    Traceback (most recent call last):
    dataprune.errors.DataError: The file of scores missing.parquet does not exist.
    """
    listed, scores = mean_scores(paths, len(rows))
    notes = [read_note(path) for path in paths]
    for note in notes:
        check_same_data(note, fingerprint(rows))
    scorers = sorted({scorer for scorer in map(scorer_of, notes) if scorer is not None})
    if len(scorers) > 1:
        raise StateError(
            f"Only scores of one scorer can be averaged, got those of {' and '.join(scorers)}: they are on different "
            "scales. Average ranks with dataprune.rank_average, or take one file."
        )
    return listed, scores


def parts_of_recipe(
    name: str, arguments: Mapping[str, Any], *, keep_fraction: float, seed: int, scores: Sequence[str | Path] = ()
) -> tuple[DatasetScorer | None, Selector]:
    """Make the scorer and the selector of a recipe that chooses once.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    arguments : mapping of str to object
        The recipe's own parameters.
    keep_fraction : float
        Share kept.
    seed : int
        Of its draw, where it draws.
    scores : sequence of str or Path, default=()
        Files of scores, those of a training run for instance.

    Returns
    -------
    scorer : DatasetScorer or None
        Of the data itself; None where the recipe has none, or scores are given.
    selector : Selector
        Knows how many to keep.

    Raises
    ------
    InvalidValueError
        If the recipe chooses again and again, needs the scores of a run, reads none, or has no such parameter.
    StateError
        If a file says that its scores are not those that the recipe chooses by.

    Examples
    --------
    >>> parts_of_recipe("ccs", {}, keep_fraction=0.2, seed=0, scores=["run/kept.csv"])
    (None, StratifiedK(cutoff_fraction=0.1, keep_fraction=0.2, random_state=0))
    """
    if RECIPES[check_choice("select", "recipe", name, RECIPES)].kind == "dynamic":
        raise InvalidValueError(
            f"The recipe {name!r} chooses while a model trains. Run it with `dataprune train --recipe {name}`."
        )
    if "n_warmup_epochs" in arguments:
        raise InvalidValueError("select.recipe_arg must not set 'n_warmup_epochs', for nothing is trained here.")
    settings = {"keep_fraction": keep_fraction, "random_state": seed}
    pruner: Any = make_recipe(name, settings, arguments, options=SELECT_OPTIONS, command="select")
    scorer: Any
    selector: Selector
    scorer, selector = pruner.scorer, pruner.selector
    if scores:
        _check_scorer(name, scorer, scores)
        return None, selector.set_params(**settings)
    if isinstance(pruner, DynamicPruner) or isinstance(scorer, OF_TRAINED_MODELS):
        raise InvalidValueError(
            f"The recipe {name!r} needs the {type(scorer).__name__} of each row. "
            f"Pass --scores with a file of them{_where_from(scorer, refresh=getattr(pruner, 'refresh', None))}."
        )
    return scorer, selector


def _check_scorer(recipe: str, scorer: Scorer | None, paths: Sequence[str | Path]) -> None:
    """Raise if a file says that its scores are of another scorer than the recipe's; an error norm has several forms."""
    if scorer is None or (isinstance(scorer, DatasetScorer) and not isinstance(scorer, OF_MODELS)):
        raise InvalidValueError(
            f"select.scores must be left out with the recipe {recipe!r}, which needs none, got {paths[0]}."
        )
    kinds = {SCORERS[option].__name__ for option in ERROR_NORMS.values()} if type(scorer) is EL2N else set()
    kinds.add(type(scorer).__name__)
    for path in paths:
        made_by = scorer_of(read_note(path))
        if made_by is not None and made_by not in kinds:
            raise StateError(
                f"The recipe {recipe!r} chooses by {type(scorer).__name__}, but {path} has the scores of {made_by}. "
                "Pass its own, the recipe's parameter for them with --recipe-arg, or --selector in place of the recipe."
            )


def _where_from(scorer: Scorer, *, refresh: str | float | None) -> str:
    option = next((option for option, kind in SCORERS.items() if type(scorer) is kind), None)
    if option is None:
        return ""
    if refresh == "full":  # of a model as it is, not of the epochs on the way to it
        return f": `dataprune score --scorer {option} --model RUN` makes them, of a run on everything"
    return f", the kept.parquet of `dataprune train --scorer {option} --keep-fraction 1`"


def check_needs(selector: Selector, *, scores: bool, labels: bool, groups: bool, model: str | None) -> None:
    """Raise unless a selector's parameters are in range, and it has what it needs.

    Parameters
    ----------
    selector : Selector
        Of `FILE_SELECTORS`.
    scores : bool
        Whether there are any, or will be.
    labels : bool
        Whether the class of each row is known.
    groups : bool
        Whether the group of each row is known.
    model : str or None
        An encoder.

    Raises
    ------
    InvalidTypeError
        If a parameter is of the wrong kind.
    InvalidValueError
        If one is out of range, or something is missing.

    Examples
    --------
    >>> check_needs(KeepTogether(), scores=True, labels=False, groups=False, model=None)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: KeepTogether needs groups. Pass --group-column with the column that holds them.
    """
    selector.check()
    name = type(selector).__name__
    if selector.uses_scores and not scores:
        raise InvalidValueError(f"{name} needs scores. Pass --scores FILE or --scorer NAME.")
    for column, is_known in (("labels", labels), ("groups", groups)):
        if column in selector.needs and not is_known:
            raise InvalidValueError(
                f"{name} needs {column}. Pass --{column[:-1]}-column with the column that holds them."
            )
    if "features" in selector.needs and model is None:
        raise InvalidValueError(f"{name} needs embeddings. Pass --model with the folder or hub name of an encoder.")


def select_rows(
    dataset: datasets.Dataset,
    selector: Selector,
    scores: NDArray[np.float32] | None,
    *,
    labels: Any = None,
    groups: Any = None,
    texts: ColumnTexts | None = None,
    model: str | None = None,
) -> NDArray[np.int64]:
    """Choose rows.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    selector : Selector
        Of `FILE_SELECTORS`; its ``keep_fraction`` is of all rows.
    scores : ndarray of float32, shape (n_rows,), or None
        Scores; None for selectors that ignore them.
    labels : array-like, shape (n_rows,), optional
        Class of each row.
    groups : array-like, shape (n_rows,), optional
        Group of each row.
    texts : ColumnTexts, optional
        For embeddings, where the selector looks at features.
    model : str, optional
        The encoder for them.

    Returns
    -------
    ndarray of int64, shape (n_kept,)
        Rows, sorted.

    Raises
    ------
    InvalidValueError
        If the selector needs something that is not given.

    Examples
    --------
    >>> from dataprune import TopK
    >>> rows = datasets.Dataset.from_dict({"text": ["a", "b"]})
    >>> select_rows(rows, TopK(keep_fraction=0.5), np.array([0.1, 0.9], np.float32))
    array([1])
    """
    check_needs(selector, scores=scores is not None, labels=labels is not None, groups=groups is not None, model=model)
    known: dict[str, Any] = {"labels": labels, "groups": groups}
    if "features" in selector.needs and model is not None:
        known["features"] = embedded(texts, model)
    if "cost" in selector.needs:
        known["cost"] = [len(text.split()) or 1 for text in texts or []]
    given = np.zeros(len(dataset), np.float32) if scores is None else scores
    return selector.fit(given, **known).indices_


def with_weights(chosen: datasets.Dataset, weights: NDArray[np.float32]) -> datasets.Dataset:
    """Add the loss weights of a selector that undoes its choice by them.

    Parameters
    ----------
    chosen : datasets.Dataset
        The kept rows.
    weights : ndarray of float32, shape (n_kept,)
        A selector's ``weights_``.

    Returns
    -------
    datasets.Dataset
        The rows, with a column `WEIGHT_COLUMN`.

    Raises
    ------
    DataError
        If the rows have a column of that name.

    Examples
    --------
    >>> with_weights(datasets.Dataset.from_dict({"text": ["a"]}), np.array([2.0], np.float32))[0]
    {'text': 'a', 'loss_weight': 2.0}
    """
    if WEIGHT_COLUMN in chosen.column_names:
        raise DataError(f"The data must not have a column {WEIGHT_COLUMN!r}, for the weights go there. Rename it.")
    return chosen.add_column(WEIGHT_COLUMN, weights.tolist())
