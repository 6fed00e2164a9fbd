"""Rank correlations, their intervals, ranks and overlaps against slow, obvious loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata, spearmanr

from dataprune.scoring.agreement import agreement
from dataprune.scoring.combined import Combined, rank_average, ranks_among
from dataprune.scoring.metadata import ColumnScore


def slow_rank(value, scores):
    """Mean rank, from 1, by counting."""
    below = sum(s < value for s in scores)
    equal = sum(s == value for s in scores)
    return below + (equal + 1) / 2


def slow_spearman(first, second):
    a, b = ([slow_rank(v, column) for v in column] for column in (first, second))
    mean = (len(a) + 1) / 2
    ab = math.fsum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    aa, bb = math.fsum((x - mean) ** 2 for x in a), math.fsum((y - mean) ** 2 for y in b)
    return ab / math.sqrt(aa * bb) if aa and bb else math.nan


def draw(rng, n, n_levels):
    return rng.integers(0, n_levels, size=n).astype(float) if n_levels else rng.normal(size=n)


sizes, levels, seeds = st.integers(2, 9), st.sampled_from([0, 1, 2, 4]), st.integers(0, 999)


@settings(max_examples=60, deadline=None)
@given(n=sizes, first=levels, second=levels, seed=seeds)
def test_correlations_are_the_slow_ones(n, first, second, seed):
    rng = np.random.default_rng(seed)
    a, b = draw(rng, n, first), draw(rng, n, second)
    pair = agreement({"a": a, "b": b}, keep_fraction=0.5, n_bootstrap=3).pairs[0]
    np.testing.assert_allclose(pair.spearman, slow_spearman(a, b), atol=1e-12)
    np.testing.assert_allclose(pair.kendall, kendalltau(a, b).statistic, atol=1e-12)


def slow_kendall(first, second):
    """Tau-b, pair by pair."""
    signs = [
        (np.sign(first[i] - first[j]), np.sign(second[i] - second[j])) for i in range(len(first)) for j in range(i)
    ]
    ties = math.prod(sum(bool(pair[k]) for pair in signs) for k in (0, 1))
    return sum(a * b for a, b in signs) / math.sqrt(ties) if ties else math.nan


def slow_overlap(first, second, n_keep):
    kept = [set(sorted(range(len(column)), key=lambda i: (-column[i], i))[:n_keep]) for column in (first, second)]
    return len(kept[0] & kept[1]) / n_keep


@settings(max_examples=20, deadline=None)
@given(n=sizes, first=levels, second=levels, share=st.sampled_from([0.1, 0.5, 1.0]), seed=seeds)
def test_intervals_are_those_of_resamples_that_are_ranked_anew(*, n, first, second, share, seed):
    rng = np.random.default_rng(seed)
    a, b = draw(rng, n, first), draw(rng, n, second)
    pair = agreement({"a": a, "b": b}, keep_fraction=share, n_bootstrap=40, random_state=seed).pairs[0]
    rng = np.random.default_rng(seed)
    rows = [rng.integers(n, size=n) for _ in range(40)]
    n_keep = agreement({"a": a, "b": b}, keep_fraction=share, n_bootstrap=1).n_keep
    # A resample is a data set of its own, in the order of the rows; an example drawn twice is two that tie.
    resamples = [(a[draw], b[draw]) for draw in map(np.sort, rows)]
    for measure, found in (
        (slow_spearman, (pair.low, pair.high)),
        (slow_kendall, (pair.kendall_low, pair.kendall_high)),
        (lambda x, y: slow_overlap(x, y, n_keep), (pair.overlap_low, pair.overlap_high)),
    ):
        slow = [value for x, y in resamples if not math.isnan(value := measure(x, y))]
        expected = np.percentile(slow, [2.5, 97.5]) if slow else [math.nan, math.nan]
        np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(n=sizes, first=levels, second=levels, share=st.sampled_from([0.1, 0.5, 1.0]), seed=seeds)
def test_the_overlap_is_that_of_sorted_lists(n, first, second, share, seed):
    rng = np.random.default_rng(seed)
    a, b = draw(rng, n, first), draw(rng, n, second)
    n_keep = max(1, math.floor(n * share + 0.5))
    found = agreement({"a": a, "b": b}, keep_fraction=share, n_bootstrap=1)
    assert found.n_keep == n_keep
    assert found.pairs[0].overlap == pytest.approx(slow_overlap(a, b, n_keep))


def test_scipy_says_the_same_about_a_thousand_examples():
    rng = np.random.default_rng(0)
    a = rng.normal(size=1000)
    b = np.round(a + rng.normal(size=1000), 1)
    pair = agreement({"a": a, "b": b}, keep_fraction=0.3, n_bootstrap=300).pairs[0]
    assert pair.spearman == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    # Fisher's interval, widened for ranks by Bonett and Wright: about half as wide as this on each side.
    spread = 1.96 * math.sqrt((1 + pair.spearman**2 / 2) / 997)
    low, high = np.tanh(np.arctanh(pair.spearman) + np.array([-spread, spread]))
    np.testing.assert_allclose([pair.low, pair.high], [low, high], atol=0.015)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 9), n_levels=levels, unseen=st.sampled_from([0.0, 0.4, 1.0]), seed=seeds)
def test_ranks_are_scipys_scaled_to_one(n, n_levels, unseen, seed):
    rng = np.random.default_rng(seed)
    scores = draw(rng, n, n_levels)
    scores[rng.random(n) < unseen] = np.nan
    seen = scores[~np.isnan(scores)]
    expected = np.full(n, np.nan)
    expected[~np.isnan(scores)] = (rankdata(seen) - 1) / (len(seen) - 1) if len(seen) > 1 else 0.5
    np.testing.assert_allclose(ranks_among(scores, scores), expected, atol=1e-12)
    np.testing.assert_allclose(rank_average([scores, scores], [1, 2]), expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 8),
    columns=st.lists(
        st.tuples(levels, st.sampled_from([0.0, 0.3]), st.sampled_from([0, 0.5, 1, 7])), min_size=1, max_size=4
    ),
    seed=seeds,
)
def test_the_weighted_mean_of_the_ranks_of_different_columns(n, columns, seed):
    rng = np.random.default_rng(seed)
    scores, weights = [], [weight for _, _, weight in columns]
    weights[0] = weights[0] or 2
    for n_levels, unseen, _ in columns:
        scores.append(draw(rng, n, n_levels))
        scores[-1][rng.random(n) < unseen] = np.nan
    expected = np.zeros(n)
    for i in range(n):
        for column, weight in zip(scores, weights, strict=True):
            seen = [value for value in column if not math.isnan(value)]
            rank = (slow_rank(column[i], seen) - 1) / (len(seen) - 1) if len(seen) > 1 else 0.5
            expected[i] += math.nan if math.isnan(column[i]) else weight * rank / math.fsum(weights)
    np.testing.assert_allclose(rank_average(scores, weights), expected, atol=1e-6)
    np.testing.assert_allclose(rank_average(scores, [3 * w for w in weights]), expected, atol=1e-6)
    parts = [(f"s{k}", ColumnScore(f"s{k}")) for k in range(len(scores))]
    rows = [{f"s{k}": np.nan_to_num(column)[i] for k, column in enumerate(scores)} for i in range(n)]
    combined = Combined(parts, weights=weights).fit(rows).scores_  # a column has no unseen value
    np.testing.assert_array_equal(combined, rank_average([np.float32(np.nan_to_num(c)) for c in scores], weights))
