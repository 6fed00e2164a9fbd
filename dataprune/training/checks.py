"""Checks of one batch, before its gradient reaches the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dataprune.errors import InvalidValueError


def losses_of(signals: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of each example, or raise if `forward` did not return it.

    Parameters
    ----------
    signals : mapping of str to Tensor
        What ``forward`` returned.

    Returns
    -------
    Tensor
        Shape (B,).

    Raises
    ------
    InvalidValueError
        If there is no ``loss``.

    Examples
    --------
    >>> losses_of({"logits": torch.zeros(2, 3)})
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: forward must return 'loss' with one value per example, got only 'logits'.
    """
    if "loss" not in signals:
        got = ", ".join(map(repr, signals)) or "nothing"
        raise InvalidValueError(f"forward must return 'loss' with one value per example, got only {got}.")
    return signals["loss"]


def check_losses(losses: Tensor, index: Tensor, *, epoch: int) -> None:
    """Raise unless there is one finite loss per example; call it before the backward pass.

    Parameters
    ----------
    losses : Tensor
        Shape (B,).
    index : Tensor
        Shape (B,), rows of the full data set.
    epoch : int
        Epoch that the message names.

    Raises
    ------
    InvalidValueError
        If the shapes differ, or a loss is NaN or infinite; the example is named.

    Examples
    --------
    >>> check_losses(torch.tensor([0.1, float("nan")]), torch.tensor([3, 7]), epoch=0)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The loss of example 7 is nan in epoch 0; the weights are those before ...
    """
    if losses.shape != index.shape:
        raise InvalidValueError(
            f"forward must return 'loss' with one value per example, {tuple(index.shape)}, got {tuple(losses.shape)}."
        )
    finite = torch.isfinite(losses)
    if not finite.all():
        bad = int((~finite).nonzero()[0])
        raise InvalidValueError(
            f"The loss of example {int(index[bad])} is {losses[bad].item()} in epoch {epoch}; the weights are those "
            "before its batch. Look at that row; if it is fine, lower the learning rate or train in float32."
        )


def check_gradient(norm: Tensor, index: Tensor, *, epoch: int) -> None:
    """Raise unless the gradient's norm is finite; call it before the optimizer's update.

    Parameters
    ----------
    norm : Tensor
        Norm of the gradient over all parameters, a scalar.
    index : Tensor
        Shape (B,), rows of the batch that the message names.
    epoch : int
        Epoch that the message names.

    Raises
    ------
    InvalidValueError
        If the norm is NaN or infinite.

    Examples
    --------
    >>> check_gradient(torch.tensor(1.5), torch.tensor([0]), epoch=0)
    """
    if not torch.isfinite(norm):
        raise InvalidValueError(
            f"The norm of the gradient is {norm.item()} in epoch {epoch}, in the update that ends with the examples "
            f"{index.tolist()}; the weights are those before it. Look at those rows, or lower the learning rate."
        )
