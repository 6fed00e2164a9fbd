"""Training dynamics: what a model thinks of an example over its visits, not at one moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataprune.errors import check_choice
from dataprune.scoring.base import BatchScorer
from dataprune.scoring.dynamics_functional import visit_values
from dataprune.scoring.dynamics_store import DynamicsStore

if TYPE_CHECKING:
    import pandas as pd

NEVER_LEARNED = ("hardest", "as_counted")
"""What `Forgetting` makes of examples that were never predicted right."""


class TrainingDynamics(ABC):
    """What all scorers of training dynamics share: one `DynamicsStore`, and its columns under their own names.

    Put it before `BatchScorer` among the bases. The scorers have no smoothing: a score covers all visits.

    Attributes
    ----------
    store_ : DynamicsStore
        The table behind ``scores_``; the same for all of these scorers.
    aum_ : ndarray of float32, shape (n_examples,)
        Mean logit margin of the label; NaN = never seen, here and below.
    confidence_ : ndarray of float32, shape (n_examples,)
        Mean probability of the label.
    variability_ : ndarray of float32, shape (n_examples,)
        Standard deviation (ddof = 0) of the probability of the label.
    correctness_ : ndarray of float32, shape (n_examples,)
        Share of visits with a right prediction.
    n_forgetting_events_ : ndarray of int32, shape (n_examples,)
        Times that a wrong prediction followed on a right one at the visit before.
    never_learned_ : ndarray of bool, shape (n_examples,)
        Seen, and never predicted right.
    """

    _score: ClassVar[str]  # of `DynamicsStore`
    _fitted_store: Callable[[], DynamicsStore]  # BatchScorer's

    def __init__(self) -> None:  # noqa: B027 - takes no parameters: that is its meaning
        pass

    @property
    def requires(self) -> frozenset[str]:
        """``logits`` (B, C) and ``labels`` (B,)."""
        return frozenset({"logits", "labels"})

    def store_values(self, **signals: Tensor) -> Tensor:
        """Return the visits of one batch.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C) and ``labels`` (B,); a visit with a negative label does not count.

        Returns
        -------
        Tensor
            Shape (B, 3), see `visit_values`.
        """
        return visit_values(signals["logits"], signals["labels"])

    def to_pandas(self) -> pd.DataFrame:
        """Return all of the table, under their own names.

        Returns
        -------
        DataFrame
            One row per example: ``confidence``, ``variability``, ``correctness``, ``aum`` (NaN = never seen),
            ``n_forgetting_events``, ``never_learned``, ``n_visits``.

        Raises
        ------
        NotFittedError
            Before `reset` or `fit`.
        """
        import pandas as pd

        columns: dict[str, NDArray[Any]] = {
            "confidence": self.confidence_,
            "variability": self.variability_,
            "correctness": self.correctness_,
            "aum": self.aum_,
            "n_forgetting_events": self.n_forgetting_events_,
            "never_learned": self.never_learned_,
            "n_visits": self._fitted_store().counts,
        }
        return pd.DataFrame(columns).rename_axis("index")

    def score_batch(self, **signals: Tensor) -> Tensor:
        """Score one batch as if each visit were the only one.

        Parameters
        ----------
        **signals : Tensor
            ``logits`` (B, C) and ``labels`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32; 0 where the label is negative.
        """
        visits = self.store_values(**signals)  # (B, 3)
        return self._score_visits(visits).masked_fill(visits[:, 2] < 0, 0.0)

    @abstractmethod
    def _score_visits(self, visits: Tensor) -> Tensor:
        """Return the scores of single visits (B, 3)."""

    def make_store(self, n_examples: int) -> DynamicsStore:
        """Return an empty table of training dynamics.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        DynamicsStore
            The table.
        """
        return DynamicsStore(n_examples, score=self._score)

    @property
    def aum_(self) -> NDArray[np.float32]:
        """Mean logit margin of the label; NaN = never seen."""
        return self._fitted_store().aum

    @property
    def confidence_(self) -> NDArray[np.float32]:
        """Mean probability of the label; NaN = never seen."""
        return self._fitted_store().confidence

    @property
    def variability_(self) -> NDArray[np.float32]:
        """Standard deviation (ddof = 0) of the probability of the label; NaN = never seen."""
        return self._fitted_store().variability

    @property
    def correctness_(self) -> NDArray[np.float32]:
        """Share of visits with a right prediction; NaN = never seen."""
        return self._fitted_store().correctness

    @property
    def n_forgetting_events_(self) -> NDArray[np.int32]:
        """Times that a wrong prediction followed on a right one at the visit before."""
        return self._fitted_store().n_forgetting_events

    @property
    def never_learned_(self) -> NDArray[np.bool_]:
        """Seen, and never predicted right."""
        return self._fitted_store().never_learned


class AUM(TrainingDynamics, BatchScorer):
    """How far the label's logit stays below the largest other one over the visits: the negated area under the margin.

    For single-label classification; made to find mislabelled examples, which stand at the top. Higher = harder. Free
    with ``refresh="observed"``. `make_threshold_examples` and `aum_cutoff` say where to cut.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``-aum_``: minus the mean margin; NaN = never seen.

    Notes
    -----
    The authors' code leaves the first epoch out; here every visit counts. Logits must not be softmaxed or normalised.

    References
    ----------
    Pleiss et al. 2020, *Identifying Mislabeled Data using the Area Under the Margin Ranking*, arXiv 2001.10528.

    Examples
    --------
    >>> scorer = AUM().reset(2)
    >>> logits, labels = torch.tensor([[3.0, 1.0], [3.0, 1.0]]), torch.tensor([0, 1])
    >>> scorer.update(torch.tensor([0, 1]), logits=logits, labels=labels).scores_
    array([-2.,  2.], dtype=float32)
    >>> scorer.aum_
    array([ 2., -2.], dtype=float32)
    """

    _score: ClassVar[str] = "aum"

    def _score_visits(self, visits: Tensor) -> Tensor:
        return visits[:, 1].neg()


class Forgetting(TrainingDynamics, BatchScorer):
    """How often a right prediction turned wrong at the next visit; never learned = hardest.

    For single-label classification over at least a few epochs. Higher = harder; many examples tie, at 0 most of all.
    Free with ``refresh="observed"``.

    Parameters
    ----------
    never_learned : {"hardest", "as_counted"}, default="hardest"
        Score of examples that were never predicted right: above all others, or 0, their number of events.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        Number of forgetting events; NaN = never seen.

    Notes
    -----
    An example that was never predicted right has no event to count. Under ``"hardest"`` its score is the largest number
    of visits that any example had, above every count; with full data that is the original's number of presentations.
    Under pruning a visit may lie epochs after the one before. ``n_forgetting_events_`` and ``never_learned_`` hold the
    raw values.

    References
    ----------
    Toneva et al. 2019, *An Empirical Study of Example Forgetting during Deep Neural Network Learning*, arXiv
    1812.05159.

    Examples
    --------
    >>> scorer = Forgetting().reset(2)
    >>> for epoch, logit in enumerate([1.0, -1.0, 1.0]):
    ...     scorer.set_epoch(epoch)
    ...     logits = torch.tensor([[logit, 0.0], [0.0, 1.0]])
    ...     scorer = scorer.update(torch.tensor([0, 1]), logits=logits, labels=torch.tensor([0, 0]))
    >>> scorer.scores_, scorer.never_learned_
    (array([1., 3.], dtype=float32), array([False,  True]))
    """

    _score: ClassVar[str] = "forgetting"

    def __init__(self, *, never_learned: str = "hardest") -> None:
        super().__init__()
        self.never_learned = never_learned

    def make_store(self, n_examples: int) -> DynamicsStore:
        """Return an empty table of training dynamics.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        DynamicsStore
            The table.

        Raises
        ------
        InvalidValueError
            If `never_learned` is unknown.
        """
        policy = check_choice("Forgetting", "never_learned", self.never_learned, NEVER_LEARNED)
        return DynamicsStore(n_examples, score="forgetting" if policy == "hardest" else "n_forgetting_events")

    def _score_visits(self, visits: Tensor) -> Tensor:
        return ((visits[:, 2] == 0) & (self.never_learned == "hardest")).to(torch.float32)


class Confidence(TrainingDynamics, BatchScorer):
    """How little probability the label gets on average over the visits.

    For single-label classification. Higher = harder: the negated confidence of dataset cartography; its top holds hard
    and mislabelled examples. Free with ``refresh="observed"``.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``-confidence_``: minus the mean probability of the label, in [-1, 0]; NaN = never seen.

    References
    ----------
    Swayamdipta et al. 2020, *Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics*, arXiv
    2009.10795.

    Examples
    --------
    >>> scorer = Confidence().reset(1)
    >>> for epoch, logit in enumerate([1.0, -1.0]):
    ...     scorer.set_epoch(epoch)
    ...     logits = torch.tensor([[logit, 0.0]])
    ...     scorer = scorer.update(torch.tensor([0]), logits=logits, labels=torch.tensor([0]))
    >>> scorer.confidence_, scorer.scores_
    (array([0.5], dtype=float32), array([-0.5], dtype=float32))
    """

    _score: ClassVar[str] = "confidence"

    def _score_visits(self, visits: Tensor) -> Tensor:
        return visits[:, 0].neg()


class Variability(TrainingDynamics, BatchScorer):
    """How much the probability of the label moves over the visits: high for ambiguous examples.

    For single-label classification over at least a few epochs: after one visit all scores are 0. Higher = more
    ambiguous, which is not harder: what stays wrong throughout does not move either. Free with ``refresh="observed"``.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``variability_``: standard deviation (ddof = 0) of the probability of the label; NaN = never seen.

    References
    ----------
    Swayamdipta et al. 2020, *Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics*, arXiv
    2009.10795.

    Examples
    --------
    >>> scorer = Variability().reset(1)
    >>> for epoch, logit in enumerate([1.0, -1.0]):
    ...     scorer.set_epoch(epoch)
    ...     logits = torch.tensor([[logit, 0.0]])
    ...     scorer = scorer.update(torch.tensor([0]), logits=logits, labels=torch.tensor([0]))
    >>> scorer.scores_.round(3)
    array([0.231], dtype=float32)
    """

    _score: ClassVar[str] = "variability"

    def _score_visits(self, visits: Tensor) -> Tensor:
        return visits.new_zeros(len(visits))


class Correctness(TrainingDynamics, BatchScorer):
    """How seldom the prediction is right over the visits.

    For single-label classification. Higher = harder; coarse, for E visits give E + 1 values, and many examples tie.
    Free with ``refresh="observed"``.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``-correctness_``: minus the share of visits with a right prediction, in [-1, 0]; NaN = never seen.

    References
    ----------
    Swayamdipta et al. 2020, *Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics*, arXiv
    2009.10795.

    Examples
    --------
    >>> scorer = Correctness().reset(1)
    >>> for epoch, logit in enumerate([1.0, -1.0]):
    ...     scorer.set_epoch(epoch)
    ...     logits = torch.tensor([[logit, 0.0]])
    ...     scorer = scorer.update(torch.tensor([0]), logits=logits, labels=torch.tensor([0]))
    >>> scorer.correctness_, scorer.scores_
    (array([0.5], dtype=float32), array([-0.5], dtype=float32))
    """

    _score: ClassVar[str] = "correctness"

    def _score_visits(self, visits: Tensor) -> Tensor:
        return visits[:, 2].neg()


class Cartography(TrainingDynamics, BatchScorer):
    """The data map: confidence, variability and correctness of each example, with its AUM and forgetting, in one table.

    For single-label classification. As a score it is `Variability`: the ambiguous examples stand at the top. Free with
    ``refresh="observed"``.

    Attributes
    ----------
    scores_ : ndarray of float32, shape (n_examples,)
        ``variability_``; NaN = never seen.

    References
    ----------
    Swayamdipta et al. 2020, *Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics*, arXiv
    2009.10795.

    Examples
    --------
    >>> scorer = Cartography().reset(1)
    >>> for epoch, logit in enumerate([1.0, -1.0]):
    ...     scorer.set_epoch(epoch)
    ...     logits = torch.tensor([[logit, 0.0]])
    ...     scorer = scorer.update(torch.tensor([0]), logits=logits, labels=torch.tensor([0]))
    >>> scorer.to_pandas()[["confidence", "variability", "correctness"]].round(3)
           confidence  variability  correctness
    index
    0             0.5        0.231          0.5
    """

    _score: ClassVar[str] = "variability"

    def _score_visits(self, visits: Tensor) -> Tensor:
        return visits.new_zeros(len(visits))
