"""How much a pruned epoch may train on under a `Budget` of tokens or seconds, and the selection that holds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidValueError
from dataprune.scheduling.base import Decision, Scheduler
from dataprune.scheduling.budget import Budget
from dataprune.selection.base import Selector
from dataprune.training.history import PruningHistory


@dataclass(frozen=True)
class CostBudget:
    """A budget of tokens or seconds at work in a run.

    Parameters
    ----------
    budget : Budget
        Of tokens or seconds.
    cost : ndarray of float64, shape (n_examples,)
        What training on each example costs: its tokens, where they are known.
    least_share : float
        Of the cost, that a pruned epoch may always have: about a batch.

    Examples
    --------
    >>> from dataprune import TopK
    >>> budget = CostBudget(Budget(token_fraction=0.5), cost=np.array([4.0, 1.0, 1.0, 2.0]), least_share=0.25)
    >>> budget.select(TopK(), np.array([0.0, 1.0, 2.0, 3.0]), {}, share=0.5).indices_
    array([1, 2, 3])
    """

    budget: Budget
    cost: NDArray[np.float64]
    least_share: float

    def share(self, decision: Decision, scheduler: Scheduler, *, n_epochs: int, history: PruningHistory) -> float:
        """Return the share of the cost that the epoch may have which comes after `history`.

        Parameters
        ----------
        decision : Decision
            What the scheduler says of the epoch; its share is of tokens, where the budget is.
        scheduler : Scheduler
            Says which later epochs are full.
        n_epochs : int
            Length of the run.
        history : PruningHistory
            The epochs before.

        Returns
        -------
        float
            In (0, 1].
        """
        if self.budget.seconds is None:
            return decision.keep_fraction
        spent = sum(sum(record.seconds.values()) for record in history)
        trained = sum(record.seconds["train"] for record in history)
        cost = sum(record.n_trained if record.n_tokens is None else record.n_tokens_trained or 0 for record in history)
        seconds_of_full_epoch = trained / cost * float(self.cost.sum())
        # What an epoch takes beside training: evaluation, scoring and selecting.
        beside = (spent - trained) / len(history)
        epochs = range(len(history), n_epochs)
        n_full = sum(scheduler.decide(epoch, n_epochs).keep_fraction == 1.0 for epoch in epochs)
        left = self.budget.seconds - spent - beside * len(epochs) - seconds_of_full_epoch * n_full
        return min(1.0, max(self.least_share, left / (seconds_of_full_epoch * (len(epochs) - n_full))))

    def select(
        self, selector: Selector, scores: NDArray[np.floating[Any]], known: Mapping[str, Any], share: float
    ) -> Selector:
        """Fit `selector` to as many examples as a share of the cost holds.

        Parameters
        ----------
        selector : Selector
            Its random_state is set, so that equal counts give equal choices.
        scores : ndarray, shape (n_examples,)
            Scores.
        known : mapping
            Other columns for ``fit``.
        share : float
            Of the cost.

        Returns
        -------
        Selector
            The same one, fitted: no choice of one example more was within the cost, by bisection; at least one example.
        """
        limit = share * float(self.cost.sum()) * (1 + 1e-12)
        low, high, fitted = 1, len(scores), 0
        while low < high:
            middle = (low + high + 1) // 2
            try:
                spent = self.cost[selector.fit(scores, n_keep=middle, **known).indices_].sum()
                fitted = middle
            except InvalidValueError as error:
                if ".n_keep must be at least" not in str(error):
                    raise
                spent, fitted = 0.0, 0  # fewer than floors need: the answer is above, or the last fit says why not
            if spent <= limit:
                low = middle
            else:
                high = middle - 1
        return selector if fitted == low else selector.fit(scores, n_keep=low, **known)


def cost_budget(
    scheduler: Scheduler,
    cost: Any,
    lengths: NDArray[np.int64] | None,
    *,
    n_examples: int,
    batch_size: int,
    whole_updates: bool,
) -> CostBudget | None:
    """Return the budget that a scheduler's ``keep_fraction`` is, if it is one of tokens or seconds.

    Parameters
    ----------
    scheduler : Scheduler
        As the user gave it.
    cost : array-like, shape (n_examples,), or None
        What each example costs; by default its length. A budget of seconds is by the lengths alone.
    lengths : ndarray of int64, shape (n_examples,), or None
        In tokens, where they are known.
    n_examples : int
        Rows of the full data set.
    batch_size : int
        Examples in a batch.
    whole_updates : bool
        Whether the loop needs to know its updates before it starts.

    Returns
    -------
    CostBudget or None
        None for a share of the examples, and for updates.

    Raises
    ------
    InvalidValueError
        If the loop, the warm-up or what is known of the cost does not suit the budget.

    Examples
    --------
    >>> from dataprune import CyclicScheduler
    >>> cost_budget(CyclicScheduler(), None, None, n_examples=9, batch_size=3, whole_updates=False) is None
    True
    """
    budget = scheduler.keep_fraction
    if not isinstance(budget, Budget) or budget.is_exact:
        return None
    if whole_updates:
        raise InvalidValueError(
            f"PruningTrainer needs to know its updates before it starts, got {budget!r}. "
            "Use Budget(n_updates=...) or a share of the examples, or fit() or a loop of your own."
        )
    if budget.seconds is not None and scheduler.n_warmup_epochs < 1:
        raise InvalidValueError(
            f"{type(scheduler).__name__}.n_warmup_epochs must be at least 1 with {budget!r}, got 0. "
            "Nothing tells how long an epoch takes before one was trained."
        )
    cost = lengths if cost is None or budget.seconds is not None else cost
    if budget.token_fraction is not None and cost is None:
        raise InvalidValueError(
            f"{budget!r} needs what each example costs, but the data set has no column 'input_ids' or 'length'. "
            "Pass cost=... to attach() or fit()."
        )
    costs = np.ones(n_examples) if cost is None else np.asarray(cost, np.float64)
    if costs.shape != (n_examples,) or not (np.isfinite(costs) & (costs >= 0)).all():
        raise InvalidValueError(f"DynamicPruner.cost must be above 0 and finite for each of the {n_examples} examples.")
    return CostBudget(budget, costs, least_share=min(1.0, batch_size / n_examples))
