"""Ramps and interleaved epochs: where shares start and end, when they change, and what the pruner makes of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dataprune import DynamicPruner, RandomK
from dataprune.data.counting import count_to_keep
from dataprune.errors import DataPruneError
from dataprune.scheduling.base import FULL
from dataprune.scheduling.by_name import SCHEDULERS, make_scheduler
from dataprune.scheduling.ramps import (
    CosineScheduler,
    ExponentialScheduler,
    InterleavedScheduler,
    LinearScheduler,
    RampScheduler,
    StepScheduler,
)
from dataprune.testing import check_scheduler

FIXED = [name for name, kind in SCHEDULERS.items() if not kind.adaptive]
RAMPS = [LinearScheduler, CosineScheduler, ExponentialScheduler, StepScheduler]


def shares(scheduler, n_epochs):
    return [scheduler.decide(epoch, n_epochs).keep_fraction for epoch in range(n_epochs)]


@given(
    cls=st.sampled_from([*RAMPS, InterleavedScheduler]),
    n_updates=st.integers(1, 200),
    n_examples=st.integers(1, 300),
    n_full_final_epochs=st.integers(0, 2),
    n_accumulation=st.integers(1, 3),
)
def test_a_run_of_so_many_updates_is_the_shortest_plan_that_makes_them(
    cls, n_updates, n_examples, n_full_final_epochs, n_accumulation
):
    scheduler = cls(keep_fraction=0.1, n_full_final_epochs=n_full_final_epochs)
    settings = {"n_examples": n_examples, "batch_size": 10, "n_accumulation": n_accumulation}
    n_epochs = scheduler.count_epochs(n_updates, **settings)
    plan = scheduler.plan(n_epochs=n_epochs, **settings)
    assert plan.n_updates >= n_updates
    assert n_epochs == 1 or scheduler.plan(n_epochs=n_epochs - 1, **settings).n_updates < n_updates
    cut = plan.cut(n_updates, n_per_update=10 * n_accumulation)
    assert cut.n_updates == n_updates
    assert min(cut.updates) > 0
    assert cut.n_kept[:-1] == plan.n_kept[: len(cut.n_kept) - 1]
    assert 0 < cut.n_kept[-1] <= plan.n_kept[len(cut.n_kept) - 1]
    assert -(-cut.n_kept[-1] // (10 * n_accumulation)) == cut.updates[-1]


@pytest.mark.parametrize("n_updates", [9, 10, 14, 17, 23])
def test_a_ramp_that_would_do_more_ends_where_its_updates_are_made(n_updates):
    pruner = DynamicPruner(None, RandomK(), LinearScheduler(keep_fraction=0.1))
    loader = pruner.attach(DataLoader(TensorDataset(torch.zeros(90, 1)), 10), n_updates=n_updates)
    n_done = 0
    for epoch in range(pruner.n_epochs_):
        pruner.set_epoch(epoch)
        for index, _ in loader:
            pruner.observe(index)
            n_done += 1
    assert n_done == pruner.plan_.n_updates == n_updates


@pytest.mark.parametrize("keep_fraction", [0.01, 0.5, 1.0])
@pytest.mark.parametrize(("n_warmup_epochs", "n_full_final_epochs"), [(0, 0), (1, 0), (3, 2)])
@pytest.mark.parametrize("cls", [*RAMPS, InterleavedScheduler])
def test_every_scheduler_keeps_the_contract(cls, keep_fraction, n_warmup_epochs, n_full_final_epochs):
    for n_cycle_epochs in (1, 3):
        check_scheduler(
            cls(
                keep_fraction=keep_fraction,
                n_warmup_epochs=n_warmup_epochs,
                n_cycle_epochs=n_cycle_epochs,
                n_full_final_epochs=n_full_final_epochs,
            )
        )


@settings(max_examples=200, deadline=None)
@given(
    cls=st.sampled_from(RAMPS),
    keep_fraction=st.floats(0.001, 1.0),
    initial=st.floats(0.001, 1.0),
    n_epochs=st.integers(1, 20),
    n_warmup=st.integers(0, 4),
    n_final=st.integers(0, 4),
    n_cycle=st.integers(1, 5),
)
def test_a_ramp_runs_from_its_start_to_its_end(*, cls, keep_fraction, initial, n_epochs, n_warmup, n_final, n_cycle):
    scheduler = cls(
        keep_fraction=keep_fraction,
        initial_keep_fraction=initial,
        n_warmup_epochs=n_warmup,
        n_cycle_epochs=n_cycle,
        n_full_final_epochs=n_final,
    )
    decisions = [scheduler.decide(epoch, n_epochs) for epoch in range(n_epochs)]
    assert decisions[:n_warmup] == [FULL] * min(n_warmup, n_epochs)
    assert decisions[max(0, n_epochs - n_final) :] == [FULL] * min(n_final, n_epochs)
    pruned = decisions[n_warmup : max(n_warmup, n_epochs - n_final)]
    if not pruned:
        return
    assert pruned[-1].keep_fraction == keep_fraction
    way = [initial, *(decision.keep_fraction for decision in pruned)]
    assert way in (sorted(way), sorted(way, reverse=True))
    assert all(0 < share <= 1 for share in way)
    for epoch, decision in enumerate(pruned):  # a share changes only where a new selection is made
        assert epoch % n_cycle == 0 or decision.keep_fraction == pruned[epoch - 1].keep_fraction
        assert decision.reselect == (epoch % n_cycle == 0 and decision.keep_fraction < 1)
    plan = scheduler.plan(97, n_epochs, batch_size=8, n_accumulation=3)
    assert list(plan.n_kept) == [count_to_keep(97, decision.keep_fraction) for decision in decisions]
    assert plan.n_updates == sum(math.ceil(math.ceil(n / 8) / 3) for n in plan.n_kept)
    assert plan.exact


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (LinearScheduler, [1.0, 0.8, 0.6, 0.4, 0.2]),
        (CosineScheduler, [1.0, 0.88284271, 0.6, 0.31715729, 0.2]),
        (ExponentialScheduler, [1.0, 0.66874030, 0.44721360, 0.29906975, 0.2]),
        (StepScheduler, [1.0, 0.73333333, 0.46666667, 0.2, 0.2]),
    ],
)
def test_the_shape_of_each_ramp(cls, expected):
    np.testing.assert_allclose(shares(cls(keep_fraction=0.2), 5), expected, atol=1e-8)


def test_a_ramp_can_go_up_to_everything():
    scheduler = LinearScheduler(initial_keep_fraction=0.2, keep_fraction=1.0, n_warmup_epochs=0)
    np.testing.assert_allclose(shares(scheduler, 4), [0.4, 0.6, 0.8, 1.0])
    assert scheduler.decide(3, 4) == FULL


def test_a_single_pruned_epoch_is_at_the_end_of_the_way():
    assert [shares(cls(keep_fraction=0.3), 2) for cls in RAMPS] == [[1.0, 0.3]] * 4


def test_stairs_last_equally_long_and_never_climb_by_rounding():
    scheduler = StepScheduler(keep_fraction=0.1, n_levels=3, n_warmup_epochs=0)
    for n_each in (1, 2, 7, 10):
        found = np.array(shares(scheduler, 3 * n_each))
        np.testing.assert_allclose(found, np.repeat([0.7, 0.4, 0.1], n_each))


def test_full_epochs_are_interleaved():
    assert shares(InterleavedScheduler(keep_fraction=0.2), 6) == [1.0, 0.2, 1.0, 0.2, 1.0, 0.2]
    scheduler = InterleavedScheduler(keep_fraction=0.2, n_warmup_epochs=0, n_cycle_epochs=2)
    decisions = [scheduler.decide(epoch, 6) for epoch in range(6)]
    assert [decision.keep_fraction for decision in decisions] == [0.2, 0.2, 1.0, 0.2, 0.2, 1.0]
    assert [decision.reselect for decision in decisions] == [True, False, False, True, False, False]


@pytest.mark.parametrize("name", FIXED)
def test_a_run_keeps_and_updates_what_was_planned(name):
    scheduler = make_scheduler("plan", name, keep_fraction=0.3, n_warmup_epochs=1)
    loader = DataLoader(TensorDataset(torch.arange(40.0)[:, None], torch.arange(40) % 2), batch_size=8)
    pruner = DynamicPruner(None, RandomK(), scheduler)
    n_epochs, model = 7, nn.Linear(1, 2)
    chosen = []
    for_training = pruner.attach(loader, n_epochs=n_epochs)
    for epoch in range(n_epochs):
        pruner.set_epoch(epoch)
        chosen.append(pruner.indices_.tolist())
        for index, (x, y) in for_training:
            pruner.observe(index, logits=model(x), labels=y)
    assert [record.n_kept for record in pruner.history_] == list(pruner.plan_.n_kept)
    assert [record.n_updates for record in pruner.history_] == list(pruner.plan_.updates)
    is_new = [len(new) < 40 and new != old for old, new in zip([None, *chosen[:-1]], chosen, strict=True)]
    assert is_new == list(pruner.plan_.reselects)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (LinearScheduler(initial_keep_fraction=0), r"LinearScheduler.initial_keep_fraction must be in \(0, 1\], got 0"),
        (CosineScheduler(n_cycle_epochs=0), "CosineScheduler.n_cycle_epochs must be at least 1, got 0"),
        (StepScheduler(n_levels=0), "StepScheduler.n_levels must be at least 1, got 0"),
        (StepScheduler(n_levels=1.5), "StepScheduler.n_levels must be a whole number"),
        (InterleavedScheduler(n_cycle_epochs=0), "InterleavedScheduler.n_cycle_epochs must be at least 1, got 0"),
        (ExponentialScheduler(keep_fraction="half"), "ExponentialScheduler.keep_fraction must be a number"),
    ],
)
def test_parameters_out_of_range_are_refused(scheduler, words):
    for ask in (scheduler.check, lambda: scheduler.plan(10, 3, 5)):
        with pytest.raises(DataPruneError, match=words):
            ask()


def test_a_ramp_of_ones_own_needs_only_its_shape():
    class Late(RampScheduler):
        def _progress(self, time):
            return time**2

    check_scheduler(Late(keep_fraction=0.1))
    np.testing.assert_allclose(shares(Late(keep_fraction=0.2, n_warmup_epochs=0), 2), [0.8, 0.2])


def test_names_make_schedulers_of_the_settings_that_they_have():
    settings = {"keep_fraction": 0.3, "initial_keep_fraction": 1.0, "n_levels": 3, "n_cycle_epochs": 1}
    for name in FIXED:
        scheduler = make_scheduler("train", name, **settings)
        assert type(scheduler) is SCHEDULERS[name]
        assert scheduler.keep_fraction == 0.3
    softly = make_scheduler("train", "soft-prune", **{**settings, "keep_fraction": 0.5}, n_warmup_epochs=2)
    assert repr(softly) == "SoftPruneScheduler(n_warmup_epochs=2)"


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("cubic", {}, "train.scheduler must be one of 'constant', 'cyclic', 'linear', .*, got 'cubic'"),
        (
            "constant",
            {"n_cycle_epochs": 2},
            "train.n_cycle_epochs must be left out with the scheduler 'constant', got 2",
        ),
        (
            "soft-prune",
            {"keep_fraction": 0.3},
            "train.keep_fraction must be left out with the scheduler 'soft-prune', got 0.3",
        ),
        ("linear", {"n_levels": 4}, "train.n_levels must be left out with the scheduler 'linear', got 4"),
    ],
)
def test_settings_of_other_schedulers_are_refused(name, settings, words):
    with pytest.raises(DataPruneError, match=words):
        make_scheduler("train", name, **settings)
