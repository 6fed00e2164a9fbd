"""Rows to files, in the formats that `load_data` reads."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets

from dataprune.data.files import naming_what_failed, write_atomically
from dataprune.data.reading import FORMATS, SPLIT_OF, Progress
from dataprune.errors import DataError, InvalidValueError

ROWS_PER_CHUNK = 10_000  # written at a time: memory stays bounded
TEXT_OF = (date, time, timedelta, Decimal)
"""Kinds of values that JSON lacks, and that are written as texts; a datetime is a date."""


def check_writable(path: str | Path, *sources: str | Path) -> None:
    """Raise unless rows can be written under that name, before any work is done.

    Parameters
    ----------
    path : str or Path
        File to make; its ending says the format. Without an ending, a folder for `datasets`.
    *sources : str or Path
        Files that are read, and folders of which the files of splits are.

    Raises
    ------
    InvalidValueError
        If the ending is unknown, the folder around it is missing, a folder of that name exists, or it is a source.

    Examples
    --------
    >>> check_writable("rows.xlsx")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: rows.xlsx must end in .jsonl, .jsonl.gz, .json, .csv or .parquet, ...
    """
    path = Path(path)
    if path.suffix and not path.name.endswith(FORMATS):
        endings = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InvalidValueError(f"{path} must end in {endings}, or in nothing for a folder of the datasets library.")
    if not path.parent.is_dir():
        raise InvalidValueError(f"The folder {path.parent} does not exist. Make it first, or choose another.")
    if path.is_dir():
        raise InvalidValueError(f"{path} is a folder that exists already. Choose another name.")
    for source in map(Path, sources):
        is_split = path.name.partition(".")[0] in SPLIT_OF and source.is_dir() and path.parent.samefile(source)
        if path.exists() and (is_split or (source.exists() and path.samefile(source))):
            raise InvalidValueError(f"{path} is a file that is read. Choose another name for what is written.")


NOTE = b"dataprune"
"""Where a parquet file keeps a note, beside its columns."""


def write_rows(
    path: str | Path,
    dataset: datasets.Dataset,
    *,
    note: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write a data set to one file, atomically, or to a folder.

    Parameters
    ----------
    path : str or Path
        Its ending says the format, as `load_data` reads it: ``.jsonl``, ``.jsonl.gz``, ``.json`` (one list), ``.csv``
        or ``.parquet``. Without an ending, a folder for ``datasets.load_from_disk``.
    dataset : datasets.Dataset
        The rows; some thousands are in memory at a time.
    note : mapping of str to object, optional
        Kept in the file where the format has a place for it, which is parquet alone; anything that `json` can write.
    progress : callable, optional
        Told after each block: what is done, how many rows so far, and the share of them.

    Raises
    ------
    InvalidValueError
        If the ending is unknown, the folder around it is missing, or a folder of that name exists.
    DataError
        If a column does not fit the format.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_rows(f"{folder}/a.jsonl", datasets.Dataset.from_list([{"text": "hé"}]))
    ...     print(Path(folder, "a.jsonl").read_text(), end="")
    {"text": "hé"}
    """
    check_writable(path)
    path = Path(path)
    if not path.suffix:
        part = path.with_name(f".{path.name}.part")
        with naming_what_failed(path):
            shutil.rmtree(part, ignore_errors=True)
            with _no_bars():
                dataset.save_to_disk(part)
            part.rename(path)
        return
    write_atomically(path, lambda part: _write(part, dataset, path.name, note, progress))


def _write(
    part: Path, dataset: datasets.Dataset, name: str, note: Mapping[str, Any] | None, progress: Progress | None
) -> None:
    if name.endswith((".parquet", ".csv")):
        _write_tables(part, dataset, name, note, progress)
        return

    def as_text(value: object) -> str:
        if not isinstance(value, TEXT_OF):
            raise DataError(f"{name} cannot hold a value of the kind {type(value).__name__}. Write .parquet.")
        return str(value)

    is_list, is_first = name.endswith(".json"), True
    plain = dataset.with_format(None)
    with gzip.open(part, "wt", encoding="utf-8") if name.endswith(".gz") else part.open("w", encoding="utf-8") as file:
        file.write("[\n" if is_list else "")
        for start in range(0, len(dataset), ROWS_PER_CHUNK):
            columns = plain[start : start + ROWS_PER_CHUNK]
            for values in zip(*columns.values(), strict=True):
                row = dict(zip(columns, values, strict=True))
                file.write(",\n" if is_list and not is_first else "")
                file.write(json.dumps(row, ensure_ascii=False, default=as_text) + ("" if is_list else "\n"))
                is_first = False
            if progress is not None:
                _tell(progress, start + ROWS_PER_CHUNK, len(dataset))
        file.write("\n]\n" if is_list else "")


@contextmanager
def _no_bars() -> Iterator[None]:
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _tell(progress: Progress, n_done: int, n_rows: int) -> None:
    progress("Writing", min(n_done, n_rows), min(1.0, n_done / max(1, n_rows)))


def _write_tables(
    part: Path, dataset: datasets.Dataset, name: str, note: Mapping[str, Any] | None, progress: Progress | None
) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    is_csv = name.endswith(".csv")
    make_writer: Any = pyarrow.csv.CSVWriter if is_csv else pyarrow.parquet.ParquetWriter
    arrow, writer = dataset.with_format("arrow"), None
    for start in range(0, max(1, len(dataset)), ROWS_PER_CHUNK):
        table = arrow[start : start + ROWS_PER_CHUNK]
        if is_csv:
            table = _flat(table, name)
        elif note is not None:
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), NOTE: json.dumps(note)})
        writer = make_writer(str(part), table.schema) if writer is None else writer
        writer.write_table(table)
        if progress is not None:
            _tell(progress, start + ROWS_PER_CHUNK, len(dataset))
    if writer is not None:
        writer.close()


def _flat(table: Any, name: str) -> Any:
    """Join lists of texts by spaces, as `load_data` splits them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for position, field in enumerate(table.schema):
        if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type):
            table = table.set_column(position, field.name, pc.binary_join(table.column(position), " "))
        elif pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            other = ".parquet" if pa.types.is_binary(field.type) else ".jsonl or .parquet"
            raise DataError(f"{name} cannot hold the column {field.name!r} of {field.type}. Write {other}.")
    return table
