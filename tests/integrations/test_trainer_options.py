"""Options of Trainer that change how a batch is computed, evaluated, saved or logged: pruning stays as it is."""

import huggingface_run as small
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import Trainer

from dataprune import CyclicScheduler, PruningTrainer
from dataprune.integrations.huggingface import PRUNER_FILE


def run(folder, *, evaluated=False, **args):
    trainer = small.make_trainer(folder, model=small.make_model(dropout=0.0), evaluated=evaluated, **args)
    trainer.train()
    pruner = trainer.pruner
    assert trainer.state.global_step == pruner.plan_.n_updates
    assert tuple(record.n_updates for record in pruner.history_) == pruner.plan_.updates
    assert trainer.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert pruner.scorer_.scores_.dtype == np.float32
    return trainer


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    return run(tmp_path_factory.mktemp("ordinary"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"torch_compile": True, "torch_compile_backend": "inductor"},  # with a C++ compiler
            marks=[
                pytest.mark.slow,
                pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),  # inductor's own use
            ],
        ),
        pytest.param({"torch_compile": True, "torch_compile_backend": "eager"}, marks=pytest.mark.slow),
        {"gradient_checkpointing": True},
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 3},
    ],
    ids=["torch_compile", "torch_compile without a compiler", "gradient_checkpointing", "persistent workers"],
)
def test_what_computes_the_same_selects_and_scores_the_same(tmp_path, ordinary, options):
    trainer = run(tmp_path, **options)
    np.testing.assert_allclose(trainer.pruner.scorer_.scores_, ordinary.pruner.scorer_.scores_, rtol=1e-5)
    np.testing.assert_array_equal(trainer.pruner.n_epochs_trained_, ordinary.pruner.n_epochs_trained_)


def test_scores_of_bfloat16_are_close_to_those_of_float32(tmp_path, ordinary):
    scores = run(tmp_path, bf16=True, num_train_epochs=1).pruner.scorer_.scores_
    expected = run(tmp_path, num_train_epochs=1).pruner.scorer_.scores_
    np.testing.assert_allclose(scores, expected, atol=0.05)
    assert (scores != expected).any()


def test_label_smoothing_changes_the_loss_and_not_what_is_counted(tmp_path, ordinary):
    trainer = run(tmp_path, label_smoothing_factor=0.2)
    assert [record.n_kept for record in trainer.pruner.history_] == [37, 19, 19, 19]
    assert (trainer.pruner.scorer_.scores_ != ordinary.pruner.scorer_.scores_).any()


def mean_over_the_update(outputs, labels, num_items_in_batch):
    return F.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits, inputs["labels"], weight=torch.tensor([1.0, 2.0, 3.0]))
        return (loss, outputs) if return_outputs else loss


class PruningOwnLoss(PruningTrainer, OwnLoss):
    """What the documentation tells users of another Trainer to write."""


@pytest.mark.parametrize(
    ("ours", "theirs", "given"),
    [
        (PruningTrainer, Trainer, {"compute_loss_func": mean_over_the_update}),
        (PruningOwnLoss, OwnLoss, {}),
    ],
    ids=["compute_loss_func", "compute_loss"],
)
def test_a_loss_of_the_users_own_trains_as_without_pruning(tmp_path, ours, theirs, given):
    pruner = small.make_pruner(scheduler=CyclicScheduler(keep_fraction=1.0))
    # Trainer adds the gradients of accumulated batches up, unless the loss is a mean over all of them.
    n_accumulation = 3 if given else 1
    models = []
    for cls, more in ((ours, {"pruner": pruner}), (theirs, {})):
        models.append(small.make_model(dropout=0.0))
        cls(
            model=models[-1],
            args=small.make_args(
                tmp_path,
                num_train_epochs=2,
                train_sampling_strategy="sequential",
                gradient_accumulation_steps=n_accumulation,
            ),
            train_dataset=small.make_dataset(),
            data_collator=small.pad,
            **given,
            **more,
        ).train()
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=1e-6, atol=1e-8)
    assert sum(record.n_updates for record in pruner.history_) == pruner.plan_.n_updates


def test_batches_of_like_length_leave_the_updates_as_planned(tmp_path):
    trainer = run(tmp_path, train_sampling_strategy="group_by_length", gradient_accumulation_steps=4)
    assert not np.isnan(trainer.pruner.scorer_.scores_).any()


def test_evaluation_by_steps_and_the_best_model_at_the_end(tmp_path):
    by_steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    trainer = run(tmp_path, evaluated=True, load_best_model_at_end=True, **by_steps)
    logged = {log["step"]: log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log}
    assert sorted(logged) == [3, 6, 9, 12, 15, 18, 21, 24, 25]  # of 10 + 5 + 5 + 5 updates
    best = min(logged, key=logged.get)
    assert trainer.state.best_model_checkpoint == f"{tmp_path}/checkpoint-{best}"
    for name, tensor in load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors").items():
        assert torch.equal(trainer.model.state_dict()[name], tensor)
    # The history has the last evaluation of each epoch, and every checkpoint goes on.
    assert [record.metrics["eval_loss"] for record in trainer.pruner.history_] == [logged[n] for n in (9, 15, 18, 25)]
    assert len(list(tmp_path.glob(f"checkpoint-*/{PRUNER_FILE}"))) == len(logged)


FIGURES = {"kept", "keep_fraction", "score_seconds", "score_p10", "score_p50", "score_p90"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what is logged to
def test_tensorboard_shows_the_figures_of_pruning(tmp_path, monkeypatch):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    run(tmp_path, report_to="tensorboard")
    events = accumulators.EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {tag.split("pruning/")[1] for tag in tags if "pruning/" in tag} == FIGURES | {"epoch"}
    (kept,) = [tag for tag in tags if tag.endswith("pruning/kept")]
    assert [(event.step, event.value) for event in events.Scalars(kept)] == [(10, 37), (15, 19), (20, 19), (25, 19)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves a socket open
def test_an_offline_run_of_wandb_has_the_figures_of_pruning(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, report_to="wandb")
    summary = dict(wandb.run.summary)
    wandb.finish()
    assert {name.split("pruning/")[1] for name in summary if "pruning/" in name} == FIGURES | {"epoch"}
    assert next(value for name, value in summary.items() if name.endswith("pruning/kept")) == 19
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
