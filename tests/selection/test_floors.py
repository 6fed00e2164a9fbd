"""Floors on classes of which a row may have several, or none."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_parts import run_on_digits
from sklearn.base import clone

from dataprune.errors import InvalidValueError
from dataprune.selection.balanced import ClassFloor
from dataprune.selection.constrained import KeepAlways
from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import StratifiedK
from dataprune.selection.unbiased import ImportanceSample, SoftPrune

RANKED = [TopK(), ScoreWindow(offset_fraction=0.2), BothEnds()]
DRAWN = [RandomK(), WeightedK(), EpsilonGreedy(), StratifiedK(n_strata=3), SoftPrune(), ImportanceSample()]
NAMES = "abcdef"

any_scores = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, -3.0, math.inf, math.nan]))
some_classes = st.frozensets(st.sampled_from(NAMES), max_size=4)
several = st.lists(st.tuples(any_scores, some_classes), max_size=25)
one_each = st.lists(st.tuples(any_scores, st.sampled_from(NAMES)), min_size=1, max_size=25)
shares, floors = st.floats(0, 1), st.integers(0, 4)


def slow_floors(classes, n_min, min_fraction=0.0):
    """Class -> least number of its rows, and the classes from the rarest up."""
    sizes = Counter(name for row in classes for name in row)
    least = {c: min(n, max(n_min, math.floor(round(n * min_fraction, 6)))) for c, n in sizes.items()}
    return least, sorted(least, key=lambda c: (sizes[c], c))


def slow_choice(scores, classes, n_min, min_fraction, n_keep):
    """What is kept, row by row, and how many rows the floors took."""
    never = [i for i in range(len(scores)) if math.isnan(scores[i])]
    ranking = never + sorted((i for i in range(len(scores)) if i not in never), key=lambda i: (-scores[i], i))
    least, rarest_up = slow_floors(classes, n_min, min_fraction)
    kept = []
    for c in rarest_up:
        for i in ranking:
            if sum(c in classes[k] for k in kept) < least[c] and c in classes[i] and i not in kept:
                kept.append(i)
    n_floors = len(kept)
    for i in ranking:
        if len(kept) < n_keep and i not in kept:
            kept.append(i)
    return sorted(kept), n_floors


def matrix_of(classes):
    return np.array([[name in row for name in NAMES] for row in classes], bool).reshape(len(classes), len(NAMES))


@settings(max_examples=100, deadline=None)
@given(rows=several, n_min=floors, min_fraction=shares, share=shares)
def test_floors_are_filled_from_the_rarest_class_up_as_slow_code_does(rows, n_min, min_fraction, share):
    scores, classes = [s for s, _ in rows], [c for _, c in rows]
    n_keep = round(share * len(rows))
    expected, n_floors = slow_choice(scores, classes, n_min, min_fraction, n_keep)
    selector = ClassFloor(n_min=n_min, min_fraction=min_fraction)
    if n_keep < n_floors:
        with pytest.raises(InvalidValueError, match=rf"ClassFloor\.n_keep must be at least {n_floors}, the rows that"):
            selector.fit(scores, classes, n_keep=n_keep)
        n_keep = n_floors
    assert selector.fit(scores, classes, n_keep=n_keep).indices_.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(rows=several, n_min=floors, share=shares, inner=st.sampled_from(RANKED + DRAWN))
def test_every_class_keeps_its_floor_with_any_selector_inside(rows, n_min, share, inner):
    scores, classes = [s for s, _ in rows], [c for _, c in rows]
    least, _ = slow_floors(classes, n_min)
    n_keep = max(round(share * len(rows)), min(len(rows), sum(least.values())))  # never refused
    selector = ClassFloor(inner, n_min=n_min, by="groups", random_state=0)
    kept = selector.fit(scores, groups=classes, n_keep=n_keep).indices_
    assert len(kept) == len(set(kept.tolist())) == n_keep
    assert np.isfinite(selector.weights_).all()
    for c, floor in least.items():
        assert sum(c in classes[i] for i in kept) >= floor
    again = clone(selector).fit(scores, groups=classes, n_keep=n_keep)
    assert np.array_equal(again.indices_, kept)
    assert np.array_equal(again.weights_, selector.weights_)


@settings(max_examples=50, deadline=None)
@given(rows=several.filter(len), n_min=floors, inner=st.sampled_from(RANKED + DRAWN))
def test_lists_sets_and_a_matrix_say_the_same(rows, n_min, inner):
    scores, classes = [s for s, _ in rows], [c for _, c in rows]
    n_keep = min(len(rows), sum(slow_floors(classes, n_min)[0].values()) + 1)
    forms = [
        classes,
        [sorted(row) for row in classes],
        [[*row, *row] for row in classes],  # twice is once
        [tuple(row) for row in classes],
        np.fromiter((sorted(row) for row in classes), object, len(rows)),
        [["abcdef".index(name) for name in sorted(row)] for row in classes],
        matrix_of(classes),  # with a column for each class that no row has
        matrix_of(classes).tolist(),
    ]
    selector = ClassFloor(inner, n_min=n_min, random_state=0)
    kept = [selector.fit(scores, form, n_keep=n_keep).indices_.tolist() for form in forms]
    assert kept == [kept[0]] * len(forms)


@settings(max_examples=50, deadline=None)
@given(rows=one_each, n_min=floors, min_fraction=shares, share=shares, inner=st.sampled_from(RANKED))
def test_a_list_of_one_class_each_is_that_class(rows, n_min, min_fraction, share, inner):
    scores, labels = [s for s, _ in rows], [c for _, c in rows]
    selector = ClassFloor(inner, n_min=n_min, min_fraction=min_fraction)
    n_keep = round(share * len(rows))
    try:
        kept = selector.fit(scores, labels, n_keep=n_keep).indices_.tolist()
    except InvalidValueError as refusal:
        n_least = str(refusal).split("at least ")[1].split(",")[0]
        with pytest.raises(InvalidValueError, match=f"at least {n_least},"):
            selector.fit(scores, [[c] for c in labels], n_keep=n_keep)
    else:
        assert selector.fit(scores, [[c] for c in labels], n_keep=n_keep).indices_.tolist() == kept


def test_rows_without_a_class_compete_for_the_rest_alone():
    scores = [0.9, 0.8, 0.7, 0.1]
    assert ClassFloor().fit(scores, [[], [], [], ["a"]], n_keep=2).indices_.tolist() == [0, 3]
    assert ClassFloor().fit(scores, [[], [], [], []], n_keep=2).indices_.tolist() == [0, 1]
    assert ClassFloor().fit(scores, np.zeros((4, 0), bool), n_keep=2).indices_.tolist() == [0, 1]
    assert ClassFloor().fit(scores, np.zeros((4, 3), bool), n_keep=0).indices_.tolist() == []


def test_one_row_fills_the_floors_of_all_its_classes():
    rows = [["rare", "b", "c"], ["b"], ["b"], ["c"], ["c"], ["c"]]
    assert ClassFloor().fit([0, 9, 8, 7, 6, 5], rows, n_keep=1).indices_.tolist() == [0]


def test_permuted_examples_give_the_permuted_selection_and_a_smaller_budget_a_subset():
    rng = np.random.default_rng(0)
    scores, has_class = rng.normal(size=60), rng.random((60, 8)) < 0.2
    order = rng.permutation(60)
    before = set()
    for n_keep in range(24, 61):
        kept = ClassFloor(n_min=3).fit(scores, has_class, n_keep=n_keep).indices_.tolist()
        again = ClassFloor(n_min=3).fit(scores[order], has_class[order], n_keep=n_keep).indices_
        assert sorted(order[again].tolist()) == kept
        assert before <= set(kept)
        before = set(kept)


def test_another_wrapper_around_it_passes_several_classes_on():
    rows = [["a"], ["a", "b"], [], ["b", "c"]]
    kept = KeepAlways(ClassFloor(by="groups"), indices=[2]).fit([4.0, 3.0, 2.0, 1.0], groups=rows, n_keep=3).indices_
    assert kept.tolist() == [0, 2, 3]


def test_the_inputs_stay_as_they_are():
    rows, has_class = [["a"], ["b", "a"], []], np.array([[True, False], [True, True], [False, False]])
    ClassFloor().fit([1.0, 2.0, 3.0], rows, n_keep=2)
    ClassFloor().fit([1.0, 2.0, 3.0], has_class, n_keep=2)
    assert rows == [["a"], ["b", "a"], []]
    assert has_class.tolist() == [[True, False], [True, True], [False, False]]


def test_weights_that_undo_the_choice_still_do():
    rng = np.random.default_rng(0)
    scores, values = rng.random(20) + 0.1, rng.normal(size=20)
    rows = [["a", "b"] if i % 4 == 0 else ["b"] if i % 3 == 0 else [] for i in range(20)]
    means = []
    for seed in range(600):
        selector = ClassFloor(ImportanceSample(), n_min=2, random_state=seed).fit(scores, rows, n_keep=8)
        means.append((selector.weights_ * values[selector.indices_]).mean())
    error = np.std(means) / math.sqrt(len(means))
    assert abs(np.mean(means) - values.mean()) < 4 * error


@pytest.mark.parametrize("n_classes", [1, 40])
def test_many_rows_take_no_loop_over_them(n_classes, monkeypatch):
    rng = np.random.default_rng(0)
    has_class = rng.random((20_000, n_classes)) < 0.05
    calls = []
    fit = TopK.fit
    monkeypatch.setattr(TopK, "fit", lambda self, *args, **kwargs: calls.append(1) or fit(self, *args, **kwargs))
    kept = ClassFloor(n_min=20).fit(rng.normal(size=20_000), has_class, n_keep=2000).indices_
    assert len(kept) == 2000
    assert has_class[kept].sum(0).min() >= 20
    assert len(calls) <= n_classes + 1


@pytest.mark.parametrize("as_lists", [True, False])
def test_several_classes_per_example_drive_a_run(as_lists):
    has_group = np.random.default_rng(0).random((300, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.0]
    groups = [np.flatnonzero(row).tolist() for row in has_group] if as_lists else has_group
    pruner, _ = run_on_digits(ClassFloor(n_min=4, by="groups"), groups=groups)
    counts = has_group[pruner.indices_].sum(0)
    assert (counts >= np.minimum(4, has_group.sum(0))).all()
