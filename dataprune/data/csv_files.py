"""CSV files as spreadsheets and programs write them: which marks they use, and what in them is no number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dataprune.errors import DataError

NO_NUMBER = r"^\s*([+-]?0\d+(\.\d*)?|[+-]?(\d{20,}|9[2-9]\d{17})|\+\d{7,}|0[xX][0-9a-fA-F]+|[+-]?\d+[eE]\d+)\s*$"
"""What looks like a number and would become another: leading zeros, above 64 bits, telephone numbers, hexadecimals,
codes such as 12e4 (programs write numbers as 1.2e+05)."""

BYTES_OF_MARKS = 1 << 16
"""How much of a CSV file says what its marks are."""


def read_csv(path: Path) -> pa.Table:
    r"""Read a whole file.

    Parameters
    ----------
    path : Path
        A file with a line of names.

    Returns
    -------
    pa.Table
        Its rows; types are those of the whole column.

    Raises
    ------
    DataError
        If the file is not in UTF-8.
    pa.ArrowException
        If it is broken.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("zip;price\n01069;1,5\n")
    ...     read_csv(file).to_pylist()
    [{'zip': '01069', 'price': 1.5}]
    """
    import pyarrow.csv

    size = path.stat().st_size
    if size == 0:
        return pa.table({})
    with path.open("rb") as file:
        if file.read(2) in {b"\xff\xfe", b"\xfe\xff"}:  # the mark of UTF-16, which some spreadsheets write
            raise not_in_utf8(path)
    block_size = min(size + 1, 2**31 - 1)  # one block: types are inferred from the whole file
    table = pyarrow.csv.read_csv(path, **_options(path, block_size))
    texts = _texts_like_numbers(path, table.schema, block_size)
    if texts:
        table = pyarrow.csv.read_csv(path, **_options(path, block_size, texts))
    if has_bytes(table):
        raise not_in_utf8(path)
    return table


def csv_blocks(path: Path, block_size: int) -> Iterator[pa.RecordBatch]:
    r"""Read a file block by block.

    Parameters
    ----------
    path : Path
        A file with a line of names.
    block_size : int
        Bytes in a block.

    Yields
    ------
    pa.RecordBatch
        Some rows; types are those of the first block.

    Raises
    ------
    pa.ArrowException
        If the file is broken, or a later block has other types.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("text,label\nhi,1\nho,2\n")
    ...     [batch.num_rows for batch in csv_blocks(file, 16)]
    [1, 1]
    """
    import pyarrow.csv

    with pyarrow.csv.open_csv(path, **_options(path, block_size)) as reader:
        texts = _texts_like_numbers(path, reader.schema, block_size)
    with pyarrow.csv.open_csv(path, **_options(path, block_size, texts)) as reader:
        yield from reader


def has_bytes(table: pa.Table) -> bool:
    r"""Tell whether a column is bytes, which texts of another encoding than UTF-8 become.

    Parameters
    ----------
    table : pa.Table
        Rows of a CSV file.

    Returns
    -------
    bool
        Whether there is one.

    Examples
    --------
    >>> has_bytes(pa.table({"text": [b"caf\xe9"]}))
    True
    """
    return any(pa.types.is_binary(kind) for kind in table.schema.types)


def not_in_utf8(path: Path) -> DataError:
    """Return the error for a file in another encoding.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    DataError
        To be raised.

    Examples
    --------
    >>> not_in_utf8(Path("a.csv"))
    DataError("a.csv cannot be read: it is not in UTF-8. Save it so; in a spreadsheet, as 'CSV UTF-8'.")
    """
    return DataError(f"{path} cannot be read: it is not in UTF-8. Save it so; in a spreadsheet, as 'CSV UTF-8'.")


def _options(
    path: Path, block_size: int, texts: Iterable[str] = (), *, columns: Iterable[str] | None = None
) -> dict[str, Any]:
    """Return how a CSV file is read: some columns as texts, all of them or the `columns` named."""
    import pyarrow.csv

    delimiter, decimal_point = _marks(path)
    return {
        "read_options": pyarrow.csv.ReadOptions(use_threads=False, block_size=block_size),  # so errors give the row
        "parse_options": pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(texts, pa.string()),
            include_columns=None if columns is None else list(columns),
            decimal_point=decimal_point,
        ),
    }


def _texts_like_numbers(path: Path, schema: pa.Schema, block_size: int) -> list[str]:
    """Return the columns that a number would change: postal codes, telephone numbers, long ids."""
    import pyarrow.compute
    import pyarrow.csv

    numbers = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    if not numbers or len(set(schema.names)) < len(schema.names):
        return []
    found: dict[str, None] = {}
    with pyarrow.csv.open_csv(path, **_options(path, block_size, numbers, columns=numbers)) as reader:
        for batch in reader:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if pyarrow.compute.any(pyarrow.compute.match_substring_regex(column, NO_NUMBER)).as_py():
                    found[name] = None
    return list(found)


def _marks(path: Path) -> tuple[str, str]:
    """Return what stands between the columns, and what is before the decimals.

    A tab if there is one among the names of the columns, else a comma, else a semicolon: spreadsheets write that where
    the decimals have the comma.
    """
    with path.open("rb") as file:
        start = file.read(BYTES_OF_MARKS).removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    plain = re.sub(rb'"[^"]*"', b"", start)  # what is quoted may hold any of them, and ends of lines
    header = re.split(rb"[\r\n]", plain, maxsplit=1)[0]
    delimiter = next((mark for mark in ("\t", ",", ";") if mark.encode() in header), ",")
    has_comma = delimiter == ";" and re.search(rb"[;\r\n][+-]?\d+,\d+(?=[;\r\n]|$)", plain) is not None
    return delimiter, "," if has_comma else "."
