"""What `PruningCallback` refuses, each with a sentence."""

import lightning_parts as small
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader, IterableDataset, WeightedRandomSampler

from dataprune import BatchTopK, ConstantScheduler, DynamicPruner, Loss, RandomK, SoftPrune
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, StateError
from dataprune.integrations._lightning import PruningLoader, signals_of
from dataprune.integrations.lightning import PruningCallback

pytestmark = small.NO_VALIDATION


class Stream(IterableDataset):
    def __iter__(self):
        return iter(small.points())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 7),
        ("limit_train_batches", 0.5),
        ("limit_train_batches", 1),
        ("overfit_batches", 2),
        ("reload_dataloaders_every_n_epochs", 1),
    ],
)
def test_a_run_that_is_not_of_whole_epochs_is_refused(name, value):
    with pytest.raises(
        InvalidValueError, match=rf"Trainer\.{name} must be left out with PruningCallback, got {value}\."
    ):
        small.run(**{name: value})


def test_a_run_without_end_is_refused():
    with pytest.raises(InvalidValueError, match=r"Trainer\.max_epochs must be at least 1, got -1"):
        small.run(max_epochs=-1)


def test_an_accumulation_that_changes_is_refused():
    with pytest.raises(
        InvalidValueError, match="one number of batches per update, got a GradientAccumulationScheduler"
    ):
        small.run(callbacks=[GradientAccumulationScheduler({0: 1, 2: 2})])


def test_arguments_of_the_wrong_kind_are_named():
    with pytest.raises(InvalidTypeError, match=r"PruningCallback\.pruner must be a DynamicPruner, got list"):
        PruningCallback([])
    with pytest.raises(InvalidTypeError, match=r"PruningCallback\.attach\(\) needs a torch DataLoader, got list"):
        PruningCallback(small.make_pruner()).attach([])


def test_what_attach_refuses_is_refused_at_the_start_of_fit():
    with pytest.raises(InvalidTypeError, match="Pass a map-style data set"):
        small.run(loader=DataLoader(Stream(), 4))
    sampler = WeightedRandomSampler(torch.ones(small.N), small.N)
    with pytest.raises(InvalidValueError, match=r"Leave sampler=\.\.\. out"):
        small.run(loader=DataLoader(small.points(), 4, sampler=sampler))


def test_a_loader_that_was_not_attached_is_refused():
    pruning = PruningCallback(small.make_pruner())
    attached = pruning.attach(small.make_loader())
    with pytest.raises(InvalidValueError, match=r"that which its attach\(\) returned, got DataLoader"):
        small.make_trainer(pruning).fit(small.Classifier(pruning.pruner), small.make_loader())
    with pytest.raises(InvalidValueError, match=r"that which its attach\(\) returned, got list"):
        small.make_trainer(pruning).fit(small.Classifier(pruning.pruner), [attached, small.make_loader()])


def test_a_loader_is_iterated_inside_of_fit_alone():
    attached = PruningCallback(small.make_pruner()).attach(small.make_loader())
    with pytest.raises(NotFittedError, match=r"works inside of Trainer\.fit alone"):
        len(attached)
    with pytest.raises(NotFittedError, match=r"works inside of Trainer\.fit alone"):
        next(iter(attached))


class OnlyLoss(small.Classifier):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)["loss"]


class Losing(small.Classifier):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return list(batch) if self.trainer.training else batch


def test_several_loaders_are_refused():
    pruner = small.make_pruner()
    with pytest.raises(InvalidValueError, match=r"needs one train loader, .* got list"):
        small.make_trainer(PruningCallback(pruner)).fit(small.Bare(pruner), [small.make_loader()] * 2)


def test_weighted_selections_need_a_loader_with_indices():
    pruner = small.make_pruner(selector=SoftPrune())
    with pytest.raises(
        InvalidValueError, match=r"'weights'\. Pass the loader through PruningCallback\.attach\(\), for"
    ):
        small.make_trainer(PruningCallback(pruner)).fit(small.Bare(pruner), small.make_loader())


def test_a_batch_that_has_no_index_is_never_given_another():
    loader = PruningLoader(small.make_loader(), {}, keeps_index=True)
    loader.take(small.make_pruner().attach(small.make_loader(), n_epochs=1), on_epoch=int)
    ahead = [next(batches) for batches in [iter(loader)] for _ in range(3)]  # whatever looks ahead
    for number in (2, 0, 1):
        assert loader.take_index(number).tolist() == ahead[number][0][:, 4].int().tolist()
    with pytest.raises(StateError, match=r"no index for batch 1 of the epoch, but for \[\]"):
        loader.take_index(1)


@pytest.mark.parametrize(
    ("kind", "parts", "error"),
    [
        (OnlyLoss, {}, "training_step must return 'labels' and 'logits' in its mapping for EL2N, got only 'loss'"),
        (OnlyLoss, {"scorer": Loss()}, "training_step must return 'losses' in its mapping for Loss, got only 'loss'"),
        (small.Classifier, {"selector": SoftPrune()}, "SoftPrune weighs the loss of each example, but training_step"),
        (
            small.Classifier,
            {"batch_policy": BatchTopK(keep_fraction=0.5), "scheduler": ConstantScheduler(keep_fraction=1.0)},
            "BatchTopK weighs the loss of each example, but training_step returned no 'weights'",
        ),
    ],
)
def test_a_step_that_returns_too_little_is_told_what(kind, parts, error):
    pruner = small.make_pruner(**parts)
    with pytest.raises(InvalidValueError, match=error):
        small.run(pruner, module=kind(pruner))


def test_batches_that_lose_their_index_are_refused():
    pruner = small.make_pruner()
    with pytest.raises(InvalidTypeError, match=r"batches that are Indexed\(index, batch\), got list"):
        small.run(pruner, module=Losing(pruner))


def test_a_run_without_a_scorer_needs_no_signals():
    pruner = DynamicPruner(None, RandomK(), small.make_pruner().scheduler)
    _, _, pruner = small.run(pruner, module=OnlyLoss(pruner))
    assert [record.n_kept for record in pruner.history_] == [37, 19, 19, 19]


def test_heads_make_one_loss_and_what_is_no_signal_stays_out():
    outputs = {"loss": torch.tensor(1.0), "weights": torch.ones(2), "note": "text"}
    for head, n_classes in (("intent", 2), ("slot", 3)):
        outputs |= {f"{head}_logits": torch.zeros(2, n_classes), f"{head}_labels": torch.tensor([0, 1])}
    signals = signals_of(outputs, {"loss"}, scorer="Loss")
    assert signals.keys() == {"intent_logits", "intent_labels", "slot_logits", "slot_labels", "loss"}
    torch.testing.assert_close(signals["loss"], torch.full((2,), 2.0).log() + torch.full((2,), 3.0).log())
