"""The contract of a `Scheduler`."""

from __future__ import annotations

from sklearn.base import clone

from dataprune.scheduling.base import Decision, Scheduler
from dataprune.testing.common import check_estimator, must_raise, require


def check_scheduler(scheduler: Scheduler) -> None:
    """Raise unless `scheduler` keeps the contract of a `Scheduler`.

    Checked: `clone` and ``repr``; every epoch has a share in (0, 1]; warm-up and full final epochs
    keep all; the first pruned epoch chooses; decisions are pure; the plan adds up; bad values are refused.

    Parameters
    ----------
    scheduler : Scheduler
        With the parameters to check; it is cloned, never changed.

    Raises
    ------
    AssertionError
        If a rule is broken.

    Examples
    --------
    >>> from dataprune import CyclicScheduler
    >>> check_scheduler(CyclicScheduler(keep_fraction=0.3, n_cycle_epochs=2))
    """
    name = check_estimator(scheduler, Scheduler)
    for n_epochs in (1, 2, 7, 12):
        decisions = [scheduler.decide(epoch, n_epochs) for epoch in range(n_epochs)]
        backwards = [clone(scheduler).decide(epoch, n_epochs) for epoch in reversed(range(n_epochs))][::-1]
        require(
            scheduler.adaptive or decisions == backwards,
            f"{name}.decide() must follow from the epoch alone, got {decisions} and {backwards}",
        )
        for epoch, decision in enumerate(decisions):
            require(
                isinstance(decision, Decision) and 0.0 < decision.keep_fraction <= 1.0,
                f"{name}.decide({epoch}, {n_epochs}) must keep a share in (0, 1], got {decision}",
            )
            is_full = epoch < scheduler.n_warmup_epochs or epoch >= n_epochs - scheduler.n_full_final_epochs
            require(
                not is_full or decision == Decision(keep_fraction=1.0, reselect=False),
                f"{name}.decide({epoch}, {n_epochs}) must keep all in warm-up and full final epochs, got {decision}",
            )
        pruned = [decision for decision in decisions if decision.keep_fraction < 1.0]
        require(not pruned or pruned[0].reselect, f"{name} must choose at its first pruned epoch, got {decisions}")
        _check_plan(scheduler, n_epochs, name)
        for epoch in (-1, n_epochs):
            what = f"{name}.decide({epoch}, {n_epochs})"
            must_raise(f"[0, {n_epochs})", what, scheduler.decide, epoch, n_epochs)
    for parameter, value in (("keep_fraction", 0.0), ("keep_fraction", 1.5), ("n_warmup_epochs", -1)):
        if parameter not in scheduler.get_params():
            continue
        broken = clone(scheduler).set_params(**{parameter: value})
        must_raise(parameter, f"{name}.decide() with {parameter}={value}", broken.decide, 0, 5)


def _check_plan(scheduler: Scheduler, n_epochs: int, name: str) -> None:
    for n_examples, batch_size, n_accumulation in ((1, 4, 1), (101, 8, 1), (101, 8, 4)):
        plan = scheduler.plan(n_examples, n_epochs, batch_size, n_accumulation=n_accumulation)
        n_batches = [-(-n // batch_size) for n in plan.n_kept]
        require(
            len(plan.n_kept) == n_epochs
            and all(1 <= n <= n_examples for n in plan.n_kept)
            and list(plan.updates) == [-(-n // n_accumulation) for n in n_batches]
            and plan.n_updates == sum(plan.updates) <= plan.n_updates_full
            and plan.exact is not scheduler.adaptive,
            f"{name}.plan({n_examples}, {n_epochs}, {batch_size}) must add up, got {plan!r}",
        )
