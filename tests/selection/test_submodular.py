"""FacilityLocation and SubmodularMixture: exact counts on any features, representative rows, budgets of tasks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from dataprune import CyclicScheduler, DynamicPruner
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.selection.clustered import ClusteredK, KCenter
from dataprune.selection.submodular import FacilityLocation, SubmodularMixture

NAN, INF = float("nan"), float("inf")
SELECTORS = [FacilityLocation, SubmodularMixture]


def fit(selector, features, n_keep, *, groups=None, scores=None):
    n = len(features)
    groups = np.arange(n) % 3 if groups is None else groups
    return selector.fit(np.zeros(n) if scores is None else scores, features=features, groups=groups, n_keep=n_keep)


@settings(max_examples=100, deadline=None)
@given(
    cls=st.sampled_from(SELECTORS),
    epsilon=st.sampled_from([0, 0.01, 0.5, 1.0]),
    points=st.lists(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5, 1e30, 1e-30])] * 2), min_size=1, max_size=20),
    share=st.floats(0, 1),
)
def test_asked_n_got_n_from_copies_zeros_and_extremes(cls, epsilon, points, share):
    n_keep = round(share * len(points))
    features = np.array(points, np.float32)
    given_features = features.copy()
    kept = fit(cls(epsilon=epsilon, random_state=0), features, n_keep, scores=[NAN] * len(points))
    assert len(kept.indices_) == n_keep == len(set(kept.indices_.tolist()))
    assert (kept.weights_ == 1).all()
    assert features.tobytes() == given_features.tobytes()


@pytest.mark.parametrize("cls", SELECTORS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_constant_features_give_exact_counts(cls, value):
    for n_keep in range(10):
        assert len(fit(cls(random_state=0), np.full((9, 3), value), n_keep).indices_) == n_keep


def test_copies_keep_the_lower_index():
    features = [[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 2
    assert fit(FacilityLocation(epsilon=0), features, 2).indices_.tolist() == [0, 3]
    assert fit(FacilityLocation(epsilon=0), features, 4).indices_.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cls", SELECTORS)
@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_examples(cls, n):
    for n_keep in range(n + 1):
        assert len(fit(cls(), np.eye(2)[:n], n_keep).indices_) == n_keep


@pytest.mark.parametrize("cls", SELECTORS)
def test_scores_play_no_part(cls):
    features = np.random.default_rng(0).normal(size=(30, 3))
    kept = [
        fit(cls(random_state=4), features, 7, scores=scores).indices_.tolist()
        for scores in (np.zeros(30), np.arange(30.0), [NAN, INF] * 15)
    ]
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize("cls", SELECTORS)
def test_the_seed_decides_the_search_and_the_exact_search_needs_none(cls):
    features = np.random.default_rng(0).normal(size=(200, 4))
    first, again, other = (fit(cls(epsilon=0.3, random_state=seed), features, 20).indices_ for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(*(fit(cls(epsilon=0, random_state=seed), features, 20).indices_ for seed in (1, 2)))


def test_the_length_of_a_row_does_not_matter():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 4))
    longer = features * 2.0 ** rng.integers(-20, 20, size=(40, 1))
    kept, of_longer = (fit(FacilityLocation(epsilon=0), rows, 10).indices_ for rows in (features, longer))
    assert np.array_equal(kept, of_longer)


def test_every_region_is_represented_the_dense_ones_first():
    rng = np.random.default_rng(0)
    regions = np.repeat(np.arange(5), [40, 30, 20, 10, 5])
    features = 5 * np.eye(5)[regions] + 0.5 * rng.normal(size=(105, 5))
    for n_keep in range(1, 6):
        kept = fit(FacilityLocation(epsilon=0), features, n_keep).indices_
        assert sorted(regions[kept].tolist()) == list(range(n_keep))


def test_an_outlier_is_not_what_represents_the_data():
    features = np.concatenate([[[-1.0, -0.2]], np.random.default_rng(0).uniform([0.5, -0.2], [1, 0.2], size=(20, 2))])
    assert 0 not in fit(FacilityLocation(epsilon=0), features, 1).indices_


def test_permuted_examples_give_the_permuted_selection_where_nothing_ties():
    rng = np.random.default_rng(0)
    features, groups, order = rng.normal(size=(60, 3)), rng.integers(3, size=60), rng.permutation(60)
    for selector in (FacilityLocation(epsilon=0), SubmodularMixture(epsilon=0)):
        kept = fit(selector, features, 6, groups=groups).indices_.tolist()
        permuted = fit(selector, features[order], 6, groups=groups[order]).indices_
        assert sorted(order[permuted].tolist()) == kept


def test_tasks_alike_share_a_budget_and_sizes_do_not_matter():
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b", "c"], [300, 40, 60])
    middle = {"a": [1.0, 0, 0], "b": [1.0, 0, 0], "c": [0, 0, 1.0]}
    features = np.array([middle[group] for group in groups]) + 0.05 * rng.normal(size=(400, 3))
    kept = fit(SubmodularMixture(), features, 40, groups=groups).indices_
    counts = {name: int((groups[kept] == name).sum()) for name in "abc"}
    # Of gains 1.6, 0.8 and 0.6: weights 3.88, 2.12 and 1.78. Which of the twins comes first is noise.
    assert sorted([counts["a"], counts["b"]]) == [11, 20]
    assert counts["c"] == 9


def test_a_task_that_runs_out_leaves_its_budget_to_the_others():
    groups = np.array([0] * 2 + [1] * 30 + [2] * 30)
    features = np.eye(3)[groups] + 0.01 * np.random.default_rng(0).normal(size=(62, 3))
    kept = fit(SubmodularMixture(), features, 32, groups=groups).indices_
    assert np.bincount(groups[kept]).tolist() == [2, 15, 15]


def test_fewer_kept_than_tasks():
    features = np.random.default_rng(0).normal(size=(50, 3))
    kept = fit(SubmodularMixture(), features, 4, groups=np.arange(50)).indices_
    assert len(kept) == 4


@pytest.mark.parametrize(
    ("selector", "columns", "words"),
    [
        (FacilityLocation(), {}, r"FacilityLocation.fit\(\) needs features=..., got None"),
        (FacilityLocation(), {"features": [0.0] * 3}, r"FacilityLocation.fit\(\) needs features of shape"),
        (SubmodularMixture(), {"features": np.eye(3)}, r"SubmodularMixture.fit\(\) needs groups=..., got None"),
        (FacilityLocation(epsilon=-0.1), {"features": np.eye(3)}, r"FacilityLocation.epsilon must be in \[0, 1\]"),
        (
            SubmodularMixture(redundancy_weight=2),
            {"features": np.eye(3), "groups": [0, 1, 1]},
            r"SubmodularMixture.redundancy_weight must be in \[0, 1\], got 2",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_whatever_is_asked_for(selector, columns, words):
    for n_keep in (1, 3):
        with pytest.raises(InvalidValueError, match=words):
            selector.fit(np.zeros(3), n_keep=n_keep, **columns)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (np.array([0, "a", None], object), "needs groups of one kind, got NoneType and int and str"),
        (np.ones((3, 2)), r"needs groups with one value per example, got the shape \(3, 2\)"),
    ],
)
def test_tasks_that_cannot_be_told_apart_are_refused(groups, words):
    with pytest.raises(DataPruneError, match=f"SubmodularMixture.fit.. {words}"):
        SubmodularMixture().fit(np.zeros(3), features=np.eye(3), groups=groups, n_keep=1)


def test_parameters_of_the_wrong_kind_are_refused():
    with pytest.raises(InvalidTypeError, match="epsilon must be a number"):
        FacilityLocation(epsilon="small").fit(np.zeros(3), features=np.eye(3), n_keep=1)


@pytest.mark.parametrize("selector", [ClusteredK(), KCenter(), FacilityLocation(), SubmodularMixture()])
def test_a_run_on_digits_keeps_what_was_planned_and_learns(selector):
    digits = load_digits()
    X, y = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    pruner = DynamicPruner(None, selector, CyclicScheduler(keep_fraction=0.2, n_cycle_epochs=2))
    pruner.fit(
        TensorDataset(X, y),
        model=model,
        n_epochs=5,
        learning_rate=0.02,
        features=digits.data,
        groups=digits.target % 3,
    )
    assert [record.n_kept for record in pruner.history_] == list(pruner.plan_.n_kept) == [1797, 359, 359, 359, 359]
    with torch.inference_mode():
        assert (model(X).argmax(1) == y).float().mean() > 0.85
