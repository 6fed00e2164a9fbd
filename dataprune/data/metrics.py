"""What a task measures on a held-out split: the published metrics, from class ids and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.losses import IGNORED_LABEL
from dataprune.errors import InvalidValueError


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


def measure_classes(signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Accuracy and macro F1 of single labels, batch by batch.

    Parameters
    ----------
    signals : iterable of mapping
        ``logits`` (B, C) and ``labels`` (B,) of each batch.

    Returns
    -------
    dict of str to float
        What `classification_metrics` returns.

    Examples
    --------
    >>> import torch
    >>> measure_classes([{"logits": torch.tensor([[1.0, 0.0]]), "labels": torch.tensor([0])}])
    {'accuracy': 1.0, 'macro_f1': 1.0}
    """
    predicted, gold = [], []
    for batch in signals:
        logits, labels = read_signals(batch, "logits", "labels")
        counted = labels != IGNORED_LABEL
        predicted.append(to_numpy(logits.argmax(-1)[counted]))
        gold.append(to_numpy(labels[counted]))
    return classification_metrics(join(predicted), join(gold))


def multi_label_metrics(predicted: NDArray[np.bool_], gold: NDArray[np.bool_]) -> dict[str, float]:
    """F1 and exact matches of several labels at once.

    Parameters
    ----------
    predicted : ndarray of bool, shape (n_examples, n_classes)
        Predicted labels.
    gold : ndarray of bool, shape (n_examples, n_classes)
        True labels.

    Returns
    -------
    dict of str to float
        ``micro_f1``, ``macro_f1`` (over the classes) and ``exact_match``, in [0, 1].

    Examples
    --------
    >>> multi_label_metrics(np.array([[True, False], [True, True]]), np.array([[True, False], [False, True]]))
    {'micro_f1': 0.8, 'macro_f1': 0.833..., 'exact_match': 0.5}
    """
    from sklearn.metrics import f1_score

    return {
        "micro_f1": float(f1_score(gold, predicted, average="micro", zero_division=0)),
        "macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0)),
        "exact_match": float((predicted == gold).all(1).mean()),
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


def read_signals(batch: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    """Return the named signals of a batch.

    Parameters
    ----------
    batch : mapping of str to Tensor
        What a forward function returned.
    *names : str
        The signals.

    Returns
    -------
    list of Tensor
        The signals in the order of `names`.

    Raises
    ------
    InvalidValueError
        If one is missing.

    Examples
    --------
    >>> read_signals({"logits": Tensor([[0.0, 1.0]])}, "logits")
    [tensor([[0., 1.]])]
    """
    missing = [name for name in names if name not in batch]
    if missing:
        raise InvalidValueError(
            f"The task's metrics need the signals {', '.join(map(repr, names))}, got only "
            f"{', '.join(map(repr, batch))}. Return them from forward."
        )
    return [batch[name] for name in names]


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return `tensor` as an array in main memory.

    Parameters
    ----------
    tensor : Tensor
        Of any device.

    Returns
    -------
    ndarray
        Of the same shape and type.

    Examples
    --------
    >>> to_numpy(Tensor([1.0]))
    array([1.], dtype=float32)
    """
    return tensor.detach().cpu().numpy()


def join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate what was kept of each batch.

    Parameters
    ----------
    parts : list of ndarray
        One array per batch.

    Returns
    -------
    ndarray
        Their values, one after the other.

    Raises
    ------
    InvalidValueError
        If there is nothing to measure.

    Examples
    --------
    >>> join([np.array([1, 2]), np.array([3])])
    array([1, 2, 3])
    """
    if not parts:
        raise InvalidValueError("The task's metrics need at least one batch, got none. Pass a split with rows.")
    return np.concatenate(parts)
