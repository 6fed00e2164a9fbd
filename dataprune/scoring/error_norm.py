"""EL2N and its joint form: how far the prediction is from the label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor

from dataprune.errors import InvalidTypeError, check_choice
from dataprune.scoring.base import BatchScorer
from dataprune.scoring.functional import REDUCTIONS, el2n, joint_el2n


class EL2N(BatchScorer):
    """How far the predicted distribution is from the label: the L2 norm of ``softmax(logits) - onehot(label)``.

    For single-label classification. Higher = harder; the top also holds the mislabelled examples. Free with
    ``refresh="observed"``; otherwise one forward pass.

    Parameters
    ----------
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        In [0, sqrt(2)] (above with ``ema_plus_std``); NaN = never seen.

    Notes
    -----
    The paper averages over at least 10 runs early in training: ``smoothing="mean"`` and `partial_fit` per run. With two
    classes it ranks as `Loss` does.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, *Deep Learning on a Data Diet*, arXiv 2107.07075.

    Examples
    --------
    >>> import torch
    >>> data = [(torch.tensor([4.0, 0.0]), 0), (torch.tensor([4.0, 0.0]), 1)]
    >>> EL2N().fit(data, model=torch.nn.Identity()).scores_.round(3)
    array([0.025, 1.389], dtype=float32)
    """

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C) and ``labels`` (B,)."""
        return frozenset({"logits", "labels"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C) and ``labels`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return el2n(signals["logits"], signals["labels"])


class JointEL2N(BatchScorer):
    """EL2N over several heads and their tokens: the seed paper's score for joint intent and slots.

    Higher = harder. ``norm`` and ``sum`` grow with the length of the utterance, so a kept half of the examples costs
    more than half of the tokens; ``mean`` does not. Free with ``refresh="observed"``; otherwise one forward pass.

    Parameters
    ----------
    heads : sequence of str, default=("intent", "slot")
        Prefixes of the signals ``<head>_logits`` and ``<head>_labels``.
    reduction : {"norm", "sum", "mean"}, default="norm"
        How an example's errors combine, see `joint_el2n`.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`; the paper's code uses ``ema_plus_std``.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        At least 0; NaN = never seen.

    References
    ----------
    Attendu and Corbeil 2023, *NLU on Data Diets*, arXiv 2306.03208.

    Examples
    --------
    >>> import torch
    >>> scorer = JointEL2N(heads=("intent", "slot"), reduction="sum").reset(1)
    >>> intent = {"intent_logits": torch.zeros(1, 2), "intent_labels": torch.tensor([0])}
    >>> slot = {"slot_logits": torch.zeros(1, 2, 2), "slot_labels": torch.tensor([[1, -100]])}
    >>> scorer.update(torch.tensor([0]), **intent, **slot).scores_.round(4)
    array([1.4142], dtype=float32)
    """

    def __init__(
        self,
        *,
        heads: Sequence[str] = ("intent", "slot"),
        reduction: str = "norm",
        smoothing: str = "last",
        ema_weight: float = 0.8,
        std_bonus: float = 1.0,
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.heads = heads
        self.reduction = reduction

    def reset(self, n_examples: int) -> Self:
        """Forget all scores and make room for a data set.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        self
            The scorer.

        Raises
        ------
        InvalidTypeError
            If `heads` is no list of names.
        InvalidValueError
            If `reduction` or a smoothing parameter is out of range.
        """
        check_choice("JointEL2N", "reduction", self.reduction, REDUCTIONS)
        if isinstance(self.heads, str) or not self.heads:
            raise InvalidTypeError(f"JointEL2N.heads must be a list of at least one name, got {self.heads!r}.")
        return super().reset(n_examples)

    @property
    def requires(self) -> frozenset[str]:
        """``<head>_logits`` and ``<head>_labels`` of each head."""
        return frozenset(f"{head}_{kind}" for head in self.heads for kind in ("logits", "labels"))

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            For each head logits (B, C) with labels (B,), or (B, T, C) with (B, T).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        pairs = [(signals[f"{head}_logits"], signals[f"{head}_labels"]) for head in self.heads]
        return joint_el2n(pairs, reduction=self.reduction)
