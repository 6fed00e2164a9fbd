"""Batches of examples of like length: less padding, the same examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCHES_PER_POOL = 50
"""Batches that are shuffled together before sorting by length: as in Hugging Face's `LengthGroupedSampler`."""


def example_lengths(dataset: Any) -> NDArray[np.int64] | None:
    """Return the length of each example in tokens where the data set knows it.

    Parameters
    ----------
    dataset : datasets.Dataset or any
        Only `datasets.Dataset` objects with a column ``length`` or ``input_ids`` know their lengths.

    Returns
    -------
    ndarray of int64, shape (n_examples,), or None
        Lengths in tokens; None where they are unknown.

    Examples
    --------
    >>> from datasets import Dataset
    >>> example_lengths(Dataset.from_dict({"input_ids": [[1, 2, 3], [4]]}))
    array([3, 1])
    """
    columns = getattr(dataset, "column_names", None)
    if not isinstance(columns, list):
        return None
    if "length" in columns and "int" in str(getattr(dataset.features["length"], "dtype", "")):
        lengths = dataset.select_columns(["length"]).with_format("arrow")[:].column(0)
        if lengths.null_count == 0:
            return np.asarray(lengths, dtype=np.int64)
    if "input_ids" in columns:
        import pyarrow.compute as pc

        lists = dataset.select_columns(["input_ids"]).with_format("arrow")[:].column(0)  # not copied row by row
        return np.asarray(pc.list_value_length(lists), dtype=np.int64)
    return None


def length_sorted_batches(
    indices: NDArray[np.int64], lengths: NDArray[np.int64] | None, batch_size: int
) -> Iterator[NDArray[np.int64]]:
    """Cut `indices` into batches, the longest examples first, so that each batch pads little.

    The order suits scoring, where it does not matter; a batch that does not fit into memory fails at once.

    Parameters
    ----------
    indices : ndarray of int64, shape (n,)
        Examples to visit.
    lengths : ndarray of int64, shape (n_examples,), or None
        Length of each example of the data set; None keeps the order.
    batch_size : int
        Examples in a batch.

    Yields
    ------
    ndarray of int64, shape (batch_size,) or less for the last
        Indices of one batch.

    Examples
    --------
    >>> [batch.tolist() for batch in length_sorted_batches(np.arange(3), np.array([5, 9, 7]), 2)]
    [[1, 2], [0]]
    """
    if lengths is not None:
        indices = indices[np.argsort(-lengths[indices], kind="stable")]
    for start in range(0, len(indices), batch_size):
        yield indices[start : start + batch_size]


def shuffled_order(
    indices: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    lengths: NDArray[np.int64] | None = None,
    batch_size: int = 1,
) -> NDArray[np.int64]:
    """Shuffle `indices`; with lengths, so that consecutive runs of `batch_size` have like lengths.

    Parameters
    ----------
    indices : ndarray of int64, shape (n,)
        Examples of the epoch.
    rng : numpy.random.Generator
        Source of the order.
    lengths : ndarray of int64, shape (n_examples,), or None, default=None
        Length of each example of the data set.
    batch_size : int, default=1
        Examples in a batch; used only with `lengths`.

    Returns
    -------
    ndarray of int64, shape (n,)
        The indices in the order of the epoch; a last batch that is not full stays last.

    Examples
    --------
    >>> lengths = np.array([1, 9, 1, 9])
    >>> order = shuffled_order(np.arange(4), np.random.default_rng(0), lengths=lengths, batch_size=2)
    >>> sorted(lengths[order[:2]].tolist()) in ([1, 1], [9, 9])
    True
    """
    order = rng.permutation(indices)
    if lengths is None:
        return order
    n_full = len(order) // batch_size
    # The rest is cut off before sorting: it would else hold the shortest of each epoch, and drop_last drops it.
    full, rest = order[: n_full * batch_size], order[n_full * batch_size :]
    pool = BATCHES_PER_POOL * batch_size
    for start in range(0, len(full), pool):
        part = full[start : start + pool]
        full[start : start + pool] = part[np.argsort(-lengths[part], kind="stable")]
    return np.concatenate([rng.permutation(full.reshape(n_full, batch_size), axis=0).reshape(-1), rest])
