"""Scores as pure functions of one batch: (B, ...) in, (B,) float32 out; higher = harder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dataprune.errors import InvalidValueError, check_choice

REDUCTIONS = ("norm", "sum", "mean")
"""How `joint_el2n` combines the errors of one example's heads and tokens."""

_CHUNK_ELEMENTS = 1 << 18  # 1 MB of float32: stays in the cache, and no copy of large logits is made


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
    InvalidValueError
        If the shapes do not belong together.

    Notes
    -----
    The textbook form ``sum(p**2) - 2 * p_y + 1`` cancels: it returns 0 for most examples that are nearly learned. Here
    the label's probability is left out instead: with ``r = sum_{c != y} p_c = 1 - p_y``, EL2N is
    ``hypot(r, norm(p_{c != y}))``, right to 1e-5 relative down to 1e-6. Rows are worked on in chunks: O(B C) time and
    1 MB of memory. With two classes EL2N is ``sqrt(2) * (1 - p_y)`` and ranks as the loss does.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, *Deep Learning on a Data Diet*, arXiv 2107.07075.

    Examples
    --------
    >>> el2n(torch.tensor([[0.0, 0.0], [20.0, 0.0]]), torch.tensor([0, 1]))
    tensor([0.7071, 1.4142])
    """
    if labels.shape != logits.shape[:-1]:
        raise InvalidValueError(
            f"el2n() needs labels of the logits' shape without the classes, {tuple(logits.shape[:-1])}, "
            f"got {tuple(labels.shape)}."
        )
    n_classes = logits.shape[-1]
    rows, targets = logits.detach().reshape(-1, n_classes), labels.reshape(-1, 1)
    errors = torch.empty(len(rows), dtype=torch.float32, device=logits.device)
    chunk = max(1, _CHUNK_ELEMENTS // n_classes)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        z = rows[part].to(torch.float32, copy=True)  # (chunk, C), our own buffer
        z.sub_(z.amax(-1, keepdim=True)).exp_()
        total = z.sum(-1)
        z.scatter_(-1, targets[part].clamp(min=0), 0.0)
        errors[part] = torch.hypot(z.sum(-1), torch.linalg.vector_norm(z, dim=-1)) / total
    return errors.masked_fill_(targets.squeeze(-1) < 0, 0.0).view(labels.shape)


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
