"""Load a data set for training: find its splits and columns, check the rows, cut a valid split if there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataprune.data.reading import read_splits
from dataprune.data.roles import LIST_ROLES, check_column, find_columns, is_list
from dataprune.errors import DataError, InvalidValueError, check_count, check_fraction


@dataclass(frozen=True)
class LoadedData:
    """What `load_data` found.

    Parameters
    ----------
    splits : datasets.DatasetDict
        ``train``, ``valid`` and, where the source has one, ``test``. Each split has a column ``source_row``
        (int64): the row's number in the file it came from, counted from 0.
    columns : dict of str to str
        Role (``text``, ``label``, ``tokens``, ``intent``, ``slots``) -> column; roles without a column are left out.
    notes : list of str
        Sentences that say what was done beyond reading.

    Examples
    --------
    >>> from datasets import Dataset, DatasetDict
    >>> LoadedData(DatasetDict(train=Dataset.from_dict({"utt": ["hi"]})), {"text": "utt"}, []).columns["text"]
    'utt'
    """

    splits: datasets.DatasetDict
    columns: dict[str, str]
    notes: list[str]


def load_data(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    valid_fraction: float = 0.1,
    random_state: int = 0,
) -> LoadedData:
    r"""Load a data set from files, a folder or the hub.

    Files are read into memory; folders saved by `datasets` are mapped from disk. Nothing is cached beside them.

    Parameters
    ----------
    source : str or Path
        One of: a folder with ``train``, ``valid`` (or ``validation``, ``dev``) and ``test`` files that end in
        ``.jsonl``, ``.jsonl.gz``, ``.json``, ``.csv`` or ``.parquet``; a single such file, which becomes train; a
        folder written by ``save_to_disk``; the name of a data set on the Hugging Face hub. Of images: a folder with one
        subfolder per class, below ``train``, ``valid`` and ``test`` where there are any; or ``.npz`` files of arrays.
    columns : mapping of str to str, optional
        Role -> column, for roles that are not recognised by a common name, such as ``{"text": "review"}``.
    valid_fraction : float, default=0.1
        Share of the train rows, in (0, 1), that becomes the valid split where the source has none.
    random_state : int, default=0
        Seed of that cut.

    Returns
    -------
    LoadedData
        The splits, the columns' roles, and notes on what was done.

    Raises
    ------
    DataError
        If the source is missing or broken, has no train split, a split is empty or lacks a column, a row lacks a
        value or has not as many tags as tokens, or train has one class only; the message names the file and the row.
    InvalidValueError
        If `columns` has an unknown role, or `valid_fraction` or `random_state` is out of range.
    InvalidTypeError
        If `valid_fraction` or `random_state` is no number.

    Notes
    -----
    A column ``tokens`` or ``slots`` of plain texts, as in CSV files, is split at white space. Data without ``label``
    and ``slots`` but with ``intent`` have their label there. The cut is stratified by intent or label unless that is
    a decimal number: each class gives its share, rounded so that the total is exact, and a class with one row stays
    in train.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lines = [f'{{"utterance": "row {row}", "label": "{"ab"[row % 2]}"}}' for row in range(20)]
    ...     _ = Path(folder, "train.jsonl").write_text("\n".join(lines))
    ...     data = load_data(folder)
    >>> data.columns, data.splits.num_rows
    ({'label': 'label', 'text': 'utterance'}, {'train': 18, 'valid': 2})
    """
    if check_fraction("load_data", "valid_fraction", valid_fraction) == 1:
        raise InvalidValueError("load_data.valid_fraction must be in (0, 1), got 1. Leave some rows for train.")
    check_count("load_data", "random_state", random_state)
    read = read_splits(source)
    for split, (place, dataset) in read.items():
        if len(dataset) == 0:
            raise DataError(f"The {split} split must have rows, got none in {place}.")
    roles = find_columns(read["train"][1], columns, place=read["train"][0])
    notes = []
    splits = {}
    for split, (place, dataset) in read.items():
        splits[split] = _prepare(dataset, roles, place=place)
        if "source_row" in dataset.column_names:
            notes.append(f"Column 'source_row' of {place} was replaced by the row numbers there.")
    target = roles.get("intent" if "slots" in roles else "label")
    if target is not None:
        classes = pc.unique(_column(splits["train"], target))
        if len(classes) < 2:
            raise DataError(
                f"Column {target!r} of {read['train'][0]} must have at least 2 classes, "
                f"got only {classes[0].as_py()!r}. There is nothing to learn."
            )
    if "valid" not in splits:
        splits, note = _cut_valid(splits, target, valid_fraction, random_state)
        notes.append(f"No valid split in {source}: {note}")
    ordered = {split: splits[split] for split in ("train", "valid", "test") if split in splits}
    return LoadedData(datasets.DatasetDict(ordered), roles, notes)


def load_split(
    source: str | Path, *, split: str = "train", columns: Mapping[str, str] | None = None
) -> tuple[datasets.Dataset, dict[str, str]]:
    r"""Load one split whole: nothing of it is set aside.

    Parameters
    ----------
    source : str or Path
        As in `load_data`.
    split : str, default="train"
        ``train``, ``valid`` or ``test``.
    columns : mapping of str to str, optional
        Role -> column, for roles that are not recognised by a common name.

    Returns
    -------
    dataset : datasets.Dataset
        All rows in their order, with ``source_row``.
    roles : dict of str to str
        Role -> column.

    Raises
    ------
    DataError
        If the source is missing or broken, lacks the split or a column, or a row lacks a value.
    InvalidValueError
        If `columns` has an unknown role.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "train.csv").write_text("utt,intent\nhi,greet\n")
    ...     load_split(folder)[1]
    {'text': 'utt', 'label': 'intent'}
    """
    read = read_splits(source)
    if split not in read:
        raise DataError(f"{source} has no {split} split, but {', '.join(read)}.")
    place, dataset = read[split]
    if len(dataset) == 0:
        raise DataError(f"The {split} split must have rows, got none in {place}.")
    roles = find_columns(dataset, columns, place=place)
    return _prepare(dataset, roles, place=place), roles


def stratified_cut(
    n_examples: int, n_cut: int, classes: NDArray[np.int64] | None, *, random_state: int
) -> NDArray[np.int64]:
    """Draw the rows to set aside, of each class its share.

    Parameters
    ----------
    n_examples : int
        Rows to draw from.
    n_cut : int
        Rows to draw, in [0, n_examples].
    classes : ndarray of int64, shape (n_examples,), or None
        Class of each row; None draws uniformly. A class's last row is drawn only if there is no other way.
    random_state : int
        Seed.

    Returns
    -------
    ndarray of int64, shape (n_cut,)
        Sorted rows.

    Examples
    --------
    >>> classes = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    >>> classes[stratified_cut(9, 2, classes, random_state=0)].tolist()
    [0, 1]
    """
    order = np.random.default_rng(random_state).permutation(n_examples)
    if classes is not None:
        # In shuffled order, row r of a class with n rows stands at (r + 1/2) / n: the rows below any level are that
        # share of each class. A class's last row stands behind all others.
        by_class = order[np.argsort(classes[order], kind="stable")]
        _, starts, counts = np.unique(classes[by_class], return_index=True, return_counts=True)
        rank, size = np.arange(n_examples) - np.repeat(starts, counts), np.repeat(counts, counts)
        level = np.empty(n_examples)
        level[by_class] = np.where(rank == size - 1, np.inf, (rank + 0.5) / size)
        order = order[np.argsort(level[order], kind="stable")]
    return np.sort(order[:n_cut])


def _cut_valid(
    splits: dict[str, datasets.Dataset], target: str | None, valid_fraction: float, random_state: int
) -> tuple[dict[str, datasets.Dataset], str]:
    train = splits["train"]
    n_examples = len(train)
    if n_examples < 2:
        raise DataError("The train split must have at least 2 rows to set a valid split aside, got 1.")
    n_valid = min(max(1, int(valid_fraction * n_examples + 0.5)), n_examples - 1)
    classes, how = None, "at random"
    if target is not None and not pa.types.is_floating(_column(train, target).type):
        classes = _column(train, target).combine_chunks().dictionary_encode().indices.to_numpy()
        how = f"stratified by {target!r}"
    valid = stratified_cut(n_examples, n_valid, classes, random_state=random_state)
    rest = np.setdiff1d(np.arange(n_examples), valid)
    note = f"{n_valid:,} of {n_examples:,} train rows were set aside (seed {random_state}, {how})."
    return {**splits, "train": train.select(rest), "valid": train.select(valid)}, note


def _prepare(dataset: datasets.Dataset, roles: Mapping[str, str], *, place: str) -> datasets.Dataset:
    """Check the rows, split texts into lists where lists are due, number the rows."""
    for role, column in roles.items():
        check_column(dataset, role, column, place=place)
        values = _column(dataset, column)
        if values.null_count:
            row = pc.index(values.is_null(), True).as_py()
            raise DataError(f"Row {row} of {place} has no {column!r}. Rows are counted from 0; fill or drop it.")
        if role in LIST_ROLES and not is_list(values.type):
            words = [text.split() for text in values.to_pylist()]
            dataset = dataset.remove_columns(column).add_column(column, words)
    if "tokens" in roles and "slots" in roles:
        n_tokens, n_tags = (pc.list_value_length(_column(dataset, roles[role])).to_numpy() for role in LIST_ROLES)
        differing = np.flatnonzero(n_tokens != n_tags)
        if len(differing):
            row = differing[0]
            raise DataError(
                f"Row {row} of {place} must have one tag per token, got {n_tokens[row]} in {roles['tokens']!r} and "
                f"{n_tags[row]} in {roles['slots']!r}. Rows are counted from 0; correct or drop it."
            )
    if "source_row" in dataset.column_names:
        dataset = dataset.remove_columns("source_row")
    return dataset.add_column("source_row", np.arange(len(dataset), dtype=np.int64))


def _column(dataset: datasets.Dataset, column: str) -> pa.ChunkedArray:
    return dataset.select_columns([column]).with_format("arrow")[:].column(column)
