"""Schedulers and plans: what each epoch keeps, how many updates that makes, what it costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune import Budget, ConstantScheduler, CyclicScheduler, Decision, Plan, SoftPruneScheduler
from dataprune.data.counting import count_to_keep
from dataprune.errors import DataPruneError

FULL = Decision(keep_fraction=1.0, reselect=False)


def decisions(scheduler, n_epochs):
    return [scheduler.decide(epoch, n_epochs) for epoch in range(n_epochs)]


def test_the_cycle_of_the_paper():
    scheduler = CyclicScheduler(keep_fraction=0.2, n_warmup_epochs=2, n_cycle_epochs=3)
    new, old = Decision(keep_fraction=0.2, reselect=True), Decision(keep_fraction=0.2, reselect=False)
    assert decisions(scheduler, 9) == [FULL, FULL, new, old, old, new, old, old, new]


def test_full_final_epochs_are_the_last_ones_of_the_run():
    scheduler = CyclicScheduler(keep_fraction=0.2, n_full_final_epochs=2)
    assert [decision.keep_fraction for decision in decisions(scheduler, 5)] == [1.0, 0.2, 0.2, 1.0, 1.0]


def test_the_constant_scheduler_chooses_once():
    scheduler = ConstantScheduler(keep_fraction=0.5, n_warmup_epochs=1)
    assert [decision.reselect for decision in decisions(scheduler, 5)] == [False, True, False, False, False]


def test_a_run_shorter_than_its_warm_up_stays_full():
    assert decisions(CyclicScheduler(n_warmup_epochs=5), 3) == [FULL] * 3


def test_keeping_all_never_chooses():
    assert decisions(CyclicScheduler(keep_fraction=1.0, n_warmup_epochs=0), 3) == [FULL] * 3


@settings(max_examples=60, deadline=None)
@given(
    n_examples=st.integers(1, 500),
    n_epochs=st.integers(1, 8),
    batch_size=st.integers(1, 40),
    n_accumulation=st.integers(1, 5),
    keep_fraction=st.floats(0.01, 1.0),
    drop_last=st.booleans(),
)
def test_planned_updates_are_those_of_a_loop(
    *, n_examples, n_epochs, batch_size, n_accumulation, keep_fraction, drop_last
):
    scheduler = CyclicScheduler(keep_fraction=keep_fraction)
    plan = scheduler.plan(n_examples, n_epochs, batch_size, n_accumulation=n_accumulation, drop_last=drop_last)
    n_updates = 0
    for epoch, n_kept in enumerate(plan.n_kept):
        assert n_kept == count_to_keep(n_examples, scheduler.decide(epoch, n_epochs).keep_fraction)
        batches = [min(batch_size, n_kept - start) for start in range(0, n_kept, batch_size)]
        if drop_last:
            batches = [size for size in batches if size == batch_size]
        n_updates += len([None for i in range(len(batches)) if (i + 1) % n_accumulation == 0 or i == len(batches) - 1])
    assert plan.n_updates == n_updates


@settings(max_examples=60, deadline=None)
@given(
    n_examples=st.integers(1, 500),
    batch_size=st.integers(1, 40),
    n_accumulation=st.integers(1, 5),
    keep_fraction=st.floats(0.01, 1.0),
)
def test_whole_updates_keep_at_least_what_was_asked(n_examples, batch_size, n_accumulation, keep_fraction):
    scheduler = CyclicScheduler(keep_fraction=keep_fraction)
    asked = scheduler.plan(n_examples, 3, batch_size, n_accumulation=n_accumulation).n_kept
    plan = scheduler.plan(n_examples, 3, batch_size, n_accumulation=n_accumulation, whole_updates=True)
    for n_asked, n_kept in zip(asked, plan.n_kept, strict=True):
        assert n_asked <= n_kept <= n_examples
        assert n_kept == n_examples or -(-n_kept // batch_size) % n_accumulation == 0
        # and no more than needed: one example fewer would need one batch less
        assert n_kept in {n_asked, n_examples} or (n_kept - 1) % batch_size == 0


def test_a_run_of_so_many_updates_has_the_epochs_that_they_fill():
    scheduler = CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=2)
    settings = {"n_examples": 100, "batch_size": 10, "n_accumulation": 3}  # 4, 2, 2, ... updates
    n_updates_to_epochs = [scheduler.count_epochs(n, **settings) for n in range(1, 10)]
    assert n_updates_to_epochs == [1, 1, 1, 1, 2, 2, 3, 3, 4]
    whole = scheduler.plan(n_epochs=4, refresh="full", **settings)
    cut = whole.cut(9, n_per_update=30)
    assert (cut.n_kept, cut.updates, cut.n_updates) == ((100, 50, 50, 30), (4, 2, 2, 1), 9)
    assert (cut.reselects, cut.n_scored, cut.n_updates_full) == (whole.reselects, 200, 16)
    shorter = whole.cut(6, n_per_update=30)
    assert (shorter.n_kept, shorter.reselects, shorter.n_scored) == ((100, 50), (False, True), 100)
    assert whole.cut(10, n_per_update=30) == whole


def test_epochs_without_a_whole_batch_never_fill_an_update():
    with pytest.raises(DataPruneError, match="drops the only batch of an epoch that keeps 5 examples, for a batch has"):
        CyclicScheduler(keep_fraction=0.05).count_epochs(20, 100, 10, drop_last=True)


@pytest.mark.parametrize("n_updates", [0, 2.5])
def test_a_number_of_updates_that_is_none_is_refused(n_updates):
    with pytest.raises(DataPruneError, match=r"CyclicScheduler.n_updates must be "):
        CyclicScheduler().count_epochs(n_updates, 100, 10)


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (SoftPruneScheduler(), "SoftPruneScheduler needs a number of epochs, got one of updates, 9. The scores decide"),
        (CyclicScheduler(keep_fraction=Budget(seconds=9)), "The budget decides how many an epoch makes: set n_epochs"),
        (CyclicScheduler(keep_fraction=Budget(n_updates=9)), "The budget decides"),
    ],
)
def test_where_the_updates_of_an_epoch_are_not_known_its_number_must_be(scheduler, words):
    with pytest.raises(DataPruneError, match=words):
        scheduler.count_epochs(9, 100, 10)


def test_compute_counts_a_scored_example_as_a_third_of_a_trained_one():
    scheduler = CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2, n_cycle_epochs=2)
    full = scheduler.plan(300, 6, 10, refresh="full")
    assert full.n_scored == 2 * 300
    assert full.compute_fraction == pytest.approx((2 * 300 + 4 * 150 + 600 / 3) / 1800)
    share = scheduler.plan(300, 6, 10, refresh=0.1)
    assert share.n_scored == 2 * 30
    assert scheduler.plan(300, 6, 10).compute_fraction == pytest.approx((2 * 300 + 4 * 150) / 1800)


def test_an_epoch_whose_share_rounds_to_all_is_neither_chosen_nor_scored():
    plan = CyclicScheduler(keep_fraction=0.99).plan(10, 3, 5, refresh="full")
    assert plan.n_kept == (10, 10, 10)
    assert plan.reselects == (False, False, False)
    assert plan.n_scored == 0
    assert plan.compute_fraction == 1.0


def test_a_plan_prints_what_will_happen():
    text = str(CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2, n_cycle_epochs=2).plan(100, 7, 10))
    assert text.splitlines() == [
        "   epochs      kept  share  updates  selection",
        "      0-1       100   100%       20  all        ####################",
        "        2        50    50%        5  new        ##########",
        "        3        50    50%        5  as before  ##########",
        "        4        50    50%        5  new        ##########",
        "        5        50    50%        5  as before  ##########",
        "        6        50    50%        5  new        ##########",
        "45 updates instead of 70; 64% of the full run's compute",
    ]


@pytest.mark.parametrize(("n_examples", "n_kept"), [(10**9, 1), (10**9, 10**9), (3, 1), (1, 1)])
def test_a_printed_plan_is_narrow_ascii_with_a_bar_on_every_line(n_examples, n_kept):
    plan = Plan(n_examples, n_kept=(n_examples, n_kept), reselects=(False, True), updates=(10**8, 1), n_updates_full=9)
    lines = str(plan).splitlines()
    assert all(line.isascii() and len(line) <= 80 for line in lines)
    bars = [line.count("#") for line in lines[1:-1]]
    assert bars[0] == 20
    assert bars[-1] == max(1, round(20 * n_kept / n_examples))


def test_an_adaptive_scheduler_plans_an_upper_bound():
    class Adaptive(ConstantScheduler):
        adaptive = True

    plan = Adaptive().plan(100, 3, 10)
    assert not plan.exact
    assert "at most 20 updates" in str(plan)


def test_the_bound_of_an_adaptive_scheduler_holds_the_scoring_passes_that_it_may_make():
    plan = SoftPruneScheduler(n_warmup_epochs=1, n_full_final_epochs=2).plan(100, 8, 10, refresh=0.3)
    assert plan.n_scored == 5 * 30
    assert plan.compute_fraction == pytest.approx((800 + 150 / 3) / 800)
    assert "at most 106% of the full run's compute" in str(plan)
    assert SoftPruneScheduler(n_warmup_epochs=5).plan(100, 3, 10, refresh=0.3).n_scored == 0


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"keep_fraction": 0}, r"CyclicScheduler.keep_fraction must be in \(0, 1\], got 0"),
        ({"keep_fraction": 1.5}, r"CyclicScheduler.keep_fraction must be in \(0, 1\], got 1.5"),
        ({"keep_fraction": "half"}, r"CyclicScheduler.keep_fraction must be a number in \(0, 1\], got 'half'"),
        ({"n_warmup_epochs": -1}, "CyclicScheduler.n_warmup_epochs must be at least 0, got -1"),
        ({"n_warmup_epochs": 1.5}, "n_warmup_epochs must be a whole number"),
        ({"n_cycle_epochs": 0}, "CyclicScheduler.n_cycle_epochs must be at least 1, got 0"),
        ({"n_full_final_epochs": -2}, "CyclicScheduler.n_full_final_epochs must be at least 0, got -2"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, words):
    for ask in (lambda s: s.decide(0, 3), lambda s: s.plan(10, 3, 5), lambda s: s.check()):
        with pytest.raises(DataPruneError, match=words):
            ask(CyclicScheduler(**parameters))


@pytest.mark.parametrize("epoch", [-1, 3])
def test_an_epoch_outside_the_run_is_refused(epoch):
    with pytest.raises(DataPruneError, match=rf"CyclicScheduler.epoch must be in \[0, 3\), got {epoch}"):
        CyclicScheduler().decide(epoch, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_examples": 0}, "n_examples must be at least 1, got 0"),
        ({"n_epochs": 0}, "n_epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"n_accumulation": 0}, "n_accumulation must be at least 1, got 0"),
    ],
)
def test_a_plan_of_nothing_is_refused(arguments, words):
    with pytest.raises(DataPruneError, match=words):
        CyclicScheduler().plan(**{"n_examples": 10, "n_epochs": 2, "batch_size": 5, **arguments})
