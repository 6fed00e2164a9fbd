"""Loss weights undo the choice: the mean weighted gradient is, on average, that of all examples."""

import inspect

import numpy as np
import pytest
import torch
from selection_parts import run_on_digits
from sklearn.base import clone
from sklearn.datasets import load_digits

import dataprune
from dataprune.errors import DataPruneError, InvalidValueError
from dataprune.selection._wrapper import SelectorWrapper
from dataprune.selection.balanced import ClassBalanced, ClassFloor
from dataprune.selection.base import Selector
from dataprune.selection.constrained import KeepAlways, KeepTogether
from dataprune.selection.random import RandomK, WeightedK
from dataprune.selection.ranked import TopK
from dataprune.selection.unbiased import ImportanceSample, SoftPrune
from dataprune.testing import check_selector

NAN, INF = float("nan"), float("inf")
N_DRAWS, N_KEEP = 10_000, 10


@pytest.fixture(scope="module")
def gradients():
    """Gradients of the losses of 24 digits, a row each, in a small network after a little training; and the labels."""
    images, labels = load_digits(return_X_y=True)
    chosen = np.flatnonzero(labels < 3)[:24]
    images = torch.nn.functional.avg_pool2d(torch.tensor(images[chosen] / 16).float().view(-1, 1, 8, 8), 2).flatten(1)
    labels = torch.tensor(labels[chosen])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(30):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    rows = []
    for image, label in zip(images, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(model(image[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    return torch.stack(rows).double().numpy(), labels.numpy()


def draws(selector, gradients, scores, labels, n_draws=N_DRAWS):
    """The mean weighted gradient of each of many draws."""
    selector = clone(selector)
    means = np.empty((n_draws, gradients.shape[1]))
    for seed in range(n_draws):
        selector.random_state = [1, seed]
        selector.fit(scores, labels, n_keep=N_KEEP)
        means[seed] = selector.weights_.astype(float) @ gradients[selector.indices_] / N_KEEP
    return means


def off_by(means, full):
    """How many standard errors the mean of the draws is from the full gradient, as a vector."""
    standard_error = np.sqrt(means.var(0).sum() / len(means))
    assert standard_error < 0.1 * np.linalg.norm(full)  # or nothing would be shown
    return np.linalg.norm(means.mean(0) - full) / standard_error


def scores_of(kind, gradients):
    norms = np.linalg.norm(gradients, axis=1)
    rng = np.random.default_rng(0)
    return {
        "gradient norms": norms,
        "norms, three unseen": np.where(np.arange(24) % 9 == 0, NAN, norms),
        "norms, one unseen": np.where(np.arange(24) == 9, NAN, norms),  # three would be all that its class may keep
        "norms, one infinite": np.where(np.arange(24) == 5, INF, norms),
        "of another kind": rng.normal(size=24),
        "rounded": np.round(norms),
        "all the same": np.full(24, 0.1),
        "a few large": rng.pareto(0.5, size=24),
    }[kind]


@pytest.mark.parametrize(
    ("selector", "kind"),
    [
        (SoftPrune(), "gradient norms"),
        (SoftPrune(), "norms, three unseen"),
        (SoftPrune(), "rounded"),
        (SoftPrune(), "all the same"),
        (ImportanceSample(), "gradient norms"),
        (ImportanceSample(), "norms, three unseen"),
        (ImportanceSample(), "norms, one infinite"),
        (ImportanceSample(), "of another kind"),
        (ImportanceSample(), "a few large"),
        (ImportanceSample(uniform_fraction=0.0), "gradient norms"),
        (ClassBalanced(ImportanceSample(), share="equal"), "gradient norms"),
        (ClassFloor(SoftPrune(), n_min=2), "of another kind"),
        (KeepAlways(ImportanceSample(), indices=[3, 4, 5]), "norms, three unseen"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
def test_the_mean_weighted_gradient_of_many_draws_is_the_full_one(selector, kind, gradients):
    # A choice per class takes its time: those get all draws in the slow product below.
    check_unbiased(selector, kind, gradients, 2000 if isinstance(selector, ClassBalanced | ClassFloor) else N_DRAWS)


def check_unbiased(selector, kind, gradients, n_draws=N_DRAWS):
    gradients, labels = gradients
    assert selector.reweighs
    means, full = draws(selector, gradients, scores_of(kind, gradients), labels, n_draws), gradients.mean(0)
    assert off_by(means, full) < 3
    along = means @ full / np.linalg.norm(full) ** 2  # the length along the full gradient: 1 on average
    assert abs(along.mean() - 1) < 3 * along.std() / np.sqrt(len(means))


def around(inner):
    """Every wrapper around a weighted selector, alone and one in another, with each of its rules."""
    rows = {"indices": [3, 4, 5]}
    return [
        ClassBalanced(inner),
        ClassBalanced(inner, share="equal"),
        ClassFloor(inner, n_min=2),
        ClassFloor(inner, n_min=0, min_fraction=0.3),
        KeepAlways(inner, **rows),
        KeepAlways(ClassBalanced(inner), **rows),
        KeepAlways(ClassFloor(inner), **rows),
        ClassBalanced(ClassFloor(inner)),
        ClassFloor(ClassBalanced(inner, share="equal")),
    ]


PUBLIC = [cls for name in sorted(dataprune.__all__) if inspect.isclass(cls := getattr(dataprune, name))]
WRAPPERS = {cls for cls in PUBLIC if issubclass(cls, SelectorWrapper)}
WEIGHTED = [inner for cls in PUBLIC if issubclass(cls, Selector) and cls not in WRAPPERS and (inner := cls()).reweighs]


def test_every_wrapper_is_put_around_every_weighted_selector():
    assert {type(selector) for selector in WEIGHTED} >= {SoftPrune, ImportanceSample}
    assert {type(selector) for selector in around(SoftPrune())} == WRAPPERS - {KeepTogether}
    for inner in WEIGHTED:
        with pytest.raises(DataPruneError, match="without loss weights"):
            KeepTogether(inner).check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gradient norms", "norms, one unseen", "of another kind"])
@pytest.mark.parametrize("selector", [each for inner in WEIGHTED for each in around(inner)], ids=repr)
def test_wrappers_stay_unbiased_around_every_weighted_selector(selector, kind, gradients):
    check_unbiased(selector, kind, gradients)


@pytest.mark.parametrize(
    "selector", [WeightedK(), ImportanceSample(weight_power=0.0), ImportanceSample(max_weight=1.0)]
)
def test_without_the_weights_it_is_not(selector, gradients):
    gradients, labels = gradients
    assert not selector.reweighs
    scores = scores_of("gradient norms", gradients)
    assert off_by(draws(selector, gradients, scores, labels), gradients.mean(0)) > 20


def test_a_draw_by_gradient_norm_has_less_variance_than_a_uniform_one(gradients):
    gradients, labels = gradients
    scores = scores_of("gradient norms", gradients)
    by_norm, uniform = (draws(s, gradients, scores, labels).var(0).sum() for s in (ImportanceSample(), RandomK()))
    assert by_norm < 0.75 * uniform


@pytest.mark.parametrize(
    "selector",
    [
        SoftPrune(),
        ImportanceSample(),
        ImportanceSample(uniform_fraction=0.0),
        ImportanceSample(uniform_fraction=1.0),
        ImportanceSample(weight_power=0.5, max_weight=2.0),
    ],
)
def test_weighted_selectors_keep_the_contract(selector):
    check_selector(selector)


def test_soft_prune_drops_below_the_mean_and_weighs_the_rest_of_them_for_all():
    scores = np.array([0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.9, 0.9, 1.0, 1.0])
    selector = SoftPrune(random_state=0).fit(scores, n_keep=7)
    kept = set(selector.indices_.tolist())
    assert {6, 7, 8, 9} < kept
    np.testing.assert_allclose(selector.weights_, [0.7 * 6 / 3] * 3 + [0.7] * 4, rtol=1e-6)


def test_soft_prune_has_the_weights_of_infobatch_up_to_the_share_kept():
    scores, r = np.concatenate([np.zeros(60), np.ones(40)]), 0.5
    selector = SoftPrune(random_state=0).fit(scores, n_keep=100 - 30)
    infobatch = np.where(scores[selector.indices_] < scores.mean(), 1 / (1 - r), 1.0)
    np.testing.assert_allclose(selector.weights_, 0.7 * infobatch, rtol=1e-6)


def test_no_weight_of_soft_prune_passes_two_and_a_deep_cut_takes_more_than_the_group():
    scores = np.concatenate([np.zeros(30), np.linspace(1, 2, 70)])
    for n_keep in range(1, 100):
        selector = SoftPrune(random_state=0).fit(scores, n_keep=n_keep)
        assert selector.weights_.max() <= 2 + 1e-6
        assert 99 in selector.indices_ or n_keep <= 2
    deep = SoftPrune(random_state=0).fit(scores, n_keep=1)
    assert deep.weights_.tolist() == [1.0]


@pytest.mark.parametrize("value", [0.1, 0.3, 1e-300, -7.7, 1.7e308])
def test_equal_scores_are_drawn_alike_whatever_their_mean_rounds_to(value):
    total = np.zeros(10)
    for seed in range(800):
        selector = SoftPrune(random_state=seed).fit(np.full(10, value), n_keep=5)
        total[selector.indices_] += 1
        assert (selector.weights_ == 1).all()
    np.testing.assert_allclose(total / 800, 0.5, atol=0.071)


def test_unseen_examples_are_never_dropped_while_the_budget_holds_them():
    scores = [NAN, 0.0, NAN, 0.1, 0.2, 9.0]
    for seed in range(20):
        for selector in (SoftPrune(random_state=seed), ImportanceSample(random_state=seed)):
            assert {0, 2} <= set(selector.fit(scores, n_keep=4).indices_.tolist())
            one = selector.fit(scores, n_keep=1)
            assert (set(one.indices_.tolist()) <= {0, 2}, one.weights_.tolist()) == (True, [1.0])
            three = ImportanceSample(random_state=seed).fit([NAN, INF, INF, INF, 1.0], n_keep=3)
            assert 0 in three.indices_
            assert 4 not in three.indices_


def test_weights_pass_their_bounds_only_where_certain_rows_take_the_budget():
    scores = np.concatenate([np.full(60, NAN), np.arange(40.0)])
    soft = SoftPrune(random_state=0).fit(scores, n_keep=61)
    np.testing.assert_allclose(soft.weights_, [0.61] * 60 + [0.61 * 40], rtol=1e-6)
    heaviest = max(ImportanceSample(random_state=seed).fit(scores, n_keep=61).weights_.max() for seed in range(40))
    assert heaviest > 10
    for seed in range(40):
        assert ImportanceSample(random_state=seed).fit(scores[60:], n_keep=20).weights_.max() <= 10


def test_probabilities_are_proportional_to_the_score_and_capped_at_one():
    total = np.zeros(5)
    for seed in range(4000):
        selector = ImportanceSample(uniform_fraction=0.0, random_state=seed).fit([8.0, 1.0, 2.0, 3.0, 0.0], n_keep=3)
        total[selector.indices_] += 1
    np.testing.assert_allclose(total / 4000, [1, 1 / 3, 2 / 3, 1, 0], atol=0.032)


def test_the_uniform_share_bounds_the_weights_and_gives_all_a_chance():
    scores = np.concatenate([np.zeros(50), np.ones(50)])
    seen = np.zeros(100, bool)
    for seed in range(400):
        selector = ImportanceSample(uniform_fraction=0.1, random_state=seed).fit(scores, n_keep=20)
        seen[selector.indices_] = True
        assert selector.weights_.max() <= 10 + 1e-5
    assert seen.all()


def test_scores_of_zero_fill_up_where_nothing_else_is_left():
    selector = ImportanceSample(uniform_fraction=0.0, random_state=0).fit([0.0, 3.0, 0.0, 1.0, 0.0, 0.0], n_keep=4)
    assert {1, 3} < set(selector.indices_.tolist())
    np.testing.assert_allclose(np.sort(selector.weights_), [4 / 6, 4 / 6, 8 / 6, 8 / 6], rtol=1e-6)


def test_power_and_clipping_change_the_weights_and_not_the_draw():
    scores = np.random.default_rng(0).gamma(0.5, size=50)
    plain, half, none, clipped = (
        ImportanceSample(random_state=3, **parameters).fit(scores, n_keep=20)
        for parameters in ({}, {"weight_power": 0.5}, {"weight_power": 0.0}, {"max_weight": 1.5})
    )
    for other in (half, none, clipped):
        assert np.array_equal(other.indices_, plain.indices_)
    np.testing.assert_allclose(half.weights_, np.sqrt(plain.weights_), rtol=1e-6)
    assert (none.weights_ == 1).all()
    np.testing.assert_array_equal(clipped.weights_, np.minimum(plain.weights_, np.float32(1.5)))


def test_negative_scores_are_counted_from_the_lowest():
    scores = np.array([0.0, 2.0, 5.0, 1.0, 1.0])
    first, shifted = (ImportanceSample(random_state=1).fit(s, n_keep=2) for s in (scores, scores - 3))
    assert np.array_equal(first.indices_, shifted.indices_)
    np.testing.assert_allclose(first.weights_, shifted.weights_, rtol=1e-6)


def test_weights_inside_classes_are_scaled_to_the_whole():
    labels = np.repeat([0, 1], [30, 10])
    selector = ClassBalanced(ImportanceSample(), share="equal", random_state=0).fit(np.ones(40), labels, n_keep=8)
    np.testing.assert_allclose(selector.weights_, np.repeat([1.5, 0.5], 4), rtol=1e-6)
    plain = ClassBalanced(TopK(), share="equal").fit(np.ones(40), labels, n_keep=8)
    assert (plain.weights_ == 1).all()


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        (ImportanceSample(weight_power=2), r"ImportanceSample.weight_power must be in \[0, 1\], got 2"),
        (ImportanceSample(max_weight=0), "ImportanceSample.max_weight must be a finite number above 0, got 0"),
        (ImportanceSample(uniform_fraction=-1), r"ImportanceSample.uniform_fraction must be in \[0, 1\], got -1"),
    ],
)
def test_bad_parameters_are_refused(selector, words):
    with pytest.raises(DataPruneError, match=words):
        selector.fit([1.0, 2.0, 3.0], n_keep=1)


@pytest.mark.parametrize("selector", [SoftPrune(), ImportanceSample()])
def test_they_drive_a_run(selector):
    pruner, _ = run_on_digits(selector)
    assert abs(pruner.weights_.mean() - 1) < 0.25


def test_a_score_on_the_mean_is_not_below_it_by_rounding():
    scores = np.array([0.1, -0.7, 0.9, -0.7, 0.9, -0.7, 0.9])  # their mean is 0.1, but not in float64
    for seed in range(20):
        selector = SoftPrune(random_state=seed).fit(scores, n_keep=6)
        assert 0 in selector.indices_
        np.testing.assert_allclose(selector.weights_[scores[selector.indices_] == -0.7], 6 / 7 * 3 / 2, rtol=1e-6)


def test_a_group_grows_where_a_weight_would_pass_the_largest():
    scores = np.array([0.1, 0.1, 0.1, *[5.0] * 7])  # three below the mean, of which two go
    weights = SoftPrune(max_weight=None, random_state=0).fit(scores, n_keep=8).weights_
    assert sorted(weights.tolist()) == pytest.approx([0.8] * 7 + [2.4])
    assert set(SoftPrune(random_state=0).fit(scores, n_keep=8).weights_.tolist()) == {1.0}  # ties: all rows
    with pytest.raises(InvalidValueError, match=r"SoftPrune\.max_weight must be above 1, got 1\.0"):
        SoftPrune(max_weight=1.0).fit(scores, n_keep=8)
