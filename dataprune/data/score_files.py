"""Files of scores: a number for each row of other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataprune.data.reading import read_file
from dataprune.data.writing import NOTE
from dataprune.errors import DataError


def read_scores(path: str | Path, n_rows: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the scores of a file's rows: what ``dataprune score`` wrote, or a run's ``kept.parquet``.

    Parameters
    ----------
    path : str or Path
        A file with columns ``source_row`` and ``score``.
    n_rows : int, optional
        Rows of the data, where they are known.

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
    if len(rows) and not (rows[0] >= 0 and (n_rows is None or rows[-1] < n_rows)):
        outside = rows[0] if rows[0] < 0 else rows[-1]
        have = "rows count from 0" if n_rows is None else f"the data have {n_rows} rows: they are others"
        raise DataError(f"{path} has a score of row {outside}, but {have}.")
    if (repeated := rows[1:][np.diff(rows) == 0]).size:
        raise DataError(f"{path} has more than one score of row {repeated[0]}. Keep one for each row.")
    return rows, scores


def read_note(path: str | Path) -> dict[str, Any]:
    """Read where a file's scores come from.

    Parameters
    ----------
    path : str or Path
        A file of scores.

    Returns
    -------
    dict
        What `dataprune.scoring.provenance.provenance` said when they were made; empty where the file has no note, or
        cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from dataprune.data.writing import write_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_rows(f"{folder}/s.parquet", scores_table(np.zeros(2, np.float32)), note={"epoch": 3})
    ...     read_note(f"{folder}/s.parquet")
    {'epoch': 3}
    """
    import pyarrow.parquet

    if Path(path).suffix != ".parquet" or not Path(path).is_file():
        return {}
    try:
        note = json.loads((pyarrow.parquet.read_schema(path).metadata or {}).get(NOTE, b"{}"))
    except (pa.ArrowException, OSError, ValueError):  # what is wrong with it is said by those who read the rows
        return {}
    return note if isinstance(note, dict) else {}


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
