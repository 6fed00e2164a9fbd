"""One split of a file, its rows and texts read some thousand at a time."""

from __future__ import annotations

import reprlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import datasets

from dataprune.data.reading import Progress, map_file, read_file, read_splits
from dataprune.data.roles import COMMON_NAMES, find_columns
from dataprune.errors import DataError

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
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return " ".join(value)
        raise DataError(
            f"{self.place}, row {row}: column {self.column!r} must hold texts or lists of words, got "
            f"{reprlib.repr(value)}. Correct or drop that row, or name another column with --text-column."
        )

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
