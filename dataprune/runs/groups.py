"""The groups of a run's examples: the values of any column, or the slot types of a column of tags."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataprune.data.tagging import BIO_TAG
from dataprune.data.tasks import Task
from dataprune.selection.columns import several_values

if TYPE_CHECKING:
    import datasets


def groups_of(raw: datasets.Dataset, encoded: datasets.Dataset, column: str, *, task: Task) -> NDArray[Any]:
    """Return the group of each example, or its groups where a column holds several.

    Parameters
    ----------
    raw : datasets.Dataset
        The train split as it was read.
    encoded : datasets.Dataset
        The same rows, tokenised.
    column : str
        A column of `raw`. Of one that holds the task's tags, the groups are the types of the spans.
    task : Task
        Knows which columns hold tags.

    Returns
    -------
    ndarray
        Values or lists of them, shape (n,); of tags bool, shape (n, n_types).

    Examples
    --------
    >>> import datasets
    >>> from dataprune import ClassificationTask
    >>> rows = datasets.Dataset.from_dict({"text": ["hi", "ho"], "topics": [["a"], ["a", "b"]]})
    >>> groups_of(rows, rows, "topics", task=ClassificationTask())
    array([list(['a']), list(['a', 'b'])], dtype=object)
    """
    for head in task.token_heads:
        if task.column(task.heads[head]) == column:
            return slot_types(encoded[f"{head}_labels" if head else "labels"][:], task.labels_[head])
    return several_values(raw[column][:])


def slot_types(labels: Sequence[Sequence[int]], tags: Sequence[str]) -> NDArray[np.bool_]:
    """Return which types of slots each example has.

    Parameters
    ----------
    labels : sequence of sequence of int
        Ids of the tags of each example; those below 0 do not count.
    tags : sequence of str
        Their names.

    Returns
    -------
    ndarray of bool, shape (n, n_types)
        The types are sorted by name: ``B-city`` and ``I-city`` are one, and ``O`` is none. Where tags are not BIO, as
        parts of speech, each is a type of its own.

    Examples
    --------
    >>> slot_types([[-100, 2, 0, 1], [-100, 2, 2]], ["B-city", "I-city", "O"])
    array([[ True],
           [False]])
    """
    is_bio = all(BIO_TAG.fullmatch(tag) for tag in tags)
    type_of = {tag: tag[2:] if is_bio else tag for tag in tags if not (is_bio and tag == "O")}
    types = {name: number for number, name in enumerate(sorted({*type_of.values()}))}
    numbers = np.array([types[type_of[tag]] if tag in type_of else -1 for tag in tags], np.int64)
    rows = np.repeat(np.arange(len(labels)), [len(row) for row in labels])
    ids = np.fromiter(chain.from_iterable(labels), np.int64, len(rows))
    rows, found = rows[ids >= 0], numbers[ids[ids >= 0]]
    has_type = np.zeros((len(labels), len(types)), bool)
    has_type[rows[found >= 0], found[found >= 0]] = True
    return has_type
