"""Every message of the pruner, with what provokes it."""

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SubsetRandomSampler
from training_parts import classifier, loader, points, pruner, train_plainly

from dataprune import (
    EL2N,
    Budget,
    ClassBalanced,
    ClassFloor,
    CyclicScheduler,
    DynamicPruner,
    KeepAlways,
    RandomK,
    ScoreStore,
    SoftPruneScheduler,
    TopK,
    WeightedK,
)
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError, StateError


class NotObservable(EL2N):
    supports_observe = False


class Head(torch.nn.Linear):
    """Takes the columns of a data set by name."""

    def __init__(self):
        super().__init__(4, 2)

    def forward(self, x, **_):
        return super().forward(x)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(4), 0)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scorer": "el2n"}, "DynamicPruner.scorer must be a Scorer, got 'el2n'"),
        ({"scorer": EL2N}, "DynamicPruner.scorer must be a Scorer"),
        ({"selector": EL2N()}, r"DynamicPruner.selector must be a Selector, got EL2N\(\)"),
        ({"scheduler": 0.5}, "DynamicPruner.scheduler must be a Scheduler, got 0.5"),
        (
            {"scheduler": CyclicScheduler(keep_fraction=1.5)},
            r"CyclicScheduler.keep_fraction must be in \(0, 1\], got 1.5",
        ),
        ({"random_state": -1}, "random_state must be at least 0, got -1"),
        ({"random_state": None}, "random_state must be a whole number"),
        ({"refresh": "never"}, r"refresh must be 'observed', 'full' or a share in \(0, 1\), got 'never'"),
        ({"refresh": 1.0}, r"refresh must be 'observed', 'full' or a share in \(0, 1\), got 1.0"),
        ({"refresh": 0.0}, "got 0.0"),
        ({"refresh": [0.5]}, r"got \[0.5\]"),
        (
            {"selector": TopK(keep_fraction=0.5)},
            "TopK.keep_fraction must be left out inside a DynamicPruner, got 0.5. Set it on",
        ),
        (
            {"selector": RandomK(random_state=0)},
            "RandomK.random_state must be left out inside a DynamicPruner, got 0. Set it on",
        ),
        ({"selector": ClassBalanced("top-k")}, "ClassBalanced.selector must be a Selector, got 'top-k'"),
        (
            {"scorer": None, "selector": RandomK(), "scheduler": SoftPruneScheduler()},
            "DynamicPruner.scorer must be given for SoftPruneScheduler, got None. How many",
        ),
        ({"scorer": None}, "DynamicPruner.scorer must be given for TopK, got None. Pass a scorer"),
        ({"scorer": NotObservable()}, "refresh must be 'full' for NotObservable, got 'observed'"),
        ({"scorer": NotObservable(), "refresh": 0.5}, "refresh must be 'full' for NotObservable, got 0.5"),
        (
            {"scheduler": SoftPruneScheduler(), "refresh": "full"},
            "refresh must not be 'full' for SoftPruneScheduler: how many it keeps follows from scores that are there",
        ),
        ({"refresh": "full"}, r"attach\(\) needs model=... with refresh='full', got None"),
        ({"refresh": 0.5}, r"attach\(\) needs model=... with refresh=0.5, got None"),
        (
            {"scheduler": CyclicScheduler(n_warmup_epochs=0)},
            "CyclicScheduler.n_warmup_epochs must be at least 1 when nothing is scored yet, got 0",
        ),
        ({"scorer": EL2N(smoothing="median")}, "smoothing must be one of"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_at_attach(changes, words):
    with pytest.raises(DataPruneError, match=words):
        pruner(**changes).attach(loader(), n_epochs=3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: [(torch.zeros(4), 0)], r"attach\(\) needs a torch DataLoader, got list"),
        (lambda: DataLoader(Stream(), 4), "IndexedDataset.dataset must have a length"),
        (
            lambda: loader(batch_size=30, drop_last=True),
            "drop_last=True drops the only batch of an epoch that keeps 24",
        ),
        (lambda: DataLoader([], 4), "needs a data set with examples, got an empty one"),
        (lambda: DataLoader(points(), batch_sampler=[[0, 1], [2]]), "got one with a batch_sampler or none"),
        (lambda: DataLoader(points(), None), "got one with a batch_sampler or none"),
        (lambda: loader(shuffle=False, sampler=SubsetRandomSampler([0, 1])), "got the sampler SubsetRandomSampler"),
        (
            lambda: loader(shuffle=False, sampler=RandomSampler(points(), replacement=True)),
            "got the sampler RandomSampler. Leave sampler=... out",
        ),
    ],
)
def test_loaders_that_cannot_be_pruned_are_refused(make, words):
    with pytest.raises(DataPruneError, match=words):
        pruner().attach(make(), n_epochs=3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_epochs": 0}, "DynamicPruner.n_epochs must be at least 1, got 0"),
        ({"n_epochs": 2.5}, "DynamicPruner.n_epochs must be a whole number"),
        ({"n_epochs": None}, "needs n_epochs=... or n_updates=..., got none"),
        ({"n_updates": 5}, "needs n_epochs=... or n_updates=..., got both"),
        ({"n_accumulation": 0}, "DynamicPruner.n_accumulation must be at least 1, got 0"),
        ({"scores": np.zeros(60)}, "DynamicPruner.scores must be an ExampleStore"),
        ({"scores": ScoreStore(60)}, "saved with smoothing='last', but this run has 'ema_plus_std'"),
        ({"scores": ScoreStore(59, smoothing="ema_plus_std")}, "saved with n_examples=59, but this run has 60"),
    ],
)
def test_arguments_of_attach_that_are_out_of_range_are_refused(arguments, words):
    with pytest.raises(DataPruneError, match=words):
        pruner().attach(loader(), **{"n_epochs": 3, **arguments})


def test_scores_need_a_scorer():
    with pytest.raises(InvalidValueError, match=r"DynamicPruner.scorer must be given to go on from scores"):
        pruner(scorer=None, selector=RandomK()).attach(loader(), n_epochs=3, scores=ScoreStore(60))


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p.set_epoch(0),
        lambda p: p.observe(torch.tensor([0])),
        lambda p: p.weights(torch.tensor([0])),
        lambda p: p.progress(),
        lambda p: p.state_dict(),
        lambda p: p.load_state_dict({}),
        lambda p: p.save("nowhere"),
        lambda p: p.export([1]),
        lambda p: p.log_evaluation({}),
        lambda p: p.close(),
        lambda p: p.n_batches,
        lambda p: p.has_unit_weights,
    ],
)
def test_a_pruner_must_be_attached_first(use):
    with pytest.raises(NotFittedError, match=r"DynamicPruner is not attached yet. Call attach\(loader, n_epochs=...\)"):
        use(DynamicPruner(EL2N()))


@pytest.mark.parametrize(
    "use",
    [
        lambda p: p.observe(torch.tensor([0]), logits=torch.zeros(1, 3), labels=torch.tensor([0])),
        lambda p: p.weights(torch.tensor([0])),
        lambda p: p.log_evaluation({}),
        lambda p: p.close(),
        lambda p: p.n_batches,
        lambda p: p.has_unit_weights,
    ],
)
def test_an_epoch_must_be_started_first(use):
    ours = pruner()
    ours.attach(loader(), n_epochs=3)
    with pytest.raises(NotFittedError, match=r"No epoch has started yet. Call pruner.set_epoch\(0\)"):
        use(ours)


def started(**changes):
    ours = pruner(**changes)
    batches = ours.attach(loader(), n_epochs=4)
    model = classifier()
    train_plainly(ours, batches, model, torch.optim.SGD(model.parameters(), 0.1), 3)
    return ours, batches


@pytest.mark.parametrize(
    ("epoch", "words"), [(1, r"epoch must be in \[2, 4\), got 1. Epochs do not go back"), (4, "got 4")]
)
def test_an_epoch_before_the_current_or_behind_the_last_is_refused(epoch, words):
    ours, _ = started()
    with pytest.raises(InvalidValueError, match=words):
        ours.set_epoch(epoch)


@pytest.mark.parametrize("epoch", [-1, 1.5, "1"])
def test_an_epoch_that_is_none_is_refused(epoch):
    ours, _ = started()
    with pytest.raises(DataPruneError, match=r"DynamicPruner.epoch must be"):
        ours.set_epoch(epoch)


@pytest.mark.parametrize("refresh", ["observed", "full"])
def test_an_epoch_without_an_observation_is_an_error_in_every_mode(refresh):
    ours = pruner(refresh=refresh)
    ours.attach(loader(), n_epochs=3, model=classifier())
    ours.set_epoch(0)
    with pytest.raises(
        InvalidValueError, match=r"Epoch 1 started but no example was observed in epoch 0. Call pruner.obs"
    ):
        ours.set_epoch(1)


def test_a_nan_score_raises_at_the_next_epoch_and_names_the_example():
    ours = pruner()
    ours.attach(loader(), n_epochs=3)
    ours.set_epoch(0)
    logits = torch.zeros(3, 3)
    logits[1] = float("nan")
    ours.observe(torch.tensor([4, 17, 9]), logits=logits, labels=torch.tensor([0, 1, 2]))
    with pytest.raises(InvalidValueError, match="The score of example 17 is NaN in epoch 0"):
        ours.set_epoch(1)
    assert ours.epoch_ == 0
    assert len(ours.history_) == 1


def test_a_nan_score_of_the_last_epoch_raises_at_close():
    ours, _ = started()
    ours.observe(torch.tensor([8]), logits=torch.full((1, 3), float("nan")), labels=torch.tensor([0]))
    with pytest.raises(InvalidValueError, match="The score of example 8 is NaN in epoch 2"):
        ours.close()


def test_a_missing_signal_and_a_wrong_index_are_named():
    ours, _ = started()
    with pytest.raises(InvalidValueError, match="needs the signals 'labels' and 'logits', got only 'logits'"):
        ours.observe(torch.tensor([0]), logits=torch.zeros(1, 3))
    with pytest.raises(InvalidTypeError, match="An index must be integers"):
        ours.observe(torch.tensor([0.0]), logits=torch.zeros(1, 3), labels=torch.tensor([0]))


def test_export_needs_the_attached_length():
    ours, _ = started(selector=WeightedK())
    with pytest.raises(InvalidValueError, match=r"export\(\) needs the 60 examples that were attached, got 3"):
        ours.export([1, 2, 3])


def test_a_state_error_is_a_dataprune_error():
    assert issubclass(StateError, DataPruneError)


@pytest.mark.parametrize(
    ("changes", "known", "words"),
    [
        ({"selector": ClassFloor(n_min=20)}, {"labels": np.arange(60) % 3}, "ClassFloor.n_keep must be at least 60"),
        (
            {"selector": KeepAlways(ClassFloor(n_min=20), indices=[1])},
            {"labels": np.arange(60) % 3},
            "ClassFloor.n_keep must be at least 59",
        ),
        ({"selector": KeepAlways(indices=range(40))}, {}, "KeepAlways.n_keep must be at least 40"),
        ({}, {"labels": [0, 1]}, r"DynamicPruner.labels must have a value for each of the 60 examples, got \(2,\)"),
        ({}, {"labels": [["a"], ["a", "b"]] * 30}, "DynamicPruner.labels must have one value per example, got rows of"),
        ({}, {"cost": [0.0] + [1.0] * 59}, "DynamicPruner.cost must be above 0 and finite for each example"),
        ({}, {"cost": 3.0}, "DynamicPruner.cost must have a value for each of the 60 examples"),
        (
            {"scheduler": CyclicScheduler(keep_fraction=Budget(token_fraction=0.5))},
            {"cost": np.full(60, np.nan)},
            "DynamicPruner.cost must be above 0 and finite for each",
        ),
    ],
)
def test_what_no_selection_could_keep_is_refused_before_the_warm_up(changes, known, words):
    with pytest.raises(InvalidValueError, match=words):
        pruner(**changes).attach(loader(), n_epochs=3, **known)


def test_an_epoch_that_is_cut_short_needs_no_floor():
    ours = pruner(selector=KeepAlways(indices=range(20)))
    loader_ = ours.attach(loader(), n_updates=12)  # 8 of everything, 3 of 24, 1 of 8
    train_plainly(ours, loader_, classifier(), torch.optim.SGD(classifier().parameters(), 0.1), ours.n_epochs_)
    assert [record.n_kept for record in ours.history_] == [60, 24, 8]


def test_examples_without_a_length_do_not_end_a_run():
    rows = datasets.Dataset.from_dict({"x": np.random.default_rng(0).normal(size=(12, 4)), "labels": [0, 1] * 6})
    for lengths in ([0, *range(1, 12)], [None, *range(1, 12)]):  # a column that means something else
        data = rows.add_column("length", lengths).with_format("torch", columns=["x", "labels"])
        ours = pruner().fit(data, model=Head(), n_epochs=3, batch_size=4)
        assert [record.n_kept for record in ours.history_] == [12, 5, 5]


def test_an_empty_data_set_to_evaluate_on_is_refused():
    with pytest.raises(InvalidValueError, match="The data set to evaluate on must have examples"):
        pruner().fit(points(), model=classifier(), n_epochs=2, eval_dataset=[])
