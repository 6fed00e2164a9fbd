"""What a task measures on a held-out split: the published metrics, from class ids and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def classification_metrics(predicted: NDArray[np.int64], gold: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and macro F1 of single labels.

    Parameters
    ----------
    predicted : ndarray of int64, shape (n_examples,)
        Predicted classes.
    gold : ndarray of int64, shape (n_examples,)
        True classes; an id that no model predicts (a label that the train set lacks) is an error, and a class
        of its own with F1 = 0.

    Returns
    -------
    dict of str to float
        ``accuracy`` and ``macro_f1``, in [0, 1]; the macro mean runs over the classes in either array.

    Examples
    --------
    >>> classification_metrics(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]))
    {'accuracy': 0.75, 'macro_f1': 0.733...}
    """
    from sklearn.metrics import f1_score

    return {
        "accuracy": float((predicted == gold).mean()),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
    }


def span_f1(predicted: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> float:
    """Micro-averaged F1 of spans: a span counts if its type and both of its ends are right.

    Parameters
    ----------
    predicted : sequence of sequence of str
        BIO tags of each example.
    gold : sequence of sequence of str
        True BIO tags, as many per example.

    Returns
    -------
    float
        In [0, 1]; 0 if neither side has a span.

    Notes
    -----
    seqeval in its default (conlleval) mode: an ``I-x`` that follows no ``x`` starts a span.

    Examples
    --------
    >>> span_f1([["B-city", "I-city", "O"], ["B-day"]], [["B-city", "O", "O"], ["B-day"]])
    0.5
    """
    from seqeval.metrics import f1_score

    return float(f1_score([list(row) for row in gold], [list(row) for row in predicted], zero_division=0))


def split_rows(flat: NDArray[Any], lengths: NDArray[np.int64]) -> list[list[Any]]:
    """Cut a flat array into rows.

    Parameters
    ----------
    flat : ndarray, shape (sum of lengths,)
        Values of all rows, one after the other.
    lengths : ndarray of int64, shape (n_rows,)
        Values in each row.

    Returns
    -------
    list of list
        The rows.

    Examples
    --------
    >>> split_rows(np.array(["a", "b", "c"]), np.array([2, 0, 1]))
    [['a', 'b'], [], ['c']]
    """
    values, ends = flat.tolist(), np.cumsum(lengths).tolist()
    return [values[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
