"""Per-example gradients of a layer without a rule: it is run again, one example at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dataprune.errors import InvalidValueError


def batch_dim(layer: nn.Module, position: int) -> int:
    """Return the dimension of a layer's input or output that counts the examples.

    Parameters
    ----------
    layer : nn.Module
        Any module.
    position : int
        Place of the tensor among the inputs or outputs.

    Returns
    -------
    int
        0, but for the states of a recurrent layer.
    """
    return 1 if isinstance(layer, nn.RNNBase) and position > 0 else 0


class Replay:
    """One call of a layer, kept so that it can be run again.

    One example at a time, not under `torch.func.vmap`: that fails on a GRU and on code that looks at its data, loops
    over an LSTM inside, and holds the gradients of a whole batch at once (decision record 0010).

    Parameters
    ----------
    layer : nn.Module
        The layer.
    args, kwargs : tuple, dict
        Its inputs.
    n : int
        Examples in the batch.
    """

    def __init__(self, layer: nn.Module, args: Any, kwargs: Any, n: int) -> None:
        self.layer, self.n = layer, n
        self.inputs, self.form = tree_flatten((args, kwargs))
        self.first: dict[int, Tensor] = {}  # place of an output -> its row of example 0
        self.grads: dict[int, Tensor] = {}  # place of an output -> its gradient
        device = next(layer.parameters()).device.type
        self.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def run(
        self, name: str, parameters: Mapping[str, nn.Parameter], alone: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the gradients.

        Parameters
        ----------
        name : str
            The layer's, for messages.
        parameters : mapping of str to Parameter
            Whose gradients.
        alone : collection of str
            Parameters that no other call uses: their norms are enough.

        Returns
        -------
        squares : Tensor
            Shape (B,): squared norms over the parameters in `alone`.
        gradients : dict of str to Tensor
            Shape (B, ...): of the others.
        """
        squares, rows = [], []
        for i in range(self.n):
            gradients = dict(zip(parameters, self._gradients(name, i, list(parameters.values())), strict=True))
            own = [gradients.pop(key).square().sum() for key in alone]
            squares.append(torch.stack(own).sum() if own else torch.zeros(()))
            rows.append(gradients)
        return torch.stack(squares), {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def _gradients(self, name: str, i: int, parameters: list[nn.Parameter]) -> list[Tensor]:
        def alone(position: int, leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            dim = batch_dim(self.layer, position)
            is_batch = leaf.dim() > dim and leaf.shape[dim] == self.n
            return leaf.detach().narrow(dim, i, 1) if is_batch else leaf.detach()

        args, kwargs = tree_unflatten([alone(*pair) for pair in enumerate(self.inputs)], self.form)
        device, dtype, enabled = self.autocast
        try:
            with torch.enable_grad(), torch.autocast(device, dtype=dtype, enabled=enabled):
                outputs = tree_flatten(self.layer(*args, **kwargs))[0]
        except (RuntimeError, ValueError) as error:
            raise self._refusal(name, f"it fails with {str(error)!r}") from error
        if i == 0 and not all(_is_close(outputs[position], row) for position, row in self.first.items()):
            raise self._refusal(name, "example 0 alone gives another output than in its batch")
        places = [position for position in self.grads if outputs[position].requires_grad]
        found = torch.autograd.grad(
            [outputs[position] for position in places],
            parameters,
            [
                self.grads[position].narrow(batch_dim(self.layer, position), i, 1).to(outputs[position].dtype)
                for position in places
            ],
            allow_unused=True,
        )
        pairs = zip(parameters, found, strict=True)
        return [torch.zeros_like(p) if gradient is None else gradient.detach() for p, gradient in pairs]

    @staticmethod
    def _refusal(name: str, reason: str) -> InvalidValueError:
        return InvalidValueError(
            f"gradient_norms() cannot run layer {name!r} one example at a time: {reason}. "
            "An input that is not the examples' own must not be as long as the batch; parameters=... can leave it out."
        )


def _is_close(output: Any, row: Tensor) -> bool:
    tolerance = 1e-3 if row.dtype in {torch.float32, torch.float64} else 3e-2
    return bool(output.shape == row.shape and torch.allclose(output, row, rtol=tolerance, atol=tolerance))
