"""Promises about rows and groups are kept, whoever chooses the rest."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_parts import run_on_digits

from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.selection.balanced import ClassBalanced, ClassFloor
from dataprune.selection.budgeted import BudgetedTopK
from dataprune.selection.clustered import ClusteredK, KCenter
from dataprune.selection.constrained import KeepAlways, KeepTogether, group_scores
from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import StratifiedK
from dataprune.selection.submodular import FacilityLocation, SubmodularMixture
from dataprune.selection.unbiased import ImportanceSample, SoftPrune

NAN, INF = float("nan"), float("inf")
OF_SCORES = [TopK(), ScoreWindow(), BothEnds(), RandomK(), WeightedK(), EpsilonGreedy(), StratifiedK(n_strata=3)]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.one_of(st.floats(), st.just(0.0)), st.integers(0, 5)), max_size=25),
    inner=st.sampled_from(OF_SCORES),
    share=st.floats(0, 1),
    reduction=st.sampled_from(["mean", "max"]),
    seed=st.integers(0, 9),
)
def test_at_most_one_group_is_split_with_any_selector_inside(rows, inner, share, reduction, seed):
    scores, groups = [s for s, _ in rows], np.array([g for _, g in rows], int)
    n_keep = round(share * len(rows))
    kept = (
        KeepTogether(inner, reduction=reduction, random_state=seed).fit(scores, groups=groups, n_keep=n_keep).indices_
    )
    assert len(kept) == len(set(kept.tolist())) == n_keep
    sizes, counts = (np.bincount(column, minlength=6) for column in (groups, groups[kept]))
    assert ((counts > 0) & (counts < sizes)).sum() <= 1


def test_groups_are_ranked_by_their_mean_or_their_highest():
    scores, groups = [1.0, 0.0, 0.6, 0.6], ["a", "a", "b", "b"]
    assert KeepTogether().fit(scores, groups=groups, n_keep=2).indices_.tolist() == [2, 3]
    assert KeepTogether(reduction="max").fit(scores, groups=groups, n_keep=2).indices_.tolist() == [0, 1]


def test_the_group_that_does_not_fit_gives_its_hardest():
    kept = KeepTogether().fit([0.9, 0.1, 0.2, 0.3, 0.8], groups=[0, 1, 1, 1, 0], n_keep=4).indices_
    assert kept.tolist() == [0, 2, 3, 4]


def test_a_smaller_budget_keeps_a_subset():
    rng = np.random.default_rng(0)
    scores, groups = np.round(rng.normal(size=50), 1), rng.integers(0, 12, size=50)
    kept = [set(KeepTogether().fit(scores, groups=groups, n_keep=n).indices_.tolist()) for n in range(51)]
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(kept))


def test_groups_of_one_are_the_selection_without_groups():
    scores = np.array([0.5, NAN, 0.5, INF, -INF, 0.7, NAN])
    for n_keep in range(8):
        for inner in (TopK(), BothEnds()):
            kept = KeepTogether(inner).fit(scores, groups=np.arange(7)[::-1], n_keep=n_keep).indices_
            assert np.array_equal(kept, inner.fit(scores, n_keep=n_keep).indices_)


def test_permuted_examples_give_the_permuted_selection():
    rng = np.random.default_rng(1)
    scores, groups, order = rng.normal(size=60), rng.integers(0, 9, size=60), rng.permutation(60)
    kept = KeepTogether().fit(scores, groups=groups, n_keep=25).indices_
    again = KeepTogether().fit(scores[order], groups=groups[order], n_keep=25).indices_
    assert sorted(order[again].tolist()) == kept.tolist()


def test_groups_lie_at_the_mean_of_their_features():
    groups = np.array([3, 1, 3, 1, 2, 2, 0, 0])
    features = np.array([[-1.0], [0.4], [1.0], [0.6], [5.0], [7.0], [8.9], [9.1]])  # means: 0 of 3, 0.5 of 1, 6, 9
    kept = KeepTogether(KCenter()).fit(np.zeros(8), groups=groups, features=features, n_keep=4).indices_
    # Nearest to the mean of the means is 2, farthest from it is 3: rows alone would have begun with 4 and 7.
    assert kept.tolist() == [0, 2, 4, 5]


@pytest.mark.parametrize("inner", [ClusteredK(n_clusters=3), KCenter(), FacilityLocation()], ids=repr)
def test_selectors_by_features_choose_whole_groups(inner):
    rng = np.random.default_rng(0)
    groups, features = rng.integers(0, 15, size=70), rng.normal(size=(70, 4))
    sizes = np.bincount(groups, minlength=15)
    for n_keep in range(0, 71, 7):
        for scores in (np.zeros(70), np.full(70, NAN)):
            selector = KeepTogether(inner, random_state=1)
            kept = selector.fit(scores, groups=groups, features=features, n_keep=n_keep).indices_
            counts = np.bincount(groups[kept], minlength=15)
            assert len(kept) == len(set(kept.tolist())) == n_keep
            assert ((counts > 0) & (counts < sizes)).sum() <= 1


def test_as_many_groups_as_rows_are_chosen_as_rows_are():
    features = np.random.default_rng(0).normal(size=(30, 4))
    for n_keep in (1, 7, 29):
        together = KeepTogether(KCenter()).fit(np.zeros(30), groups=np.arange(30), features=features, n_keep=n_keep)
        alone = KCenter().fit(np.zeros(30), features=features, n_keep=n_keep)
        assert np.array_equal(together.indices_, alone.indices_)


def test_random_groups_have_the_same_chance():
    groups, total = np.repeat(np.arange(6), 2), np.zeros(12)
    for seed in range(1500):
        total[KeepTogether(RandomK(), random_state=seed).fit(np.zeros(12), groups=groups, n_keep=6).indices_] += 1
    np.testing.assert_allclose(total / 1500, 0.5, atol=0.052)


def test_a_group_is_unseen_if_none_of_it_was_seen_and_infinities_decide():
    scores, starts = np.array([NAN, 1.0, NAN, NAN, INF, -INF, -INF, 3.0, 1.7e308, 1.7e308]), np.array([0, 2, 4, 6, 8])
    np.testing.assert_array_equal(group_scores(scores, starts, "mean"), [1.0, NAN, INF, -INF, 1.7e308])
    np.testing.assert_array_equal(group_scores(scores, starts, "max"), [1.0, NAN, INF, 3.0, 1.7e308])


def test_balance_stands_outside_of_groups():
    scores = [0.9, 0.8, 0.1, 0.2, 0.5, 0.6, 0.3, 0.4]
    selector = ClassBalanced(KeepTogether()).fit(
        scores, labels=[0, 0, 0, 0, 1, 1, 1, 1], groups=list("aabbccdd"), n_keep=4
    )
    assert selector.indices_.tolist() == [0, 1, 4, 5]


def test_listed_rows_count_towards_the_budget_and_may_repeat():
    assert KeepAlways(indices=[4, 4]).fit(np.arange(5)[::-1], n_keep=2).indices_.tolist() == [0, 4]
    assert KeepAlways(indices=[2, 4]).fit(np.arange(5)[::-1], n_keep=2).indices_.tolist() == [2, 4]
    assert KeepAlways(ClassFloor(), indices=[0]).fit(np.zeros(4), [0, 0, 1, 1], n_keep=3).indices_.tolist() == [0, 1, 2]


def test_listed_rows_go_before_the_unseen():
    assert KeepAlways(indices=[3]).fit([NAN, NAN, NAN, 0.0, 1.0], n_keep=2).indices_.tolist() == [0, 3]


@pytest.mark.parametrize(
    ("selector", "columns", "words"),
    [
        (KeepAlways(indices=[0, 1, 2]), {}, "n_keep must be at least 3, the number of rows always kept, got 2"),
        (KeepAlways(indices=[5]), {}, r"KeepAlways.indices must be in \[0, 5\), got 5"),
        (KeepAlways(indices=[-1]), {}, r"KeepAlways.indices must be in \[0, 5\), got -1"),
        (KeepAlways(indices=[True, False]), {}, "indices must be a list of row numbers, got bool"),
        (KeepAlways(indices=[0.5]), {}, "indices must be a list of row numbers, got float64"),
        (KeepAlways(indices=[[1], [1, 2]]), {}, r"indices must be a list of row numbers, got \[\[1\], \[1, 2\]\]"),
        (KeepAlways(KeepAlways()), {}, "KeepAlways.selector must not be a KeepAlways"),
        (KeepTogether(), {}, r"KeepTogether.fit\(\) needs groups=..., got None"),
        (KeepTogether(reduction="sum"), {"groups": [0] * 5}, "reduction must be one of 'mean', 'max', got 'sum'"),
        (KeepTogether(SoftPrune()), {"groups": [0] * 5}, r"must be one without loss weights, got SoftPrune\(\)"),
        (KeepTogether(ImportanceSample()), {"groups": [0] * 5}, "must be one without loss weights"),
        (
            KeepTogether(ClassBalanced()),
            {"groups": [0] * 5, "labels": [0] * 5},
            r"ClassBalanced needs labels. Wrap the other way round: ClassBalanced\(KeepTogether\(\)\)",
        ),
        (
            KeepTogether(BudgetedTopK()),
            {"groups": [0] * 5, "cost": [1.0] * 5},
            "scores or features of whole groups alone, but BudgetedTopK needs cost. Take one that chooses by these",
        ),
        (
            KeepTogether(SubmodularMixture()),
            {"groups": [0] * 5, "features": np.eye(5)},
            "SubmodularMixture needs groups. Take one that chooses by these",
        ),
        (
            KeepTogether(KeepTogether()),
            {"groups": [0] * 5},
            "KeepTogether needs groups. Take one that chooses by these",
        ),
        (KeepTogether(KCenter()), {"groups": [0] * 5}, r"KeepTogether.fit\(\) needs features=..., got None"),
        (
            KeepTogether(KCenter()),
            {"groups": [0, 0, 1, 1, 2], "features": np.zeros(5)},
            r"needs features of shape \(n_examples, D\), got \(5,\)",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(selector, columns, words):
    with pytest.raises(DataPruneError, match=words) as error:
        selector.fit(np.zeros(5), n_keep=2, **columns)
    assert isinstance(error.value, InvalidTypeError | InvalidValueError)


def test_a_run_never_drops_the_listed_rows():
    pruner, _ = run_on_digits(KeepAlways(ImportanceSample(), indices=[7, 11]))
    assert (pruner.n_epochs_trained_[[7, 11]] == 3).all()


def test_a_run_keeps_groups_together():
    groups = np.arange(300) // 4
    pruner, _ = run_on_digits(KeepTogether(WeightedK()), groups=groups)
    counts = np.bincount(groups[pruner.indices_], minlength=75)
    assert ((counts > 0) & (counts < 4)).sum() <= 1
