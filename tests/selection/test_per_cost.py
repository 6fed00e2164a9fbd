"""ScorePerCost holds against a search through all sets, and keeps the most score in a budget of cost."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune import Budget, ScorePerCost, TopK
from dataprune.training.budgets import CostBudget

ROWS = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 9)), min_size=2, max_size=8)


@settings(max_examples=60)
@given(rows=ROWS, share=st.floats(0.2, 1.0))
def test_within_a_budget_it_has_all_the_score_but_for_what_one_example_leaves_over(rows, share):
    scores, cost = (np.array(column, float) for column in zip(*rows, strict=True))
    limit = share * cost.sum() + 1e-9
    chosen = CostBudget(Budget(token_fraction=share), cost, 0.0).select(ScorePerCost(), scores, {"cost": cost}, share)
    kept = chosen.indices_
    assert cost[kept].sum() <= limit or len(kept) == 1
    sets = [list(s) for n in range(len(rows) + 1) for s in itertools.combinations(range(len(rows)), n)]
    best = max(scores[s].sum() for s in sets if cost[s].sum() <= limit)
    left = np.setdiff1d(np.arange(len(rows)), kept)
    next_one = scores[left].max() if len(left) else 0.0
    assert scores[kept].sum() + next_one >= best - 1e-9


def test_more_score_fits_into_half_of_the_tokens_than_top_k_takes():
    rng = np.random.default_rng(0)
    cost = rng.integers(3, 40, 500).astype(float)
    scores = rng.gamma(1.0, size=500) * np.sqrt(cost)
    budget, known = CostBudget(Budget(token_fraction=0.5), cost, 0.0), {"cost": cost}
    per_cost = budget.select(ScorePerCost(), scores, known, 0.5).indices_.copy()
    top = budget.select(TopK(), scores, known, 0.5).indices_.copy()
    for kept in (per_cost, top):
        assert 0.47 * cost.sum() < cost[kept].sum() <= 0.5 * cost.sum()
    assert scores[per_cost].sum() > 1.03 * scores[top].sum()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 1.0, 1.0], [1]),
        ([-1.0, -3.0, -2.0], [2]),  # counted from the lowest: 2, 0, 1 at costs 9, 1, 2
        ([np.inf, 5.0, 1.0], [0]),
        ([3e38, 1e38, -3e38], [1]),
    ],
    ids=["alike", "negative", "infinite", "huge"],
)
def test_scores_count_by_what_they_cost(scores, expected):
    cost = [9.0, 1.0, 2.0] if scores[0] != 3e38 else [9.0, 1.0, 1.0]
    kept = ScorePerCost().fit(np.array(scores, np.float32), n_keep=1, cost=cost).indices_
    assert kept.tolist() == expected


def test_a_cost_that_vanishes_beside_another_makes_no_score_unseen():
    kept = ScorePerCost().fit([0.0, 2.0, 1.0, 3.0], n_keep=2, cost=[1e-300, 1e-300, 1.0, 1e300]).indices_
    assert kept.tolist() == [1, 2]
