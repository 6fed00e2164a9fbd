"""Columns with one value per row, or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLLECTIONS: frozenset[type] = frozenset({list, tuple, set, frozenset, np.ndarray})
"""Kinds of rows that hold several values."""


def several_values(column: ArrayLike) -> NDArray[Any]:
    """Return a column of one or several values per row as an array with an entry, or a row of a matrix, for each.

    Parameters
    ----------
    column : array-like
        One value per row, a list or set of them per row, or a matrix.

    Returns
    -------
    ndarray
        Of lists or sets: objects of shape (n,), also where all are equally long; else as numpy has it.

    Examples
    --------
    >>> several_values([["city"], ["city", "day"], []])
    array([list(['city']), list(['city', 'day']), list([])], dtype=object)
    """
    try:
        array = np.asarray(column)
    except ValueError:  # of different lengths
        return np.fromiter(column, object)  # type: ignore[arg-type]
    if array.ndim > 1 and array.dtype != bool and not hasattr(column, "shape"):
        return np.fromiter(column, object)  # type: ignore[arg-type]
    return array


def has_several(column: NDArray[Any]) -> bool:
    """Say whether a column holds several values per row: a matrix, or lists or sets.

    Parameters
    ----------
    column : ndarray
        One entry per row.

    Returns
    -------
    bool
        True if any row is a list, tuple, set or array.

    Examples
    --------
    >>> has_several(np.array(["a", "b"])), has_several(np.array([{"a"}, {"a", "b"}]))
    (False, True)
    """
    return column.ndim != 1 or (column.dtype == object and not COLLECTIONS.isdisjoint(map(type, column)))
