"""GraNd: the norm of the gradient of an example's loss, over all parameters or over those of the last layer."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.scoring.base import BatchScorer
from dataprune.scoring.functional import el2n
from dataprune.scoring.per_example_gradients import Predicate, with_gradient_norms


class GraNd(BatchScorer):
    """How much one example would move the model: the norm of its loss's gradient over all parameters, exactly.

    For any loss per example. Higher = harder; the top also holds the mislabelled examples. Costs about as much as a
    training epoch without its updates, so it needs passes of its own: ``fit``, ``partial_fit``, or ``refresh="full"``.

    Parameters
    ----------
    parameters : callable, optional
        ``parameters(name) -> bool``: which of the parameters that require a gradient count; by default all. See
        `last_blocks`.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`; the paper's is ``mean``.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        At least 0; NaN = never seen.

    Notes
    -----
    The paper averages over at least 10 runs early in training: ``smoothing="mean"`` and `partial_fit` per run. What
    `gradient_norms` refuses (layers that mix examples) is refused here; the first batch of a pass is checked for it.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, *Deep Learning on a Data Diet*, arXiv 2107.07075.

    Examples
    --------
    >>> model = nn.Linear(2, 2)
    >>> for parameter in model.parameters():
    ...     _ = parameter.data.zero_()
    >>> GraNd().fit([(torch.tensor([0.0, 0.0]), 0), (torch.tensor([3.0, 4.0]), 1)], model=model).scores_
    array([0.70710677, 3.6055512 ], dtype=float32)
    """

    supports_observe: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = True

    def __init__(
        self,
        *,
        parameters: Predicate | None = None,
        smoothing: str = "last",
        ema_weight: float = 0.8,
        std_bonus: float = 1.0,
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.parameters = parameters

    def _check_parameters(self) -> None:
        if self.parameters is not None and not callable(self.parameters):
            raise InvalidTypeError(
                f"GraNd.parameters must be a callable that takes a parameter's name, got {self.parameters!r}."
            )

    @property
    def requires(self) -> frozenset[str]:
        """``gradient_norm`` (B,), which a scoring pass of this scorer adds."""
        return frozenset({"gradient_norm"})

    def wrap_forward(self, forward: Forward) -> Forward:
        """Return a forward that adds the signal ``gradient_norm``.

        Parameters
        ----------
        forward : callable
            ``forward(model, batch) -> dict`` with ``loss`` (B,).

        Returns
        -------
        callable
            See `with_gradient_norms`.
        """
        return with_gradient_norms(forward, parameters=self.parameters)

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``gradient_norm`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return signals["gradient_norm"].float()


def last_layer_gradient_norms(logits: Tensor, labels: Tensor, features: Tensor, *, bias: bool = True) -> Tensor:
    """L2 norm of the gradient of each example's cross entropy over the last linear layer, in closed form.

    Parameters
    ----------
    logits : Tensor
        Shape (B, C).
    labels : Tensor
        Shape (B,), integer classes; a negative label does not count.
    features : Tensor
        Shape (B, D): what the last linear layer was given.
    bias : bool, default=True
        Whether that layer has a bias.

    Returns
    -------
    Tensor
        Shape (B,), float32; 0 where the label is negative.

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together.

    Notes
    -----
    The gradient is ``(p - y) [h; 1]'``, of rank one: its norm is ``norm(p - y) * norm([h; 1])``. O(B (C + D)).

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075.

    Examples
    --------
    >>> last_layer_gradient_norms(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[3.0, 4.0]]))
    tensor([3.6056])
    """
    if features.dim() != 2 or len(features) != len(labels) or labels.dim() != 1:
        raise InvalidValueError(
            "last_layer_gradient_norms() needs features (B, D) and labels (B,), "
            f"got {tuple(features.shape)} and {tuple(labels.shape)}."
        )
    length = torch.linalg.vector_norm(features.detach().float(), dim=-1)  # (B,)
    return el2n(logits, labels) * (torch.hypot(length, torch.ones_like(length)) if bias else length)


class LastLayerGraNd(BatchScorer):
    """GraNd over the last linear layer alone: the error's length times the length of that layer's input.

    For single-label classifiers that end in a linear layer. Higher = harder. Free with ``refresh="observed"``;
    otherwise one forward pass.

    Parameters
    ----------
    bias : bool, default=True
        Whether the last layer has a bias.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        At least 0; NaN = never seen.

    Notes
    -----
    The signal ``features`` (B, D) is the input of the last linear layer, after dropout. Scoring passes and
    `DynamicPruner.fit` take it from that layer if `forward` does not return it; in a loop of your own pass
    ``features=...`` to ``observe()``, in Trainer return them from ``signals``.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, *Deep Learning on a Data Diet*, arXiv 2107.07075.

    Examples
    --------
    >>> scorer = LastLayerGraNd().reset(1)
    >>> signals = {"logits": torch.zeros(1, 2), "labels": torch.tensor([0]), "features": torch.tensor([[3.0, 4.0]])}
    >>> scorer.update(torch.tensor([0]), **signals).scores_.round(4)
    array([3.6056], dtype=float32)
    """

    def __init__(
        self, *, bias: bool = True, smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.bias = bias

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C), ``labels`` (B,) and ``features`` (B, D)."""
        return frozenset({"logits", "labels", "features"})

    def wrap_forward(self, forward: Forward) -> Forward:
        """Return a forward that adds the signal ``features`` where it is missing.

        Parameters
        ----------
        forward : callable
            ``forward(model, batch) -> dict`` of signals.

        Returns
        -------
        callable
            Another forward. Hooks on the linear layers stay for the length of its call.
        """

        def forward_with_features(model: nn.Module, batch: Any) -> dict[str, Tensor]:
            # An output's shape -> the last such output, its input, whether its layer has a bias.
            calls: dict[tuple[int, ...], tuple[Tensor, Tensor, bool]] = {}

            def note(layer: nn.Module, args: Any, output: Tensor) -> None:
                calls[tuple(output.shape)] = output, args[0], layer.bias is not None

            handles = [part.register_forward_hook(note) for part in model.modules() if isinstance(part, nn.Linear)]
            try:
                signals = forward(model, batch)
            finally:
                for handle in handles:
                    handle.remove()
            if "features" in signals or "logits" not in signals:
                return signals
            logits = signals["logits"]
            output, features, has_bias = calls.get(tuple(logits.shape), (None, None, self.bias))
            if features is None or output is None or not _is_same(output, logits):
                raise InvalidValueError(
                    "LastLayerGraNd needs logits that are the output of a linear layer. "
                    "Return 'features' (B, D), what the last layer is given, from forward."
                )
            if has_bias != self.bias:
                raise InvalidValueError(
                    f"LastLayerGraNd.bias must be {has_bias} for this model's last linear layer, got {self.bias!r}."
                )
            return {**signals, "features": features}

        return forward_with_features

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C), ``labels`` (B,) and ``features`` (B, D).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return last_layer_gradient_norms(signals["logits"], signals["labels"], signals["features"], bias=self.bias)


def _is_same(output: Tensor, logits: Tensor) -> bool:
    return torch.allclose(output.to(logits), logits, rtol=0.0, atol=0.0, equal_nan=True)
