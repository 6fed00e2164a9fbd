import copy
import csv
import pickle
import subprocess
import sys

import lightning_parts as small
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dataprune import BatchTopK, ConstantScheduler, CyclicScheduler, Loss, RandomK, SoftPrune
from dataprune.integrations.lightning import PruningCallback

pytestmark = small.NO_VALIDATION
WHOLE = CyclicScheduler(keep_fraction=0.2, n_warmup_epochs=0, n_full_final_epochs=1)


def weights_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def plain_loop(pruner, module, n_accumulation=1):
    """A loop of one's own over the same data, with the module's own step and optimizer."""
    loader = pruner.attach(small.make_loader(), n_epochs=small.N_EPOCHS, n_accumulation=n_accumulation, model=module)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for epoch in range(small.N_EPOCHS):
        pruner.set_epoch(epoch)
        n_batches = len(loader)
        for number, (index, (x, y)) in enumerate(loader, start=1):
            logits = module(x)
            losses = F.cross_entropy(logits, y, reduction="none")
            ((losses * pruner.weights(index, logits=logits, labels=y)).mean() / n_accumulation).backward()
            if number % n_accumulation == 0 or number == n_batches:
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            pruner.observe(index, logits=logits, labels=y)
    pruner.close()


@pytest.mark.parametrize(("n_accumulation", "drop_last"), [(1, True), (3, False), (4, True)])
def test_updates_planned_are_updates_done_and_the_learning_rate_ends_at_zero(n_accumulation, drop_last):
    loader = small.make_loader(drop_last=drop_last)
    trainer, module, pruner = small.run(loader=loader, accumulate_grad_batches=n_accumulation)
    assert trainer.global_step == pruner.plan_.n_updates
    assert tuple(record.n_updates for record in pruner.history_) == pruner.plan_.updates
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr() == [0.0]
    assert [(record.n_asked, record.n_kept) for record in pruner.history_] == [(37, 37)] + 3 * [(19, 19)]
    rows = [[row for batch in batches for row in batch] for batches in module.visited.values()]
    assert [len(seen) for seen in rows] == ([36, 16, 16, 16] if drop_last else [37, 19, 19, 19])
    assert all(len(seen) == len(set(seen)) for seen in rows)


@pytest.mark.parametrize("n_accumulation", [1, 4])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_run_is_that_of_a_plain_loop_bit_for_bit(n_accumulation, n_workers):
    pruner = small.make_pruner()
    module = small.Classifier(pruner, p_dropout=0.2)
    torch.manual_seed(1)
    loader = small.make_loader(num_workers=n_workers)
    small.run(pruner, module=module, loader=loader, accumulate_grad_batches=n_accumulation)

    other = small.make_pruner()
    plain = small.Classifier(other, p_dropout=0.2)
    torch.manual_seed(1)
    plain_loop(other, plain, n_accumulation)
    assert torch.equal(weights_of(module), weights_of(plain))
    np.testing.assert_array_equal(pruner.scorer_.scores_, other.scorer_.scores_)
    np.testing.assert_array_equal(pruner.indices_, other.indices_)


@pytest.mark.parametrize("given", ["loader", "data module", "module"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_without_attach_the_run_is_the_same(given, n_workers):
    pruner, other = small.make_pruner(), small.make_pruner()
    _, plain, _ = small.run(other)
    module = small.Late(pruner) if given == "module" else small.Bare(pruner)
    data = {
        "loader": {"train_dataloaders": small.make_loader(num_workers=n_workers)},
        "data module": {"datamodule": small.Loaders()},
        "module": {},
    }[given]
    small.make_trainer(PruningCallback(pruner)).fit(module, **data)
    assert torch.equal(weights_of(module), weights_of(plain))
    assert module.visited == plain.visited
    np.testing.assert_array_equal(pruner.scorer_.scores_, other.scorer_.scores_)


def test_a_callback_takes_over_the_loader_of_each_run():
    pruner = small.make_pruner()
    pruning = PruningCallback(pruner)
    for n in (37, 20):
        small.make_trainer(pruning).fit(small.Bare(pruner), small.make_loader(small.points(n)))
        assert [record.n_kept for record in pruner.history_] == [n, *[(n + 1) // 2] * 3]


@pytest.mark.parametrize(
    "parts",
    [
        {"selector": SoftPrune()},
        {"batch_policy": BatchTopK(keep_fraction=0.5), "scheduler": ConstantScheduler(keep_fraction=1.0)},
    ],
    ids=["selector", "batch policy"],
)
def test_weighted_selections_train_as_in_a_plain_loop(parts):
    pruner, other = small.make_pruner(**parts), small.make_pruner(**parts)
    module, plain = small.Classifier(pruner, weighted=True), small.Classifier(other)
    small.run(pruner, module=module)
    plain_loop(other, plain)
    assert not pruner.has_unit_weights
    assert torch.equal(weights_of(module), weights_of(plain))


def test_manual_optimization_trains_alike():
    pruner, other = small.make_pruner(), small.make_pruner()
    module, plain = small.Classifier(pruner, manual=True), small.Classifier(other)
    trainer, _, _ = small.run(pruner, module=module)
    plain_loop(other, plain)
    assert trainer.global_step == pruner.plan_.n_updates
    assert torch.equal(weights_of(module), weights_of(plain))


class Lengths(ProgressBar):
    """What a progress bar would show, when validation ran, and which batches Lightning took for the last."""

    def __init__(self):
        super().__init__()
        self.totals, self.validated, self.lasts = [], [], []

    def disable(self):
        pass

    def on_train_epoch_start(self, trainer, pl_module):
        self.totals.append(self.total_train_batches)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:  # ModelCheckpoint goes by it
            self.lasts.append((trainer.current_epoch, batch_idx + 1))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validated.append((trainer.current_epoch, trainer.fit_loop.batch_idx + 1))


def test_the_progress_bar_and_validation_follow_the_length_of_each_epoch():
    bar = Lengths()
    _, _, pruner = small.run(callbacks=[bar], enable_progress_bar=True, val=DataLoader(small.points(9), 9))
    assert bar.totals == [10, 5, 5, 5]
    assert bar.validated == [(0, 10), (1, 5), (2, 5), (3, 5)]
    assert all(record.metrics.keys() == {"accuracy"} for record in pruner.history_)
    assert all(record.seconds["evaluate"] > 0 for record in pruner.history_)


def test_validation_by_parts_of_an_epoch_follows_its_length():
    bar = Lengths()
    val = DataLoader(small.points(9), 9)
    _, _, pruner = small.run(callbacks=[bar], enable_progress_bar=True, val=val, val_check_interval=0.5)
    assert bar.validated == [(0, 5), (0, 10), *((epoch, batch) for epoch in (1, 2, 3) for batch in (2, 4))]
    assert all(record.metrics.keys() == {"accuracy"} for record in pruner.history_)


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("kind", [small.Classifier, small.Estimating])
def test_a_run_that_starts_pruned_gets_its_full_last_epoch(kind, n_workers):
    pruner, bar = small.make_pruner(scorer=None, selector=RandomK(), scheduler=WHOLE), Lengths()
    trainer, module, _ = small.run(
        pruner,
        module=kind(pruner),
        loader=small.make_loader(num_workers=n_workers),
        val=DataLoader(small.points(9), 9),
        callbacks=[bar],
        enable_progress_bar=True,
        max_epochs=3,
        accumulate_grad_batches=3,
    )
    assert bar.totals == [len(module.visited[epoch]) for epoch in range(3)] == [2, 2, 10]
    assert bar.validated == bar.lasts == [(0, 2), (1, 2), (2, 10)]
    assert trainer.global_step == pruner.plan_.n_updates == 1 + 1 + 4
    assert pruner.n_epochs_trained_.min() >= 1
    if kind is small.Estimating:
        assert module.estimated == 3 * 4  # all epochs for full ones


def test_a_data_module_may_attach_its_loader():
    pruner, other = small.make_pruner(), small.make_pruner()
    pruning = PruningCallback(pruner)
    module = small.Estimating(pruner)  # the plan is there once the data is loaded
    small.make_trainer(pruning).fit(module, datamodule=small.Data(pruning))
    _, plain, _ = small.run(other)
    assert torch.equal(weights_of(module), weights_of(plain))


def test_the_log_has_the_figures_of_pruning(tmp_path):
    pruner = small.make_pruner()
    logger = CSVLogger(tmp_path, version=0)
    small.run(pruner, logger=logger, log_every_n_steps=1, val=DataLoader(small.points(9), 9))
    with (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["pruning/kept"]]
    assert [float(row["pruning/kept"]) for row in logged] == [37, 19, 19, 19]
    assert [float(row["pruning/keep_fraction"]) for row in logged] == pytest.approx([1, *3 * [19 / 37]])
    assert all(float(row["pruning/score_seconds"]) > 0 for row in logged)
    assert [row["step"] for row in logged] == ["9", "14", "19", "24"]


class Precisions(small.Classifier):
    def forward(self, x):
        logits = super().forward(x)
        self.seen.add((self.training, logits.dtype))
        return logits


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("refresh", ["observed", "full"])
def test_scores_of_bfloat16_are_float32_and_passes_run_as_training_does(precision, refresh):
    pruner = small.make_pruner(refresh=refresh)
    module = Precisions(pruner)
    module.seen = set()
    small.run(pruner, module=module, precision=precision)
    assert module.seen == {(True, torch.bfloat16)} | ({(False, torch.bfloat16)} if refresh == "full" else set())
    assert pruner.scorer_.scores_.dtype == np.float32
    assert np.isfinite(pruner.scorer_.scores_).all()
    assert [record.n_scored for record in pruner.history_] == ([0, 37, 37, 37] if refresh == "full" else [0] * 4)


def test_scorers_of_the_loss_take_that_of_the_logits_when_the_step_returns_no_losses():
    pruner = small.make_pruner(scorer=Loss())
    x, y = small.points().tensors
    expected = F.cross_entropy(small.Classifier(pruner)(x), y, reduction="none").detach()
    small.run(pruner, loader=small.make_loader(batch_size=small.N), max_epochs=1)
    np.testing.assert_allclose(pruner.scorer_.scores_, expected, rtol=1e-5)


def test_validate_and_test_leave_the_pruner_alone():
    val = DataLoader(small.points(9), 9)
    trainer, module, pruner = small.run(val=val)
    before = pruner.state_dict()
    trainer.validate(module, val, verbose=False)
    assert pruner.state_dict()["history"] == before["history"]


def test_the_same_callback_and_loader_make_the_same_run_again():
    pruning = PruningCallback(small.make_pruner())
    attached, ends = pruning.attach(small.make_loader()), []
    for _ in range(2):
        module = small.Classifier(pruning.pruner)
        small.make_trainer(pruning).fit(module, attached)
        ends.append(weights_of(module))
    assert torch.equal(*ends)


def test_a_callback_can_be_copied_and_pickled():
    pruning = PruningCallback(small.make_pruner())
    for twin in (copy.deepcopy(pruning), pickle.loads(pickle.dumps(pruning))):  # noqa: S301 - our own bytes
        module = small.Classifier(twin.pruner)
        small.make_trainer(twin).fit(module, twin.attach(small.make_loader()))
        assert [record.n_kept for record in twin.pruner.history_] == [37, 19, 19, 19]


def test_without_lightning_the_error_has_the_command():
    code = "import sys; sys.modules['lightning'] = None; import dataprune.integrations.lightning"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: PruningCallback needs lightning. Run: pip install 'dataprune[lightning]'" in done.stderr
