"""Scores of the current prediction alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dataprune.data.losses import IGNORED_LABEL
from dataprune.errors import InvalidValueError, check_choice
from dataprune.scoring.base import BatchScorer
from dataprune.scoring.functional import entropy, margin


class Loss(BatchScorer):
    """The example's own loss, as training computes it.

    For any task whose forward returns a loss per example; with one label per token it is the sum over the tokens that
    count, so it grows with the length. Higher = harder; unbounded, so one mislabelled example can
    outweigh many others in a weighted draw. Free with ``refresh="observed"``; otherwise one forward pass.

    Parameters
    ----------
    reduction : {"sum", "mean"}, default="sum"
        ``mean`` divides by the labels of the example that count, over all heads: the loss per token of a tagger or a
        language model.
    smoothing : {"last", "mean", "ema", "ema_plus_std"}, default="last"
        How the visits of an example combine over time, see `ScoreStore`.
    ema_weight : float, default=0.8
        Weight of the newest value, for the two moving averages.
    std_bonus : float, default=1.0
        Standard deviations that ``ema_plus_std`` adds.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Losses; NaN = never seen.

    References
    ----------
    Folklore; as a pruning score for instance in Raju et al. 2021, arXiv 2111.12621.

    Examples
    --------
    >>> import torch
    >>> Loss().reset(2).update(torch.tensor([0, 1]), loss=torch.tensor([0.5, 2.0])).scores_
    array([0.5, 2. ], dtype=float32)
    >>> labels = torch.tensor([[4, 7, -100]])
    >>> Loss(reduction="mean").reset(1).update(torch.tensor([0]), loss=torch.tensor([3.0]), labels=labels).scores_
    array([1.5], dtype=float32)
    """

    def __init__(
        self, *, reduction: str = "sum", smoothing: str = "last", ema_weight: float = 0.8, std_bonus: float = 1.0
    ) -> None:
        super().__init__(smoothing=smoothing, ema_weight=ema_weight, std_bonus=std_bonus)
        self.reduction = reduction

    def _check_parameters(self) -> None:
        check_choice("Loss", "reduction", self.reduction, ("sum", "mean"))

    @property
    def requires(self) -> frozenset[str]:
        """``loss`` (B,); the mean reads all that are named ``labels`` or ``<head>_labels`` as well."""
        return frozenset({"loss"})

    def check_signals(self, signals: Mapping[str, Tensor]) -> None:
        """Raise unless all signals are there that `update` needs.

        Parameters
        ----------
        signals : mapping of str to Tensor
            What a forward returned.

        Raises
        ------
        InvalidValueError
            If the loss is missing, or there are no labels to take the mean over.
        """
        super().check_signals(signals)
        if self.reduction == "mean" and not _labels_of(signals):
            raise InvalidValueError(
                "Loss(reduction='mean') needs a signal 'labels' or '<head>_labels', got only "
                f"{', '.join(map(repr, sorted(signals.keys() - {'index'})))}. "
                "Pass labels=... beside the loss, or return them from forward."
            )

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``loss`` (B,); for the mean the labels as well, each (B,), (B, T) or (B, K), negative class ids not counted.

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        loss = signals["loss"].float()  # (B,)
        if self.reduction == "sum":
            return loss
        n_labels = torch.stack([_count_labels(labels) for labels in _labels_of(signals)])  # (n_heads, B)
        return loss / n_labels.sum(0).clamp_min(1)


def _labels_of(signals: Mapping[str, Tensor]) -> list[Tensor]:
    return [signal for name, signal in signals.items() if name == "labels" or name.endswith("_labels")]


def _count_labels(labels: Tensor) -> Tensor:
    """Return how many labels of each example count, (B,), of labels (B, ...); of numbers all do."""
    counted = torch.ones_like(labels) if labels.is_floating_point() else labels >= 0
    return counted.reshape(len(labels), labels.shape[1:].numel()).sum(-1)


class Margin(BatchScorer):
    """How close the two most probable classes are: 1 minus the gap between their probabilities.

    Needs no labels. Higher = harder: 1 where the model wavers between two classes, 0 where it is certain. A confident
    mistake scores low. Free with ``refresh="observed"``; otherwise one forward pass.

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
        In [0, 1] (above with ``ema_plus_std``); NaN = never seen.

    Notes
    -----
    Of an example with logits per token, the mean over the tokens that count; 0 if none does.

    References
    ----------
    Folklore of active learning: Scheffer, Decomain and Wrobel 2001; Settles 2009, *Active Learning Literature Survey*.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> Margin().reset(2).update(torch.arange(2), logits=logits).scores_.round(3)
    array([1.   , 0.095], dtype=float32)
    """

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C), or (B, T, C) with ``labels`` or a ``mask`` (B, T)."""
        return frozenset({"logits"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C); or (B, T, C) with ``labels`` (B, T), from -100 to -1 where a token does not count, or
            ``mask``.

        Returns
        -------
        Tensor
            Shape (B,), float32.

        Raises
        ------
        InvalidValueError
            If logits of tokens come without labels and mask, or have another shape, or are not of classes that exclude
            each other.
        """
        return _per_example("Margin", margin(signals["logits"]), signals)


class Entropy(BatchScorer):
    """How undecided the model is among all classes: the entropy of its prediction, in nats.

    Needs no labels. Higher = harder. A confident mistake scores low. Free with ``refresh="observed"``; otherwise one
    forward pass.

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
        In [0, log C] (above with ``ema_plus_std``); NaN = never seen.

    Notes
    -----
    Of an example with logits per token, the mean over the tokens that count; 0 if none does.

    References
    ----------
    Folklore of active learning: Settles 2009, *Active Learning Literature Survey*.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    >>> Entropy().reset(2).update(torch.arange(2), logits=logits).scores_.round(3)
    array([0.693, 0.191], dtype=float32)
    """

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C), or (B, T, C) with ``labels`` or a ``mask`` (B, T)."""
        return frozenset({"logits"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C); or (B, T, C) with ``labels`` (B, T), from -100 to -1 where a token does not count, or
            ``mask``.

        Returns
        -------
        Tensor
            Shape (B,), float32.

        Raises
        ------
        InvalidValueError
            If logits of tokens come without labels and mask, or have another shape, or are not of classes that exclude
            each other.
        """
        return _per_example("Entropy", entropy(signals["logits"]), signals)


def _per_example(owner: str, values: Tensor, signals: Mapping[str, Tensor]) -> Tensor:
    """Return one value per example of values (B,) or (B, T)."""
    logits, labels, mask = signals["logits"], signals.get("labels"), signals.get("mask")
    if logits.shape[-1] < 2 or (labels is not None and labels.is_floating_point()):
        kind = "one logit" if logits.shape[-1] < 2 else "labels that are no whole numbers"
        raise InvalidValueError(
            f"{owner} needs logits of two or more classes that exclude each other, got {kind}. Use MultiLabelEL2N or "
            "RegressionError; where the classes do exclude each other, leave such labels out."
        )
    if values.dim() == 1:
        return values
    counted = None if mask is None else mask > 0  # (B, T)
    if labels is not None:
        counted = (labels >= 0) | (labels < IGNORED_LABEL)  # the latter are classes that the model lacks
    if values.dim() != 2 or counted is None or counted.shape != values.shape:
        raise InvalidValueError(
            f"{owner} needs logits (B, C), or (B, T, C) with 'labels' or a 'mask' (B, T) that tell which tokens count, "
            f"got logits {tuple(logits.shape)} and {sorted(signals)}."
        )
    return values.masked_fill(~counted, 0.0).sum(-1) / counted.sum(-1).clamp(min=1)
