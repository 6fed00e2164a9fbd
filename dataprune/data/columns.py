"""What may stand in a data set's columns: texts, lists of tokens, and labels, one per row or one per token.

Labels are texts, whole numbers, or the ids of a `datasets.ClassLabel`; each becomes a class name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from dataprune.errors import DataError

if TYPE_CHECKING:
    import datasets

NARROW = {"attention_mask": "int8", "token_type_ids": "int8", "source_row": "int64"}
"""Column -> dtype where it is not int32."""


def read_column(dataset: Any, column: str | None) -> list[Any]:
    """Return one column of a data set of any common kind, as a list.

    Parameters
    ----------
    dataset : datasets.Dataset, DataFrame, or map-style data set of mappings
        Rows.
    column : str or None
        The column; None means the rows themselves.

    Returns
    -------
    list
        One value per row.

    Raises
    ------
    DataError
        If there is no such column.

    Examples
    --------
    >>> read_column([{"text": "a"}, {"text": "b"}], "text")
    ['a', 'b']
    """
    if column is None:
        return [dataset[row] for row in range(len(dataset))]
    names = getattr(dataset, "column_names", getattr(dataset, "columns", None))
    if names is not None:  # datasets or pandas
        if column not in names:
            raise DataError(f"There is no column {column!r}, only {', '.join(map(repr, names))}.")
        if hasattr(dataset, "with_format"):  # datasets: plain values whatever the format, and a hundred times faster
            return list(dataset.with_format(None)[column][:])
        return list(dataset[column])
    values = []
    for row in range(len(dataset)):
        example = dataset[row]
        if not isinstance(example, Mapping):
            raise DataError(
                f"Column {column!r} needs rows that are mappings, got {type(example).__name__} in row {row}."
            )
        if column not in example:
            raise DataError(f"There is no column {column!r} in row {row}, only {', '.join(map(repr, example))}.")
        values.append(example[column])
    return values


def class_name(value: object, feature: Any, *, column: str, row: int) -> str:
    """Return the name of one label.

    Parameters
    ----------
    value : object
        A text, a whole number, or a class id if `feature` names the classes.
    feature : datasets.Value or datasets.ClassLabel
        Type of the column's values.
    column : str
        Column that the message names.
    row : int
        Row that the message names.

    Returns
    -------
    str
        The name.

    Raises
    ------
    DataError
        If the label is missing, empty, or of another kind.

    Examples
    --------
    >>> class_name(3, None, column="label", row=0)
    '3'
    """
    names = getattr(feature, "names", None)
    if names is not None:
        if isinstance(value, int) and 0 <= value < len(names):
            return str(names[value])
    elif isinstance(value, int) or (isinstance(value, str) and value):
        return str(value)
    raise DataError(
        f"Column {column!r} must hold texts, whole numbers or class ids, got {value!r} in row {row}. "
        "Correct or drop that row."
    )


def check_number(value: object, *, column: str, row: int) -> float:
    """Return a target of regression.

    Parameters
    ----------
    value : object
        A finite number.
    column : str
        Column that the message names.
    row : int
        Row that the message names.

    Returns
    -------
    float
        The number.

    Raises
    ------
    DataError
        If it is something else.

    Examples
    --------
    >>> check_number(3, column="score", row=0)
    3.0
    """
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    raise DataError(
        f"Column {column!r} must hold finite numbers, got {value!r} in row {row}. Correct or drop that row."
    )


def tag_names(
    values: Sequence[Any], feature: Any, *, column: str, row_names: Sequence[int], tokens: Sequence[Sequence[str]]
) -> list[list[str]]:
    """Return the names of a column with one label per token.

    Parameters
    ----------
    values : sequence of list
        The labels of each row.
    feature : datasets.List
        Type of the column.
    column : str
        Column that messages name.
    row_names : sequence of int
        Row numbers that messages name.
    tokens : sequence of list of str
        The tokens of each row.

    Returns
    -------
    list of list of str
        The names.

    Raises
    ------
    DataError
        If a row has not as many labels as tokens, or a label has no name; the message names the row.

    Examples
    --------
    >>> tag_names([["O", "B-city"]], None, column="slots", row_names=[0], tokens=[["to", "Rome"]])
    [['O', 'B-city']]
    """
    inner = getattr(feature, "feature", feature)  # of a list: the type of its members
    names = []
    for tags, words, row in zip(values, tokens, row_names, strict=True):
        if not isinstance(tags, list):
            raise DataError(f"Column {column!r} must hold a list of tags, got {tags!r} in row {row}. Split it.")
        if len(tags) != len(words):
            raise DataError(
                f"Column {column!r} must hold one tag per token, got {len(tags)} tags for {len(words)} tokens in "
                f"row {row}. Correct or drop that row."
            )
        names.append([class_name(tag, inner, column=column, row=row) for tag in tags])
    return names


def sorted_classes(names: Iterable[str], feature: Any) -> list[str]:
    """Return the distinct names in an order that depends on nothing but the names.

    Parameters
    ----------
    names : iterable of str
        Names, repeated at will.
    feature : datasets feature
        Type of the column: classes that it names keep its order, whole numbers are sorted as numbers.

    Returns
    -------
    list of str
        Sorted distinct names.

    Examples
    --------
    >>> from datasets import Value
    >>> sorted_classes(["10", "9", "10"], Value("int64")), sorted_classes(["10", "9"], Value("string"))
    (['9', '10'], ['10', '9'])
    """
    inner = getattr(feature, "feature", feature)
    known = getattr(inner, "names", None)
    if known is not None:
        return sorted(set(names), key=known.index)
    if "int" in str(getattr(inner, "dtype", "")):
        return sorted(set(names), key=int)
    return sorted(set(names))


def flatten(names: Iterable[str | list[str]]) -> list[str]:
    """Return the names of all rows as one list.

    Parameters
    ----------
    names : iterable of str or of list of str
        What `class_names` returns.

    Returns
    -------
    list of str
        The names in order.

    Examples
    --------
    >>> flatten([["O", "B-city"], ["O"]]), flatten(["flight"])
    (['O', 'B-city', 'O'], ['flight'])
    """
    return [name for row in names for name in ([row] if isinstance(row, str) else row)]


def check_inputs(values: Sequence[Any], *, column: str, row_names: Sequence[int], split: bool) -> None:
    """Raise unless each value is a text, or with `split` a list of at least one text.

    Parameters
    ----------
    values : sequence
        One per row.
    column : str
        Column that the message names.
    row_names : sequence of int
        Row numbers that the message names.
    split : bool
        Whether the texts come as lists of tokens.

    Raises
    ------
    DataError
        If a value is of another kind; the message names the row.

    Examples
    --------
    >>> check_inputs([["to", "Boston"]], column="tokens", row_names=[0], split=True)
    """
    for value, row in zip(values, row_names, strict=True):
        if split:
            good = isinstance(value, list) and value and all(isinstance(token, str) for token in value)
        else:
            good = isinstance(value, str)
        if not good:
            rule = "a list of at least one text" if split else "a text"
            raise DataError(
                f"Column {column!r} must hold {rule}, got {value!r} in row {row}. Correct or drop that row."
            )


def encoded_features(columns: Mapping[str, list[Any]]) -> datasets.Features:
    """Return small integer types for encoded columns.

    Parameters
    ----------
    columns : mapping of str to list or ndarray
        Encoded columns: numbers, or lists of numbers; an array has one row per row.

    Returns
    -------
    datasets.Features
        One type per column.

    Examples
    --------
    >>> encoded_features({"length": [2], "input_ids": [[4, 5]]})
    {'length': Value('int32'), 'input_ids': List(Value('int32'))}
    """
    from datasets import Features, List, Value

    types = {}
    for column, values in columns.items():
        if hasattr(values, "dtype"):  # an array (n, width)
            types[column] = List(Value(str(values.dtype)))
            continue
        first = next((value for value in values if value != []), 0)
        is_float = isinstance(first[0] if isinstance(first, list) else first, float)
        kind = Value("float32" if is_float else NARROW.get(column, "int32"))
        types[column] = List(kind) if isinstance(values[0], list) else kind
    return Features(types)
