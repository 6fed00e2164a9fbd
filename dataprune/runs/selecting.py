"""Score the rows of a file and keep a part of them: what ``dataprune score`` and ``dataprune select`` do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, overload

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataprune.data.reading import Progress, map_file, read_file, read_splits
from dataprune.data.roles import COMMON_NAMES, find_columns
from dataprune.errors import DataError, InvalidValueError, check_choice
from dataprune.models.loading import load_encoder, load_tokenizer, loading_quietly
from dataprune.recipes import RECIPES
from dataprune.runs.compose import SCORERS, SELECTORS, make_recipe
from dataprune.scoring.base import DatasetScorer
from dataprune.scoring.duplicates import NearDuplicate
from dataprune.scoring.embedding import PrototypeDistance, embed_texts
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.scoring.information import PVI
from dataprune.scoring.metadata import ColumnScore, FunctionScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.text import TfidfDistance
from dataprune.selection.base import Selector
from dataprune.selection.constrained import KeepTogether
from dataprune.training.pruner import DynamicPruner

DATASET_SCORERS: dict[str, type[DatasetScorer]] = {
    "tfidf-distance": TfidfDistance,
    "near-duplicate": NearDuplicate,
    "prototype-distance": PrototypeDistance,
    "perplexity": Perplexity,
    "column": ColumnScore,
}
"""Names of the scores that need no training."""

FILE_SELECTORS: dict[str, type[Selector]] = {**SELECTORS, "keep-together": KeepTogether}
"""Names of the selectors for the rows of a file."""


WEIGHT_COLUMN = "loss_weight"
"""Where `with_weights` puts a selector's weights."""

MAPPED_FROM_BYTES = 1 << 24
"""Files from this size on are read block by block, and mapped; smaller ones are read as a whole."""

TEXTS_PER_PART = 4096
"""Texts that are read, or scored by a model, at a time."""


def parts_of_recipe(
    name: str, arguments: Mapping[str, Any], *, keep_fraction: float, seed: int, has_scores: bool
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
    has_scores : bool
        Whether scores are given, those of a training run for instance.

    Returns
    -------
    scorer : DatasetScorer or None
        Of the data itself; None where the recipe has none, or scores are given.
    selector : Selector
        Knows how many to keep.

    Raises
    ------
    InvalidValueError
        If the recipe chooses again and again, needs the scores of a run, or has no such parameter.

    Examples
    --------
    >>> parts_of_recipe("ccs", {}, keep_fraction=0.2, seed=0, has_scores=True)
    (None, StratifiedK(cutoff_fraction=0.1, keep_fraction=0.2, random_state=0))
    """
    if RECIPES[check_choice("select", "recipe", name, RECIPES)].kind == "dynamic":
        raise InvalidValueError(
            f"The recipe {name!r} chooses while a model trains. Run it with `dataprune train --recipe {name}`."
        )
    takes = signature(RECIPES[name].make).parameters
    if "column" in arguments and takes["column"].default == "text":
        raise InvalidValueError(
            f"The recipe {name!r} reads the text. Pass --text-column with the column that holds it."
        )
    settings = {"keep_fraction": keep_fraction, "random_state": seed}
    pruner: Any = make_recipe(name, {key: value for key, value in settings.items() if key in takes}, arguments)
    scorer: Any
    selector: Selector
    scorer, selector = pruner.scorer, pruner.selector
    if has_scores:
        return None, selector.set_params(**settings)
    if isinstance(pruner, DynamicPruner) or isinstance(scorer, PVI | VarianceOfGradients):
        option = next((option for option, kind in SCORERS.items() if type(scorer) is kind), None)
        run = "" if option is None else f", the kept.parquet of `dataprune train --scorer {option} --keep-fraction 1`"
        raise InvalidValueError(
            f"The recipe {name!r} needs the {type(scorer).__name__} of each row. "
            f"Pass --scores with a file of them{run}."
        )
    return scorer, selector


@contextmanager
def open_rows(
    source: str, *, split: str = "train", progress: Progress | None = None
) -> Iterator[tuple[datasets.Dataset, str]]:
    r"""Open one split; of large files some thousand rows are in memory at a time.

    Parameters
    ----------
    source : str
        A file, a folder, or a hub name, as `load_data` takes it.
    split : str, default="train"
        ``train``, ``valid`` or ``test``.
    progress : callable, optional
        Told after each block that is read.

    Yields
    ------
    dataset : datasets.Dataset
        The rows, in their order.
    place : str
        What messages call them.

    Raises
    ------
    DataError
        If the source is missing or broken, or lacks the split.

    Notes
    -----
    Files of 16 MB and more go through Arrow files in the system's folder for temporary files, which must have room for
    about as much, and which are removed at the end.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.csv").write_text("text,n\nhi,1\n")
    ...     with open_rows(f"{folder}/a.csv") as (rows, place):
    ...         print(rows[0])
    {'text': 'hi', 'n': 1}
    """
    with tempfile.TemporaryDirectory(prefix="dataprune-") as scratch:

        def read(path: Path) -> datasets.Dataset:
            if path.stat().st_size < MAPPED_FROM_BYTES:
                return read_file(path)
            folder = Path(scratch, path.name)
            folder.mkdir()
            return map_file(path, folder, progress=progress)

        splits = read_splits(source, read=read)
        if split not in splits:
            raise DataError(f"{source} has no {split} split, but {', '.join(splits)}.")
        place, dataset = splits[split]
        if len(dataset) == 0:
            raise DataError(f"The {split} split must have rows, got none in {place}.")
        yield dataset, place


class ColumnTexts(Sequence[str]):
    """The texts of a column, read from the data set when they are asked for.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    column : str
        A column of texts, or of lists of words.
    place : str, default="the data"
        What messages call the data.
    progress : callable, optional
        Told while all texts are gone through.

    Examples
    --------
    >>> texts = ColumnTexts(datasets.Dataset.from_dict({"tokens": [["play", "jazz"], ["stop"]]}), "tokens")
    >>> list(texts), texts[-1]
    (['play jazz', 'stop'], 'stop')
    """

    def __init__(
        self, dataset: datasets.Dataset, column: str, *, place: str = "the data", progress: Progress | None = None
    ) -> None:
        self.rows = dataset.with_format(None).select_columns([column])
        self.column = column
        self.place = place
        self.progress = progress

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            return [self._text(value, row) for row, value in zip(numbers, self.rows[index][self.column], strict=True)]
        return self._text(self.rows[index][self.column], index)

    def _text(self, value: Any, row: int) -> str:
        if not isinstance(value, str | list):
            raise DataError(
                f"{self.place}, row {row}: column {self.column!r} must hold texts or lists of words, got {value!r}. "
                "Correct or drop that row, or name another column with --text-column."
            )
        return value if isinstance(value, str) else " ".join(map(str, value))

    def __iter__(self) -> Iterator[str]:
        for part in self.parts("Reading texts"):
            yield from part

    def parts(self, what: str) -> Iterator[list[str]]:
        """Yield all texts, some thousand at a time, and tell the progress.

        Parameters
        ----------
        what : str
            What is done with them.

        Yields
        ------
        list of str
            Texts.

        Raises
        ------
        DataError
            If a row has no text.
        """
        for start in range(0, len(self), TEXTS_PER_PART):
            part = self[start : start + TEXTS_PER_PART]
            yield part
            if self.progress is not None:  # they are done with when the next are asked for
                self.progress(what, start + len(part), (start + len(part)) / len(self))


def texts_of(
    dataset: datasets.Dataset, column: str | None, *, place: str, progress: Progress | None = None
) -> ColumnTexts:
    """Return the text of each row.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    column : str or None
        Where it is; by default the column that has one of the common names, or the joined tokens.
    place : str
        What messages call the data.
    progress : callable, optional
        Told while all texts are gone through.

    Returns
    -------
    ColumnTexts
        Texts, not read yet.

    Raises
    ------
    DataError
        If there is no such column.

    Examples
    --------
    >>> texts_of(datasets.Dataset.from_dict({"utt": ["play jazz"]}), None, place="the data")[0]
    'play jazz'
    """
    if column is None:
        roles = find_columns(dataset, place=place)
        column = roles.get("text", roles.get("tokens"))
        if column is None:
            raise DataError(
                f"{place} must have a text in a column named {', '.join(COMMON_NAMES['text'])} or tokens, got "
                f"{', '.join(dataset.column_names)}. Name it with --text-column."
            )
    elif column not in dataset.column_names:
        raise DataError(f"{place} has no column {column!r}, but {', '.join(dataset.column_names)}.")
    return ColumnTexts(dataset, column, place=place, progress=progress)


def score_rows(
    dataset: datasets.Dataset,
    scorer: DatasetScorer,
    *,
    texts: ColumnTexts | None = None,
    model: str | None = None,
) -> NDArray[np.float32]:
    """Score rows by what they are.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    scorer : DatasetScorer
        Of `DATASET_SCORERS`, or of a recipe.
    texts : ColumnTexts, optional
        The text of each row; not needed by `ColumnScore`.
    model : str, optional
        Folder or hub name: an encoder for `PrototypeDistance`, a causal language model for `Perplexity`.

    Returns
    -------
    ndarray of float32, shape (n_rows,)
        Scores, higher = harder or more informative.

    Raises
    ------
    InvalidValueError
        If a model is needed and none is given.
    DataError
        If a row cannot be scored.

    Examples
    --------
    >>> rows = datasets.Dataset.from_dict({"length": [3, 5]})
    >>> score_rows(rows, ColumnScore("length"))
    array([3., 5.], dtype=float32)
    """
    if isinstance(scorer, ColumnScore):
        return scorer.fit(dataset).scores_
    if isinstance(scorer, FunctionScore):
        return scorer.fit(datasets.Dataset.from_dict({"text": texts})).scores_
    if isinstance(scorer, PrototypeDistance | Perplexity):
        if model is None:
            kind = "an encoder" if isinstance(scorer, PrototypeDistance) else "a causal language model"
            raise InvalidValueError(f"{type(scorer).__name__} needs {kind}. Pass --model with its folder or hub name.")
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(model)
        if isinstance(scorer, PrototypeDistance):
            return scorer.fit(_embedded(texts, model)).scores_
        scorer.set_params(column=None)
        with loading_quietly(model):
            decoder = AutoModelForCausalLM.from_pretrained(model)
        # A text's perplexity depends on no other text: some thousand at a time, which are batched by length.
        parts = texts.parts("Scoring") if texts is not None else []
        return np.concatenate([scorer.fit(part, model=decoder, tokenizer=tokenizer).scores_ for part in parts])
    scorer.set_params(column=None)
    return scorer.fit(texts if isinstance(scorer, TfidfDistance) else list(texts or [])).scores_


def _embedded(texts: ColumnTexts | None, model: str) -> NDArray[np.float32]:
    encoder, tokenizer = load_encoder(model), load_tokenizer(model)
    parts = texts.parts("Embedding") if texts is not None else []
    return np.concatenate([embed_texts(part, encoder, tokenizer) for part in parts])


def read_scores(path: str | Path, n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the scores of a file's rows: what ``dataprune score`` wrote, or a run's ``kept.parquet``.

    Parameters
    ----------
    path : str or Path
        A file with columns ``source_row`` and ``score``.
    n_rows : int
        Rows of the data.

    Returns
    -------
    rows : ndarray of int64, shape (n,)
        Which rows have a score, sorted; a run has none of those that it validated on.
    scores : ndarray of float32, shape (n,)
        Theirs; NaN for one that was never seen.

    Raises
    ------
    DataError
        If the file is missing or broken, lacks a column, or is of other data.
    """
    if not Path(path).is_file():
        raise DataError(f"The file of scores {path} does not exist.")
    table = read_file(Path(path))
    if not {"source_row", "score"} <= {*table.column_names}:
        raise DataError(f"{path} must have the columns 'source_row' and 'score', got {', '.join(table.column_names)}.")
    found = table.select_columns(["source_row", "score"]).with_format("arrow")[:]  # no Python object per number
    rows, scores = found["source_row"], found["score"]
    is_number = pa.types.is_integer(scores.type) or pa.types.is_floating(scores.type) or pa.types.is_null(scores.type)
    if not (pa.types.is_integer(rows.type) and rows.null_count == 0 and is_number):
        _name_wrong_score(path, rows.to_pylist(), scores.to_pylist())
    rows = rows.cast("int64").to_numpy()
    scores = (
        scores.cast("float64", safe=False).to_numpy().astype(np.float32)
    )  # a null is NaN; of whole numbers the nearest
    order = np.argsort(rows, kind="stable")
    rows, scores = rows[order], scores[order]
    if len(rows) and not (rows[0] >= 0 and rows[-1] < n_rows):
        outside = rows[0] if rows[0] < 0 else rows[-1]
        raise DataError(f"{path} has a score of row {outside}, but the data have {n_rows} rows: they are others.")
    if (repeated := rows[1:][np.diff(rows) == 0]).size:
        raise DataError(f"{path} has more than one score of row {repeated[0]}. Keep one for each row.")
    return rows, scores


def _name_wrong_score(path: str | Path, rows: list[Any], scores: list[Any]) -> None:
    for number, (row, score) in enumerate(zip(rows, scores, strict=True)):
        if type(row) is not int or not isinstance(score, int | float | None):
            raise DataError(
                f"{path}, row {number}: 'source_row' must be a whole number and 'score' a number, "
                f"got {row!r} and {score!r}."
            )


def mean_scores(paths: Sequence[str | Path], n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the scores of several runs and average them, as Paul et al. do; of one file as they are.

    Parameters
    ----------
    paths : sequence of str or Path
        Files as for `read_scores`.
    n_rows : int
        Rows of the data.

    Returns
    -------
    rows : ndarray of int64, shape (n,)
        Which rows have a score in any file, sorted.
    scores : ndarray of float32, shape (n,)
        The mean over the files that have one; NaN for one that was never seen.

    Raises
    ------
    DataError
        If a file is missing or broken, lacks a column, or is of other data.
    """
    total, count, listed = np.zeros(n_rows), np.zeros(n_rows, np.int64), np.zeros(n_rows, bool)
    for path in paths:
        rows, scores = read_scores(path, n_rows)
        listed[rows] = True
        rows, scores = rows[~np.isnan(scores)], scores[~np.isnan(scores)]
        total[rows] += scores
        count[rows] += 1
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return np.flatnonzero(listed), mean[listed]


def scores_table(scores: NDArray[np.floating[Any]]) -> datasets.Dataset:
    """Return scores as rows for a file.

    Parameters
    ----------
    scores : ndarray, shape (n_rows,)
        Scores.

    Returns
    -------
    datasets.Dataset
        Columns ``source_row`` and ``score``.

    Examples
    --------
    >>> scores_table(np.array([0.5], np.float32))[0]
    {'source_row': 0, 'score': 0.5}
    """
    return datasets.Dataset.from_dict({"source_row": np.arange(len(scores)), "score": scores})


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
    name = type(selector).__name__
    if scores is None and selector.uses_scores:
        raise InvalidValueError(f"{name} needs scores. Pass --scores FILE or --scorer NAME.")
    known: dict[str, Any] = {"labels": labels, "groups": groups}
    for column in ("labels", "groups"):
        if column in selector.needs and known[column] is None:
            raise InvalidValueError(
                f"{name} needs {column}. Pass --{column[:-1]}-column with the column that holds them."
            )
    if "features" in selector.needs:
        if model is None:
            raise InvalidValueError(f"{name} needs embeddings. Pass --model with the folder or hub name of an encoder.")
        known["features"] = _embedded(texts, model)
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
