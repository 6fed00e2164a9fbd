"""What the demo says follows from its numbers."""

import dataclasses

import pytest

from dataprune.runs.demo import METHODS, DemoRun, conclude, describe_selection, run_demo, summarise


def runs(*accuracies):
    """One run per method and seed, of the given accuracies: full, pruned, random, fewer."""
    return [
        DemoRun(
            method,
            seed,
            frame_accuracy=values[seed],
            seconds=10.0 if method == "full data" else 6.0,
            examples_trained=1000 if method == "full data" else 600,
            n_updates=10,
            redundant_dropped=0.7,
            other_dropped=0.2,
            mislabelled_kept=1.0,
        )
        for seed in range(2)
        for method, values in zip(METHODS, accuracies, strict=True)
    ]


def test_means_and_paired_differences():
    full, pruned, *_ = summarise(runs((0.90, 0.80), (0.89, 0.79), (0.7, 0.7), (0.7, 0.7)))
    assert full.frame_accuracy == pytest.approx(0.85)
    assert full.spread == pytest.approx(0.0707, rel=1e-3)
    assert pruned.difference == pytest.approx(-0.01)
    assert pruned.difference_spread == pytest.approx(0)
    assert (pruned.seconds, pruned.examples_trained) == (6.0, 600)
    assert pruned.saved == pytest.approx(0.4)


def test_pruning_paid_if_it_beats_both_baselines_by_more_than_chance():
    said = conclude(runs((0.90, 0.91), (0.89, 0.90), (0.80, 0.81), (0.84, 0.86)))
    assert said == (
        "Pruning paid here: with 40% less time it ends 1.0 ± 0.0 points below full data, and 4.5 ± 0.7 points above "
        "'full data, fewer epochs', the better of the two simple ways to spend as many updates."
    )


@pytest.mark.parametrize("rival", [(0.895, 0.905), (0.80, 0.97)])
def test_pruning_did_not_pay_if_a_baseline_is_as_good_or_chance_could_be_it(rival):
    said = conclude(runs((0.90, 0.91), (0.89, 0.90), rival, (0.7, 0.7)))
    assert said.startswith("Pruning did not pay here: with 40% less time")
    assert "'random half'" in said


def test_the_selection_is_described_by_the_pruned_runs():
    said = describe_selection(runs((1, 1), (1, 1), (1, 1), (1, 1)))
    assert said.startswith("A pruned epoch left out 70% of the examples that were planted as redundant and 20%")


def test_both_baselines_make_as_many_updates_as_pruning():
    found = {run.method: run for run in run_demo(n_seeds=2, n_examples=128, n_epochs=6)}
    full, pruned, random, fewer = (found[method] for method in METHODS)
    assert (full.n_updates, pruned.n_updates, random.n_updates, fewer.n_updates) == (24, 16, 16, 16)
    assert (full.redundant_dropped, full.mislabelled_kept) == (0.0, 1.0)
    assert pruned.redundant_dropped > 0


def test_runs_side_by_side_are_those_in_turn():
    sizes = {"n_seeds": 2, "n_examples": 100, "n_epochs": 3}
    finished = []
    side_by_side = run_demo(**sizes, n_processes=2, on_run=finished.append)
    assert finished == side_by_side
    for ours, theirs in zip(side_by_side, run_demo(**sizes), strict=True):
        assert dataclasses.replace(ours, seconds=theirs.seconds) == theirs
