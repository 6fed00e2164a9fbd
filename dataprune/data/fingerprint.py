"""Telling whether a data set is the one that a state was saved for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import datasets

N_HASHED_EXAMPLES = 64
"""Evenly spaced examples that are looked at."""


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Give the global random states of Python, NumPy and torch back as they were.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with untouched_random_state():
    ...     number = torch.rand(1)
    >>> bool((torch.get_rng_state() == before).all())
    True
    """
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the user's own state
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        torch.set_rng_state(state[2])


def content_hash(dataset: datasets.Dataset) -> str:
    """Hash every value of a data set: `fingerprint` would miss a few labels that were corrected.

    Parameters
    ----------
    dataset : datasets.Dataset
        Rows as they were read.

    Returns
    -------
    str
        Hexadecimal digest.

    Examples
    --------
    >>> from datasets import Dataset
    >>> content_hash(Dataset.from_dict({"n": [1, 2]})) == content_hash(Dataset.from_dict({"n": [1, 3]}))
    False
    """
    import pyarrow as pa

    digest = hashlib.sha256()
    for table in dataset.with_format("arrow").iter(batch_size=10_000):
        plain = table.replace_schema_metadata(None).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, plain.schema) as stream:
            stream.write_table(plain)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def fingerprint(dataset: Any) -> str:
    """Hash the size and some evenly spaced examples of a data set.

    Parameters
    ----------
    dataset : map-style data set
        Any data set with a length.

    Returns
    -------
    str
        Hexadecimal digest; of the size alone if the data set shows an example differently each time (augmentation).

    Examples
    --------
    >>> fingerprint(["a", "b"]) == fingerprint(["a", "b"]), fingerprint(["a", "b"]) == fingerprint(["a", "c"])
    (True, False)
    """
    rows = np.unique(np.linspace(0, max(0, len(dataset) - 1), num=min(len(dataset), N_HASHED_EXAMPLES), dtype=int))
    with untouched_random_state():
        first, second = (_digest(dataset, rows.tolist()) for _ in range(2))
    return first if first == second else _digest(dataset, [])


def _digest(dataset: Any, rows: list[int]) -> str:
    digest = hashlib.sha256(str(len(dataset)).encode())
    for row in rows:
        _feed(digest, dataset[row])
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    digest.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        # float() for bfloat16 and float8, which numpy does not know; to_dense() for sparse tensors.
        value = (value.to_dense().float() if value.is_floating_point() else value.to_dense()).numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        digest.update(value)
    elif isinstance(value, (str, int, float, bool, np.generic, type(None))):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in value:
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, Sequence):
        digest.update(str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    # Anything else (images, objects) counts by its type: its repr may hold an address.
