"""Gradients of a label's logit with respect to the model's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidValueError


def with_input_gradients(forward: Forward) -> Forward:
    """Return a forward that adds the gradient of each label's logit with respect to the model's input.

    Parameters
    ----------
    forward : callable
        ``forward(model, batch) -> dict`` with ``logits`` (B, C) and ``labels`` (B,).

    Returns
    -------
    callable
        Another forward, which needs gradients enabled. It adds ``input_gradients`` (B, ..., D) and ``input_mask``
        (B, ...), False where an input is padding; its signals are detached. Hooks stay for the length of its call.

    Examples
    --------
    >>> from dataprune.data.forward import default_forward
    >>> model = nn.Linear(2, 2)
    >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> signals = with_input_gradients(default_forward)(model, (torch.zeros(1, 2), torch.tensor([1])))
    >>> signals["input_gradients"]
    tensor([[3., 4.]])
    """

    def forward_and_backward(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        leaves: list[Tensor] = []

        def watch(_layer: nn.Module, _args: Any, output: Tensor) -> Tensor:
            if leaves:
                return output
            leaves.append(output.detach().requires_grad_())
            return leaves[0].clone()  # what follows may change it in place, which a leaf forbids

        batch, x = _with_leaf(batch)
        handles = [part.register_forward_hook(watch) for part in model.modules() if isinstance(part, nn.Embedding)]
        try:
            signals = forward(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        leaf = leaves[0] if leaves else x
        logits, labels = _checked(signals)
        if leaf is None or leaf.shape[:1] != labels.shape:
            raise InvalidValueError(
                "VarianceOfGradients needs a model that calls an nn.Embedding on its tokens, or a batch (a mapping, "
                "tuple or list) with a floating-point tensor of one row per example."
            )
        counted = labels >= 0
        chosen = logits.gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1) * counted  # (B,)
        found = torch.autograd.grad(chosen.sum(), leaf, allow_unused=True)[0] if chosen.requires_grad else None
        gradients = torch.zeros_like(leaf) if found is None else found
        gradients = gradients.unsqueeze(1) if gradients.dim() == 1 else gradients  # one number per example
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        if mask is None or mask.shape != gradients.shape[:-1]:
            mask = torch.ones(gradients.shape[:-1], device=gradients.device)
        signals = {name: signal.detach() for name, signal in signals.items()}
        return {**signals, "input_gradients": gradients.detach(), "input_mask": mask.bool()}

    return forward_and_backward


def _checked(signals: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    logits, labels = signals.get("logits"), signals.get("labels")
    if logits is None or labels is None or logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise InvalidValueError(
            "VarianceOfGradients needs the signals 'logits' (B, C) and 'labels' (B,), got "
            f"{', '.join(f'{name!r} {tuple(signal.shape)}' for name, signal in signals.items())}. Pass forward=..."
        )
    return logits, labels


def _with_leaf(batch: Any) -> tuple[Any, Tensor | None]:
    """Return the batch with a copy of its first floating-point tensor that takes a gradient, and that copy."""
    if isinstance(batch, Mapping):
        names, values = list(batch), list(batch.values())
    elif isinstance(batch, (tuple, list)):
        names, values = [], list(batch)
    else:
        return batch, None
    for place, value in enumerate(values):
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim():
            leaf = value.detach().clone().requires_grad_()
            values[place] = leaf * 1  # no leaf: the model may change it in place
            if names:
                return dict(zip(names, values, strict=True)), leaf
            return (values if isinstance(batch, list) else tuple(values)), leaf
    return batch, None
