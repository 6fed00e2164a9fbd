"""What one visit of an example tells: pure functions of one batch, (B, C) in, (B,) or (B, 3) float32 out."""

from __future__ import annotations

import torch
from torch import Tensor

from dataprune.errors import InvalidValueError


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability of each label.

    Parameters
    ----------
    logits : Tensor
        Shape (B, C), any floating dtype; computed in float32.
    labels : Tensor
        Shape (B,), integer classes.

    Returns
    -------
    Tensor
        Shape (B,), float32; 0 where the label is negative, for it does not count.

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together, or there is one class only.

    Examples
    --------
    >>> label_probability(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 1]))
    tensor([5.0000e-01, 1.2339e-04])
    """
    z, targets = _checked(logits, labels)
    p = z.softmax(-1).gather(-1, targets).squeeze(-1)  # z minus its logsumexp would round large logits
    return p.masked_fill(labels < 0, 0.0)


def label_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margin of each label: its logit minus the largest other one, raw, not softmaxed.

    Parameters
    ----------
    logits : Tensor
        Shape (B, C), any floating dtype; computed in float32.
    labels : Tensor
        Shape (B,), integer classes.

    Returns
    -------
    Tensor
        Shape (B,), float32, above 0 where the prediction is right; 0 where the label is negative (it does not count).

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together, or there is one class only.

    References
    ----------
    Pleiss et al. 2020, equation 1, arXiv 2001.10528.

    Examples
    --------
    >>> label_margin(torch.tensor([[2.0, 0.5, 1.0], [2.0, 0.5, 1.0]]), torch.tensor([0, 1]))
    tensor([ 1.0000, -1.5000])
    """
    z, targets = _checked(logits, labels)
    largest_other = z.scatter(-1, targets, -torch.inf).amax(-1)  # a copy: the logits stay as they are
    return (z.gather(-1, targets).squeeze(-1) - largest_other).masked_fill(labels < 0, 0.0)


def visit_values(logits: Tensor, labels: Tensor) -> Tensor:
    """Return what a `DynamicsStore` counts of one visit: probability of the label, margin, and whether it is right.

    Parameters
    ----------
    logits : Tensor
        Shape (B, C), any floating dtype; computed in float32.
    labels : Tensor
        Shape (B,), integer classes.

    Returns
    -------
    Tensor
        Shape (B, 3), float32: p_label, margin, and right: 1 where the margin is above 0 (a tie is not right), else 0,
        and -1 where the label is negative: such a visit does not count.

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together, or there is one class only.

    Examples
    --------
    >>> visit_values(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([1, -100]))
    tensor([[ 0.7311,  1.0000,  1.0000],
            [ 0.0000,  0.0000, -1.0000]])
    """
    margin = label_margin(logits, labels)
    right = (margin > 0).to(torch.float32).masked_fill(labels < 0, -1.0)
    return torch.stack([label_probability(logits, labels), margin, right], -1)  # (B, 3)


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or logits.shape[-1] < 2:
        raise InvalidValueError(
            "Training dynamics need logits (B, C) of at least 2 classes and labels (B,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    return logits.detach().to(torch.float32), labels.clamp(min=0).to(torch.int64).unsqueeze(-1)
