"""Scores that are in the data already: a column, or a function of the rows."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dataprune.data.columns import read_column
from dataprune.errors import DataError, InvalidTypeError, InvalidValueError, check_count
from dataprune.scoring.base import DatasetScorer


class ColumnScore(DatasetScorer):
    """A column of numbers is the score: a length, a year, a source's quality, a score made elsewhere.

    Higher = harder or more informative, as everywhere: `negate` a column in which the low values are. Free.

    Parameters
    ----------
    column : str
        Column of numbers.
    negate : bool, default=False
        Whether low values are the hard ones.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        The column, or its negative.

    Notes
    -----
    Scores are float32: whole numbers above 16,777,216 (Unix times, say) may tie. Infinities are allowed.

    References
    ----------
    Lai-king and Paroubek 2024, pruning by a journal's impact; Shimabucoro et al. 2024, any metric of a text.

    Examples
    --------
    >>> rows = [{"votes": 3}, {"votes": 40}]
    >>> ColumnScore("votes").fit(rows).scores_, ColumnScore("votes", negate=True).fit(rows).scores_
    (array([ 3., 40.], dtype=float32), array([ -3., -40.], dtype=float32))
    """

    def __init__(self, column: str, *, negate: bool = False) -> None:
        self.column = column
        self.negate = negate

    def score_dataset(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[Any]:  # noqa: ARG002
        """Read the column.

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
        InvalidTypeError
            If `column` is no name.
        DataError
            If there is no such column, or a row holds no number; the message names the row.
        """
        if not isinstance(self.column, str):
            raise InvalidTypeError(f"ColumnScore.column must be a column's name, got {self.column!r}.")
        scores = as_numbers(read_column(dataset, self.column), f"Column {self.column!r}")
        return -scores if self.negate else scores


class FunctionScore(DatasetScorer):
    """A function of the rows is the score: length, lexical diversity, toxicity, whatever a batch of rows tells.

    Higher = harder or more informative; the function sees to that.

    Parameters
    ----------
    function : callable
        ``function(rows)`` returns one number per row. `rows` is a batch: of a `datasets.Dataset` a dict of columns, of
        a DataFrame or an ndarray a slice, of any other data set a list of rows.
    batch_size : int, default=1000
        Rows in a batch.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        What the function returned.

    Notes
    -----
    The function must score a row by itself: what it makes of one batch is not known to the next.

    References
    ----------
    Shimabucoro et al. 2024 (active inheritance) choose examples by any metric of the text.

    Examples
    --------
    >>> def n_words(rows):
    ...     return [len(row["text"].split()) for row in rows]
    >>> FunctionScore(n_words).fit([{"text": "play jazz"}, {"text": "stop"}]).scores_
    array([2., 1.], dtype=float32)
    """

    def __init__(self, function: Callable[[Any], Any], *, batch_size: int = 1000) -> None:
        self.function = function
        self.batch_size = batch_size

    def score_dataset(self, dataset: Any, *, model: nn.Module | None = None) -> NDArray[Any]:  # noqa: ARG002
        """Call the function on every batch.

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
        InvalidTypeError
            If `function` cannot be called.
        InvalidValueError
            If it returns another number of values than it was given rows.
        DataError
            If a value is no number; the message names the row.
        """
        if not callable(self.function):
            raise InvalidTypeError(f"FunctionScore.function must be callable, got {self.function!r}.")
        check_count("FunctionScore", "batch_size", self.batch_size, minimum=1)
        scores = np.empty(len(dataset))
        for start in range(0, len(scores), self.batch_size):
            stop = min(start + self.batch_size, len(scores))
            values = np.asarray(self.function(_rows(dataset, start, stop)))
            if values.shape != (stop - start,):
                raise InvalidValueError(
                    f"FunctionScore.function must return one number per row, got shape {values.shape} for the "
                    f"{stop - start} rows from row {start} on."
                )
            scores[start:stop] = as_numbers(values.tolist(), "FunctionScore.function's values", first_row=start)
        return scores


def as_numbers(values: list[Any], what: str, *, first_row: int = 0) -> NDArray[np.float64]:
    """Return values as an array of numbers.

    Parameters
    ----------
    values : list
        One per row.
    what : str
        Subject of the message.
    first_row : int, default=0
        Row of the first value.

    Returns
    -------
    ndarray of float64, shape (n,)
        The numbers; True is 1.

    Raises
    ------
    DataError
        If a value is missing, NaN or no number; the message names the row.

    Examples
    --------
    >>> as_numbers([1, 2.5, True], "Column 'x'")
    array([1. , 2.5, 1. ])
    """
    for row, value in enumerate(values, start=first_row):
        if not isinstance(value, (Real, np.bool_)) or value != value:  # noqa: PLR0124 - only NaN differs from itself
            raise DataError(f"{what} must be numbers, got {value!r} in row {row}. Correct or drop that row.")
    return np.asarray(values, dtype=np.float64)


def _rows(dataset: Any, start: int, stop: int) -> Any:
    if hasattr(dataset, "iloc"):  # pandas
        return dataset.iloc[start:stop]
    if hasattr(dataset, "column_names") or isinstance(dataset, np.ndarray):  # datasets: a dict of columns
        return dataset[start:stop]
    return [dataset[row] for row in range(start, stop)]
