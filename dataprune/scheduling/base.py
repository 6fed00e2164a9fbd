"""Schedulers: how many examples each epoch keeps, and when they are chosen anew; known before the start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from dataprune.data.counting import count_to_keep, count_updates, round_up_to_updates
from dataprune.errors import InvalidValueError, check_count, check_fraction
from dataprune.scheduling.budget import Budget
from dataprune.scheduling.plan import Plan


@dataclass(frozen=True)
class Decision:
    """What a scheduler says of one epoch.

    Parameters
    ----------
    keep_fraction : float
        Share of the examples to train on, in (0, 1].
    reselect : bool
        Choose anew at the epoch's start; otherwise the last selection stays.

    Examples
    --------
    >>> Decision(keep_fraction=0.5, reselect=True)
    Decision(keep_fraction=0.5, reselect=True)
    """

    keep_fraction: float
    reselect: bool


FULL = Decision(keep_fraction=1.0, reselect=False)
"""All examples; there is nothing to choose."""


def check_refresh(owner: str, refresh: object) -> str | float:
    """Return `refresh` or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    refresh : object
        What the user passed.

    Returns
    -------
    str or float
        ``observed``, ``full``, or a share in (0, 1).

    Raises
    ------
    InvalidValueError
        If it is anything else.

    Examples
    --------
    >>> check_refresh("DynamicPruner", 0.3)
    0.3
    """
    if isinstance(refresh, float) and 0.0 < refresh < 1.0:
        return refresh
    if isinstance(refresh, str) and refresh in {"observed", "full"}:
        return refresh
    raise InvalidValueError(f"{owner}.refresh must be 'observed', 'full' or a share in (0, 1), got {refresh!r}.")


class Scheduler(BaseEstimator, ABC):
    """How many examples each epoch keeps, and when they are chosen anew.

    A new one implements `_decide_pruned`, which is told how many pruned epochs came before and how many there are;
    warm-up and full final epochs stand here.

    Parameters
    ----------
    keep_fraction : float or Budget, default=0.5
        Share of the examples kept in pruned epochs, in (0, 1]; or what they, or the run, may spend.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_full_final_epochs : int, default=0
        Last epochs on all examples.

    Examples
    --------
    >>> class Halving(Scheduler):
    ...     def _decide_pruned(self, n_pruned_epochs, n_to_prune):
    ...         return Decision(keep_fraction=0.5 ** (n_pruned_epochs + 1), reselect=True)
    >>> Halving(n_warmup_epochs=1).plan(100, 4, batch_size=10).n_kept
    (100, 50, 25, 13)
    """

    adaptive: ClassVar[bool] = False

    def __init__(
        self, *, keep_fraction: float | Budget = 0.5, n_warmup_epochs: int = 1, n_full_final_epochs: int = 0
    ) -> None:
        self.keep_fraction = keep_fraction
        self.n_warmup_epochs = n_warmup_epochs
        self.n_full_final_epochs = n_full_final_epochs

    def check(self) -> None:
        """Raise unless every parameter is in range.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        owner = type(self).__name__
        if isinstance(self.keep_fraction, Budget):
            self.keep_fraction.check()
        else:
            check_fraction(owner, "keep_fraction", self.keep_fraction)
        check_count(owner, "n_warmup_epochs", self.n_warmup_epochs)
        check_count(owner, "n_full_final_epochs", self.n_full_final_epochs)

    @property
    def _keep_fraction(self) -> float:
        """The share: of the examples, or of a budget's tokens; one of seconds is not known to be less than all."""
        if not isinstance(self.keep_fraction, Budget):
            return self.keep_fraction
        return self.keep_fraction.token_fraction or float(np.nextafter(1.0, 0.0))

    @abstractmethod
    def _decide_pruned(self, n_pruned_epochs: int, n_to_prune: int) -> Decision:
        """Decide for the epoch after `n_pruned_epochs` of the `n_to_prune` between warm-up and full final epochs."""

    def decide(
        self,
        epoch: int,
        n_epochs: int,
        *,
        scores: NDArray[np.float32] | None = None,  # noqa: ARG002 - for adaptive schedulers
        history: Any = None,  # noqa: ARG002 - for adaptive schedulers
    ) -> Decision:
        """Say how many examples `epoch` keeps and whether they are chosen anew; pure.

        Parameters
        ----------
        epoch : int
            From 0.
        n_epochs : int
            Length of the run.
        scores : ndarray of float32, shape (n_examples,), optional
            For adaptive schedulers; fixed ones ignore it.
        history : PruningHistory, optional
            For adaptive schedulers; fixed ones ignore it.

        Returns
        -------
        Decision
            Share to keep, and whether to choose anew.

        Raises
        ------
        InvalidValueError
            If a parameter or the epoch is out of range.
        """
        self.check()
        if not 0 <= epoch < n_epochs:
            raise InvalidValueError(f"{type(self).__name__}.epoch must be in [0, {n_epochs}), got {epoch}.")
        n_pruned, n_to_prune = epoch - self.n_warmup_epochs, n_epochs - self.n_warmup_epochs - self.n_full_final_epochs
        if not 0 <= n_pruned < n_to_prune:
            return FULL
        decision = self._decide_pruned(n_pruned, n_to_prune)
        return FULL if decision.keep_fraction == 1.0 else decision

    def plan(
        self,
        n_examples: int,
        n_epochs: int,
        batch_size: int,
        *,
        n_accumulation: int = 1,
        drop_last: bool = False,
        whole_updates: bool = False,
        refresh: str | float = "observed",
    ) -> Plan:
        """Lay out a run before it starts.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.
        n_epochs : int
            Length of the run.
        batch_size : int
            Examples in a batch.
        n_accumulation : int, default=1
            Batches per optimizer update; the rest of an epoch makes an update of its own.
        drop_last : bool, default=False
            Whether the loader drops a last batch that is not full.
        whole_updates : bool, default=False
            Raise each epoch's examples until their batches fill whole updates (`PruningTrainer` needs it).
        refresh : {"observed", "full"} or float, default="observed"
            Where the scores come from, as in `DynamicPruner`.

        Returns
        -------
        Plan
            Examples kept, updates and compute of each epoch.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range.
        """
        owner = f"{type(self).__name__}.plan()"
        check_count(owner, "n_examples", n_examples, minimum=1)
        check_count(owner, "n_epochs", n_epochs, minimum=1)
        check_count(owner, "batch_size", batch_size, minimum=1)
        check_count(owner, "n_accumulation", n_accumulation, minimum=1)
        check_refresh(owner, refresh)
        if isinstance(self.keep_fraction, Budget) and self.keep_fraction.n_updates is not None:
            settings: dict[str, Any] = {
                "n_accumulation": n_accumulation,
                "drop_last": drop_last,
                "whole_updates": whole_updates,
            }
            return self.within_updates(n_examples, n_epochs, batch_size, **settings).plan(
                n_examples, n_epochs, batch_size, **settings, refresh=refresh
            )
        decisions = [self.decide(epoch, n_epochs) for epoch in range(n_epochs)]
        is_bound = isinstance(self.keep_fraction, Budget)  # of tokens or seconds: there may be room for all
        n_kept = [n_examples if is_bound else count_to_keep(n_examples, d.keep_fraction) for d in decisions]
        if whole_updates:
            n_kept = [round_up_to_updates(n, n_examples, batch_size, n_accumulation) for n in n_kept]

        # A share that rounds to all examples leaves nothing to choose.
        reselects = tuple(d.reselect and (is_bound or n < n_examples) for d, n in zip(decisions, n_kept, strict=True))

        def updates(n: int) -> int:
            return count_updates(n, batch_size, n_accumulation=n_accumulation, drop_last=drop_last)

        # A scheduler that looks at the scores may choose anew in any epoch that it may prune.
        n_may_prune = max(0, n_epochs - self.n_warmup_epochs - self.n_full_final_epochs)
        n_selections = n_may_prune if self.adaptive else sum(reselects)
        scored_share = 0.0 if refresh == "observed" else 1.0 if refresh == "full" else float(refresh)
        return Plan(
            n_examples=n_examples,
            n_kept=tuple(n_kept),
            reselects=reselects,
            updates=tuple(updates(n) for n in n_kept),
            n_updates_full=updates(n_examples) * n_epochs,
            n_scored=n_selections * count_to_keep(n_examples, scored_share) if scored_share else 0,
            exact=not (self.adaptive or is_bound),
        )

    def count_epochs(self, n_updates: int, n_examples: int, batch_size: int, **settings: Any) -> int:
        """Return the fewest epochs whose plan makes so many updates.

        Parameters
        ----------
        n_updates : int
            Updates of the whole run.
        n_examples : int
            Rows of the full data set.
        batch_size : int
            Examples in a batch.
        **settings : object
            As for `plan`.

        Returns
        -------
        int
            Epochs; the last one may be cut short.

        Raises
        ------
        InvalidTypeError
            If a parameter is of the wrong kind.
        InvalidValueError
            If a parameter is out of range, how many updates an epoch makes is known only when it begins, or an epoch
            makes none.

        Examples
        --------
        >>> from dataprune import CyclicScheduler
        >>> CyclicScheduler(keep_fraction=0.5).count_epochs(17, n_examples=100, batch_size=10)
        3
        """
        owner = type(self).__name__
        check_count(owner, "n_updates", n_updates, minimum=1)
        if self.adaptive or isinstance(self.keep_fraction, Budget):
            what = "The budget decides" if isinstance(self.keep_fraction, Budget) else "The scores decide"
            raise InvalidValueError(
                f"{owner} needs a number of epochs, got one of updates, {n_updates}. {what} how many an epoch makes: "
                "set n_epochs (Trainer's num_train_epochs) in place of n_updates (max_steps)."
            )

        def plan(n_epochs: int) -> Plan:
            return self.plan(n_examples, n_epochs, batch_size, **settings)

        enough = 1
        while (found := plan(enough)).n_updates < n_updates:
            if 0 in found.updates:
                raise InvalidValueError(
                    f"The loader's drop_last=True drops the only batch of an epoch that keeps {min(found.n_kept)} "
                    f"examples, for a batch has {batch_size}. Keep more, or use drop_last=False."
                )
            enough *= 2
        candidates = range(enough // 2 + 1, enough + 1)
        return candidates[bisect_left(candidates, n_updates, key=lambda n_epochs: plan(n_epochs).n_updates)]

    def within_updates(self, n_examples: int, n_epochs: int, batch_size: int, **settings: Any) -> Scheduler:
        """Return this scheduler with the largest share of the examples that its budget of updates is enough for.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.
        n_epochs : int
            Length of the run.
        batch_size : int
            Examples in a batch.
        **settings : object
            As for `plan`.

        Returns
        -------
        Scheduler
            A clone with a number as its ``keep_fraction``; itself without such a budget.

        Raises
        ------
        InvalidValueError
            If not even one example per pruned epoch meets the budget.
        """
        budget = self.keep_fraction
        if not isinstance(budget, Budget) or budget.n_updates is None:
            return self

        def with_count(n_keep: int) -> Scheduler:
            fixed: Scheduler = clone(self).set_params(keep_fraction=n_keep / n_examples)
            return fixed

        def n_updates(n_keep: int) -> int:
            return with_count(n_keep).plan(n_examples, n_epochs, batch_size, **settings).n_updates

        if n_updates(1) > budget.n_updates:
            raise InvalidValueError(
                f"Budget.n_updates must be at least {n_updates(1)} for {n_epochs} epochs of {n_examples} examples in "
                f"batches of {batch_size}, got {budget.n_updates}. Warm up for fewer epochs, or train for fewer."
            )
        counts = range(1, n_examples + 1)
        return with_count(bisect_right(counts, budget.n_updates, key=n_updates))
