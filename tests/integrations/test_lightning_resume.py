"""A run that goes on from `ckpt_path`, in a Trainer of its own, against the run that was never interrupted."""

import lightning_parts as small
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dataprune import CyclicScheduler, SoftPrune
from dataprune.errors import StateError
from dataprune.integrations.lightning import PruningCallback

pytestmark = [
    small.NO_VALIDATION,
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]  # saves no more
CYCLES = CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=1)
LONGER_LAST = CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=1, n_full_final_epochs=1)


def assert_same_run(ours, theirs, *, but_for_metrics_of=None):
    trainer, module, pruner = ours
    other_trainer, other_module, other = theirs
    assert trainer.global_step == other_trainer.global_step == pruner.plan_.n_updates
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other_module.state_dict()[name]), name
    for epoch, batches in module.visited.items():
        assert batches == other_module.visited[epoch][-len(batches) :]
    for name in ("indices_", "weights_", "n_epochs_trained_"):
        np.testing.assert_array_equal(getattr(pruner, name), getattr(other, name), err_msg=name)
    for name in ("scores", "counts", "last_epoch"):
        np.testing.assert_array_equal(getattr(pruner.scorer_.store_, name), getattr(other.scorer_.store_, name))
    for record, other_record in zip(pruner.history_, other.history_, strict=True):
        for name in ("epoch", "n_asked", "n_kept", "n_updates"):
            assert getattr(record, name) == getattr(other_record, name), (record.epoch, name)
        if record.epoch != but_for_metrics_of:
            assert record.metrics == other_record.metrics


def run(folder=None, *, when=None, resume=None, parts=None, **settings):
    pruner = small.make_pruner(**(parts or {}))
    callbacks = [] if folder is None else [ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **when)]
    return small.run(
        pruner,
        module=small.Classifier(pruner, weighted=True),
        callbacks=callbacks,
        enable_checkpointing=folder is not None,
        resume=resume,
        **settings,
    )


def checkpoints_in(folder):
    """By update."""
    return {int(path.stem.removeprefix("step=")): path for path in folder.glob("*.ckpt")}


VAL = DataLoader(small.points(9), 9)


@pytest.mark.parametrize(
    ("n_accumulation", "val", "schedule"),
    [(1, None, LONGER_LAST), (1, VAL, CYCLES), (3, VAL, LONGER_LAST), (3, None, CYCLES)],
)
def test_a_run_resumed_after_any_update_is_the_uninterrupted_run(tmp_path, n_accumulation, val, schedule):
    settings = {
        "parts": {"selector": SoftPrune(), "scheduler": schedule},
        "val": val,
        "accumulate_grad_batches": n_accumulation,
    }
    whole = run(tmp_path, when={"every_n_train_steps": 1}, **settings)
    ends = np.cumsum(whole[2].plan_.updates).tolist()
    checkpoints = checkpoints_in(tmp_path)
    assert len(checkpoints) == ends[-1]
    for update, checkpoint in checkpoints.items():
        resumed = run(resume=checkpoint, **settings)
        # Between the last update of an epoch and its validation Lightning saves, and resumes behind both.
        assert_same_run(resumed, whole, but_for_metrics_of=ends.index(update) if update in ends else None)


@pytest.mark.parametrize("schedule", [CYCLES, LONGER_LAST])
@pytest.mark.parametrize(("val", "on_train_epoch_end"), [(None, True), (VAL, True), (VAL, False)])
def test_a_run_resumed_after_any_epoch_is_the_uninterrupted_run(tmp_path, on_train_epoch_end, val, schedule):
    settings = {"parts": {"scheduler": schedule}, "val": val}
    whole = run(tmp_path, when={"save_on_train_epoch_end": on_train_epoch_end}, **settings)
    checkpoints = checkpoints_in(tmp_path)
    assert len(checkpoints) == small.N_EPOCHS
    for checkpoint in checkpoints.values():
        assert_same_run(run(resume=checkpoint, **settings), whole)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_run_with_workers_is_resumed_in_mid_epoch(tmp_path, persistent):
    loader = small.make_loader(num_workers=2, persistent_workers=persistent)
    whole = run(tmp_path, when={"every_n_train_steps": 6}, loader=loader)
    for update in (6, 12):
        assert_same_run(run(resume=checkpoints_in(tmp_path)[update], loader=loader), whole)


def test_a_run_of_a_data_module_is_resumed_in_mid_epoch(tmp_path):
    whole = run(tmp_path, when={"every_n_train_steps": 12})
    pruner = small.make_pruner()
    pruning = PruningCallback(pruner)
    module, trainer = small.Estimating(pruner, weighted=True), small.make_trainer(pruning)
    trainer.fit(module, datamodule=small.Data(pruning), ckpt_path=checkpoints_in(tmp_path)[12])
    assert_same_run((trainer, module, pruner), whole)


def test_passes_over_the_data_are_resumed(tmp_path):
    settings = {"parts": {"refresh": "full"}}
    whole = run(tmp_path, when={"every_n_train_steps": 6}, **settings)
    assert_same_run(run(resume=checkpoints_in(tmp_path)[12], **settings), whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    run(tmp_path, when={"every_n_train_steps": 12})
    checkpoint = checkpoints_in(tmp_path)[12]
    with pytest.raises(StateError, match=r"saved with scheduler=CyclicScheduler\(\), but this run has"):
        run(resume=checkpoint, parts={"scheduler": LONGER_LAST})
    with pytest.raises(StateError, match="saved for 37 examples, but the attached dataset has 30"):
        run(resume=checkpoint, loader=small.make_loader(small.points(30)))


class Plain(small.Classifier):
    """Without a pruner."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


def test_a_checkpoint_without_a_pruner_is_refused(tmp_path):
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=10)
    trainer = small.make_trainer(saving, enable_checkpointing=True, max_epochs=1)
    trainer.fit(Plain(None), small.make_loader())
    pruner = small.make_pruner()
    with pytest.raises(StateError, match="The run begins at epoch 1, but no pruner's state of epoch 0 was loaded"):
        small.run(pruner, module=Plain(pruner), resume=checkpoints_in(tmp_path)[10])
