"""Norms of the gradients of single examples' losses, for a whole batch at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidTypeError, InvalidValueError, check_count
from dataprune.scoring._gradients_capture import GradientCapture

logger = logging.getLogger("dataprune")

Predicate = Callable[[str], bool]


def gradient_norms(
    model: nn.Module,
    batch: Any,
    forward: Forward,
    *,
    parameters: Predicate | None = None,
    check_rows: bool = False,
) -> Tensor:
    """L2 norm of the gradient of each example's loss with respect to all parameters: exact, without a loop.

    One forward pass and one backward pass that computes no weight gradient. The model's mode is left as it is: call
    ``model.eval()`` first, or dropout is part of the gradient.

    Parameters
    ----------
    model : nn.Module
        Its parameters, their gradients and flags stay as they are.
    batch : nested tuples, lists and mappings of tensors
        What `forward` takes; dimension 0 of its first tensor is the batch.
    forward : callable
        ``forward(model, batch) -> dict`` with ``loss`` (B,), such as `default_forward`.
    parameters : callable, optional
        ``parameters(name) -> bool``: which of the parameters that require a gradient count; by default all. See
        `last_blocks`; for adapters ``lambda name: "lora_" in name``.
    check_rows : bool, default=False
        Make another backward pass and raise if the loss of example 0 depends on another example.

    Returns
    -------
    Tensor
        Shape (B,), float32.

    Raises
    ------
    InvalidValueError
        If no parameter is left; if a layer mixes the examples of a batch (BatchNorm in train mode) or does not keep
        them in dimension 0; if a parameter is used outside its own layer; if there is not one loss per example.

    Notes
    -----
    The gradient of a linear layer is ``sum_t g_t x_t'`` over an example's positions; its squared norm is
    ``sum_ts (g_t . g_s) (x_t . x_s)``, which needs no gradient matrix. Linear, transformers' Conv1D, Embedding,
    LayerNorm, RMSNorm, BatchNorm in eval mode, GroupNorm, Conv1d and Conv2d have such rules. Any other layer that owns
    parameters is run again one example at a time, exact but slow, and named in a log line. The uses of a tied parameter
    add up before its norm is taken. Memory: what a plain backward pass holds, without the weight gradients.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075. The Gram form: Li et al. 2022, arXiv 2110.05679 (ghost norms).

    Examples
    --------
    >>> import torch
    >>> from dataprune.data.forward import default_forward
    >>> model = nn.Linear(2, 2)
    >>> for parameter in model.parameters():
    ...     _ = parameter.data.zero_()
    >>> gradient_norms(model, (torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([0, 1])), default_forward)
    tensor([0.7071, 3.6056])
    """
    _, norms, replayed = _signals_and_norms(model, batch, forward, parameters, check_rows=check_rows)
    _name_replayed(replayed)
    return norms


def with_gradient_norms(forward: Forward, *, parameters: Predicate | None = None) -> Forward:
    """Return a forward that adds the signal ``gradient_norm`` to those of `forward`.

    Its first batch of several examples is checked as with ``check_rows=True``. Layers that have to be run again one
    example at a time are named in one log line, at the first batch that has them.

    Parameters
    ----------
    forward : callable
        ``forward(model, batch) -> dict`` with ``loss`` (B,).
    parameters : callable, optional
        ``parameters(name) -> bool``, see `gradient_norms`.

    Returns
    -------
    callable
        Another forward, which makes a backward pass and so needs gradients enabled; its signals are detached.

    Examples
    --------
    >>> import torch
    >>> from dataprune.data.forward import default_forward
    >>> forward = with_gradient_norms(default_forward)
    >>> sorted(forward(nn.Linear(2, 2), (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long))))
    ['gradient_norm', 'labels', 'logits', 'loss']
    """
    checked = named = False

    def forward_and_backward(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        nonlocal checked, named
        signals, norms, replayed = _signals_and_norms(model, batch, forward, parameters, check_rows=not checked)
        checked = checked or len(norms) > 1
        if not named:
            named = _name_replayed(replayed)
        return {**signals, "gradient_norm": norms}

    return forward_and_backward


def _signals_and_norms(
    model: nn.Module, batch: Any, forward: Forward, parameters: Predicate | None, *, check_rows: bool
) -> tuple[dict[str, Tensor], Tensor, set[str]]:
    selected = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameters is None or parameters(name))
    }
    if not selected:
        raise InvalidValueError(
            "gradient_norms() needs at least one parameter that requires a gradient, got none. "
            "Unfreeze the model, or let parameters(name) choose others."
        )
    _check_batch_norm(model)
    tensors = list(_tensors(batch))
    if not tensors:
        raise InvalidTypeError(f"gradient_norms() needs a batch that holds tensors, got {type(batch).__name__}.")
    capture = GradientCapture(model, selected, tensors)
    signals, squares = capture.run(forward, batch, check_rows=check_rows)
    return signals, squares.sqrt().float(), capture.replayed


def _name_replayed(layers: set[str]) -> bool:
    """Name the layers in a log line; return whether there are any."""
    if layers:
        logger.info(
            "Gradient norms: run again one example at a time, for want of a rule: %s.", ", ".join(sorted(layers))
        )
    return bool(layers)


def _check_batch_norm(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None):  # noqa: SLF001
            raise InvalidValueError(
                f"gradient_norms() needs examples that do not mix, but layer {name!r} normalises over the batch. "
                "Call model.eval() first, and let BatchNorm track its statistics."
            )


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        if batch.dim():
            yield batch
    elif isinstance(batch, Mapping):
        yield from _tensors(list(batch.values()))
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from _tensors(part)


def last_blocks(model: nn.Module, n_blocks: int) -> Predicate:
    """Return a choice of parameters for `gradient_norms`: the last blocks of a model and what comes after them.

    Parameters
    ----------
    model : nn.Module
        With a stack of blocks in an ``nn.ModuleList`` (the largest counts), as transformers have.
    n_blocks : int
        Blocks from the end; at least 1.

    Returns
    -------
    callable
        ``parameters(name) -> bool``.

    Raises
    ------
    InvalidTypeError
        If `n_blocks` is no whole number.
    InvalidValueError
        If there is no such stack, or `n_blocks` is not between 1 and its length.

    Examples
    --------
    >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]), "head": nn.Linear(2, 2)})
    >>> [name for name, _ in model.named_parameters() if last_blocks(model, 1)(name)]
    ['layers.2.weight', 'layers.2.bias', 'head.weight', 'head.bias']
    """
    check_count("last_blocks()", "n_blocks", n_blocks, minimum=1)
    stacks = {name: part for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part)}
    if not stacks:
        raise InvalidValueError(
            f"last_blocks() needs a model with an nn.ModuleList of blocks, got {type(model).__name__}. "
            "Choose by name with parameters=lambda name: ..."
        )
    stack = max(stacks, key=lambda name: sum(parameter.numel() for parameter in stacks[name].parameters()))
    if n_blocks > len(stacks[stack]):
        raise InvalidValueError(
            f"last_blocks().n_blocks must be at most {len(stacks[stack])}, the blocks of {stack!r}, got {n_blocks}."
        )
    names = [name for name, _ in model.named_parameters()]
    first = f"{stack}.{len(stacks[stack]) - n_blocks}.".removeprefix(".")
    start = next((i for i, name in enumerate(names) if name.startswith(first)), len(names))
    return frozenset(names[start:]).__contains__
