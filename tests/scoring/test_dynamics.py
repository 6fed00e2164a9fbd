"""Training dynamics as scorers: in a pruner, over a resume, with labels that do not count, with threshold examples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import ConstantScheduler, CyclicScheduler, DynamicPruner, ScoreStore, TopK
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError, StateError
from dataprune.scoring.dynamics import AUM, Cartography, Confidence, Correctness, Forgetting, Variability
from dataprune.scoring.dynamics_functional import label_margin, label_probability, visit_values
from dataprune.scoring.dynamics_store import SCORES, DynamicsStore
from dataprune.scoring.threshold_examples import aum_cutoff, make_threshold_examples
from dataprune.testing import check_scorer

SCORERS = [
    AUM(),
    Forgetting(),
    Forgetting(never_learned="as_counted"),
    Confidence(),
    Variability(),
    Correctness(),
    Cartography(),
]


def blobs(n=60, n_classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % n_classes
    x = F.one_hot(y, n_classes).float() + 0.8 * torch.randn(n, n_classes, generator=generator)
    return TensorDataset(x, y)


def run(scorer, *, refresh="observed", n_epochs=6, save_at=None, path=None, resume=False):
    """Train a linear model with a pruner; save after a number of batches and stop, or go on from there."""
    pruner = DynamicPruner(scorer, TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2), refresh=refresh)
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loader = pruner.attach(DataLoader(blobs(), batch_size=8, shuffle=True), n_epochs=n_epochs, model=model)
    if resume:
        pruner.load(path / "pruner.safetensors")
        model.load_state_dict(torch.load(path / "model.pt", weights_only=True))
    n_batches = 0
    for epoch in range(max(0, pruner.epoch_), n_epochs):
        pruner.set_epoch(epoch)
        for index, (x, y) in loader:
            logits = model(x)
            F.cross_entropy(logits, y).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=y)
            n_batches += 1
            if n_batches == save_at:
                pruner.save(path / "pruner.safetensors")
                torch.save(model.state_dict(), path / "model.pt")
                return pruner
    pruner.close()
    return pruner


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_each_keeps_the_contract(scorer):
    check_scorer(scorer)


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_three_levels_below_the_estimator_are_enough(scorer):
    line = [cls for cls in type(scorer).__mro__ if issubclass(cls, BaseEstimator)]
    assert len(line) <= 4  # BaseEstimator, Scorer, BatchScorer, and itself


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
@pytest.mark.parametrize("refresh", ["observed", "full"])
def test_each_prunes_a_run_and_holds_finite_scores(scorer, refresh):
    pruner = run(scorer, refresh=refresh)
    assert [record.n_kept for record in pruner.history_] == [60, 60, 30, 30, 30, 30]
    assert np.isfinite(pruner.scorer_.scores_).all()
    # 4 selections in 6 epochs
    assert (pruner.scorer_.store_.counts <= (6 if refresh == "observed" else 4)).all()


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
@pytest.mark.parametrize("save_at", [3, 8, 20, 25])
def test_a_resumed_run_ends_as_the_uninterrupted_one(scorer, save_at, tmp_path):
    run(scorer, save_at=save_at, path=tmp_path)
    resumed, whole = run(scorer, path=tmp_path, resume=True), run(scorer)
    np.testing.assert_equal(resumed.scorer_.store_.state_dict(), whole.scorer_.store_.state_dict())
    np.testing.assert_array_equal(resumed.indices_, whole.indices_)
    np.testing.assert_array_equal(resumed.scorer_.scores_, whole.scorer_.scores_)


def test_one_run_gives_every_score():
    pruner = run(AUM())
    state = pruner.scorer_.store_.state_dict()
    for scorer in SCORERS:
        same_run = scorer.reset(60)
        same_run.store_.load_state_dict(state)
        store = DynamicsStore(60, score=same_run.store_.score)
        store.load_state_dict(state)
        np.testing.assert_array_equal(same_run.scores_, store.scores)
        np.testing.assert_array_equal(same_run.aum_, pruner.scorer_.aum_)


def test_a_saved_table_keeps_its_score_in_the_file(tmp_path):
    pruner = run(Confidence())
    store = pruner.scorer_.store_
    store.save(tmp_path / "scores.safetensors")
    again = DynamicsStore.load(tmp_path / "scores.safetensors")
    assert again.score == "confidence"
    np.testing.assert_equal(again.state_dict(), store.state_dict())
    with pytest.raises(StateError, match="holds no scores"):
        ScoreStore.load(tmp_path / "scores.safetensors")
    with pytest.raises(StateError, match="n_examples=60, but this run has 61"):
        DynamicsStore(61).load_state_dict(store.state_dict())
    with pytest.raises(StateError, match="must have the keys"):
        DynamicsStore(60).load_state_dict({"n_examples": 60})


def test_all_dynamics_of_an_example_take_at_most_40_bytes():
    state = DynamicsStore(1000).state_dict()
    assert sum(array.nbytes for array in state.values() if isinstance(array, np.ndarray)) == 30 * 1000


def visit(scorer, epoch, *margins):
    """Show each example once, with a margin of its label."""
    scorer.set_epoch(epoch)
    logits = torch.tensor([[margin, 0.0] for margin in margins])
    return scorer.update(torch.arange(len(margins)), logits=logits, labels=torch.zeros(len(margins), dtype=torch.long))


def test_what_was_never_learned_is_hardest_unless_counted_as_it_is():
    hardest, counted = Forgetting().reset(3), Forgetting(never_learned="as_counted").reset(3)
    for epoch, margins in enumerate([(1.0, 1.0, -1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, -1.0), (-1.0, 1.0, -1.0)]):
        for scorer in (hardest, counted):
            visit(scorer, epoch, *margins)
    assert hardest.scores_.tolist() == [2, 0, 4]
    assert counted.scores_.tolist() == [2, 0, 0]
    assert hardest.never_learned_.tolist() == counted.never_learned_.tolist() == [False, False, True]
    assert hardest.n_forgetting_events_.tolist() == [2, 0, 0]


@settings(max_examples=60, deadline=None)
@given(rights=st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=4))
def test_what_was_never_learned_outranks_all_others_however_often_each_was_seen(rights):
    scorer = Forgetting().reset(len(rights))
    for row, visits in enumerate(rights):
        for epoch, right in enumerate(visits):
            scorer.set_epoch(epoch)
            logits = torch.tensor([[1.0 if right else -1.0, 0.0]])
            scorer.update(torch.tensor([row]), logits=logits, labels=torch.tensor([0]))
            scorer.store_.flush()
    scores, never = scorer.scores_, scorer.never_learned_
    assert np.isfinite(scores).all()
    assert never.tolist() == [not any(visits) for visits in rights]
    assert not never.any() or never.all() or scores[never].min() > scores[~never].max()


def test_no_forgetting_event_spans_two_runs():
    scorer = visit(Forgetting().reset(1), 0, 1.0)
    scorer.store_.restart()
    visit(scorer, 0, -1.0)  # the new model has not learned it yet
    assert scorer.n_forgetting_events_.tolist() == [0]
    assert scorer.store_.counts.tolist() == [2]


def test_a_run_may_start_from_the_table_of_an_earlier_one():
    earlier = run(AUM())
    pruner = DynamicPruner(Confidence(), TopK(), ConstantScheduler(keep_fraction=0.5, n_warmup_epochs=0))
    pruner.attach(DataLoader(blobs(), batch_size=8), n_epochs=1, scores=earlier.scorer_.store_)
    pruner.set_epoch(0)
    order = np.argsort(earlier.scorer_.confidence_, kind="stable")  # the least confident first
    np.testing.assert_array_equal(pruner.indices_, np.sort(order[:30]))


def test_an_example_that_comes_twice_in_an_epoch_counts_once():
    scorer = Cartography().reset(2)
    index, labels = torch.tensor([0, 1, 0]), torch.zeros(3, dtype=torch.long)
    scorer.update(index, logits=torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), labels=labels)
    scorer.update(index[:1], logits=torch.tensor([[-1.0, 0.0]]), labels=labels[:1])
    assert scorer.store_.counts.tolist() == [1, 1]
    assert scorer.n_forgetting_events_.tolist() == [0, 0]
    assert scorer.aum_.tolist() == [1, 1]


def test_a_label_that_does_not_count_leaves_the_example_unseen():
    scorer = Cartography().reset(3)
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [float("nan"), 0.0]])
    scorer.update(torch.arange(3), logits=logits, labels=torch.tensor([0, -100, -101]))
    assert scorer.store_.counts.tolist() == [1, 0, 0]
    assert np.isnan(scorer.aum_).tolist() == np.isnan(scorer.scores_).tolist() == [False, True, True]
    assert scorer.never_learned_.tolist() == [False, False, False]
    assert visit_values(logits[:2], torch.tensor([-100, -100])).tolist() == [[0, 0, -1], [0, 0, -1]]
    assert AUM().score_batch(logits=logits[1:2], labels=torch.tensor([-100])).tolist() == [0]


def test_a_tie_is_not_right():
    assert visit_values(torch.zeros(2, 3), torch.tensor([0, 2]))[:, 2].tolist() == [0, 0]


def test_a_class_that_is_ruled_out_leaves_a_finite_margin():
    scorer = AUM().reset(2)
    inf = float("inf")
    for epoch, logits in enumerate([[[1.0, -inf], [-inf, 1.0]], [[1.0, 0.0], [1.0, 0.0]], [[-inf, 0.0], [1.0, 0.0]]]):
        scorer.set_epoch(epoch)
        scorer.update(torch.arange(2), logits=torch.tensor(logits), labels=torch.tensor([0, 0]))
        assert np.isfinite(scorer.aum_).all()


def test_an_example_with_a_nan_logit_is_named():
    scorer = AUM().reset(3)
    scorer.update(
        torch.tensor([2, 1]), logits=torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]), labels=torch.tensor([0, 0])
    )
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN in epoch 0"):
        _ = scorer.scores_
    assert scorer.aum_[2] == -1.0  # the others were counted


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(2, 1), torch.zeros(2, dtype=torch.long)),  # one class has no margin
        (torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)),  # one label per token
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long)),
    ],
)
def test_other_shapes_are_refused(logits, labels):
    for function in (label_margin, label_probability, visit_values):
        with pytest.raises(InvalidValueError, match=r"logits \(B, C\) of at least 2 classes and labels \(B,\), got"):
            function(logits, labels)
    with pytest.raises(InvalidValueError, match="at least 2 classes"):
        AUM().reset(3).update(torch.arange(len(labels)), logits=logits, labels=labels)


def test_the_table_takes_three_values_of_a_visit():
    with pytest.raises(InvalidValueError, match=r"DynamicsStore.update\(\) needs"):
        DynamicsStore(2).update(torch.arange(2), torch.zeros(2), epoch=0)


def test_unknown_choices_are_refused():
    with pytest.raises(InvalidValueError, match="never_learned must be one of 'hardest', 'as_counted', got 'easiest'"):
        Forgetting(never_learned="easiest").reset(1)
    with pytest.raises(InvalidValueError, match="score must be one of 'aum'"):
        DynamicsStore(1, score="margin")
    assert all(np.isnan(DynamicsStore(2, score=score).scores).all() for score in SCORES)


def test_raw_values_before_fit_are_an_error_that_says_so():
    with pytest.raises(NotFittedError, match="AUM has no scores yet"):
        _ = AUM().aum_
    assert not hasattr(AUM(), "never_learned_")


def test_several_checkpoints_are_several_visits():
    data = blobs()
    scorer = Cartography()
    torch.manual_seed(0)
    models = [nn.Linear(3, 3) for _ in range(3)]
    for model in models:
        scorer.partial_fit(data, model=model)
    x, y = data.tensors
    with torch.no_grad():
        p = torch.stack([model(x).softmax(-1)[range(60), y] for model in models])
    np.testing.assert_allclose(scorer.confidence_, p.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scorer.variability_, p.std(0, correction=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [Cartography, AUM, Forgetting])
def test_the_data_map_is_a_table_with_a_row_for_each_example(kind):
    scorer = visit(visit(kind().reset(3), 0, 1.0, -1.0), 1, -1.0, -1.0)
    table = scorer.to_pandas()
    names = ["confidence", "variability", "correctness", "aum", "n_forgetting_events", "never_learned", "n_visits"]
    assert table.columns.tolist() == names
    assert table["n_forgetting_events"].tolist() == [1, 0, 0]
    assert table["never_learned"].tolist() == [False, True, False]
    assert table["n_visits"].tolist() == [2, 2, 0]
    assert table.isna().sum().tolist() == [1, 1, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(table["variability"].to_numpy(), scorer.variability_)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(3, 60), n_classes=st.integers(2, 9), seed=st.integers(0, 99))
def test_threshold_examples_are_disjoint_parts_of_one_class_size(n, n_classes, seed):
    labels = np.random.default_rng(seed).integers(0, n_classes, size=n)
    given_labels = labels.copy()
    if n < n_classes + 1:
        with pytest.raises(InvalidValueError, match=f"at least {n_classes + 1} examples, got {n}"):
            make_threshold_examples(labels, n_classes=n_classes)
        return
    taken = []
    for part in range(n_classes + 1):
        new, indices = make_threshold_examples(labels, n_classes=n_classes, part=part, random_state=seed)
        assert len(indices) == n // (n_classes + 1)
        assert (new[indices] == n_classes).all()
        others = np.setdiff1d(np.arange(n), indices)
        np.testing.assert_array_equal(new[others], labels[others])
        taken += indices.tolist()
    assert len(set(taken)) == len(taken)
    np.testing.assert_array_equal(labels, given_labels)
    again = make_threshold_examples(labels, n_classes=n_classes, part=n_classes, random_state=seed)
    np.testing.assert_array_equal(again.indices, indices)


@pytest.mark.parametrize(
    ("labels", "parameters", "words"),
    [
        ([0, 1, 2, 0], {"n_classes": 2}, r"integer labels of shape \(n_examples,\) in \[0, 2\)"),
        ([0.5, 1.0, 0.0], {"n_classes": 2}, "integer labels"),
        ([[0, 1, 0]], {"n_classes": 2}, "integer labels"),
        ([0, 1, -100], {"n_classes": 2}, "integer labels"),
        ([0, 1, 0], {"n_classes": 1}, "n_classes must be at least 2, got 1"),
        ([0, 1, 0], {"n_classes": 2, "part": 3}, r"part must be in \[0, 2\], got 3"),
        ([0, 1, 0], {"n_classes": 2, "part": -1}, "part must be at least 0, got -1"),
    ],
)
def test_bad_labels_or_parts_are_refused(labels, parameters, words):
    with pytest.raises(DataPruneError, match=words):
        make_threshold_examples(labels, **parameters)
    with pytest.raises(InvalidTypeError, match="whole number"):
        make_threshold_examples([0, 1, 0], n_classes=2.0)


def test_the_cutoff_is_the_percentile_of_the_threshold_examples():
    aum = np.array([5.0, -3.0, np.nan, 0.0, 1.0, 2.0, -1.0], np.float32)
    cutoff, suspects = aum_cutoff(aum, [3, 4], percentile=100)
    assert cutoff == 1.0
    assert suspects.tolist() == [1, 6]  # the worst first; neither threshold examples nor the never seen
    assert aum_cutoff(aum, [3, 4], percentile=0).cutoff == 0.0
    assert aum_cutoff(aum, [3, 4]).cutoff == pytest.approx(np.percentile([0.0, 1.0], 99))


@pytest.mark.parametrize(
    ("rows", "percentile", "words"),
    [
        ([0], 101, r"percentile must be in \[0, 100\], got 101"),
        ([0], "high", r"percentile must be in \[0, 100\], got 'high'"),
        ([], 99, "were all seen"),
        ([1], 99, "were all seen"),
        ([0, 2], 99, r"threshold_indices must be in \[0, 2\), got 0 to 2"),
        ([-1], 99, r"threshold_indices must be in \[0, 2\), got -1 to -1"),
    ],
)
def test_a_cutoff_without_threshold_examples_is_refused(rows, percentile, words):
    with pytest.raises(InvalidValueError, match=words):
        aum_cutoff([0.5, np.nan], rows, percentile=percentile)


def test_planted_label_noise_stands_at_the_top_and_below_the_cutoff():
    images, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(images[:900], dtype=torch.float32) / 16, digits[:900].copy()
    rng = np.random.default_rng(0)
    planted = np.zeros(900, bool)
    planted[rng.permutation(900)[:90]] = True
    y[planted] = (y[planted] + rng.integers(1, 10, size=90)) % 10
    labels, threshold = make_threshold_examples(y, n_classes=10)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 11))
    pruner = DynamicPruner(AUM(), TopK(), ConstantScheduler(keep_fraction=1.0))
    pruner.fit(TensorDataset(x, torch.from_numpy(labels)), model=model, n_epochs=12, learning_rate=5e-3)
    others = np.setdiff1d(np.arange(900), threshold)
    scorer = pruner.scorer_
    assert roc_auc_score(planted[others], scorer.scores_[others]) > 0.95
    assert roc_auc_score(planted[others], -scorer.confidence_[others]) > 0.95
    suspects = aum_cutoff(scorer.aum_, threshold).suspects
    assert planted[suspects].sum() > 0.8 * planted[others].sum()
    assert planted[suspects].mean() > 0.5
