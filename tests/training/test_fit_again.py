"""What an earlier run, or another library, left in the process or the folder does not reach this run."""

import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader
from training_parts import SCHEDULE, classifier, loader, points, pruner, train_plainly, weights_of

from dataprune import EL2N, CyclicScheduler, RandomK
from dataprune.data.forward import default_forward
from dataprune.errors import InvalidValueError, StateError, TrainingInterrupted


def test_a_second_fit_with_the_same_optimizer_trains_at_the_peak_rate_again():
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner().fit(points(), model=model, n_epochs=2, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.0  # the schedule's target
    before = weights_of(model)
    pruner().fit(points(), model=model, n_epochs=2, optimizer=optimizer)
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights_of(model).items())


def test_a_bf16_accelerator_of_the_process_changes_neither_precision_nor_model():
    script = """
import torch
from accelerate import Accelerator
from dataprune import EL2N, DynamicPruner
from dataprune.data.forward import default_forward

Accelerator(mixed_precision="bf16", cpu=True)
dtypes = set()

def forward(model, batch):
    signals = default_forward(model, batch)
    dtypes.add(signals["logits"].dtype)
    return signals

data = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.arange(32) % 2)
model = torch.nn.Linear(4, 2)
DynamicPruner(EL2N()).fit(data, model=model, n_epochs=2, forward=forward)
assert dtypes == {torch.float32}, dtypes
assert "forward" not in vars(model), "the model came back patched"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_in_the_mode_it_came_in(training):
    model = classifier().train(training)
    pruner().fit(points(), model=model, n_epochs=2, eval_dataset=points())
    assert model.training is training
    assert model[2].training is training


def test_checkpoints_of_an_earlier_run_are_not_taken_for_those_of_a_run_that_broke_off(tmp_path):
    def break_off(_):
        raise TrainingInterrupted("before the first checkpoint")

    pruner().fit(points(), model=classifier(), n_epochs=3, checkpoint_dir=tmp_path)
    with pytest.raises(TrainingInterrupted):
        pruner().fit(points(), model=classifier(1), n_epochs=3, checkpoint_dir=tmp_path, callbacks=[break_off])
    epochs = []
    pruner().fit(
        points(),
        model=classifier(1),
        n_epochs=3,
        checkpoint_dir=tmp_path,
        resume=True,
        callbacks=[lambda p: epochs.append(p.epoch_)],
    )
    assert epochs == [0, 1, 2]


@pytest.mark.parametrize("change", [{"shuffle": False}, {"drop_last": True}])
def test_a_state_of_another_order_is_refused(change):
    first = pruner()
    model = classifier()
    batches = first.attach(loader(), n_epochs=4)
    train_plainly(first, batches, model, torch.optim.SGD(model.parameters(), lr=0.1), 4, stop_after=3)
    second = pruner()
    second.attach(loader(**change), n_epochs=4)
    with pytest.raises(StateError, match=f"saved with {next(iter(change))}="):
        second.load_state_dict(first.state_dict())


def test_another_best_metric_is_refused_on_resume(tmp_path):
    settings = {"model": classifier(), "n_epochs": 2, "eval_dataset": points(), "checkpoint_dir": tmp_path}
    pruner().fit(points(), **settings)
    with pytest.raises(StateError, match="best_metric=None, but this run has 'loss'"):
        pruner().fit(points(), **settings, best_metric="loss", resume=True)


def test_a_share_without_a_warm_up_is_refused_for_most_examples_would_be_unseen():
    with pytest.raises(InvalidValueError, match="n_warmup_epochs must be at least 1 when nothing is scored yet"):
        pruner(scheduler=CyclicScheduler(n_warmup_epochs=0), refresh=0.1).attach(
            loader(), n_epochs=2, model=classifier()
        )


def test_no_scoring_pass_is_made_for_a_selector_that_ignores_scores():
    n_passes = []

    def forward(model, batch):
        if not model.training:
            n_passes.append(len(batch[1]))
        return default_forward(model, batch)

    run = pruner(selector=RandomK(), refresh="full").fit(points(), model=classifier(), n_epochs=4, forward=forward)
    assert n_passes == []
    assert run.plan_.n_scored == 0


def test_missing_signals_are_named_in_the_first_batch_and_not_after_the_warm_up():
    def forward(model, batch):
        return {"loss": default_forward(model, batch)["loss"]}

    run = pruner(scorer=EL2N(), refresh="full")
    with pytest.raises(InvalidValueError, match="needs the signals 'labels' and 'logits', got only 'loss'"):
        run.fit(points(), model=classifier(), n_epochs=4, forward=forward)
    assert run.n_observed_batches_ == 0


def test_an_evaluation_in_mid_epoch_is_not_counted_as_training():
    run = pruner(scheduler=SCHEDULE)
    batches = run.attach(DataLoader(points(), 30), n_epochs=2)
    run.set_epoch(0)
    for n, (index, batch) in enumerate(batches):
        signals = default_forward(classifier(), batch)
        if n == 1:
            run.log_evaluation({"accuracy": 0.5}, seconds=50.0)
        run.observe(index, **{name: signal.detach() for name, signal in signals.items()})
    assert run.history_[-1].seconds["evaluate"] == 50.0
    assert run.history_[-1].seconds["train"] < 0.0  # 50 seconds that did not pass were taken out
