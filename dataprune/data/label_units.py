"""All labels of a data set, one by one: of a sentence, of an intent, of a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataprune.data.forward import IGNORED_LABEL
from dataprune.data.text_task import TextTask

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, eq=False)
class LabelUnits:
    """The labels of one column.

    Parameters
    ----------
    column : str
        Column of the data that holds them.
    names : list of str
        Names of the classes; a class's id is its position.
    labels : ndarray of int64, shape (n_labels,)
        Class ids, in the order of the rows and of the words.
    rows : ndarray of int64, shape (n_labels,)
        Row of each.
    words : ndarray of int64, shape (n_labels,), or None
        Word of the row that each is of; None where a row has one label.

    Examples
    --------
    >>> units = LabelUnits("slots", ["B-city", "O"], np.array([1, 0, 1]), np.array([0, 0, 2]), np.array([0, 1, 0]))
    >>> units.first_of_row(3)
    array([0, 2, 2])
    """

    column: str
    names: list[str]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    words: NDArray[np.int64] | None = None

    def first_of_row(self, n_rows: int) -> NDArray[np.int64]:
        """Return where the labels of each row begin.

        Parameters
        ----------
        n_rows : int
            Rows of the data set.

        Returns
        -------
        ndarray of int64, shape (n_rows,)
            Positions in `labels`.
        """
        return np.searchsorted(self.rows, np.arange(n_rows)).astype(np.int64)


def signal_prefix(head: str) -> str:
    """Return what stands before ``logits`` and ``labels`` in the names of a head's signals and encoded columns.

    Parameters
    ----------
    head : str
        A key of `TextTask.heads`.

    Returns
    -------
    str
        Such as ``"slot_"``; empty for the only head of a task.

    Examples
    --------
    >>> signal_prefix("slot"), signal_prefix("")
    ('slot_', '')
    """
    return f"{head}_" if head else ""


def label_units(
    task: TextTask, dataset: datasets.Dataset, encoded: datasets.Dataset, tokenizer: Any
) -> dict[str, LabelUnits]:
    """List the labels that a model sees.

    Parameters
    ----------
    task : TextTask
        Fitted on `dataset`.
    dataset : datasets.Dataset
        The rows.
    encoded : datasets.Dataset
        The same rows from `TextTask.encode`.
    tokenizer : PreTrainedTokenizerFast
        The one that encoded them.

    Returns
    -------
    dict of str to LabelUnits
        Head -> labels. Words that were cut off are not among them.
    """
    found = {}
    for head, role in task.heads.items():
        values = encoded[f"{signal_prefix(head)}labels"][:]
        column, names = task.column(role), task.labels_[head]
        if head not in task.token_heads:
            found[head] = LabelUnits(column, names, np.asarray(values, np.int64), np.arange(len(values)))
            continue
        kept = [[label for label in row if label != IGNORED_LABEL] for row in values]
        words: list[Sequence[int]] = []
        for row, (labels, tokens) in enumerate(zip(kept, dataset[task.column("tokens")][:], strict=True)):
            words.append(range(len(tokens)))
            if len(labels) < len(tokens):  # cut, or without sub-words: the tokenizer knows which
                encoding: Any = tokenizer(
                    tokens, is_split_into_words=True, truncation=True, max_length=task.length_limit(tokenizer)
                )
                words[row] = sorted({*encoding.word_ids()} - {None})
        sizes = [len(labels) for labels in kept]
        found[head] = LabelUnits(
            column,
            names,
            np.asarray([label for labels in kept for label in labels], np.int64),
            np.repeat(np.arange(len(kept)), sizes),
            np.asarray([word for row in words for word in row], np.int64),
        )
    return found
