"""From a file, a folder, a saved data set or a hub name to `datasets.Dataset` objects, with errors that name the place.

Files are read by `json` and pyarrow rather than by `datasets.load_dataset`, which leaves a cache behind, prints
progress, and names neither file nor line when one of them is broken.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from dataprune.data.csv_files import csv_blocks, has_bytes, not_in_utf8, read_csv
from dataprune.data.image_files import read_arrays, read_image_folder
from dataprune.errors import DataError

FORMATS = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
"""Endings of the files that can be read."""

SPLIT_OF = {"train": "train", "valid": "valid", "validation": "valid", "dev": "valid", "test": "test"}
"""Name that a file or a saved split may have -> name of the split here."""

ARRAYS = ".npz"
"""Ending of files of arrays, which are images and labels."""

ROWS_PER_BLOCK, BYTES_PER_BLOCK = 20_000, 1 << 23
"""What is read of a file at a time where it is not read as a whole."""

Progress = Callable[[str, int, float | None], None]
"""Told now and then what is being done, how many rows of it are done, and which share that is, where it is known."""

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def read_splits(
    source: str | Path, *, read: Callable[[Path], datasets.Dataset] | None = None
) -> dict[str, tuple[str, datasets.Dataset]]:
    """Read all splits that a source has.

    Parameters
    ----------
    source : str or Path
        A file, a folder of files, a folder saved by `datasets`, or the name of a data set on the hub.
    read : callable, optional
        Reads one file of rows; by default `read_file`.

    Returns
    -------
    dict of str to tuple of (str, datasets.Dataset)
        ``train``, ``valid`` and ``test`` where they exist -> (the place that messages name, the rows).

    Raises
    ------
    DataError
        If the source is missing or cannot be read, has no train split, or names a split twice.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train", "dev"):
    ...         _ = Path(folder, f"{name}.jsonl").write_text('{"text": "hi", "label": 1}')
    ...     sorted(read_splits(folder))
    ['train', 'valid']
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ARRAYS:
        return {split: (f"{path} ({split})", rows) for split, rows in read_arrays(path, SPLIT_OF).items()}
    if path.is_file():
        return {"train": (str(path), (read or read_file)(path))}
    if path.is_dir():
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        return _read_saved(path) if saved else _read_folder(path, read or read_file)
    # "data/missing" beside an existing folder "data" is a mistyped path: do not ask the hub for it.
    is_path = isinstance(source, Path) or not HUB_NAME.fullmatch(source) or source.endswith(FORMATS)
    if is_path or (path.parent != Path() and path.parent.exists()):
        raise DataError(
            f"{source} does not exist. Pass a folder, a file, or the name of a data set on the Hugging Face hub."
        )
    return _read_hub(str(source))


def read_file(path: Path) -> datasets.Dataset:
    r"""Read one file into memory.

    Parameters
    ----------
    path : Path
        A file in one of `FORMATS`. JSON is one object a line, or in ``.json`` files one list of objects.

    Returns
    -------
    datasets.Dataset
        Its rows.

    Raises
    ------
    DataError
        If the ending is unknown or the content is broken; the message names the file and, if it can, the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("text,label\nhi,1\n")
    ...     read_file(file)[0]
    {'text': 'hi', 'label': 1}
    """
    if not path.name.endswith(FORMATS):
        raise DataError(f"{path} must end in one of {', '.join(FORMATS)}.")
    try:
        if path.suffix == ".csv":
            table = read_csv(path)
        elif path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
        else:
            table = _table_of(_read_json(path), path)
        twice = [name for name in table.column_names if table.column_names.count(name) > 1]
        if twice:
            raise DataError(f"{path} has more than one column {twice[0]!r}. Rename one.")
        return datasets.Dataset(table)
    except DataError:
        raise
    except UnicodeDecodeError:
        raise not_in_utf8(path) from None
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {_one_line(error)}.") from None


def map_file(path: Path, folder: Path, *, progress: Progress | None = None) -> datasets.Dataset:
    r"""Read one file block by block into Arrow files, and map these: memory does not grow with the file.

    Parameters
    ----------
    path : Path
        A file in one of `FORMATS`. A ``.json`` file is read as a whole, as is one whose columns change their type on
        the way.
    folder : Path
        Where the Arrow files go; about as large as the data, and needed as long as the rows are.
    progress : callable, optional
        Told after each block: what is done, how many rows so far, and the share of the file.

    Returns
    -------
    datasets.Dataset
        The rows that `read_file` returns.

    Raises
    ------
    DataError
        If the ending is unknown or the content is broken; the message names the file and, if it can, the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("text,label\nhi,1\n")
    ...     map_file(file, Path(folder))[0]
    {'text': 'hi', 'label': 1}
    """
    if not path.name.endswith(FORMATS) or path.suffix == ".json":
        return read_file(path)
    try:
        table = pa.concat_tables(_mapped(_blocks(path), folder, progress), promote_options="permissive")
        is_whole = len({*table.column_names}) == len(table.column_names) and table.num_rows > 0
    except DataError:
        raise
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, pa.ArrowException):
        return read_file(path)  # types that change on the way, or a broken file: it says where
    if not is_whole or (path.suffix == ".csv" and has_bytes(table)):
        return read_file(path)
    return datasets.Dataset(table)


def _mapped(blocks: Iterator[tuple[pa.Table, float]], folder: Path, progress: Progress | None) -> list[pa.Table]:
    """Write blocks to as few files as they have schemas in a row, and map these."""
    files: list[Path] = []
    writer: Any = None
    schema, n_rows = None, 0
    try:
        for block, share in blocks:
            if block.schema != schema:
                if writer is not None:
                    writer.close()
                files.append(folder / f"part-{len(files)}.arrow")
                schema = block.schema
                writer = pa.ipc.new_file(str(files[-1]), schema)
            writer.write_table(block)
            n_rows += block.num_rows
            if progress is not None:
                progress("Reading", n_rows, share)
    finally:
        if writer is not None:
            writer.close()
    return [pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files]


def _blocks(path: Path) -> Iterator[tuple[pa.Table, float]]:
    """Yield a file's rows in blocks, each with the share of the file that is read."""
    size = max(1, path.stat().st_size)
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            n_rows, done = max(1, file.metadata.num_rows), 0
            for batch in file.iter_batches(batch_size=ROWS_PER_BLOCK):
                done += batch.num_rows
                yield pa.Table.from_batches([batch]), done / n_rows
    elif path.suffix == ".csv":
        for number, batch in enumerate(csv_blocks(path, BYTES_PER_BLOCK), start=1):
            yield pa.Table.from_batches([batch]), min(1.0, number * BYTES_PER_BLOCK / size)
    else:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            lines = enumerate(io.TextIOWrapper(file, encoding="utf-8-sig"), start=1)
            while numbered := list(itertools.islice(lines, ROWS_PER_BLOCK)):
                rows = _json_rows([(f"Line {number}", line) for number, line in numbered if line.strip()], path)
                if rows:
                    yield _table_of(rows, path), raw.tell() / size


def _read_folder(folder: Path, read: Callable[[Path], datasets.Dataset]) -> dict[str, tuple[str, datasets.Dataset]]:
    """Read the files of a folder that are named after splits."""
    files = {}
    for file in sorted(folder.iterdir()):
        for ending in FORMATS:
            if file.name.endswith(ending) and file.name.removesuffix(ending) in SPLIT_OF:
                files[file.name] = file.name.removesuffix(ending)
    if not files and (images := _read_images(folder)):
        return images
    found = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    splits = _one_per_split(files, place=folder, found=found)
    return {split: (str(folder / name), read(folder / name)) for split, name in splits.items()}


def _read_images(folder: Path) -> dict[str, tuple[str, datasets.Dataset]]:
    """Read a folder of image folders, or of arrays, one per split; or one image folder, which becomes train."""
    files = {file.name: file.stem for file in sorted(folder.glob(f"*{ARRAYS}")) if file.stem in SPLIT_OF}
    if files:
        splits = _one_per_split(files, place=folder, found=sorted(files))
        return {s: (str(folder / name), read_arrays(folder / name, {})["train"]) for s, name in splits.items()}
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {name: rows for name in names if name in SPLIT_OF and (rows := read_image_folder(folder / name))}
    if found:
        splits = _one_per_split({name: name for name in found}, place=folder, found=names)
        return {split: (str(folder / name), found[name]) for split, name in splits.items()}
    rows = read_image_folder(folder)
    return {} if rows is None else {"train": (str(folder), rows)}


def _read_saved(folder: Path) -> dict[str, tuple[str, datasets.Dataset]]:
    """Read what ``save_to_disk`` wrote: a ``Dataset`` (which becomes train) or a ``DatasetDict``."""
    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder} cannot be loaded by datasets: {_one_line(error)}.") from None
    return _from_datasets(loaded, place=folder)


def _read_hub(name: str) -> dict[str, tuple[str, datasets.Dataset]]:
    """Load a data set from the hub, or from the hub's cache on this machine."""
    try:
        loaded = datasets.load_dataset(name)
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{name!r} is neither a file or folder here nor a data set that could be loaded from the Hugging Face "
            f"hub: {_one_line(error)}."
        ) from None
    return _from_datasets(loaded, place=name)


def _read_json(path: Path) -> list[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        lines = file.readlines()
    if path.suffix == ".json" and "".join(lines).lstrip().startswith("["):
        return _objects([(f"Item {i}", value) for i, value in enumerate(_parse_json("".join(lines), str(path)))], path)
    return _json_rows([(f"Line {n}", line) for n, line in enumerate(lines, start=1) if line.strip()], path)


def _json_rows(numbered: list[tuple[str, str]], path: Path) -> list[dict[str, Any]]:
    return _objects([(line, _parse_json(text, f"{line} of {path}")) for line, text in numbered], path)


def _objects(values: list[tuple[str, Any]], path: Path) -> list[dict[str, Any]]:
    for place, value in values:
        if not isinstance(value, dict):
            raise DataError(f"{place} of {path} must be a JSON object, got {json.dumps(value)[:60]}.")
    return [value for _, value in values]


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if "\n" not in text.rstrip() else f"line {error.lineno}"
        raise DataError(
            f"{place} is not valid JSON ({error.msg}, {where}). Write one object per line, such as "
            '{"text": "...", "label": "..."}.'
        ) from None


def _table_of(rows: list[dict[str, Any]], path: Path) -> pa.Table:
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except OverflowError:
            raise DataError(
                f"Column {name!r} of {path} must hold whole numbers of at most 64 bits. Write larger ones as texts."
            ) from None
        except (ValueError, pa.ArrowException) as error:
            raise DataError(f"Column {name!r} of {path} must hold values of one type: {_one_line(error)}.") from None
    return pa.table(columns)


def _from_datasets(loaded: Any, *, place: str | Path) -> dict[str, tuple[str, datasets.Dataset]]:
    loaded = loaded.with_format(None)  # a format that was saved may hide columns, or make tensors of numbers
    if isinstance(loaded, datasets.Dataset):
        return {"train": (str(place), loaded)}
    splits = _one_per_split({name: name for name in loaded}, place=place, found=sorted(loaded))
    return {split: (f"{place} (split {name})", loaded[name]) for split, name in splits.items()}


def _one_per_split(names: dict[str, str], *, place: str | Path, found: list[str]) -> dict[str, str]:
    """Turn file or split name -> word for it into split -> file or split name."""
    splits: dict[str, str] = {}
    for name, word in names.items():
        if word not in SPLIT_OF:
            continue
        other = splits.setdefault(SPLIT_OF[word], name)
        if other != name:
            raise DataError(f"{place} has both {other!r} and {name!r} as {SPLIT_OF[word]} split. Remove one.")
    if "train" not in splits:
        raise DataError(
            f"{place} must hold a train split, found {', '.join(found) or 'nothing'}. Files are called train, "
            f"valid (or validation, dev) and test, and end in {', '.join(FORMATS)}; images are in subfolders, one per "
            "class."
        )
    return {split: splits[split] for split in ("train", "valid", "test") if split in splits}


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(". ")
