"""Scores as pure functions of one batch: (B, ...) in, (B,) float32 out; higher = harder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from dataprune.data.losses import CHUNK_ELEMENTS, residuals, row_chunks
from dataprune.errors import InvalidTypeError, InvalidValueError, check_choice

REDUCTIONS = ("norm", "sum", "mean")
"""How `joint_el2n` combines the errors of one example's heads and tokens."""

_LENGTH: Callable[[Tensor], Tensor] = partial(torch.linalg.vector_norm, dim=-1)


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """L2 norm of the error vector ``softmax(logits) - onehot(label)``.

    Parameters
    ----------
    logits : Tensor
        Shape (..., C), any floating dtype; computed in float32.
    labels : Tensor
        Shape (...), integer classes; a negative label does not count.

    Returns
    -------
    Tensor
        Shape (...), float32, in [0, sqrt(2)]; 0 where the label is negative.

    Raises
    ------
    InvalidTypeError
        If the labels are no integers.
    InvalidValueError
        If the shapes do not belong together.

    Notes
    -----
    The textbook form ``sum(p**2) - 2 * p_y + 1`` cancels: it returns 0 for most examples that are nearly learned. Here
    the label's probability is left out instead: with ``r = sum_{c != y} p_c = 1 - p_y``, EL2N is
    ``hypot(r, norm(p_{c != y}))``, right to 1e-5 relative down to 1e-18. O(B C) time. Rows are worked on in chunks, so
    the memory beside the result is 2 MB (or one row), however large the logits are. With two classes EL2N is
    ``sqrt(2) * (1 - p_y)`` and ranks as the loss does.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, *Deep Learning on a Data Diet*, arXiv 2107.07075.

    Examples
    --------
    >>> el2n(torch.tensor([[0.0, 0.0], [20.0, 0.0]]), torch.tensor([0, 1]))
    tensor([0.7071, 1.4142])
    """
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise InvalidTypeError(
            f"el2n() needs integer class ids as labels, got {labels.dtype}. "
            "Use MultiLabelEL2N for several classes at once, RegressionError for numbers."
        )
    if labels.shape != logits.shape[:-1]:
        raise InvalidValueError(
            f"el2n() needs labels of the logits' shape without the classes, {tuple(logits.shape[:-1])}, "
            f"got {tuple(labels.shape)}."
        )
    classes = labels.clamp_min(0).long().unsqueeze(-1)  # (..., 1)
    rest, length = _of_others(_LENGTH, logits, without=classes)
    return rest.hypot_(length).masked_fill_(labels < 0, 0.0)


def _of_others(
    measure: Callable[[Tensor], Tensor], logits: Tensor, *, without: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return sums (...) and `measure` (...) of others (..., C): softmax(logits), one class of each row set to 0.

    That is the class in `without` (..., 1), or the most probable one. Large logits are worked on in chunks.
    """
    logits = logits.detach()
    if logits.numel() <= CHUNK_ELEMENTS:  # most classifiers: each call less counts here
        p = torch.softmax(logits, -1, dtype=torch.float32)
        others = p.scatter_(-1, p.argmax(-1, keepdim=True) if without is None else without, 0.0)
        return others.sum(-1), measure(others)
    classes = None if without is None else without.reshape(-1, 1)  # (rows, 1)
    sums, measures = [], []
    buffer: Tensor | None = None
    for rows, place in row_chunks(logits, CHUNK_ELEMENTS):
        if buffer is None:  # fresh memory for each chunk would cost a third of the time; the first is the largest
            buffer = logits.new_empty(rows.shape, dtype=torch.float32)
        p = torch.softmax(rows, -1, dtype=torch.float32, out=buffer[: len(rows)])
        others = p.scatter_(-1, p.argmax(-1, keepdim=True) if classes is None else classes[place], 0.0)
        sums.append(others.sum(-1))
        measures.append(measure(others))
    shape = logits.shape[:-1]
    return torch.cat(sums).view(shape), torch.cat(measures).view(shape)


def joint_el2n(heads: Sequence[tuple[Tensor, Tensor]], *, reduction: str = "norm") -> Tensor:
    """EL2N of an example with several labels: one per head, or one per token of a head.

    Parameters
    ----------
    heads : sequence of (logits, labels)
        Each (B, C) with (B,), or (B, T, C) with (B, T); a negative label does not count.
    reduction : {"norm", "sum", "mean"}, default="norm"
        ``norm``: the L2 norm over all errors of the example; ``sum``: their sum; both grow with its length.
        ``mean``: the mean over the heads of each head's mean over the labels that count, free of length.

    Returns
    -------
    Tensor
        Shape (B,), float32. A head in which no label of the example counts contributes 0.

    Raises
    ------
    InvalidValueError
        If `reduction` is unknown or shapes do not belong together.

    References
    ----------
    Attendu and Corbeil 2023, *NLU on Data Diets*, arXiv 2306.03208 (the three forms are in the authors' code).

    Examples
    --------
    >>> intent = torch.zeros(1, 2), torch.tensor([0])
    >>> slots = torch.zeros(1, 3, 2), torch.tensor([[1, 0, -100]])
    >>> {r: round(joint_el2n([intent, slots], reduction=r).item(), 4) for r in REDUCTIONS}
    {'norm': 1.2247, 'sum': 2.1213, 'mean': 0.7071}
    """
    check_choice("joint_el2n()", "reduction", reduction, REDUCTIONS)
    per_head = []
    for logits, labels in heads:
        errors = el2n(logits, labels).view(len(labels), labels.shape[1:].numel())  # (B, 1) or (B, T), B or T may be 0
        if reduction == "norm":
            per_head.append(torch.linalg.vector_norm(errors, dim=-1))
        elif reduction == "sum":
            per_head.append(errors.sum(-1))
        else:
            counted = (labels.reshape(errors.shape) >= 0).sum(-1)
            per_head.append(errors.sum(-1) / counted.clamp(min=1))
    stacked = torch.stack(per_head)  # (heads, B)
    if reduction == "norm":
        norm: Tensor = torch.linalg.vector_norm(stacked, dim=0)
        return norm
    return stacked.sum(0) if reduction == "sum" else stacked.mean(0)


def multilabel_el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """L2 norm of the error vector ``sigmoid(logits) - labels`` of data with several labels at once.

    Parameters
    ----------
    logits : Tensor
        Shape (B, C), any floating dtype; computed in float32.
    labels : Tensor
        Shape (B, C): 0 or 1, or between for soft labels; float, bool or integer.

    Returns
    -------
    Tensor
        Shape (B,), float32, in [0, sqrt(C)].

    Raises
    ------
    InvalidValueError
        If the shapes differ.

    Notes
    -----
    The error of a label 1 is computed as ``sigmoid(-logit)``: ``1 - sigmoid(logit)`` cancels.

    Examples
    --------
    >>> multilabel_el2n(torch.tensor([[0.0, 0.0], [20.0, -20.0]]), torch.tensor([[1, 0], [1, 0]])).round(decimals=4)
    tensor([0.7071, 0.0000])
    """
    if labels.shape != logits.shape or logits.dim() != 2:
        raise InvalidValueError(
            f"multilabel_el2n() needs logits and labels of one shape (B, C), got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}."
        )
    norms = []
    for rows, place in row_chunks(logits.detach()):
        z, y = rows.float(), labels[place].float()  # (n, C)
        errors = torch.where(y == 1, torch.sigmoid(-z), torch.sigmoid(z) - y)
        norms.append(torch.linalg.vector_norm(errors, dim=-1))
    return torch.cat(norms)


def regression_error(predictions: Tensor, targets: Tensor, *, target_scale: float = 1.0) -> Tensor:
    """Absolute error in standard deviations of the target; over several outputs the L2 norm.

    Parameters
    ----------
    predictions : Tensor
        Shape (B,), (B, 1) or (B, K).
    targets : Tensor
        The same shape; (B,) and (B, 1) go together.
    target_scale : float, default=1.0
        Standard deviation of the targets; 1 for targets that are standardised already.

    Returns
    -------
    Tensor
        Shape (B,), float32.

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together.

    Examples
    --------
    >>> regression_error(torch.tensor([[1.0], [7.0]]), torch.tensor([1.0, 3.0]), target_scale=2.0)
    tensor([0., 2.])
    """
    error: Tensor = torch.linalg.vector_norm(residuals(predictions.detach(), targets), dim=-1)
    return error / target_scale


def margin(logits: Tensor) -> Tensor:
    """One minus the gap between the two largest probabilities: near 1 where the model wavers between two classes.

    Parameters
    ----------
    logits : Tensor
        Shape (..., C), any floating dtype; computed in float32.

    Returns
    -------
    Tensor
        Shape (...), float32, in [0, 1].

    Notes
    -----
    Computed as the sum of all probabilities but the largest, plus the second largest: ``1 - (p_1 - p_2)`` cancels.

    Examples
    --------
    >>> margin(torch.tensor([[0.0, 0.0, -50.0], [20.0, 0.0, 0.0]])).round(decimals=4)
    tensor([1., 0.])
    """
    rest, second = _of_others(lambda others: others.amax(-1), logits)
    return rest.add_(second)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the predicted distribution, in nats: how undecided the model is among all classes.

    Parameters
    ----------
    logits : Tensor
        Shape (..., C), any floating dtype; computed in float32.

    Returns
    -------
    Tensor
        Shape (...), float32, in [0, log C].

    Notes
    -----
    The largest probability is taken as one minus the sum of the others, so that nearly certain predictions are still
    told apart; a probability of 0 contributes 0.

    Examples
    --------
    >>> entropy(torch.tensor([[0.0, 0.0], [20.0, 0.0]])).round(decimals=4)
    tensor([0.6931, 0.0000])
    """
    rest, of_others = _of_others(lambda others: torch.special.entr(others).sum(-1), logits)
    return of_others - (1 - rest) * torch.log1p(-rest)
