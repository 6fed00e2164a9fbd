"""Scores of the data itself inside a DynamicPruner, and score files of other data."""

import numpy as np
import pytest
import torch
from torch import nn
from training_parts import classifier, loader, points, pruner, train_plainly

from dataprune import (
    EL2N,
    ConstantScheduler,
    CyclicScheduler,
    GraNd,
    LastLayerGraNd,
    ScoreStore,
    Selector,
    StaticPruner,
    TopK,
)
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.scoring.base import DatasetScorer, Scorer
from dataprune.scoring.provenance import model_hash


class FirstFeature(DatasetScorer):
    def score_dataset(self, dataset, *, model=None):
        return np.array([float(x[0]) for x, _ in dataset])


def hardest(data, n):
    return sorted(np.argsort(-FirstFeature().fit(data).scores_, kind="stable")[:n].tolist())


def test_a_dataset_scorer_decides_from_the_first_epoch_on_and_never_changes_its_mind():
    ours = pruner(scorer=FirstFeature(), scheduler=ConstantScheduler(keep_fraction=0.5, n_warmup_epochs=0))
    ours.fit(points(), model=classifier(), n_epochs=3, batch_size=8)
    assert [record.n_kept for record in ours.history_] == [30, 30, 30]
    assert ours.indices_.tolist() == hardest(points(), 30)
    assert np.array_equal(ours.scorer_.scores_, FirstFeature().fit(points()).scores_)


def test_a_fitted_dataset_scorer_is_taken_as_it_is():
    scorer = FirstFeature().fit(points())
    scorer.scores_ = -scorer.scores_
    ours = pruner(scorer=scorer, scheduler=ConstantScheduler(keep_fraction=0.5, n_warmup_epochs=0))
    ours.attach(loader(), n_epochs=1)
    ours.set_epoch(0)
    assert ours.indices_.tolist() == sorted(np.argsort(-scorer.scores_, kind="stable")[:30].tolist())


def test_a_run_with_fixed_scores_resumes(tmp_path):
    def start():
        ours, model = pruner(scorer=FirstFeature()), classifier()
        return ours, model, torch.optim.SGD(model.parameters(), 0.1), ours.attach(loader(), n_epochs=4)

    whole, model, optimizer, batches = start()
    visited = train_plainly(whole, batches, model, optimizer, 4)
    half, model, optimizer, batches = start()
    train_plainly(half, batches, model, optimizer, 4, stop_after=10)
    half.save(tmp_path / "pruner.safetensors")
    resumed, model, optimizer, batches = start()
    resumed.load(tmp_path / "pruner.safetensors")
    assert train_plainly(resumed, batches, model, optimizer, 4) == visited[10:]


@pytest.mark.parametrize(("changes", "words"), [({"refresh": "full"}, "got refresh='full'"), ({}, "got scores=")])
def test_fixed_scores_are_neither_refreshed_nor_replaced(changes, words):
    ours = pruner(scorer=FirstFeature(), **changes)
    scores = None if changes else ScoreStore(60)
    with pytest.raises(InvalidValueError, match=f"takes the scores of FirstFeature once.*{words}"):
        ours.attach(loader(), n_epochs=2, model=classifier(), scores=scores)


@pytest.mark.parametrize("scorer", [GraNd(), LastLayerGraNd()])
def test_scores_that_need_more_than_training_gives_come_from_scoring_passes(scorer):
    ours = pruner(scorer=scorer, refresh="full", scheduler=CyclicScheduler(keep_fraction=0.5))
    ours.fit(points(), model=classifier(), n_epochs=3, batch_size=8)
    assert [record.n_scored for record in ours.history_] == [0, 60, 60]
    assert np.isfinite(ours.scorer_.scores_).all()


def test_a_scorer_that_is_neither_kind_is_refused():
    class Odd(Scorer):
        def fit(self, dataset, *, model=None):
            return self

        def transform(self, dataset, *, model=None):
            return np.zeros(len(dataset), np.float32)

    with pytest.raises(InvalidTypeError, match="must be a BatchScorer or a DatasetScorer"):
        pruner(scorer=Odd()).attach(loader(), n_epochs=2)


@pytest.mark.parametrize(
    ("values", "words"), [([1.0, 2.0], r"one score for each of 60 rows, got \(2,\)"), ([np.nan] * 60, "row 0 is NaN")]
)
def test_a_dataset_scorer_gives_one_number_per_row(values, words):
    class Broken(DatasetScorer):
        def score_dataset(self, dataset, *, model=None):
            return np.array(values)

    with pytest.raises(InvalidValueError, match=words):
        Broken().fit(points())
    with pytest.raises(InvalidValueError, match=words):
        Broken().transform(points())


def test_a_score_file_says_where_its_scores_come_from(tmp_path):
    model = nn.Linear(4, 3)
    scorer = EL2N(smoothing="mean").fit(points(), model=model)
    scorer.store_.save(tmp_path / "scores.safetensors")
    note = ScoreStore.load(tmp_path / "scores.safetensors").provenance
    assert note["scorer"] == "EL2N(smoothing='mean')"
    assert note["model_hash"] == model_hash(model)
    assert {"torch", "dataprune", "transformers", "numpy"} == note["versions"].keys()
    assert note["epoch"] == 0
    assert scorer.partial_fit(points(), model=model).store_.provenance["epoch"] == 1
    ours = pruner()
    ours.attach(loader(), n_epochs=2)
    assert ours.scorer_.store_.provenance["data_fingerprint"] == note["data_fingerprint"]
    assert ours.scorer_.store_.provenance["random_state"] == 0
    ours.fit(points(), model=model, n_epochs=3, batch_size=8)
    ours.scorer_.store_.save(tmp_path / "run.safetensors")
    note = ScoreStore.load(tmp_path / "run.safetensors").provenance
    assert (note["epoch"], note["model_hash"]) == (2, model_hash(model))


def test_scores_of_other_data_are_refused_and_both_fingerprints_named(tmp_path):
    scorer = EL2N(smoothing="ema_plus_std").fit(points(seed=1), model=nn.Linear(4, 3))
    scorer.store_.save(tmp_path / "scores.safetensors")
    scores = ScoreStore.load(tmp_path / "scores.safetensors")
    ours = pruner()
    with pytest.raises(StateError, match=r"fingerprint is [0-9a-f]{12}, the data set's is [0-9a-f]{12}") as caught:
        ours.attach(loader(points(seed=2)), n_epochs=2, scores=scores)
    assert scores.provenance["data_fingerprint"][:12] in str(caught.value)
    with pytest.raises(StateError, match="made for other data"):
        scorer.partial_fit(points(seed=2), model=nn.Linear(4, 3))
    ours.attach(loader(points(seed=1)), n_epochs=2, scores=scores)
    assert np.array_equal(ours.scorer_.scores_, scorer.scores_)


def test_a_run_from_saved_scores_needs_no_warmup(tmp_path):
    scorer = EL2N(smoothing="ema_plus_std").fit(points(), model=classifier())
    ours = pruner(scheduler=CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=0))
    ours.fit(points(), model=classifier(), n_epochs=1, batch_size=8, scores=scorer.store_)
    expected = StaticPruner(scorer, TopK(keep_fraction=0.5)).fit(points())
    assert ours.indices_.tolist() == expected.indices_.tolist()


class OneOfEachGroup(Selector):
    needs = frozenset({"groups", "cost"})

    def _choose(self, candidates, n_keep, rng):
        first = np.unique(candidates.groups, return_index=True)[1]
        rest = np.setdiff1d(np.arange(len(candidates)), first)
        return np.concatenate([first, rest])[:n_keep]


def test_what_is_known_of_the_examples_reaches_the_selector_in_a_run():
    groups = np.arange(60) // 6
    ours = pruner(selector=OneOfEachGroup(), scheduler=CyclicScheduler(keep_fraction=0.25))
    ours.fit(points(), model=classifier(), n_epochs=2, batch_size=8, groups=groups, cost=np.ones(60))
    assert set(groups[ours.indices_]) == set(range(10))
    with pytest.raises(InvalidValueError, match=r"OneOfEachGroup needs cost=\.\.\.\. Pass it"):
        ours.fit(points(), model=classifier(), n_epochs=2, batch_size=8, groups=groups)
