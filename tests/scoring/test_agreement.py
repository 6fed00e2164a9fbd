"""agreement(): what it compares, how it prints, what it refuses."""

import math

import numpy as np
import pytest

from dataprune import EL2N, Loss
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.agreement import agreement
from dataprune.scoring.metadata import ColumnScore
from dataprune.testing import unchanged_random_state

RNG = np.random.default_rng(0)
A = RNG.normal(size=200)
B = A + RNG.normal(size=200)


def test_a_score_agrees_with_itself_and_disagrees_with_its_negative():
    found = agreement({"a": A, "same": A.copy(), "minus": -A}, keep_fraction=0.25, n_bootstrap=50)
    same, minus, _ = found.pairs
    for value in (same.spearman, same.low, same.high, same.kendall, same.kendall_low, same.kendall_high):
        assert value == pytest.approx(1.0)
    for value in (minus.spearman, minus.low, minus.high, minus.kendall, minus.kendall_low, minus.kendall_high):
        assert value == pytest.approx(-1.0)
    assert (same.overlap, same.overlap_low, same.overlap_high) == (1.0, 1.0, 1.0)
    assert (minus.overlap, minus.overlap_low, minus.overlap_high) == (0.0, 0.0, 0.0)


def test_the_intervals_hold_their_values_and_narrow_with_more_examples():
    wide = agreement({"a": A[:40], "b": B[:40]}, keep_fraction=0.5, n_bootstrap=300).pairs[0]
    narrow = agreement({"a": A, "b": B}, keep_fraction=0.5, n_bootstrap=300).pairs[0]
    for pair in (wide, narrow):
        assert pair.low < pair.spearman < pair.high
        assert pair.kendall_low < pair.kendall < pair.kendall_high
        assert pair.overlap_low < pair.overlap < pair.overlap_high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.kendall_high - narrow.kendall_low < wide.kendall_high - wide.kendall_low
    assert narrow.overlap_high - narrow.overlap_low < wide.overlap_high - wide.overlap_low


def test_scores_at_random_overlap_as_chance_says():
    found = agreement({i: np.random.default_rng(i).random(5000) for i in range(3)}, keep_fraction=0.3, n_bootstrap=2)
    assert found.chance_overlap == 0.3
    for pair in found.pairs:
        assert pair.overlap == pytest.approx(0.3, abs=0.03)


def test_any_growing_function_of_a_score_changes_nothing():
    first = agreement({"a": A, "b": B}, keep_fraction=0.5, n_bootstrap=50)
    assert agreement({"a": np.exp(A), "b": 3 * B + 1}, keep_fraction=0.5, n_bootstrap=50) == first


def test_the_seed_alone_decides_and_nothing_else_is_touched():
    a = A.copy()
    with unchanged_random_state("agreement()"):
        first = agreement({"a": a, "b": B}, keep_fraction=0.5, n_bootstrap=20)
    assert a.tobytes() == A.tobytes()
    assert agreement({"a": A, "b": B}, keep_fraction=0.5, n_bootstrap=20) == first
    assert agreement({"a": A, "b": B}, keep_fraction=0.5, n_bootstrap=20, random_state=1) != first


def test_fitted_scorers_and_plain_scores_may_be_mixed():
    rows = [{"x": value} for value in A.tolist()]
    found = agreement({"x": ColumnScore("x").fit(rows), "b": B.tolist()}, keep_fraction=0.5, n_bootstrap=20)
    expected = agreement({"x": A.astype(np.float32), "b": B}, keep_fraction=0.5, n_bootstrap=20)
    assert found == expected
    for scorer in (EL2N(), ColumnScore("x")):
        with pytest.raises(NotFittedError, match=r"but 'x' has no scores yet. Call fit\(\) first."):
            agreement({"x": scorer, "b": B}, keep_fraction=0.5)


def test_stability_over_seeds_is_the_agreement_of_its_scores():
    found = agreement(
        {seed: A + 0.1 * np.random.default_rng(seed).normal(size=200) for seed in (0, 1, 2)},
        keep_fraction=0.3,
        n_bootstrap=50,
    )
    assert [(pair.first, pair.second) for pair in found.pairs] == [("0", "1"), ("0", "2"), ("1", "2")]
    assert min(pair.spearman for pair in found.pairs) > 0.95


def test_examples_that_a_score_has_not_seen_are_left_out_and_counted():
    a, b = A.copy(), B.copy()
    a[[3, 5]], b[[5, 9]] = np.nan, np.nan
    found = agreement({"a": a, "b": b}, keep_fraction=0.5, n_bootstrap=20)
    seen = np.setdiff1d(np.arange(200), [3, 5, 9])
    assert (found.n_examples, found.n_unseen, found.n_keep) == (197, 3, 99)
    assert found.pairs == agreement({"a": A[seen], "b": B[seen]}, keep_fraction=0.5, n_bootstrap=20).pairs
    assert "197 examples (3 that not every score has seen are left out), 99 kept" in str(found)


def test_a_constant_score_has_no_correlation():
    pair = agreement({"a": A, "constant": np.ones(200)}, keep_fraction=0.5, n_bootstrap=20).pairs[0]
    correlations = (pair.spearman, pair.low, pair.high, pair.kendall, pair.kendall_low, pair.kendall_high)
    assert all(math.isnan(value) for value in correlations)
    assert 0 <= pair.overlap_low <= pair.overlap_high <= 1


def test_infinite_scores_are_ranks_like_others():
    a = np.array([0.0, 1.0, np.inf, -np.inf])
    pair = agreement({"a": a, "b": [2, 3, 4, 1]}, keep_fraction=0.5, n_bootstrap=20).pairs[0]
    assert pair.spearman == pytest.approx(1.0)


def test_it_prints_as_a_table_and_becomes_a_data_frame():
    found = agreement({"el2n": A, "loss": B}, keep_fraction=0.3, n_bootstrap=100)
    head, names, row = str(found).split("\n")
    assert head == "200 examples, 60 kept by each score; by chance two share 0.30 of them."
    interval = ["95%", "interval"]
    assert names.split() == ["first", "second", "spearman", *interval, "kendall", *interval, "overlap", *interval]
    pair = found.pairs[0]
    assert row.split() == [
        "el2n", "loss", f"{pair.spearman:.2f}", f"{pair.low:.2f}", "to", f"{pair.high:.2f}", f"{pair.kendall:.2f}",
        f"{pair.kendall_low:.2f}", "to", f"{pair.kendall_high:.2f}", f"{pair.overlap:.2f}", f"{pair.overlap_low:.2f}",
        "to", f"{pair.overlap_high:.2f}",
    ]  # fmt: skip
    frame = found.to_pandas()
    assert frame.loc[0, "spearman"] == pair.spearman
    assert frame.loc[0, "chance_overlap"] == 0.3
    assert list(frame["first"]) == ["el2n"]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"a": A}, "at least two scores"),
        ({}, "at least two scores"),
        ({"a": A, "b": B[:9]}, r"of one shape \(n_examples,\), got 2 of \[\(9,\), \(200,\)\]"),
        ({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, "at least two scores of one shape"),
        ({"a": [1.0], "b": [2.0]}, "at least 2 examples that every score has seen, got 1"),
        ({"a": [1.0, np.nan, 2.0], "b": [np.nan, 1.0, 2.0]}, "has seen, got 1"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(scores, words):
    with pytest.raises(InvalidValueError, match=words):
        agreement(scores, keep_fraction=0.5)


@pytest.mark.parametrize("values", [["x", "y"], [[1.0], [1.0, 2.0]]])
def test_scores_that_are_no_numbers_are_named(values):
    with pytest.raises(InvalidTypeError, match=r"agreement\(\).scores\['a'\] must be an array of numbers, got "):
        agreement({"a": values, "b": [1.0, 2.0]}, keep_fraction=0.5)


def test_parameters_out_of_range_are_refused():
    for keywords, words in (
        ({"keep_fraction": 0.0}, r"keep_fraction must be in \(0, 1\]"),
        ({"keep_fraction": 0.5, "n_bootstrap": 0}, "n_bootstrap must be at least 1, got 0"),
        ({"keep_fraction": 0.5, "random_state": -1}, "random_state must be at least 0, got -1"),
    ):
        with pytest.raises(DataPruneError, match=words):
            agreement({"a": A, "b": B}, **keywords)


def test_scores_of_one_model_that_mean_the_same_agree():
    import torch

    torch.manual_seed(0)
    data = [(torch.randn(3), i % 2) for i in range(60)]
    model = torch.nn.Linear(3, 2)
    fitted = {name: scorer.fit(data, model=model) for name, scorer in (("el2n", EL2N()), ("loss", Loss()))}
    assert agreement(fitted, keep_fraction=0.5, n_bootstrap=20).pairs[0].spearman == pytest.approx(1.0)  # two classes
