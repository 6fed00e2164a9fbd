import huggingface_run as small
import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainerCallback,
)

from dataprune import CyclicScheduler, Loss, RandomK, SoftPrune, SoftPruneScheduler, TopK
from dataprune.data.forward import signals_from_outputs
from dataprune.errors import InvalidValueError
from dataprune.integrations.huggingface import PruningTrainer


class HardestTwice(RandomK):
    """Loss weights from 0.5 to 2, as selectors that reweigh give them."""

    def fit(self, scores, labels=None, **known):
        super().fit(scores, labels, **known)
        self.weights_ = np.linspace(0.5, 2.0, len(self.indices_), dtype=np.float32)
        return self


class Watch(TrainerCallback):
    """Count updates, note their gradients, and look for gradients left at an epoch's start."""

    def __init__(self):
        self.n_updates = 0
        self.gradients = []
        self.rates = []

    def on_epoch_begin(self, args, state, control, model, **_):
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())

    on_train_end = on_epoch_begin

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.gradients.append([p.grad.clone() for p in model.parameters()])

    def on_optimizer_step(self, args, state, control, **_):
        self.n_updates += 1

    def on_step_end(self, args, state, control, lr_scheduler, **_):
        self.rates.append(lr_scheduler.get_last_lr()[0])


@pytest.mark.parametrize(("n_accumulation", "drop_last"), [(1, True), (3, False), (4, True)])
def test_updates_planned_are_updates_done_and_the_learning_rate_ends_at_zero(tmp_path, n_accumulation, drop_last):
    watch = Watch()
    trainer = small.make_trainer(
        tmp_path, callbacks=[watch], gradient_accumulation_steps=n_accumulation, dataloader_drop_last=drop_last
    )
    trainer.train()
    pruner = trainer.pruner
    assert watch.n_updates == trainer.state.global_step == trainer.state.max_steps == pruner.plan_.n_updates
    assert tuple(record.n_updates for record in pruner.history_) == pruner.plan_.updates
    assert trainer.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert trainer.state.epoch == 4.0
    assert [record.n_asked for record in pruner.history_] == [37, 19, 19, 19]
    whole = {1: 19, 3: 21, 4: 29}[n_accumulation]  # the fewest whose batches of 4 fill whole updates
    assert [record.n_kept for record in pruner.history_] == [37, whole, whole, whole]


# Of 10, 5, 5, ... updates without accumulation, 4, 2, 2, ... with 3 batches each.
@pytest.mark.parametrize(
    ("max_steps", "n_accumulation", "updates"),
    [(7, 1, (7,)), (10, 1, (10,)), (18, 1, (10, 5, 3)), (5, 3, (4, 1))],
)
def test_a_run_of_max_steps_makes_them_and_its_learning_rate_ends_there(tmp_path, max_steps, n_accumulation, updates):
    watch = Watch()
    trainer = small.make_trainer(
        tmp_path,
        callbacks=[watch],
        num_train_epochs=1.5,  # max_steps wins
        max_steps=max_steps,
        gradient_accumulation_steps=n_accumulation,
        warmup_steps=0.5,
        learning_rate=0.1,
        evaluated=True,
        eval_strategy="epoch",
    )
    trainer.train()
    pruner, n_per_update = trainer.pruner, 4 * n_accumulation
    assert watch.n_updates == trainer.state.global_step == trainer.state.max_steps == max_steps
    assert pruner.plan_.updates == tuple(record.n_updates for record in pruner.history_) == updates
    assert trainer.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert max(watch.rates) == watch.rates[-(-max_steps // 2) - 1]  # half of the run warms up
    last = pruner.history_[-1]
    assert last.n_kept == (37 if max_steps == 10 else updates[-1] * n_per_update) == len(pruner.indices_)
    assert "eval_loss" in last.metrics
    assert trainer.state.epoch == len(updates)


@pytest.mark.parametrize("n_accumulation", [1, 3])
def test_the_learning_rate_ends_at_zero_where_the_plan_is_only_a_bound(tmp_path, n_accumulation):
    pruner = small.make_pruner(scorer=Loss(), selector=SoftPrune(), scheduler=SoftPruneScheduler())
    watch = Watch()
    trainer = small.make_trainer(tmp_path, pruner=pruner, callbacks=[watch], gradient_accumulation_steps=n_accumulation)
    trainer.train()
    rates = watch.rates
    assert trainer.state.global_step < pruner.plan_.n_updates
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == 0.0
    n_first = pruner.history_[0].n_updates
    assert rates[n_first - 1] == pytest.approx(0.75e-2)  # a quarter of the epochs


def test_a_run_that_starts_pruned_gets_its_full_last_epoch(tmp_path):
    scheduler = CyclicScheduler(keep_fraction=0.2, n_warmup_epochs=0, n_full_final_epochs=1)
    pruner = small.make_pruner(scorer=None, selector=RandomK(), scheduler=scheduler)
    trainer = small.make_trainer(tmp_path, pruner=pruner, num_train_epochs=3)
    trainer.train()
    assert [record.n_updates for record in pruner.history_] == [2, 2, 10]
    assert pruner.n_epochs_trained_.min() >= 1


def expected_gradient(rows, weights, batch_size):
    """The slow way: the mean over an update's batches of the weighted mean of their examples' losses."""
    model = small.make_model(dropout=0.0)
    dataset = small.make_dataset().select_columns(["input_ids", "labels"])
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    for number, batch in enumerate(batches):
        inputs = small.pad([dataset[int(row)] for row in batch])
        labels = inputs.pop("labels")
        losses = F.cross_entropy(model(**inputs).logits, labels, reduction="none")
        w = torch.tensor(weights[number * batch_size :][: len(batch)])
        ((w * losses).mean() / len(batches)).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("n_accumulation", [1, 2])
def test_the_gradient_of_an_update_is_that_of_its_weighted_losses(tmp_path, n_accumulation):
    watch, batch_size = Watch(), 8
    pruner = small.make_pruner(scorer=None, selector=HardestTwice())
    trainer = small.make_trainer(
        tmp_path,
        model=small.make_model(dropout=0.0),
        pruner=pruner,
        callbacks=[watch],
        num_train_epochs=2,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=n_accumulation,
        train_sampling_strategy="sequential",
        learning_rate=0.0,
        max_grad_norm=0.0,
    )
    trainer.train()
    per_update = batch_size * n_accumulation
    full = expected_gradient(np.arange(per_update), np.ones(per_update, np.float32), batch_size)
    first = pruner.plan_.updates[0]
    weighted = expected_gradient(pruner.indices_[:per_update], pruner.weights_[:per_update], batch_size)
    for ours, theirs in [(watch.gradients[0], full), (watch.gradients[first], weighted)]:
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_weighted_tokens_keep_the_scale_of_the_models_own_loss(tmp_path, tokenizer):
    config = BertConfig(**small.make_model(dropout=0.0).config.to_dict())
    rows = small.make_rows()
    rows["labels"] = [[token % 3 for token in ids] for ids in rows["input_ids"]]
    pruner = small.make_pruner(
        scorer=None, selector=HardestTwice(), scheduler=CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=0)
    )
    trainer = PruningTrainer(
        model=BertForTokenClassification(config).train(),
        args=small.make_args(tmp_path, num_train_epochs=1),
        train_dataset=Dataset.from_dict({name: rows[name] for name in ("input_ids", "labels")}),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        pruner=pruner,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    losses = F.cross_entropy(logits.transpose(1, 2), batch["labels"], reduction="none")  # (B, T)
    expected = (pruner.weights(batch["__index__"])[:, None] * losses).sum() / (batch["labels"] >= 0).sum()
    assert pruner.weights(batch["__index__"]).unique().numel() > 1
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), expected)


def test_a_run_may_start_from_the_scores_of_another(tmp_path):
    first = small.make_pruner()
    small.make_trainer(tmp_path, pruner=first, num_train_epochs=2).train()
    scores = first.scorer_.store_
    pruner = small.make_pruner(scheduler=CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=0))
    trainer = PruningTrainer(
        model=small.make_model(),
        args=small.make_args(tmp_path, num_train_epochs=1),
        train_dataset=small.make_dataset(),
        data_collator=small.pad,
        pruner=pruner,
        scores=scores,
    )
    trainer.train()
    assert pruner.indices_.tolist() == TopK(keep_fraction=0.5).fit(scores.scores).indices_.tolist()


def test_unit_weights_leave_the_models_own_loss_alone(tmp_path):
    trainer = small.make_trainer(tmp_path, num_train_epochs=1, save_strategy="no")
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.eval()
    without_index = {name: value for name, value in batch.items() if name != "__index__"}
    expected = trainer.model(**without_index).loss
    trainer.model.train()
    for module in trainer.model.modules():
        module.p = 0.0  # no dropout
    torch.testing.assert_close(trainer.compute_loss(trainer.model, batch), expected, rtol=0, atol=0)
    assert "labels" in batch


def test_labels_that_trainer_pops_are_still_observed(tmp_path):
    trainer = small.make_trainer(tmp_path, label_smoothing_factor=0.1, num_train_epochs=1)
    before = trainer.train_dataset.to_dict()
    trainer.train()
    assert not np.isnan(trainer.pruner.scorer_.scores_).any()
    assert trainer.train_dataset.to_dict() == before


def test_a_loss_of_the_users_own_is_not_weighted_by_stealth(tmp_path):
    pruner = small.make_pruner(scorer=None, selector=HardestTwice())
    trainer = small.make_trainer(tmp_path, pruner=pruner, label_smoothing_factor=0.1)
    with pytest.raises(InvalidValueError, match="HardestTwice weighs the loss of each example, which neither"):
        trainer.train()


def test_columns_that_the_model_does_not_take_are_dropped_from_any_data_set(tmp_path):
    rows = small.make_rows()
    as_list = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    scores = []
    for dataset in (small.make_dataset(), as_list):  # `pad` asserts that it sees no other column
        trainer = small.make_trainer(tmp_path, train_dataset=dataset)
        trainer.train()
        scores.append(trainer.pruner.scorer_.scores_)
    np.testing.assert_array_equal(*scores)


def test_full_refresh_scores_all_examples_and_leaves_training_as_it_was(tmp_path):
    pruner = small.make_pruner(refresh="full")
    trainer = small.make_trainer(tmp_path, pruner=pruner, train_sampling_strategy="group_by_length", num_train_epochs=3)
    trainer.train()
    assert [record.n_scored for record in pruner.history_] == [0, 37, 37]
    assert trainer.model.training
    lengths = np.array(small.make_rows()["length"])
    batches = [lengths[list(order)] for order in np.split(np.array(list(pruner.sampler_))[:16], 4)]
    assert max(np.ptp(batch) for batch in batches) <= 1


def test_signals_of_the_users_own_reach_scoring_passes_too(tmp_path):
    def renamed(outputs, batch):
        return {**signals_from_outputs(outputs, batch), "extra": outputs.logits.sum(-1)}

    scores = []
    for signals in (renamed, None):
        trainer = small.make_trainer(tmp_path, pruner=small.make_pruner(refresh="full"), signals=signals)
        trainer.train()
        scores.append(trainer.pruner.scorer_.scores_)
    np.testing.assert_array_equal(*scores)


def test_a_loss_that_is_not_finite_names_the_example_before_the_weights_change(tmp_path):
    def poisoned(outputs, batch):
        signals = signals_from_outputs(outputs, batch)
        losses = signals["loss"].masked_fill(batch["input_ids"][:, 1] == 2 + 5, torch.nan)
        return {**signals, "loss": losses}

    trainer = small.make_trainer(tmp_path, signals=poisoned)
    watch = Watch()
    trainer.add_callback(watch)
    with pytest.raises(
        InvalidValueError, match="The loss of example 5 is nan in epoch 0; the weights are those before"
    ):
        trainer.train()
    assert watch.n_updates == trainer.state.global_step < 10
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_each_epoch_is_logged_beside_trainers_own_logs(tmp_path):
    trainer = small.make_trainer(tmp_path, evaluated=True, eval_strategy="epoch", logging_strategy="epoch")
    trainer.train()
    logs = trainer.state.log_history
    ours = [log for log in logs if "pruning/kept" in log]
    assert [log["pruning/epoch"] for log in ours] == [0, 1, 2, 3]
    assert [log["pruning/kept"] for log in ours] == [37, 19, 19, 19]
    assert [log["pruning/keep_fraction"] for log in ours] == [1.0, 19 / 37, 19 / 37, 19 / 37]
    assert all(log["pruning/score_seconds"] >= 0 for log in ours)
    assert "pruning/score_p50" not in ours[0]  # nothing was scored yet
    assert all(log["pruning/score_p10"] < log["pruning/score_p50"] < log["pruning/score_p90"] for log in ours[1:])
    assert [log["epoch"] for log in logs if "loss" in log] == [1.0, 2.0, 3.0, 4.0]
    evaluated = [log["eval_loss"] for log in logs if "eval_loss" in log]
    assert [record.metrics for record in trainer.pruner.history_] == [{"eval_loss": value} for value in evaluated]
    assert all(record.seconds["evaluate"] > 0 for record in trainer.pruner.history_)

    trainer.evaluate(small.make_dataset(5))
    assert trainer.pruner.history_[-1].metrics == {"eval_loss": evaluated[-1]}


def test_without_pruning_it_trains_as_trainer_does(tmp_path):
    settings = {"train_sampling_strategy": "sequential", "num_train_epochs": 2}
    pruner = small.make_pruner(scheduler=CyclicScheduler(keep_fraction=1.0))
    ours = small.make_trainer(tmp_path, model=small.make_model(dropout=0.0), pruner=pruner, **settings)
    ours.train()
    theirs = Trainer(
        model=small.make_model(dropout=0.0),  # plain loaders draw from the random state that dropout uses
        args=small.make_args(tmp_path, **settings),
        train_dataset=small.make_dataset(),
        data_collator=small.pad,
    )
    theirs.train()
    torch.testing.assert_close(ours.model.state_dict(), theirs.model.state_dict(), rtol=0, atol=0)
