"""Checks that a scorer, a selector or a scheduler keeps its contract; run them on your own classes.

Each takes an instance, tries it out on small made-up data, and raises `AssertionError` with one sentence at the first
broken rule. They need no test framework::

    from dataprune.testing import check_scorer

    def test_my_scorer_keeps_the_contract():
        check_scorer(MyScorer())
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name

from dataprune.errors import DataPruneError
from dataprune.scheduling import Decision, Scheduler
from dataprune.scoring.base import BatchScorer
from dataprune.selection.base import Selector

Signals = Mapping[str, Tensor]

N_EXAMPLES = 23  # no multiple of the batch sizes below
INF, NAN = float("inf"), float("nan")
HARD_SCORES: dict[str, list[float]] = {
    "ties": [1.0, 1.0, 2.0, 2.0, 2.0, 0.0],
    "constants": [0.1] * 7,
    "zeros": [0.0] * 5,
    "negatives": [-3.0, -1.0, -2.0, -1.0],
    "huge": [1.7e308, -1.7e308, 0.0, 5e-324],
    "one inf": [1.0, INF, 0.0, 2.0],
    "all inf": [INF] * 4,
    "both infs": [-INF, INF, -INF, 0.0, INF],
    "all -inf": [-INF] * 3,
    "one NaN": [0.5, NAN, 0.7, 0.1],
    "all NaN": [NAN] * 5,
    "NaN and infs": [NAN, INF, NAN, -INF, 1.0, NAN],
    "one": [0.5],
    "none": [],
}
"""Score vectors that have broken selections elsewhere."""


def check_scorer(scorer: BatchScorer, *, make_signals: Callable[[int, torch.Generator], Signals] | None = None) -> None:
    """Raise unless `scorer` keeps the contract of a `BatchScorer`.

    Checked: `clone` and ``repr``; signals, gradients and the global random state stay as they are;
    float32 scores of shape (B,) that depend on no neighbour, order, batch size or padding; ``fit`` returns self;
    ``transform`` leaves ``scores_`` alone; a missing signal is named.

    Parameters
    ----------
    scorer : BatchScorer
        With the parameters to check; it is cloned, never changed.
    make_signals : callable, optional
        ``make_signals(n_examples, generator)`` returns the signals of that many examples; by default made-up logits and
        labels: (B, C) for ``logits``, (B, T, C) with uncounted positions for ``<head>_logits``, and their ``loss``.

    Raises
    ------
    AssertionError
        If a rule is broken.

    Examples
    --------
    >>> from dataprune import EL2N
    >>> check_scorer(EL2N(smoothing="mean"))
    """
    name = _check_estimator(scorer, BatchScorer)
    make = _default_signals if make_signals is None else make_signals
    signals = dict(make(N_EXAMPLES, torch.Generator().manual_seed(0)))
    _require(
        isinstance(scorer.requires, frozenset) and scorer.requires <= signals.keys(),
        f"{name}.requires must be a frozenset of names in {sorted(signals)}, got {scorer.requires!r}",
    )
    _check_update(scorer, signals, name)
    expected = _scores(scorer, signals, torch.arange(N_EXAMPLES), batch_size=N_EXAMPLES)
    order = torch.randperm(N_EXAMPLES, generator=torch.Generator().manual_seed(1))
    for what, scores in {
        "the batch size": _scores(scorer, signals, torch.arange(N_EXAMPLES), batch_size=5),
        "the other examples of a batch": _scores(scorer, signals, torch.arange(N_EXAMPLES), batch_size=1),
        "the order": _scores(scorer, signals, order, batch_size=4),
        "padding": _scores(scorer, _padded(signals), torch.arange(N_EXAMPLES), batch_size=N_EXAMPLES),
    }.items():
        _require(
            np.allclose(scores, expected, rtol=1e-5, atol=1e-7),
            f"{name}'s scores must not depend on {what}, got {scores} and {expected}",
        )
    _check_passes(scorer, signals, expected, name)


def _check_update(scorer: BatchScorer, signals: Signals, name: str) -> None:
    scores = scorer.score_batch(**{key: signal.clone() for key, signal in signals.items()})
    _require(
        scores.shape == (N_EXAMPLES,) and scores.dtype == torch.float32,
        f"{name}.score_batch() must return float32 of shape (B,), got {scores.dtype}, {tuple(scores.shape)}",
    )
    given = {key: signal.clone() for key, signal in signals.items()}
    floats = [signal.requires_grad_() for signal in given.values() if signal.is_floating_point()]
    index, fresh = torch.arange(N_EXAMPLES), clone(scorer).reset(N_EXAMPLES)
    with unchanged_random_state(f"{name}.update()"):
        _require(fresh.update(index, **given) is fresh, f"{name}.update() must return the scorer itself")
    for key, signal in signals.items():
        _require(torch.equal(given[key].detach(), signal), f"{name}.update() must not change the signal {key!r}")
    _require(all(signal.grad is None for signal in floats), f"{name}.update() must not touch gradients")
    for missing in scorer.requires:
        rest = {key: signal for key, signal in signals.items() if key != missing}
        what = f"{name}.update() without the signal {missing!r}"
        _must_raise(repr(missing), what, clone(scorer).reset(N_EXAMPLES).update, index, **rest)


def _check_passes(scorer: BatchScorer, signals: Signals, expected: NDArray[np.float32], name: str) -> None:
    rows = [{key: signal[i] for key, signal in signals.items()} for i in range(N_EXAMPLES)]
    before = pickle.dumps(rows)
    model = nn.Dropout()  # in train mode: a scorer must not leave it in another
    fresh = clone(scorer)
    with unchanged_random_state(f"{name}.fit()"):
        returned = fresh.fit(rows, model=model, forward=_signals_of_the_batch, batch_size=7)
    _require(returned is fresh, f"{name}.fit() must return the scorer itself")
    _require(model.training, f"{name}.fit() must leave the model in the mode it was in")
    _require(pickle.dumps(rows) == before, f"{name}.fit() must not change its data set")
    _require(
        fresh.scores_.dtype == np.float32 and np.allclose(fresh.scores_, expected, rtol=1e-5, atol=1e-7),
        f"{name}.fit() must score as update() does, got {fresh.scores_} and {expected}",
    )
    before_transform = fresh.scores_
    some = fresh.transform(rows[:3], model=model, forward=_signals_of_the_batch)
    _require(
        np.allclose(some, expected[:3], rtol=1e-5, atol=1e-7),
        f"{name}.transform() must score as fit() does, got {some} and {expected[:3]}",
    )
    _require(np.array_equal(fresh.scores_, before_transform), f"{name}.transform() must leave scores_ untouched")


def check_selector(selector: Selector, *, ranked: bool = False) -> None:
    """Raise unless `selector` keeps the contract of a `Selector`.

    Checked: `clone` and ``repr``; asked n, got n, for every n and scores with ties, constants,
    infinities and NaN; indices sorted, unique, in range, with one finite weight each; inputs and the global random
    state stay as they are; the seed alone decides; never-seen examples first, where scores are used.

    Parameters
    ----------
    selector : Selector
        With the parameters to check; it is cloned, never changed.
    ranked : bool, default=False
        Whether it keeps the examples of the highest rank; then also: a smaller budget keeps a subset, a constant added
        to all scores changes nothing, and permuted examples give the permuted selection.

    Raises
    ------
    AssertionError
        If a rule is broken.

    Examples
    --------
    >>> from dataprune import TopK, WeightedK
    >>> check_selector(TopK(), ranked=True)
    >>> check_selector(WeightedK())
    """
    name = _check_estimator(selector, Selector)
    for what, values in HARD_SCORES.items():
        for n_keep in range(len(values) + 1):
            _check_selection(selector, np.array(values), n_keep, f"{name}.fit() on {what} with n_keep={n_keep}")
    scores = np.random.default_rng(0).normal(size=40)
    some = clone(selector).set_params(keep_fraction=0.25, random_state=3).fit(scores)
    _require(len(some.indices_) == 10, f"{name}.fit() must keep 10 of 40 at 0.25, got {len(some.indices_)}")
    again = clone(selector).set_params(keep_fraction=0.25, random_state=3).fit(scores)
    _require(
        np.array_equal(some.indices_, again.indices_) and np.array_equal(some.weights_, again.weights_),
        f"{name}.fit() must choose the same with the same random_state",
    )
    _must_raise("at most 40", f"{name}.fit() with a budget above the data", clone(selector).fit, scores, n_keep=41)
    for value in (0.0, 1.5, "half"):
        broken = clone(selector).set_params(keep_fraction=value)
        _must_raise("(0, 1]", f"{name}.fit() with keep_fraction={value!r}", broken.fit, scores)
    if ranked:
        _check_ranked(selector, scores, name)


def _check_selection(selector: Selector, scores: NDArray[np.float64], n_keep: int, what: str) -> None:
    fresh = clone(selector).set_params(random_state=0)
    given = scores.copy()
    with unchanged_random_state(what):
        _require(fresh.fit(given, n_keep=n_keep) is fresh, f"{what} must return the selector itself")
    _require(given.tobytes() == scores.tobytes(), f"{what} must not change its scores")
    indices, weights = fresh.indices_, fresh.weights_
    _require(len(indices) == n_keep, f"{what} must keep {n_keep}, got {len(indices)}")
    _require(indices.dtype == np.int64, f"{what} must give int64 indices, got {indices.dtype}")
    _require(bool((np.diff(indices) > 0).all()), f"{what} must give sorted, unique indices, got {indices}")
    in_range = n_keep == 0 or (indices[0] >= 0 and indices[-1] < len(scores))
    _require(bool(in_range), f"{what} must give indices of its scores, got {indices}")
    _require(
        weights.shape == indices.shape and weights.dtype == np.float32 and bool(np.isfinite(weights).all()),
        f"{what} must give one finite float32 weight per index, got {weights}",
    )
    _require(np.array_equal(np.flatnonzero(fresh.get_support()), indices), f"{what} must agree with get_support()")
    if fresh.uses_scores:
        unseen = np.isnan(scores)
        _require(
            int(unseen[indices].sum()) == min(n_keep, int(unseen.sum())),
            f"{what} must keep never-seen examples first, got {indices}",
        )


def _check_ranked(selector: Selector, scores: NDArray[np.float64], name: str) -> None:
    def kept(values: NDArray[np.float64], n_keep: int) -> set[int]:
        return set(clone(selector).set_params(random_state=0).fit(values, n_keep=n_keep).indices_.tolist())

    tied = np.round(scores, 1)
    for values in (scores, tied, np.where(np.arange(40) % 7 == 0, NAN, tied)):
        for n_keep in range(40):
            _require(
                kept(values, n_keep) <= kept(values, n_keep + 1),
                f"{name}.fit() must keep a subset when the budget shrinks from {n_keep + 1} to {n_keep}",
            )
    exact = np.round(scores * 1024)  # whole numbers: adding one loses nothing
    order = np.random.default_rng(1).permutation(40)
    for n_keep in (1, 13, 39):
        _require(
            kept(exact, n_keep) == kept(exact + 4096, n_keep),
            f"{name}.fit() must not change when a constant is added to all scores",
        )
        _require(
            {int(order[i]) for i in kept(scores[order], n_keep)} == kept(scores, n_keep),
            f"{name}.fit() must permute its selection with the examples",
        )


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
    name = _check_estimator(scheduler, Scheduler)
    for n_epochs in (1, 2, 7, 12):
        decisions = [scheduler.decide(epoch, n_epochs) for epoch in range(n_epochs)]
        backwards = [clone(scheduler).decide(epoch, n_epochs) for epoch in reversed(range(n_epochs))][::-1]
        _require(
            scheduler.adaptive or decisions == backwards,
            f"{name}.decide() must follow from the epoch alone, got {decisions} and {backwards}",
        )
        for epoch, decision in enumerate(decisions):
            _require(
                isinstance(decision, Decision) and 0.0 < decision.keep_fraction <= 1.0,
                f"{name}.decide({epoch}, {n_epochs}) must keep a share in (0, 1], got {decision}",
            )
            is_full = epoch < scheduler.n_warmup_epochs or epoch >= n_epochs - scheduler.n_full_final_epochs
            _require(
                not is_full or decision == Decision(keep_fraction=1.0, reselect=False),
                f"{name}.decide({epoch}, {n_epochs}) must keep all in warm-up and full final epochs, got {decision}",
            )
        pruned = [decision for decision in decisions if decision.keep_fraction < 1.0]
        _require(not pruned or pruned[0].reselect, f"{name} must choose at its first pruned epoch, got {decisions}")
        _check_plan(scheduler, n_epochs, name)
        for epoch in (-1, n_epochs):
            what = f"{name}.decide({epoch}, {n_epochs})"
            _must_raise(f"[0, {n_epochs})", what, scheduler.decide, epoch, n_epochs)
    for parameter, value in (("keep_fraction", 0.0), ("keep_fraction", 1.5), ("n_warmup_epochs", -1)):
        broken = clone(scheduler).set_params(**{parameter: value})
        _must_raise(parameter, f"{name}.decide() with {parameter}={value}", broken.decide, 0, 5)


def _check_plan(scheduler: Scheduler, n_epochs: int, name: str) -> None:
    for n_examples, batch_size, n_accumulation in ((1, 4, 1), (101, 8, 1), (101, 8, 4)):
        plan = scheduler.plan(n_examples, n_epochs, batch_size, n_accumulation=n_accumulation)
        n_batches = [-(-n // batch_size) for n in plan.n_kept]
        _require(
            len(plan.n_kept) == n_epochs
            and all(1 <= n <= n_examples for n in plan.n_kept)
            and list(plan.updates) == [-(-n // n_accumulation) for n in n_batches]
            and plan.n_updates == sum(plan.updates) <= plan.n_updates_full
            and plan.exact is not scheduler.adaptive,
            f"{name}.plan({n_examples}, {n_epochs}, {batch_size}) must add up, got {plan!r}",
        )


@contextmanager
def unchanged_random_state(what: str) -> Iterator[None]:
    """Raise unless the block leaves the random states of Python, NumPy and torch as they were.

    Parameters
    ----------
    what : str
        Subject of the message.

    Raises
    ------
    AssertionError
        If a number was drawn from one of them.

    Examples
    --------
    >>> with unchanged_random_state("A generator of its own"):
    ...     number = torch.rand(1, generator=torch.Generator())
    """
    before = _random_states()
    yield
    changed = [name for name, state in _random_states().items() if state != before[name]]
    _require(not changed, f"{what} must leave the global random states alone, but drew from {' and '.join(changed)}")


def _random_states() -> dict[str, bytes]:
    return {
        "random": pickle.dumps(random.getstate()),
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002 - looked at, not used
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def _check_estimator(part: Any, kind: type) -> str:
    name = type(part).__name__
    _require(isinstance(part, kind), f"{name} must be a {kind.__name__}")
    copy = clone(part)
    _require(_parameters(copy) == _parameters(part), f"clone({name}) must have equal parameters")
    state = sorted(set(vars(copy)) - set(part.get_params(deep=False)))
    _require(not state, f"clone({name}) must have no state, got {state}; a constructor only stores its arguments")
    values = [part, *part.get_params().values()]
    if not any(callable(value) or isinstance(value, np.ndarray) for value in values):  # their repr is no expression
        rebuilt = eval(repr(part), {type(value).__name__: type(value) for value in values})  # noqa: S307 - its own repr
        _require(_parameters(rebuilt) == _parameters(part), f"{name}'s repr must rebuild it, got {part!r}")
    return name


def _parameters(part: BaseEstimator) -> dict[str, str]:
    return {key: repr(value) for key, value in part.get_params().items()}


def _require(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise AssertionError(f"{message}.")


def _must_raise(words: str, what: str, action: Callable[..., object], *arguments: Any, **keywords: Any) -> None:
    try:
        action(*arguments, **keywords)
    except DataPruneError as error:
        _require(words in str(error), f"The error of {what} must mention {words!r}, got {error}")
        return
    raise AssertionError(f"{what} must raise a DataPruneError.")


def _default_signals(n_examples: int, generator: torch.Generator) -> Signals:
    def head(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
        logits = 3 * torch.randn(*shape, 4, generator=generator)  # (B, C) or (B, T, C)
        labels = torch.randint(4, shape, generator=generator)
        if len(shape) == 2:
            labels[torch.rand(shape, generator=generator) < 0.3] = -100
            labels[0] = -100  # an example in which nothing counts
        losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view(shape)
        return logits, labels, losses if len(shape) == 1 else losses.mean(-1)

    signals: dict[str, Tensor] = {}
    signals["logits"], signals["labels"], signals["loss"] = head(n_examples)
    for name, n_tokens in (("intent", 1), ("slot", 6)):
        signals[f"{name}_logits"], signals[f"{name}_labels"], _ = head(n_examples, n_tokens)
    return signals


def _padded(signals: Signals) -> Signals:
    # Two more positions for each head with a label per token: none counts, and their logits are noise.
    padded = dict(signals)
    for key, logits in signals.items():
        labels_key = key.removesuffix("logits") + "labels"
        if key.endswith("logits") and logits.dim() == 3 and labels_key in signals:
            noise = torch.full_like(logits[:, :1], 50.0).repeat(1, 2, 1)
            padded[key] = torch.cat([logits, noise], 1)
            padded[labels_key] = F.pad(signals[labels_key], (0, 2), value=-100)
    return padded


def _scores(scorer: BatchScorer, signals: Signals, order: Tensor, *, batch_size: int) -> NDArray[np.float32]:
    fresh = clone(scorer).reset(N_EXAMPLES)
    for start in range(0, N_EXAMPLES, batch_size):
        index = order[start : start + batch_size]
        fresh.update(index, **{key: signal[index] for key, signal in signals.items()})
    scores: NDArray[np.float32] = fresh.scores_
    return scores


def _signals_of_the_batch(model: nn.Module, batch: Any) -> dict[str, Tensor]:  # noqa: ARG001
    return dict(batch)
