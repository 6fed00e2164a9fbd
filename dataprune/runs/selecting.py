"""Score the rows of a file and keep a part of them: what ``dataprune score`` and ``dataprune select`` do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataprune.data.reading import Progress, map_file, read_file, read_splits
from dataprune.data.roles import COMMON_NAMES, find_columns
from dataprune.errors import DataError, InvalidValueError
from dataprune.models import load_tokenizer
from dataprune.runs.compose import SELECTORS
from dataprune.scoring.base import DatasetScorer
from dataprune.scoring.duplicates import NearDuplicate
from dataprune.scoring.embedding import PrototypeDistance, embed_texts
from dataprune.scoring.metadata import ColumnScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.text import TfidfDistance
from dataprune.selection.base import Selector
from dataprune.selection.constrained import KeepTogether

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


MAPPED_FROM_BYTES = 1 << 24
"""Files from this size on are read block by block, and mapped; smaller ones are read as a whole."""

TEXTS_PER_PART = 4096
"""Texts that are read, or scored by a model, at a time."""


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
    progress : callable, optional
        Told while all texts are gone through.

    Examples
    --------
    >>> texts = ColumnTexts(datasets.Dataset.from_dict({"tokens": [["play", "jazz"], ["stop"]]}), "tokens")
    >>> list(texts), texts[-1]
    (['play jazz', 'stop'], 'stop')
    """

    def __init__(self, dataset: datasets.Dataset, column: str, *, progress: Progress | None = None) -> None:
        self.rows = dataset.with_format(None).select_columns([column])
        self.column = column
        self.progress = progress

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self.rows[index][self.column]
        return [_joined(value) for value in found] if isinstance(index, slice) else _joined(found)

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
        """
        for start in range(0, len(self), TEXTS_PER_PART):
            part = self[start : start + TEXTS_PER_PART]
            yield part
            if self.progress is not None:  # they are done with when the next are asked for
                self.progress(what, start + len(part), (start + len(part)) / len(self))


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))


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
    return ColumnTexts(dataset, column, progress=progress)


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
        Of `DATASET_SCORERS`.
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
    if isinstance(scorer, PrototypeDistance | Perplexity):
        if model is None:
            kind = "an encoder" if isinstance(scorer, PrototypeDistance) else "a causal language model"
            raise InvalidValueError(f"{type(scorer).__name__} needs {kind}. Pass --model with its folder or hub name.")
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(model)
        if isinstance(scorer, PrototypeDistance):
            return scorer.fit(_embedded(texts, model)).scores_
        scorer.set_params(column=None)
        decoder = AutoModelForCausalLM.from_pretrained(model)
        # A text's perplexity depends on no other text: some thousand at a time, which are batched by length.
        parts = texts.parts("Scoring") if texts is not None else []
        return np.concatenate([scorer.fit(part, model=decoder, tokenizer=tokenizer).scores_ for part in parts])
    scorer.set_params(column=None)
    return scorer.fit(texts if isinstance(scorer, TfidfDistance) else list(texts or [])).scores_


def _embedded(texts: ColumnTexts | None, model: str) -> NDArray[np.float32]:
    from transformers import AutoModel

    encoder, tokenizer = AutoModel.from_pretrained(model), load_tokenizer(model)
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
    try:
        rows = found["source_row"].cast("int64").to_numpy()
        scores = found["score"].cast("float32").to_numpy()  # a null is NaN
    except (pa.ArrowException, ValueError):
        raise DataError(f"{path} must have whole numbers in 'source_row' and numbers in 'score'.") from None
    rows, first = np.unique(rows, return_index=True)
    if len(rows) and not (rows[0] >= 0 and rows[-1] < n_rows):
        raise DataError(f"{path} has a score of row {rows[-1]}, but the data have {n_rows} rows: they are others.")
    return rows, scores[first]


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
