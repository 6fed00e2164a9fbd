"""Batch policies: of each batch, which examples are trained on and with what weight, by their scores of that moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from dataprune.data.counting import count_to_keep
from dataprune.errors import check_fraction, check_positive, check_share
from dataprune.selection._shares import count_of_share


class BatchPolicy(BaseEstimator, ABC):
    """What a batch trains on, decided when its scores are known: beside a selector, which decides for an epoch.

    A new one implements `_choose`, or overrides `weigh` if it leaves nothing out.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of each batch that is trained on, in (0, 1].

    Examples
    --------
    >>> class BatchEasiest(BatchPolicy):
    ...     def _choose(self, scores, n_keep, generator):
    ...         return scores.argsort()[:n_keep]
    >>> BatchEasiest(keep_fraction=0.5).weigh(torch.tensor([0.9, 0.1, 0.5, 0.2]))
    tensor([0., 2., 0., 2.])
    """

    def __init__(self, *, keep_fraction: float = 0.5) -> None:
        self.keep_fraction = keep_fraction

    @property
    def leaves_out(self) -> bool:
        """Whether some of a batch is not trained on."""
        return bool(self.keep_fraction < 1.0)

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        check_fraction(type(self).__name__, "keep_fraction", self.keep_fraction)

    def weigh(self, scores: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the loss weights of a batch; never waits for the device.

        Parameters
        ----------
        scores : Tensor
            Shape (B,), higher = harder.
        generator : torch.Generator, optional
            On the CPU, for policies that draw; by default torch's own.

        Returns
        -------
        Tensor
            Shape (B,), float32, detached: B / n_kept for each of the exactly ``n_kept = keep_fraction * B`` chosen ones
            (to the nearest, at least 1), 0 for the others. The mean of weight times loss over the batch is then the
            mean loss of the chosen ones.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        self.check()
        scores = scores.detach().float()
        n_keep = count_to_keep(len(scores), self.keep_fraction)
        weights = torch.zeros_like(scores)
        weights[self._choose(scores, n_keep, generator)] = len(scores) / max(n_keep, 1)
        return weights

    @abstractmethod
    def _choose(self, scores: Tensor, n_keep: int, generator: torch.Generator | None) -> Tensor:
        """Choose exactly `n_keep` positions of `scores` (B,)."""


class BatchTopK(BatchPolicy):
    """The hardest of each batch; with `ReducibleLoss` as the score these are the picks of RHO-Loss.

    Parameters
    ----------
    keep_fraction : float, default=0.1
        Share of each batch that is trained on, in (0, 1]; RHO-Loss picks 32 of 320.

    Notes
    -----
    Ties keep the earlier row of the batch.

    References
    ----------
    Mindermann et al. 2022, *Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt*,
    arXiv 2206.07137.

    Examples
    --------
    >>> BatchTopK(keep_fraction=0.5).weigh(torch.tensor([0.9, 0.1, 0.5, 0.2]))
    tensor([2., 0., 2., 0.])
    """

    def __init__(self, *, keep_fraction: float = 0.1) -> None:
        super().__init__(keep_fraction=keep_fraction)

    def _choose(self, scores: Tensor, n_keep: int, generator: torch.Generator | None) -> Tensor:  # noqa: ARG002
        return scores.argsort(descending=True, stable=True)[:n_keep]


class BatchWindow(BatchPolicy):
    """The hardest of each batch after an offset: the very hardest, noise often, are left out (MidRanking).

    Parameters
    ----------
    offset_fraction : float, default=0.25
        Share of each batch that is left out at the hard end, in [0, 1]; to the nearest, half up.
    keep_fraction : float, default=0.5
        Share of each batch that is trained on, in (0, 1].

    Notes
    -----
    The count goes before the offset: where fewer are left below the window's upper end, the offset shrinks. Ties keep
    the earlier row at the lower end. With ``offset_fraction=0`` it is `BatchTopK`.

    References
    ----------
    Chen et al. 2024, arXiv 2402.14270: in the authors' code (mode ``rank``) the band is the p-th of equal parts of the
    batch, by descending loss. The defaults are our own.

    Examples
    --------
    >>> BatchWindow(offset_fraction=0.25, keep_fraction=0.5).weigh(torch.tensor([0.9, 0.1, 0.5, 0.2]))
    tensor([0., 0., 2., 2.])
    """

    def __init__(self, *, offset_fraction: float = 0.25, keep_fraction: float = 0.5) -> None:
        super().__init__(keep_fraction=keep_fraction)
        self.offset_fraction = offset_fraction

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        super().check()
        check_share(type(self).__name__, "offset_fraction", self.offset_fraction)

    def _choose(self, scores: Tensor, n_keep: int, generator: torch.Generator | None) -> Tensor:  # noqa: ARG002
        n_offset = min(count_of_share(len(scores), self.offset_fraction), len(scores) - n_keep)
        return scores.argsort(descending=True, stable=True)[n_offset : n_offset + n_keep]


class SelectiveBackprop(BatchPolicy):
    """A draw from each batch in which hard examples are likelier, by their rank in it.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of each batch that is trained on, in (0, 1].

    Notes
    -----
    Count-exact, without replacement: with the ranks' percentiles ``q = (rank + 1/2) / B``, the odds are ``q ** (1 /
    keep_fraction - 1)``. The weights do not undo the draw, as in the paper.

    References
    ----------
    Jiang et al. 2019, *Accelerating Deep Learning by Focusing on the Biggest Losers*, arXiv 1910.00762; the count-exact
    draw is that of MosaicML's Composer, for the paper's own takes each example with a probability of its own, from the
    percentile among the latest losses.

    Examples
    --------
    >>> weights = SelectiveBackprop(keep_fraction=0.5).weigh(torch.arange(8.0), generator=torch.Generator())
    >>> weights.count_nonzero().item(), weights.max().item()
    (4, 2.0)
    """

    def _choose(self, scores: Tensor, n_keep: int, generator: torch.Generator | None) -> Tensor:
        n_examples = len(scores)
        percentiles = (torch.arange(n_examples, dtype=torch.float64) + 0.5) / n_examples
        # The smallest exponential keys -log(u) / odds are a draw without replacement (Efraimidis and Spirakis 2006); in
        # logarithms, for the odds of the lowest ranks fall below the smallest number.
        u = torch.rand(n_examples, dtype=torch.float64, generator=generator)
        keys = torch.log(-torch.log(u)) - (1.0 / self.keep_fraction - 1.0) * percentiles.log()
        ranks = keys.argsort()[:n_keep].to(scores.device, non_blocking=True)
        return scores.argsort(stable=True)[ranks]


class RobustWeights(BatchPolicy):
    """Weighs each example of a batch by the exponential of its score: instance-reweighted robust training (IR-DRO).

    Nothing is left out. Meant for `Loss` as the score.

    Parameters
    ----------
    temperature : float, default=1.0
        The larger, the more alike the weights; the paper's lambda.

    Notes
    -----
    The weights of a batch are ``B * softmax(score / temperature)``, without a gradient; their mean is 1. They add to
    what mislabelled examples do, for these have the largest loss. A loss that is a sum over tokens wants a temperature
    that many times as high, or the longest example has all the weight.

    References
    ----------
    Chen et al. 2024, *Take the Bull by the Horns: Hard Sample-Reweighted Continual Training Improves LLM
    Generalization*, arXiv 2402.14270.

    Examples
    --------
    >>> RobustWeights(temperature=1.0).weigh(torch.tensor([0.0, 0.0, 1.0]))
    tensor([0.6358, 0.6358, 1.7284])
    """

    keep_fraction = 1.0  # nothing is left out

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def check(self) -> None:
        """Raise unless the temperature is above 0.

        Raises
        ------
        InvalidTypeError
            If it is no number.
        InvalidValueError
            If it is not above 0.
        """
        check_positive(type(self).__name__, "temperature", self.temperature)

    def weigh(self, scores: Tensor, *, generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the loss weights of a batch.

        Parameters
        ----------
        scores : Tensor
            Shape (B,), higher = harder.
        generator : torch.Generator, optional
            Not used: there is nothing to draw.

        Returns
        -------
        Tensor
            Shape (B,), float32, detached, of mean 1.

        Raises
        ------
        InvalidTypeError
            If the temperature is no number.
        InvalidValueError
            If the temperature is not above 0.
        """
        self.check()
        return torch.softmax(scores.detach().float() / self.temperature, 0) * len(scores)

    def _choose(self, scores: Tensor, n_keep: int, generator: torch.Generator | None) -> Any:
        raise NotImplementedError
