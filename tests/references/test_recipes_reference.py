"""With given scores and seed a recipe chooses what its source defines: slow loops from METHODS' definitions."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dataprune import SoftPrune, TopOrStratified, recipes

# Half precision: two sums of a few of them differ by more than rounding.
SCORES = st.lists(st.floats(0, 5, width=16), min_size=4, max_size=40).map(lambda xs: np.array(xs, np.float32))


@settings(max_examples=80)
@given(scores=SCORES, seed=st.integers(0, 99), share=st.sampled_from([0.5, 0.25, 0.7]))
def test_infobatch_drops_a_share_of_what_lies_below_the_mean_and_weighs_the_rest_for_all(scores, seed, share):
    pruner = recipes.infobatch(n_epochs=16, drop_fraction=share)
    n_examples = len(scores)
    mean = sum(map(Fraction, map(float, scores))) / n_examples
    below = {i for i in range(n_examples) if Fraction(float(scores[i])) < mean}
    n_dropped = int(Fraction(str(share)) * len(below))  # an exact count, rounded down: some of the group are left
    decision = pruner.scheduler.decide(3, 16, scores=scores)
    n_keep = round(decision.keep_fraction * n_examples)
    assert n_keep == n_examples - n_dropped
    if n_dropped == 0:
        return
    chosen = pruner.selector.set_params(random_state=seed).fit(scores, n_keep=n_keep)
    assert set(range(n_examples)) - set(chosen.indices_.tolist()) <= below
    theirs = {i: len(below) / (len(below) - n_dropped) if i in below else 1.0 for i in range(n_examples)}
    for row, weight in zip(chosen.indices_.tolist(), chosen.weights_, strict=True):
        assert weight * n_examples / n_keep == pytest.approx(theirs[row], rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_infobatch_run_prunes_by_the_losses_that_it_saw_and_not_in_its_last_eighth(seed):
    losses = torch.tensor([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 4.0, 5.0, 6.0, 7.0])  # mean 2.32
    pruner = recipes.infobatch(n_epochs=16, random_state=seed)
    loader = pruner.attach(DataLoader(list(range(10)), batch_size=3, shuffle=True), n_epochs=16)
    below = {0, 1, 2, 3, 4, 5}
    for epoch in range(16):
        pruner.set_epoch(epoch)
        kept = set(pruner.indices_.tolist())
        if epoch == 0 or epoch >= 0.875 * 16:
            assert kept == set(range(10))
            assert pruner.has_unit_weights
        else:
            assert kept >= set(range(6, 10))
            assert len(kept & below) == 3  # half of the group goes
            theirs = torch.tensor([2.0 if row in below else 1.0 for row in sorted(kept)])  # 1 / (1 - r)
            ours = pruner.weights(torch.tensor(sorted(kept)))
            torch.testing.assert_close(ours * 10 / 7, theirs)  # the factor that the card tells of
        for index, _ in loader:
            pruner.observe(index, loss=losses[index])
    pruner.close()


def test_infobatch_drops_each_example_of_its_group_equally_often():
    scores, n_draws, counts = np.array([0.1] * 3 + [0.2] * 3 + [9.0] * 3, np.float32), 2000, np.zeros(9)
    for seed in range(n_draws):
        counts[SoftPrune(random_state=seed).fit(scores, n_keep=6).indices_] += 1
    assert (counts[6:] == n_draws).all()
    assert np.abs(counts[:6] / n_draws - 0.5).max() < 4 * (0.25 / n_draws) ** 0.5


def strata_of(scores, n_strata):
    low, high = float(min(scores)), float(max(scores))
    strata = [[] for _ in range(n_strata)]
    for row, score in enumerate(map(float, scores)):
        place = 0 if high == low else min(n_strata - 1, int((score - low) / (high - low) * n_strata))
        strata[place].append(row)
    return strata


def budgets_from_the_smallest_up(sizes, n_keep):
    """The budget is shared evenly; what a small stratum cannot fill goes to the others."""
    budgets, left, open_ = [0] * len(sizes), n_keep, sorted(range(len(sizes)), key=lambda s: (sizes[s], s))
    while open_:
        stratum = open_.pop(0)
        budgets[stratum] = min(sizes[stratum], left // (len(open_) + 1))
        left -= budgets[stratum]
    return budgets


@settings(max_examples=60)
@given(seed=st.integers(0, 999), n_examples=st.integers(20, 120), share=st.floats(0.1, 0.9))
def test_ccs_cuts_the_likely_mislabelled_off_and_shares_the_budget_from_the_smallest_stratum_up(
    seed, n_examples, share
):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n_examples).astype(np.float32)  # -AUM: the highest are the likely mislabelled
    selector, n_keep = recipes.ccs(cutoff_fraction=0.1).selector, max(1, int(share * n_examples))
    kept = set(selector.set_params(random_state=seed).fit(scores, n_keep=n_keep).indices_.tolist())
    n_cut = min(int(0.1 * n_examples + 0.5), n_examples - n_keep)
    by_hardness = sorted(range(n_examples), key=lambda row: (-scores[row], row))
    cut, left = set(by_hardness[:n_cut]), sorted(by_hardness[n_cut:])
    assert not kept & cut
    strata = strata_of(scores[left], 50)
    budgets = budgets_from_the_smallest_up([len(stratum) for stratum in strata], n_keep)
    for stratum, budget in zip(strata, budgets, strict=True):
        n_here = len(kept & {left[row] for row in stratum})
        assert abs(n_here - budget) <= 1  # who gets what is left over by rounding is a convention
        assert n_here == len(stratum) or n_here >= min(budgets[s] for s in range(50) if len(strata[s]) > budgets[s])


def test_scdp_switches_from_the_farthest_to_strata_above_1500():
    scores = np.random.default_rng(0).gamma(2.0, size=4000).astype(np.float32)
    selector = recipes.scdp().selector
    assert (selector.n_ranked, selector.n_strata) == (1500, 100)
    farthest = sorted(range(4000), key=lambda row: (-scores[row], row))
    at_limit = selector.set_params(random_state=0, keep_fraction=1.0).fit(scores, n_keep=1500).indices_
    assert at_limit.tolist() == sorted(farthest[:1500])
    above = set(selector.fit(scores, n_keep=1501).indices_.tolist())
    strata = strata_of(scores, 100)
    budgets = budgets_from_the_smallest_up([len(stratum) for stratum in strata], 1501)
    for stratum, budget in zip(strata, budgets, strict=True):
        assert abs(len(above & set(stratum)) - budget) <= 1


def test_scdp_draws_anew_for_another_seed_above_the_limit_only():
    scores = np.random.default_rng(0).gamma(2.0, size=60)

    def kept(n_keep, seed):
        return TopOrStratified(n_ranked=10, n_strata=5, random_state=seed).fit(scores, n_keep=n_keep).indices_.tolist()

    assert kept(10, 0) == kept(10, 1)
    assert kept(30, 0) != kept(30, 1)


def test_inside_a_stratum_of_ccs_chance_decides():
    scores = np.repeat([0.0, 1.0], [20, 4]).astype(np.float32)  # two strata in use
    counts = np.zeros(24)
    for seed in range(2000):
        selector = recipes.ccs(cutoff_fraction=0.0).selector.set_params(random_state=seed)
        counts[selector.fit(scores, n_keep=8).indices_] += 1
    assert (counts[20:] == 2000).all()  # four there, four wanted
    assert np.abs(counts[:20] / 2000 - 0.2).max() < 4 * (0.16 / 2000) ** 0.5


@pytest.mark.parametrize("hard_fraction", [0.0, 0.3, 1.0])
def test_deft_ucs_keeps_its_easy_and_hard_shares_of_each_cluster(hard_fraction):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(7, 4)) * 50
    cluster = np.repeat(np.arange(7), 20)
    features = centres[cluster] + rng.normal(size=(140, 4))
    pruner = recipes.deft_ucs(hard_fraction=hard_fraction, keep_fraction=0.5, random_state=0)
    kept = set(pruner.fit(list(range(140)), features=features).indices_.tolist())
    for c in range(7):
        rows = np.flatnonzero(cluster == c)
        distances = np.linalg.norm(features[rows] - features[rows].mean(0), axis=1)
        n_far = round(hard_fraction * 10)
        order = rows[np.argsort(distances)]
        expected = {*order[: 10 - n_far].tolist(), *order[20 - n_far :].tolist()}
        assert kept & set(rows.tolist()) == expected


def test_deft_ucs_gives_large_clusters_more():
    rng = np.random.default_rng(1)
    sizes = np.array([10, 20, 30, 40, 20, 10, 20])
    cluster = np.repeat(np.arange(7), sizes)
    features = 50 * np.eye(7)[cluster] + 0.1 * rng.normal(size=(150, 7))
    kept = recipes.deft_ucs(keep_fraction=0.2).fit(list(range(150)), features=features).indices_
    assert np.bincount(cluster[kept], minlength=7).tolist() == (sizes // 5).tolist()
    for c in range(7):
        rows = np.flatnonzero(cluster == c)
        distances = np.linalg.norm(features[rows] - features[rows].mean(0), axis=1)
        order = rows[np.argsort(distances)].tolist()
        n_near = len(set(kept.tolist()) & set(order[: len(rows) // 10 + 1]))
        n_far = len(set(kept.tolist()) & set(order[-(len(rows) // 10 + 1) :]))
        assert abs(n_near - n_far) <= 1  # half and half; the odd one is a convention
        assert n_near + n_far == len(rows) // 5


def slow_smart_inside_a_task(features, n_keep):
    """Greedy facility location: the candidate that covers the task best, the lower row at ties."""
    lengths = np.linalg.norm(features, axis=1)
    similarity = [
        [max(0.0, float(a @ b) / (x * y)) for b, y in zip(features, lengths, strict=True)]
        for a, x in zip(features, lengths, strict=True)
    ]
    kept = []
    for _ in range(n_keep):
        values = {
            j: sum(max(row[k] for k in [*kept, j]) for row in similarity) for j in range(len(features)) if j not in kept
        }
        best = max(values.values())
        kept.append(min(j for j, value in values.items() if value >= best - 1e-6))
    return kept


def test_smart_covers_each_task_within_its_budget():
    rng = np.random.default_rng(3)
    groups = np.arange(40) % 2
    features = rng.normal(size=(40, 3)) + 2 * np.eye(3)[groups]
    pruner = recipes.smart(keep_fraction=0.25).set_params(selector__epsilon=0.0)
    kept = pruner.fit(list(range(40)), features=features, groups=groups).indices_
    assert len(kept) == 10
    for task in range(2):
        rows = np.flatnonzero(groups == task)
        expected = slow_smart_inside_a_task(features[rows], int((groups[kept] == task).sum()))
        assert sorted(rows[expected].tolist()) == kept[groups[kept] == task].tolist()


def test_smart_shares_its_budget_by_graph_cut():
    """Tasks by greedy gains of the graph cut at lambda 0.4, budgets by the gains' second-order Taylor weights."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 30)
    centres = np.array([[1.0, 0, 0, 0], [0.9, 0.4, 0, 0], [0, 0, 1.0, 0]])
    features = centres[groups] + 0.01 * rng.normal(size=(90, 4))
    pruner = recipes.smart(keep_fraction=24 / 90)
    kept = pruner.fit(list(range(90)), features=features, groups=groups).indices_

    means = [features[groups == task].mean(0) for task in range(3)]
    cosine = [[float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for b in means] for a in means]

    def graph_cut(taken):
        covered = sum(max(0.0, cosine[i][j]) for i in range(3) for j in taken)
        return covered - 0.4 * sum(max(0.0, cosine[i][j]) for i in taken for j in taken)

    gains, taken = [0.0] * 3, []
    while len(taken) < 3:
        gain, best = max(
            (graph_cut([*taken, task]) - graph_cut(taken), -task) for task in range(3) if task not in taken
        )
        gains[-best] = gain
        taken.append(-best)
    odds = [1 + gain + gain**2 / 2 for gain in gains]
    expected = [24 * o / sum(odds) for o in odds]
    assert np.abs(np.bincount(groups[kept], minlength=3) - expected).max() < 1
