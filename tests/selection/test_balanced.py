"""Classes get their share or their minimum, whoever chooses inside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selection_parts import run_on_digits
from sklearn.base import clone

from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.selection.balanced import ClassBalanced, ClassFloor
from dataprune.selection.constrained import KeepAlways, KeepTogether
from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import StratifiedK
from dataprune.selection.unbiased import ImportanceSample, SoftPrune

NAN, INF = float("nan"), float("inf")
INNER = [
    TopK(),
    ScoreWindow(offset_fraction=0.2),
    BothEnds(),
    RandomK(),
    WeightedK(),
    EpsilonGreedy(),
    StratifiedK(n_strata=3),
    SoftPrune(),
    ImportanceSample(),
]


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.one_of(st.floats(), st.just(0.0)), st.sampled_from([0, 1, 7])), max_size=25),
    inner=st.sampled_from(INNER),
    share=st.floats(0, 1),
    by=st.sampled_from(["labels", "groups"]),
)
def test_counts_hold_with_any_selector_inside(rows, inner, share, by):
    scores, column = np.array([s for s, _ in rows]), np.array([c for _, c in rows], int)
    n_keep = round(share * len(rows))
    sizes = np.bincount(column, minlength=8)
    for selector in (
        ClassBalanced(inner, by=by, random_state=0),
        ClassBalanced(inner, share="equal", by=by, random_state=0),
        ClassFloor(inner, n_min=2, by=by, random_state=0),
    ):
        floors = np.minimum(sizes, 2)
        if isinstance(selector, ClassFloor) and n_keep < floors.sum():
            with pytest.raises(InvalidValueError, match=f"n_keep must be at least {floors.sum()}"):
                selector.fit(scores, n_keep=n_keep, **{by: column})
            continue
        selector.fit(scores, n_keep=n_keep, **{by: column})
        kept, counts = selector.indices_, np.bincount(column[selector.indices_], minlength=8)
        assert len(kept) == len(set(kept.tolist())) == n_keep
        assert np.isfinite(selector.weights_).all()
        if isinstance(selector, ClassFloor):
            assert (counts >= floors).all()
        elif selector.share == "equal":
            open_counts = counts[counts < sizes]
            assert len(open_counts) == 0 or counts.max() - open_counts.min() <= 1
        elif len(rows):
            assert (abs(counts - n_keep * sizes / len(rows)) < 1).all()


def test_a_class_that_is_too_small_for_an_equal_share_gives_the_rest_to_the_others():
    labels = np.repeat(["large", "small", "tiny"], [900, 100, 3])
    kept = ClassBalanced(share="equal").fit(np.zeros(1003), labels, n_keep=101).indices_
    assert [int((labels[kept] == name).sum()) for name in ("large", "small", "tiny")] == [49, 49, 3]


def test_proportions_stay_where_another_code_halved_them():
    labels = np.repeat([0, 1], [900, 100])
    kept = ClassBalanced().fit(np.arange(1000)[::-1], labels, n_keep=100).indices_
    assert np.bincount(labels[kept]).tolist() == [90, 10]


def test_remainders_go_to_the_lower_class_in_the_order_of_its_name():
    kept = ClassBalanced().fit(np.zeros(4), ["b", "b", "a", "a"], n_keep=1).indices_
    assert kept.tolist() == [2]


def test_the_floor_is_a_number_or_a_share_of_the_class_and_never_more_than_it_has():
    scores, labels = np.arange(111)[::-1], np.repeat([0, 1, 2], [100, 10, 1])
    kept = ClassFloor(n_min=3).fit(scores, labels, n_keep=50).indices_
    assert np.bincount(labels[kept]).tolist() == [46, 3, 1]
    kept = ClassFloor(n_min=0, min_fraction=0.45).fit(scores, labels, n_keep=50).indices_
    assert np.bincount(labels[kept], minlength=3).tolist() == [46, 4, 0]


def test_a_floor_at_the_budgets_own_share_is_never_refused():
    for sizes in ([3, 3, 3], [1, 5, 9], [7, 7], [15, 2, 2]):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        for share in (0.1, 0.3, 0.5, 0.9):
            selector = ClassFloor(n_min=0, min_fraction=share, keep_fraction=share)
            selector.fit(np.zeros(len(labels)), labels)


def test_balance_goes_before_the_unseen_and_inside_a_class_they_come_first():
    scores, labels = [NAN, NAN, NAN, 0.1, 0.9, 0.5, 0.7, NAN], [0, 0, 0, 0, 1, 1, 1, 1]
    assert ClassBalanced().fit(scores, labels, n_keep=4).indices_.tolist() == [0, 1, 4, 7]
    assert ClassFloor(n_min=2).fit(scores, labels, n_keep=5).indices_.tolist() == [0, 1, 2, 4, 7]


def test_a_selector_that_ignores_scores_ignores_the_unseen():
    assert not ClassBalanced(RandomK()).uses_scores
    total = np.zeros(4)
    for seed in range(1000):
        total[
            ClassBalanced(RandomK(), random_state=seed).fit([NAN, 1.0, NAN, 2.0], [0, 0, 1, 1], n_keep=2).indices_
        ] += 1
    np.testing.assert_allclose(total / 1000, 0.5, atol=0.064)


def test_classes_draw_independently_and_the_seed_decides():
    scores, labels = np.zeros(40), np.repeat([0, 1], 20)
    first, again, other = (ClassBalanced(RandomK(), random_state=s).fit(scores, labels, n_keep=20) for s in (1, 1, 2))
    assert np.array_equal(first.indices_, again.indices_)
    assert not np.array_equal(first.indices_, other.indices_)
    assert not np.array_equal(first.indices_[:10], first.indices_[10:] - 20)


def test_the_rarest_type_of_a_sentence_as_its_group_is_no_floor_on_each_type():
    # "day" is in 12 sentences, always beside a rarer type: no sentence is of its group.
    slots = [*[["day", "airline"]] * 6, *[["day", "meal"]] * 6, *[["airline"]] * 2, *[["meal"]] * 2, *[["city"]] * 14]
    counts = {slot: sum(slot in types for types in slots) for types in slots for slot in types}
    rarest = [min(types, key=lambda slot: counts[slot]) for types in slots]
    scores = [0.0] * 12 + [1.0] * 18
    for groups, n_of_day in ((rarest, 0), (slots, 2)):
        kept = ClassFloor(n_min=2, by="groups").fit(scores, groups=groups, n_keep=8).indices_
        assert sum("day" in slots[i] for i in kept) == n_of_day


def test_permuted_examples_give_the_permuted_selection():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=60), rng.integers(0, 4, size=60)
    order = rng.permutation(60)
    for selector in (ClassBalanced(), ClassBalanced(share="equal"), ClassFloor(n_min=3), ClassBalanced(BothEnds())):
        kept = selector.fit(scores, labels, n_keep=25).indices_
        again = clone(selector).fit(scores[order], labels[order], n_keep=25).indices_
        assert sorted(order[again].tolist()) == kept.tolist()


@pytest.mark.parametrize(
    ("selector", "columns", "words"),
    [
        (ClassBalanced(), {}, r"ClassBalanced.fit\(\) needs labels=..., got None"),
        (ClassBalanced(by="groups"), {"labels": [0, 1, 1]}, r"ClassBalanced.fit\(\) needs groups=..., got None"),
        (
            ClassBalanced(by="label"),
            {"labels": [0, 1, 1]},
            "ClassBalanced.by must be one of 'labels', 'groups', got 'label'",
        ),
        (
            ClassBalanced(share="half"),
            {"labels": [0, 1, 1]},
            "share must be one of 'proportional', 'equal', got 'half'",
        ),
        (ClassFloor(n_min=-1), {"labels": [0, 1, 1]}, "ClassFloor.n_min must be at least 0, got -1"),
        (ClassFloor(min_fraction=2), {"labels": [0, 1, 1]}, r"ClassFloor.min_fraction must be in \[0, 1\], got 2"),
        (
            ClassFloor(),
            {"labels": [0, 1, 2]},
            "at least 3, the sum of the floors of 3 classes of labels, got 2. Keep more",
        ),
        (ClassBalanced(), {"labels": [[0], [1], [1]]}, r"labels with one value per example, got the shape \(3, 1\)"),
        (
            ClassBalanced(),
            {"labels": np.array([0, "a", None], object)},
            "needs labels of one kind, got NoneType and int and str",
        ),
        (
            ClassBalanced(),
            {"labels": [[0], [1, 2], [1]]},
            "needs labels with one value per example, got rows of different",
        ),
        (ClassBalanced(), {"labels": [{0}, {1}, {1}]}, "needs labels with one value per example, got several"),
        (ClassFloor(), {"labels": [[0], 1, None]}, "needs labels of one kind, got NoneType and int and list"),
        (ClassFloor(), {"labels": [[0], [1, None], [1]]}, "needs labels of one kind, got NoneType and int"),
        (ClassFloor(), {"labels": [[[0]], [[1]], [[1]]]}, "needs labels with one value per example, got several"),
        (
            ClassFloor(),
            {"labels": np.eye(3, dtype=int)},
            r"or a boolean matrix of shape .*, got int64 of shape \(3, 3\)",
        ),
        (ClassFloor(), {"labels": np.ones((3, 1, 1), bool)}, r"a boolean matrix .*, got bool of shape \(3, 1, 1\)"),
        (ClassFloor(), {"labels": [["a"], ["b"]]}, "needs labels for each of 3 scores, got 2"),
        (ClassFloor(), {"labels": [[0], [1], [2]]}, "at least 3, the rows that the floors of 3 classes of labels"),
        (
            ClassFloor(KeepTogether(), by="groups", n_min=1),
            {"groups": [["a", "b"], ["a"], ["a"]]},
            "KeepTogether.fit.. needs groups with one value per example, got several",
        ),
        (ClassBalanced("top"), {"labels": [0, 1, 1]}, "ClassBalanced.selector must be a Selector, got 'top'"),
        (
            ClassBalanced(TopK(keep_fraction=0.5)),
            {"labels": [0, 1, 1]},
            "TopK.keep_fraction must be left out inside ClassBalanced, got 0.5. Set it on ClassBalanced",
        ),
        (
            ClassFloor(RandomK(random_state=0)),
            {"labels": [0, 1, 1]},
            "RandomK.random_state must be left out inside ClassFloor, got 0",
        ),
        (
            ClassBalanced(KeepAlways(indices=[1])),
            {"labels": [0, 1, 1]},
            r"must not be a KeepAlways.*Wrap the other way round: KeepAlways\(ClassBalanced\(...\), ...\)",
        ),
        (ClassFloor(ClassBalanced(KeepAlways())), {"labels": [0, 1, 1]}, "must not be a KeepAlways"),
        (ClassBalanced(KeepTogether()), {"labels": [0, 1, 1]}, "needs groups=..., got None"),
    ],
)
def test_what_cannot_be_done_is_refused(selector, columns, words):
    with pytest.raises(DataPruneError, match=words) as error:
        selector.fit([1.0, 2.0, 3.0], n_keep=2, **columns)
    assert isinstance(error.value, InvalidTypeError | InvalidValueError)


def test_a_budget_of_nothing_breaks_a_floor_too():
    with pytest.raises(InvalidValueError, match="n_keep must be at least 2"):
        ClassFloor().fit([1.0, 2.0, 3.0], [0, 1, 1], n_keep=0)
    assert len(ClassFloor().fit([], [], n_keep=0).indices_) == 0
    assert len(ClassBalanced().fit([1.0, 2.0, 3.0], [0, 1, 1], n_keep=0).indices_) == 0


@pytest.mark.parametrize("selector", [ClassBalanced(WeightedK(), share="equal"), ClassFloor(n_min=5)])
def test_they_drive_a_run(selector):
    pruner, labels = run_on_digits(selector)
    counts = np.bincount(labels[pruner.indices_], minlength=10)
    assert counts.min() >= (15 if isinstance(selector, ClassBalanced) else 5)
