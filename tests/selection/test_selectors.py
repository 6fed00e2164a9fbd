"""Which examples are kept: ties, unseen ones, odds; and the rows that come back."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Subset, TensorDataset

from dataprune import RandomK, TopK, WeightedK
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


def test_random_k_is_uniform_also_over_the_unseen():
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
        ({}, {"labels": [1, 2]}, "one label per score, got 2 and 3"),
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
