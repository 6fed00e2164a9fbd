"""Scores of the current prediction alone."""

from __future__ import annotations

from torch import Tensor

from dataprune.scoring.base import BatchScorer


class Loss(BatchScorer):
    """The example's own loss, as training computes it.

    For any task whose forward returns a loss per example. Higher = harder; unbounded, so one mislabelled example can
    outweigh many others in a weighted draw. Free with ``refresh="observed"``; otherwise one forward pass.

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
        Losses; NaN = never seen.

    References
    ----------
    Folklore; as a pruning score for instance in Raju et al. 2021, arXiv 2111.12621.

    Examples
    --------
    >>> import torch
    >>> Loss().reset(2).update(torch.tensor([0, 1]), loss=torch.tensor([0.5, 2.0])).scores_
    array([0.5, 2. ], dtype=float32)
    """

    @property
    def requires(self) -> frozenset[str]:
        """``loss`` (B,)."""
        return frozenset({"loss"})

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch.

        Parameters
        ----------
        **signals : Tensor
            ``loss`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32.
        """
        return signals["loss"].float()
