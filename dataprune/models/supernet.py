# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""A small network for images whose operations can be searched: DARTS' mixture on each of its edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

SMALL_SUPERNET = "small-supernet"
"""What ``--model`` calls `SmallSupernet`."""

N_EDGES = 3
POOLED_SIZE = 4


def _operations(width: int) -> dict[str, nn.Module]:
    return {
        "conv3": nn.Conv2d(width, width, 3, padding=1),
        "conv1": nn.Conv2d(width, width, 1),
        "pool": nn.AvgPool2d(3, stride=1, padding=1),
        "skip": nn.Identity(),
    }


class SmallSupernetConfig(PreTrainedConfig):
    """Configuration of `SmallSupernet`.

    Parameters
    ----------
    n_channels : int, default=1
        1 for grey images, 3 for colour.
    width : int, default=8
        Channels of each edge.
    chosen : sequence of str, optional
        The operation of each edge; by default each is a mixture of all.
    **kwargs : Any
        What every `PreTrainedConfig` takes, such as ``id2label``.

    Examples
    --------
    >>> SmallSupernetConfig(chosen=["conv3", "pool", "skip"]).width
    8
    """

    model_type = "dataprune-small-supernet"

    def __init__(
        self, *, n_channels: int = 1, width: int = 8, chosen: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        self.n_channels = n_channels
        self.width = width
        self.chosen = None if chosen is None else list(chosen)
        super().__init__(**kwargs)


class SmallSupernet(PreTrainedModel):
    """Three edges, each a mixture of a 3 x 3 and a 1 x 1 convolution, pooling and nothing; or what was chosen for it.

    A toy for trying searches on small images, in the manner of DARTS (Liu et al. 2019, arXiv 1806.09055), first order.

    Parameters
    ----------
    config : SmallSupernetConfig
        Channels, classes, and the operations where they are chosen.

    Examples
    --------
    >>> net = SmallSupernet(SmallSupernetConfig(num_labels=10))
    >>> net(torch.zeros(2, 1, 8, 8)).logits.shape, net.choose()
    (torch.Size([2, 10]), ['conv3', 'conv3', 'conv3'])
    """

    config_class = SmallSupernetConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SmallSupernetConfig) -> None:
        super().__init__(config)
        chosen = [None] * N_EDGES if config.chosen is None else config.chosen
        self.stem = nn.Conv2d(config.n_channels, config.width, 3, padding=1)
        self.edges = nn.ModuleList(
            nn.ModuleDict({name: part for name, part in _operations(config.width).items() if one in {None, name}})
            for one in chosen
        )
        self.mixture = nn.Parameter(torch.zeros(N_EDGES, max(len(edge) for edge in self.edges)))  # type: ignore[arg-type]
        self.head = nn.Linear(config.width * POOLED_SIZE**2, len(config.id2label or {}))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave torch's own initial weights as they are."""

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """Return the logits.

        Parameters
        ----------
        pixel_values : Tensor
            Shape (B, C, H, W).

        Returns
        -------
        ImageClassifierOutput
            ``logits`` (B, n_classes).
        """
        states = F.relu(self.stem(pixel_values))  # (B, width, H, W)
        for edge, mixture in zip(self.edges, self.mixture.softmax(-1), strict=True):
            outputs = [operation(states) for operation in edge.values()]  # type: ignore[operator]
            states = F.relu(torch.stack([share * out for share, out in zip(mixture, outputs, strict=True)]).sum(0))
        return ImageClassifierOutput(logits=self.head(F.adaptive_max_pool2d(states, POOLED_SIZE).flatten(1)))

    def choose(self) -> list[str]:
        """Return the heaviest operation of each edge.

        Returns
        -------
        list of str
            Names, for `SmallSupernetConfig`.
        """
        heaviest = self.mixture.argmax(-1).tolist()
        return [list(edge)[best] for edge, best in zip(self.edges, heaviest, strict=True)]  # type: ignore[call-overload]
