"""Scorers turn signals (logits, labels, losses) into one number per example: higher = harder."""

from dataprune.scoring.base import BatchScorer, Scorer
from dataprune.scoring.error_norm import EL2N, JointEL2N
from dataprune.scoring.store import ScoreStore
from dataprune.scoring.uncertainty import Loss

__all__ = ["EL2N", "BatchScorer", "JointEL2N", "Loss", "ScoreStore", "Scorer"]
