"""What `DynamicPruner.attach` refuses before a run starts, each with a sentence."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from dataprune.errors import InvalidTypeError, InvalidValueError, check_count
from dataprune.scheduling.base import Scheduler, check_refresh
from dataprune.scheduling.plan import Plan
from dataprune.scoring.base import BatchScorer, DatasetScorer, Scorer
from dataprune.scoring.score_log import ScoreLog
from dataprune.scoring.store import ExampleStore
from dataprune.selection._wrapper import SelectorWrapper
from dataprune.selection.balanced import ClassFloor
from dataprune.selection.base import Selector
from dataprune.selection.batch import BatchPolicy
from dataprune.selection.columns import has_several, several_values
from dataprune.selection.random import RandomK


def check_parts(
    *,
    scorer: Scorer | None,
    selector: Selector,
    scheduler: Scheduler,
    batch_policy: BatchPolicy | None,
    refresh: str | float,
    random_state: int,
    model: nn.Module | None,
    scores: ExampleStore | None,
    log: ScoreLog | None,
) -> None:
    """Raise unless the parts of a pruner are of the right kinds and go together.

    Parameters
    ----------
    scorer : Scorer or None
        How hard an example is.
    selector : Selector
        Which examples to keep.
    scheduler : Scheduler
        How many, and when.
    batch_policy : BatchPolicy or None
        What of each batch.
    refresh : {"observed", "full"} or float
        Where scores come from.
    random_state : int
        Seed.
    model : nn.Module or None
        Needed when scoring passes are made.
    scores : ExampleStore or None
        Scores to start from.
    log : ScoreLog or None
        Where the training pass is logged.

    Raises
    ------
    InvalidTypeError
        If a part is of the wrong kind.
    InvalidValueError
        If a value is out of range, or parts do not go together.
    """
    kinds: dict[str, tuple[object, type]] = {
        "scorer": (scorer, Scorer),
        "selector": (selector, Selector),
        "scheduler": (scheduler, Scheduler),
        "batch_policy": (batch_policy, BatchPolicy),
        "scores": (scores, ExampleStore),
        "log": (log, ScoreLog),
    }
    for name, (part, kind) in kinds.items():
        if part is not None and not isinstance(part, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            raise InvalidTypeError(f"DynamicPruner.{name} must be {article} {kind.__name__}, got {reprlib.repr(part)}.")
    scheduler.check()
    check_count("DynamicPruner", "random_state", random_state)
    check_refresh("DynamicPruner", refresh)
    for name, default in (("keep_fraction", 1.0), ("random_state", None)):
        value = getattr(selector, name)
        if value != default:
            raise InvalidValueError(
                f"{type(selector).__name__}.{name} must be left out inside a DynamicPruner, got {value!r}. "
                + ("Set it on the scheduler." if name == "keep_fraction" else "Set it on the pruner.")
            )
    selector.check()
    _check_policy(batch_policy, scorer)
    if scorer is None:
        _check_without_scorer(selector, scheduler, scores)
        return
    if isinstance(scorer, DatasetScorer):
        if refresh != "observed" or scores is not None:
            given = "scores=..." if scores is not None else f"refresh={refresh!r}"
            raise InvalidValueError(
                f"DynamicPruner takes the scores of {type(scorer).__name__} once, from the data set itself, "
                f"got {given}. Leave it out."
            )
        return
    if not isinstance(scorer, BatchScorer):
        raise InvalidTypeError(
            f"DynamicPruner.scorer must be a BatchScorer or a DatasetScorer, got {scorer!r}. A StaticPruner takes any."
        )
    if refresh != "full" and not scorer.supports_observe:
        raise InvalidValueError(
            f"DynamicPruner.refresh must be 'full' for {type(scorer).__name__}, got {refresh!r}. "
            "Its score cannot be read off a training pass."
        )
    if refresh == "full" and scheduler.adaptive and scores is None:
        raise InvalidValueError(
            f"DynamicPruner.refresh must not be 'full' for {type(scheduler).__name__}: how many it keeps follows from "
            "scores that are there before the pass. Use 'observed' or a share in (0, 1), or pass scores=..."
        )
    if refresh != "observed" and model is None:
        raise InvalidValueError(f"DynamicPruner.attach() needs model=... with refresh={refresh!r}, got None.")


def _check_without_scorer(selector: Selector, scheduler: Scheduler, scores: ExampleStore | None) -> None:
    if selector.uses_scores:
        raise InvalidValueError(
            f"DynamicPruner.scorer must be given for {type(selector).__name__}, got None. "
            "Pass a scorer such as EL2N(), or select with RandomK()."
        )
    if scheduler.adaptive:
        raise InvalidValueError(
            f"DynamicPruner.scorer must be given for {type(scheduler).__name__}, got None. "
            "How many it keeps follows from the scores."
        )
    if scores is not None:
        raise InvalidValueError("DynamicPruner.scorer must be given to go on from scores=..., got None.")


def _check_policy(policy: BatchPolicy | None, scorer: Scorer | None) -> None:
    if policy is None:
        return
    policy.check()
    if not (isinstance(scorer, BatchScorer) and scorer.supports_observe):
        raise InvalidValueError(
            "DynamicPruner.scorer must be one that scores a batch in training, such as Loss(), for "
            f"{type(policy).__name__}, got {scorer!r}."
        )


def known_columns(selector: Selector, n_examples: int, **columns: Any) -> dict[str, NDArray[Any]]:
    """Return what is known of the examples beside their scores, or raise if the selector needs more.

    Parameters
    ----------
    selector : Selector
        Whose ``fit`` takes the columns.
    n_examples : int
        Rows of the full data set.
    **columns : array-like or None
        ``labels``, ``groups``, ``features``, ``cost``; None is not known.

    Returns
    -------
    dict of str to ndarray
        Those that are known.

    Raises
    ------
    InvalidValueError
        If the selector needs one that is not, or one has another length than the data set or odd values.

    Examples
    --------
    >>> from dataprune import TopK
    >>> known_columns(TopK(), 2, labels=[0, 1], cost=None)
    {'labels': array([0, 1])}
    """
    known = {
        name: several_values(column) if name in selector.takes_several else _as_array(name, column)
        for name, column in columns.items()
        if column is not None
    }
    missing = sorted(selector.needs - known.keys())
    if missing:
        raise InvalidValueError(
            f"{type(selector).__name__} needs {' and '.join(f'{name}=...' for name in missing)}. "
            "Pass it to attach() or fit()."
        )
    for name, column in known.items():
        if column.ndim == 0 or len(column) != n_examples:
            raise InvalidValueError(
                f"DynamicPruner.{name} must have a value for each of the {n_examples} examples, got {column.shape}."
            )
        if name == "cost" and not (np.isfinite(column) & (column > 0)).all():
            raise InvalidValueError("DynamicPruner.cost must be above 0 and finite for each example.")
        if name == "features" and not np.isfinite(column).all():
            raise InvalidValueError("DynamicPruner.features must be finite for each example.")
    return known


def _as_array(name: str, column: Any) -> NDArray[Any]:
    try:
        return np.asarray(column)
    except ValueError:
        raise InvalidValueError(
            f"DynamicPruner.{name} must have one value per example, got rows of different lengths."
        ) from None


def log_signals(log: ScoreLog, index: Tensor, *, epoch: int, signals: Mapping[str, Tensor]) -> None:
    """Log one batch of the training pass.

    Parameters
    ----------
    log : ScoreLog
        The log.
    index : Tensor
        Shape (B,), rows of the full data set.
    epoch : int
        From 0.
    signals : mapping of str to Tensor
        With ``logits`` (B, C) and ``labels`` (B,).

    Raises
    ------
    InvalidValueError
        If one is missing.
    """
    missing = sorted({"logits", "labels"} - signals.keys())
    if missing:
        raise InvalidValueError(
            f"A ScoreLog needs the signals 'labels' and 'logits', got no {' and no '.join(map(repr, missing))}. "
            "Pass them to observe(), or leave the log out: it is for models with one head."
        )
    log.update(index, epoch=epoch, logits=signals["logits"], labels=signals["labels"])


def plan_run(
    scheduler: Scheduler,
    n_epochs: int | None,
    n_updates: int | None,
    *,
    n_examples: int,
    batch_size: int,
    n_accumulation: int,
    drop_last: bool,
    whole_updates: bool,
    refresh: str | float,
) -> tuple[Scheduler, int, Plan]:
    """Return the scheduler within its budget of updates, the epochs that it counts with, and what the run does.

    Parameters
    ----------
    scheduler : Scheduler
        As the user gave it.
    n_epochs : int or None
        Length of the run.
    n_updates : int or None
        Length of the run in optimizer updates.
    n_examples : int
        Rows of the full data set.
    batch_size : int
        Examples in a batch, of all ranks together.
    n_accumulation : int
        Batches per optimizer update.
    drop_last : bool
        Whether a last batch that is not full is dropped.
    whole_updates : bool
        Whether batches fill whole updates.
    refresh : {"observed", "full"} or float
        Where the scores come from.

    Returns
    -------
    tuple of (Scheduler, int, Plan)
        The plan of a run of `n_updates` may end before the last of the epochs.

    Raises
    ------
    InvalidTypeError
        If a number is none.
    InvalidValueError
        If not just one length is given, a number is out of range, or the scheduler needs `n_epochs`.

    Examples
    --------
    >>> from dataprune import CyclicScheduler
    >>> counts = {"n_accumulation": 1, "drop_last": False, "whole_updates": False, "refresh": "observed"}
    >>> scheduler = CyclicScheduler(keep_fraction=0.5)
    >>> _, n_epochs, plan = plan_run(scheduler, None, 17, n_examples=100, batch_size=10, **counts)
    >>> n_epochs, plan.updates
    (3, (10, 5, 2))
    """
    if (n_epochs is None) == (n_updates is None):
        given = "none" if n_epochs is None else "both"
        raise InvalidValueError(f"DynamicPruner.attach() needs n_epochs=... or n_updates=..., got {given}.")
    counts: dict[str, Any] = {"n_accumulation": n_accumulation, "drop_last": drop_last, "whole_updates": whole_updates}
    if n_updates is not None:
        n_epochs = scheduler.count_epochs(n_updates, n_examples, batch_size, **counts)
    n_epochs = check_count("DynamicPruner", "n_epochs", n_epochs, minimum=1)
    scheduler = scheduler.within_updates(n_examples, n_epochs, batch_size, **counts)
    plan = scheduler.plan(n_examples, n_epochs, batch_size, **counts, refresh=refresh)
    if n_updates is not None:
        plan = plan.cut(n_updates, n_per_update=batch_size * n_accumulation)
    return scheduler, n_epochs, plan


def check_log(log: ScoreLog | None, *, n_examples: int) -> None:
    """Raise if a log is one of another number of examples.

    Parameters
    ----------
    log : ScoreLog or None
        Where the training pass is logged.
    n_examples : int
        Rows of the full data set.

    Raises
    ------
    InvalidValueError
        If it is.
    """
    if log is not None and log.n_examples != n_examples:
        raise InvalidValueError(f"The ScoreLog is one of {log.n_examples} examples, but the data set has {n_examples}.")


def check_rules(selector: Selector, known: Mapping[str, NDArray[Any]], *, n_examples: int, n_keep: int) -> None:
    """Raise if so few examples break the rules of a wrapper: floors, or rows that are always kept.

    Parameters
    ----------
    selector : Selector
        Any; only a wrapper has rules.
    known : mapping of str to ndarray
        From `known_columns`.
    n_examples : int
        Rows of the full data set.
    n_keep : int
        Examples of the smallest selection.

    Raises
    ------
    InvalidValueError
        If a rule needs more.

    Examples
    --------
    >>> from dataprune import KeepAlways
    >>> check_rules(KeepAlways(indices=[2, 5]), {}, n_examples=9, n_keep=1)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: KeepAlways.n_keep must be at least 2, the number of rows always kept, got 1...
    """
    if isinstance(selector, SelectorWrapper):
        _with_random_choice(selector, known).fit(np.zeros(n_examples, np.float32), n_keep=n_keep, **known)


def _with_random_choice(selector: Selector | None, known: Mapping[str, NDArray[Any]]) -> Selector:
    """Return a copy of a wrapper around a choice that costs nothing, without the rules that depend on the choice."""
    if not isinstance(selector, SelectorWrapper):
        return RandomK()
    inner = _with_random_choice(selector.selector, known)
    if isinstance(selector, ClassFloor) and has_several(known[selector.by]):
        return inner
    return clone(selector).set_params(selector=inner)  # type: ignore[no-any-return]


def checked_batch_size(loader: DataLoader[Any]) -> int:
    """Return the batch size of a loader that can be pruned, or raise.

    Parameters
    ----------
    loader : DataLoader
        The user's loader.

    Returns
    -------
    int
        Examples in a batch.

    Raises
    ------
    InvalidTypeError
        If it is no DataLoader.
    InvalidValueError
        If it was made with a batch sampler.

    Examples
    --------
    >>> checked_batch_size(DataLoader([1, 2], batch_size=2))
    2
    """
    if not isinstance(loader, DataLoader):
        raise InvalidTypeError(f"DynamicPruner.attach() needs a torch DataLoader, got {type(loader).__name__}.")
    if loader.batch_size is None:
        raise InvalidValueError(
            "DynamicPruner.attach() needs a DataLoader with batch_size=..., got one with a batch_sampler or none. "
            "Make the loader with batch_size and shuffle; group_by_length=True batches by length."
        )
    return loader.batch_size


def shuffles(loader: DataLoader[Any]) -> bool:
    """Return whether a loader shuffles, or raise if it chooses rows by rules of its own.

    Parameters
    ----------
    loader : DataLoader
        The user's loader.

    Returns
    -------
    bool
        True for ``shuffle=True``.

    Raises
    ------
    InvalidValueError
        If it has a sampler of its own.

    Examples
    --------
    >>> shuffles(DataLoader([1, 2], shuffle=True))
    True
    """
    sampler = loader.sampler
    # Exact types: a subclass (distributed, weighted) chooses rows by rules that pruning would silently replace.
    if type(sampler) is SequentialSampler:
        return False
    if type(sampler) is RandomSampler and not sampler.replacement and len(sampler) == len(loader.dataset):  # type: ignore[arg-type]
        return True
    raise InvalidValueError(
        f"DynamicPruner.attach() needs a DataLoader made with shuffle=True or shuffle=False, got the sampler "
        f"{type(sampler).__name__}. Leave sampler=... out: the pruner chooses the rows."
    )


def with_changes(loader: DataLoader[Any], **changes: Any) -> DataLoader[Any]:
    """Return a loader with the settings of another, but for some.

    Parameters
    ----------
    loader : DataLoader
        Stays as it is.
    **changes : object
        Arguments of `DataLoader` that differ.

    Returns
    -------
    DataLoader
        A new one.

    Examples
    --------
    >>> loader = with_changes(DataLoader([1, 2, 3, 4], batch_size=2), batch_size=4)
    >>> len(loader), loader.batch_size
    (1, 4)
    """
    settings = {
        "dataset": loader.dataset,
        "batch_size": loader.batch_size,
        "sampler": loader.sampler,
        "collate_fn": loader.collate_fn,
        "num_workers": loader.num_workers,
        "pin_memory": loader.pin_memory,
        "drop_last": loader.drop_last,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers,
        "generator": loader.generator,
    }
    return DataLoader(**(settings | changes))
