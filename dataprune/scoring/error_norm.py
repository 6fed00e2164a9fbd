"""How far the prediction is from the label: EL2N, its forms for several labels, and the error of a number."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dataprune.errors import InvalidTypeError, check_choice, check_positive
from dataprune.scoring.base import BatchScorer
from dataprune.scoring.functional import REDUCTIONS, joint_el2n, multilabel_el2n, regression_error


class EL2N(BatchScorer):
    """How far the predicted distribution is from the label: the L2 norm of ``softmax(logits) - onehot(label)``.

    For one label per example, or one per token (tags, or the next token of a causal language model). Higher = harder;
    the top also holds the mislabelled examples. Free with ``refresh="observed"``; otherwise one forward pass.

    Parameters
    ----------
    reduction : {"norm", "sum", "mean"}, default="norm"
        How the errors of one example's tokens combine, see `joint_el2n`; changes nothing for one label per example.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        In [0, sqrt(2)] for one label per example, and for ``reduction="mean"`` (above with ``ema_plus_std``); otherwise
        growing with the number of tokens that count. NaN = never seen.

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

    def __init__(
        self, *, reduction: str = "norm", smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.reduction = reduction

    def _check_parameters(self) -> None:
        check_choice("EL2N", "reduction", self.reduction, REDUCTIONS)

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C) and ``labels`` (B,), or (B, T, C) and (B, T)."""
        return frozenset({"logits", "labels"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C) and ``labels`` (B,), or (B, T, C) and (B, T).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return joint_el2n([(signals["logits"], signals["labels"])], reduction=self.reduction)


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

    def _check_parameters(self) -> None:
        check_choice("JointEL2N", "reduction", self.reduction, REDUCTIONS)
        if isinstance(self.heads, str) or not self.heads:
            raise InvalidTypeError(f"JointEL2N.heads must be a list of at least one name, got {self.heads!r}.")

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


class MultiLabelEL2N(BatchScorer):
    """EL2N of data with several labels at once: the L2 norm of ``sigmoid(logits) - labels``.

    Higher = harder; the top also holds examples with a missing or a wrong label. Free with ``refresh="observed"``;
    otherwise one forward pass.

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
        In [0, sqrt(C)] (above with ``ema_plus_std``); NaN = never seen.

    References
    ----------
    An own extension of Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075, whose EL2N is for one label.

    Examples
    --------
    >>> import torch
    >>> logits, labels = torch.tensor([[0.0, 0.0], [9.0, -9.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> MultiLabelEL2N().reset(2).update(torch.arange(2), logits=logits, labels=labels).scores_.round(4)
    array([0.7071, 0.9999], dtype=float32)
    """

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C) and ``labels`` (B, C)."""
        return frozenset({"logits", "labels"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C) and ``labels`` (B, C), the labels 0 or 1.

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return multilabel_el2n(signals["logits"], signals["labels"])


class RegressionError(BatchScorer):
    """How far the predicted number is from the target, in units of `target_scale`.

    With several outputs the L2 norm over them, so standardise each target. Higher = harder; the top also holds
    outliers and wrong targets. Free with ``refresh="observed"``; otherwise one forward pass.

    Parameters
    ----------
    target_scale : float, default=1.0
        Standard deviation of the targets, above 0; 1 for targets that are standardised already. It makes scores of
        different tasks comparable and changes no ranking.
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

    References
    ----------
    Folklore. Hugging Face regression heads (``num_labels=1``) name their prediction ``logits``, and so does this.

    Examples
    --------
    >>> import torch
    >>> logits, labels = torch.tensor([[2.5], [9.0]]), torch.tensor([2.0, 4.0])
    >>> RegressionError(target_scale=2.0).reset(2).update(torch.arange(2), logits=logits, labels=labels).scores_
    array([0.25, 2.5 ], dtype=float32)
    """

    def __init__(
        self, *, target_scale: float = 1.0, smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.target_scale = target_scale

    def _check_parameters(self) -> None:
        check_positive("RegressionError", "target_scale", self.target_scale)

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B,), (B, 1) or (B, K) and ``labels`` of that shape; (B,) and (B, 1) go together."""
        return frozenset({"logits", "labels"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits``: the predictions; ``labels``: the targets.

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return regression_error(signals["logits"], signals["labels"], target_scale=self.target_scale)
