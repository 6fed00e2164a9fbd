"""Which examples are kept: ties, unseen ones, odds; and the rows that come back."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, TensorDataset

from dataprune import (
    BothEnds,
    BudgetedTopK,
    ClassBalanced,
    ClassFloor,
    ClusteredK,
    DynamicPruner,
    EpsilonGreedy,
    ImportanceSample,
    KeepAlways,
    KeepTogether,
    Loss,
    RandomK,
    ScoreWindow,
    Selector,
    StratifiedK,
    SubmodularMixture,
    TopK,
    TopOrStratified,
    WeightedK,
)
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.selection.base import take_rows

NAN, INF = float("nan"), float("inf")
any_score = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, NAN, INF, -INF]))


@settings(max_examples=150, deadline=None)
@given(
    selector=st.sampled_from([TopK, RandomK, WeightedK]),
    scores=st.lists(any_score, max_size=30),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_asked_n_got_n_sorted_unique_and_in_range(selector, scores, share, seed):
    n_keep = round(share * len(scores))
    kept = selector(random_state=seed).fit(scores, n_keep=n_keep).indices_
    assert len(kept) == n_keep
    assert sorted(set(kept.tolist())) == kept.tolist()
    assert set(kept.tolist()) <= set(range(len(scores)))


@settings(max_examples=100, deadline=None)
@given(scores=st.lists(any_score, min_size=1, max_size=30), share=st.floats(0, 1))
def test_top_k_is_a_stable_sort_with_the_unseen_first(scores, share):
    n_keep = round(share * len(scores))
    order = sorted(
        range(len(scores)),
        key=lambda i: (not np.isnan(scores[i]), 0.0 if np.isnan(scores[i]) else -scores[i], i),
    )
    assert TopK().fit(scores, n_keep=n_keep).indices_.tolist() == sorted(order[:n_keep])


def test_ties_keep_the_lower_index():
    assert TopK().fit([1.0, 3.0, 1.0, 1.0, 3.0], n_keep=3).indices_.tolist() == [0, 1, 4]


def test_unseen_examples_come_first_and_the_lower_index_of_them():
    assert TopK().fit([NAN, 9.0, NAN, INF], n_keep=1).indices_.tolist() == [0]
    assert TopK().fit([NAN, 9.0, NAN, INF], n_keep=3).indices_.tolist() == [0, 2, 3]
    assert WeightedK(random_state=0).fit([NAN, 9.0, NAN, INF], n_keep=3).indices_.tolist() == [0, 2, 3]


def test_float32_scores_that_differ_in_the_last_bit_are_told_apart():
    scores = np.array([1.0, np.nextafter(np.float32(1), np.float32(2)), 1.0], dtype=np.float32)
    assert TopK().fit(scores, n_keep=1).indices_.tolist() == [1]


@pytest.mark.parametrize("many_rows", [1, 1 << 22])
def test_random_k_is_uniform_also_over_the_unseen(monkeypatch, many_rows):
    monkeypatch.setattr("dataprune.selection.random.MANY_ROWS", many_rows)
    draws = np.zeros(5)
    for seed in range(2000):
        draws[RandomK(random_state=seed).fit([NAN, 1.0, INF, 0.0, -5.0], n_keep=2).indices_] += 1
    np.testing.assert_allclose(draws / 2000, 0.4, atol=0.045)  # four standard deviations


def test_weighted_k_draws_by_the_score_above_the_lowest():
    draws = np.zeros(4)
    for seed in range(4000):
        draws[WeightedK(random_state=seed).fit([10.0, 11.0, 12.0, 13.0], n_keep=1).indices_] += 1
    np.testing.assert_allclose(draws / 4000, [0, 1 / 6, 2 / 6, 3 / 6], atol=0.035)


def test_weighted_k_is_certain_of_infinities_and_fills_with_the_lowest():
    for seed in range(20):
        selector = WeightedK(random_state=seed)
        assert 2 in selector.fit([0.0, 1.0, INF, 0.0, 2.0], n_keep=1).indices_
        assert set(selector.fit([0.0, 1.0, INF, 0.0, 2.0], n_keep=3).indices_) == {1, 2, 4}
        assert set(selector.fit([-INF, 1.0, 2.0, -INF], n_keep=2).indices_) == {1, 2}
        assert 2 in selector.fit([-INF, 1.0, 2.0, -INF], n_keep=1).indices_


def test_weighted_k_of_equal_scores_is_uniform():
    draws = np.zeros(4)
    for seed in range(2000):
        draws[WeightedK(random_state=seed).fit([0.1] * 4, n_keep=1).indices_] += 1
    np.testing.assert_allclose(draws / 2000, 0.25, atol=0.04)


def test_a_constant_added_does_not_change_a_weighted_draw():
    scores = np.random.default_rng(0).integers(0, 1000, size=50).astype(float)
    for seed in range(10):
        first = WeightedK(random_state=seed).fit(scores, n_keep=20).indices_
        assert first.tolist() == WeightedK(random_state=seed).fit(scores + 4096, n_keep=20).indices_.tolist()


def test_a_seed_of_several_numbers_gives_another_draw_for_each():
    draws = {
        tuple(RandomK(random_state=[7, epoch]).fit(np.zeros(50), n_keep=10).indices_.tolist()) for epoch in range(5)
    }
    assert len(draws) == 5


def test_without_a_seed_each_draw_is_new():
    draws = {tuple(RandomK().fit(np.zeros(50), n_keep=10).indices_.tolist()) for _ in range(4)}
    assert len(draws) > 1


@pytest.mark.parametrize(
    ("n_examples", "keep_fraction", "n_kept"), [(5, 0.5, 3), (10, 0.01, 1), (100, 0.145, 15), (3, 1.0, 3), (0, 0.5, 0)]
)
def test_a_share_is_rounded_half_up_and_is_at_least_one(n_examples, keep_fraction, n_kept):
    assert len(TopK(keep_fraction=keep_fraction).fit(np.zeros(n_examples)).indices_) == n_kept


@pytest.mark.parametrize(
    ("parameters", "arguments", "words"),
    [
        ({"keep_fraction": 0}, {}, r"TopK.keep_fraction must be in \(0, 1\], got 0"),
        ({"keep_fraction": 1.5}, {}, r"TopK.keep_fraction must be in \(0, 1\], got 1.5"),
        ({"keep_fraction": "half"}, {}, r"TopK.keep_fraction must be a number in \(0, 1\], got 'half'"),
        ({"keep_fraction": True}, {}, "got True"),
        ({}, {"n_keep": 4}, "TopK.n_keep must be at most 3, the number of scores, got 4"),
        ({}, {"n_keep": -1}, "TopK.n_keep must be at least 0, got -1"),
        ({}, {"n_keep": 1.0}, "TopK.n_keep must be a whole number of at least 0, got 1.0"),
        ({}, {"labels": [1, 2]}, "needs labels for each of 3 scores, got 2"),
    ],
)
def test_bad_budgets_are_refused(parameters, arguments, words):
    with pytest.raises(DataPruneError, match=words):
        TopK(**parameters).fit([1.0, 2.0, 3.0], **arguments)


def test_scores_must_be_a_vector():
    with pytest.raises(InvalidValueError, match=r"scores of shape \(n_examples,\), got \(2, 2\)"):
        TopK().fit(np.zeros((2, 2)))


def test_results_before_fit_are_an_error():
    for ask in (TopK().get_support, lambda: TopK().transform([1])):
        with pytest.raises(NotFittedError, match="TopK has chosen nothing yet"):
            ask()


def test_the_support_is_a_mask_or_row_numbers():
    selector = TopK(keep_fraction=0.5).fit([1.0, 3.0, 2.0, 0.0])
    assert selector.get_support().tolist() == [False, True, True, False]
    assert selector.get_support(indices=True).tolist() == [1, 2]


def test_kept_rows_come_back_as_the_kind_that_was_given():
    selector = TopK(keep_fraction=0.5).fit([1.0, 3.0, 2.0, 0.0])
    assert selector.transform(["a", "b", "c", "d"]) == ["b", "c"]
    assert selector.transform(("a", "b", "c", "d")) == ("b", "c")
    assert selector.transform(np.arange(4) * 10).tolist() == [10, 20]
    frame = selector.transform(pd.DataFrame({"text": list("abcd")}, index=[9, 8, 7, 6]))
    assert (frame.text.tolist(), frame.index.tolist()) == (["b", "c"], [8, 7])
    rows = selector.transform(datasets.Dataset.from_dict({"text": list("abcd")}))
    assert rows["text"][:] == ["b", "c"]
    subset = selector.transform(TensorDataset(torch.arange(4)))
    assert isinstance(subset, Subset)
    assert [int(x) for (x,) in subset] == [1, 2]


def test_data_of_another_length_are_refused():
    with pytest.raises(InvalidValueError, match="needs the 2 examples that were scored, got 3"):
        TopK().fit([1.0, 2.0]).transform([1, 2, 3])


def test_data_of_an_unknown_kind_are_refused():
    with pytest.raises(InvalidTypeError, match="got dict"):
        take_rows({"a": 1}, np.array([0]))


class HardestOfClassOne(Selector):
    """Class 1 first, by score; a loss weight that tells the cost."""

    needs = frozenset({"labels", "cost"})

    def _choose_weighted(self, candidates, n_keep, rng):
        order = np.lexsort((-candidates.scores, candidates.labels != 1))[:n_keep]
        return order, candidates.cost[order].astype(np.float32)


def test_what_is_known_of_the_examples_reaches_the_selector_and_stays_with_its_row():
    selector = HardestOfClassOne().fit(
        [0.5, NAN, 0.7, 0.9, 0.1], labels=[1, 0, 0, 0, 1], cost=[1, 2, 3, 4, 5], n_keep=3
    )
    assert selector.indices_.tolist() == [0, 1, 4]
    assert selector.weights_.tolist() == [1, 1, 5]  # the unseen weighs 1; in the order of the rows, not of the choice


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"labels": [1, 0]}, r"HardestOfClassOne.fit\(\) needs cost=..., got None"),
        ({"labels": [1, 0], "cost": [1.0]}, "needs cost for each of 2 scores, got 1"),
        ({"labels": [1, 0], "cost": [1.0, 0.0]}, "needs cost that is above 0 and finite"),
        ({"labels": [1, 0], "cost": [1, 1], "features": [[0.0], [INF]]}, "needs features that is finite"),
    ],
)
def test_what_a_selector_needs_is_checked(columns, words):
    with pytest.raises(InvalidValueError, match=words):
        HardestOfClassOne().fit([0.5, 0.7], **columns)


@pytest.mark.parametrize(
    ("scores", "columns", "words"),
    [
        (["a", "b"], {}, r"HardestOfClassOne.fit\(\).scores must be an array of numbers, got \['a', 'b'\]"),
        ([[0.5], [0.5, 0.7]], {}, r"fit\(\).scores must be an array of numbers"),
        (
            [0.5, 0.7],
            {"cost": ["a", "a"]},
            r"HardestOfClassOne.fit\(\).cost must be an array of numbers, got \['a', 'a'\]",
        ),
        ([0.5, 0.7], {"cost": [[1.0], [2.0]]}, r"needs cost of shape \(n_examples,\), got \(2, 1\)"),
        ([0.5, 0.7], {"cost": 3.0}, "needs cost for each of 2 scores, got one value"),
        ([0.5, 0.7], {"features": [["x"], ["y"]]}, r"fit\(\).features must be an array of numbers"),
        ([0.5, 0.7], {"features": [[1.0], [1.0, 2.0]]}, r"fit\(\).features must be an array of numbers"),
        ([0.5, 0.7], {"labels": 1}, "needs labels for each of 2 scores, got one value"),
        ([0.5, 0.7], {"groups": [[1], [1, 2]]}, "needs groups with one value per example, got rows of different"),
    ],
)
def test_what_is_no_column_of_numbers_is_one_sentence(scores, columns, words):
    with pytest.raises(DataPruneError, match=words):
        HardestOfClassOne().fit(scores, **{"labels": [1, 0], "cost": [1.0, 1.0], **columns}, n_keep=1)


@pytest.mark.parametrize("seed", [-1, "a", 1.5, [0, -1]])
def test_what_is_no_seed_is_one_sentence(seed):
    with pytest.raises(DataPruneError, match=r"RandomK\.random_state must be a whole number of at least 0"):
        RandomK(random_state=seed).fit([1.0, 2.0], n_keep=1)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (ScoreWindow(offset_fraction=2), "ScoreWindow.offset_fraction"),
        (BothEnds(hard_fraction="half"), "BothEnds.hard_fraction"),
        (EpsilonGreedy(epsilon=-1), "EpsilonGreedy.epsilon"),
        (StratifiedK(n_strata=0), "StratifiedK.n_strata"),
        (StratifiedK(cutoff_fraction=2), "StratifiedK.cutoff_fraction"),
        (TopOrStratified(n_strata=0), "TopOrStratified.n_strata"),
        (ImportanceSample(max_weight=0), "ImportanceSample.max_weight"),
        (BudgetedTopK(cost_fraction=0), "BudgetedTopK.cost_fraction"),
        (ClusteredK(n_clusters=0), "ClusteredK.n_clusters"),
        (SubmodularMixture(epsilon=2), "SubmodularMixture.epsilon"),
        (ClassBalanced(share="half"), "ClassBalanced.share"),
        (ClassFloor(n_min=-1), "ClassFloor.n_min"),
        (KeepTogether(reduction="min"), "KeepTogether.reduction"),
        (KeepAlways(ClassBalanced(ScoreWindow(offset_fraction=2))), "ScoreWindow.offset_fraction"),
    ],
)
def test_a_parameter_out_of_range_is_refused_before_a_run_and_where_all_are_kept(selector, words):
    rows, known = np.arange(4), {"cost": np.ones(4), "features": np.eye(4)}
    pruner = DynamicPruner(Loss(), selector)
    for refused in (
        selector.check,
        lambda: selector.fit(rows, rows, groups=rows, n_keep=4, **known),
        lambda: pruner.attach(DataLoader(rows), n_epochs=3, labels=rows, groups=rows, **known),
    ):
        with pytest.raises(DataPruneError, match=words):
            refused()


def test_a_selector_without_a_rule_says_so():
    class Nothing(Selector):
        pass

    with pytest.raises(NotImplementedError, match="Nothing must implement _choose"):
        Nothing().fit([0.1, 0.2], n_keep=1)


def test_float32_scores_are_not_copied_to_another_type():
    class Kind(TopK):
        def _choose(self, candidates, n_keep, rng):
            self.dtype = candidates.scores.dtype
            return super()._choose(candidates, n_keep, rng)

    for kind, expected in [(np.float32, np.float32), (np.float64, np.float64), (np.float16, np.float64)]:
        assert Kind().fit(np.arange(4, dtype=kind), n_keep=2).dtype == expected
