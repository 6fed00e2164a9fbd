"""Checkpoints of fit: which one counts, what is refused, what is left behind."""

import random
import shutil
import signal

import numpy as np
import pytest
import torch
from torch import nn
from training_parts import FIT_EPOCHS, assert_same_run, classifier, fit_run, points, pruner, weights_of

from dataprune import EL2N, WeightedK
from dataprune.errors import DataPruneError, StateError, TrainingInterrupted
from dataprune.training.checkpoint import LOOP, MODEL, OPTIMIZER, PRUNER, Checkpoints
from dataprune.training.evaluation import BestModel
from dataprune.training.interrupt import InterruptFlag


class StoppedAfterEvaluation(Exception):
    """Raised by a callback: the process ends between two checkpoints."""


def stop_after(epoch):
    def callback(pruner):
        if pruner.epoch_ == epoch + 1:
            raise StoppedAfterEvaluation

    return callback


def broken_off(folder, epoch, **keywords):
    """A run whose last checkpoint is that of `epoch`."""
    with pytest.raises(StoppedAfterEvaluation):
        fit_run(folder, callbacks=[stop_after(epoch)], **keywords)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_goes_on_after_a_finished_epoch(tmp_path, whole, epoch):
    broken_off(tmp_path, epoch)
    assert_same_run(*fit_run(tmp_path, resume=True, seed=999), *whole)


def test_a_finished_run_is_only_loaded(tmp_path, whole):
    fit_run(tmp_path)
    calls = []
    ours, model = fit_run(tmp_path, resume=True, seed=999, on_batch=calls.append)
    assert calls == []
    assert_same_run(ours, model, *whole)


def test_resume_without_a_checkpoint_starts_afresh(tmp_path, whole):
    assert_same_run(*fit_run(tmp_path / "new" / "folder", resume=True), *whole)


def test_the_random_states_of_the_user_are_put_back(tmp_path):
    draws = []

    def draw(pruner):
        draws.append((random.random(), np.random.random(), torch.rand(1).item()))  # noqa: NPY002

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    fit_run(tmp_path / "whole", callbacks=[draw])
    expected, draws[:] = draws[2:], []
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    with pytest.raises(StoppedAfterEvaluation):
        fit_run(tmp_path / "broken", callbacks=[draw, stop_after(1)])
    draws.clear()
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    fit_run(tmp_path / "broken", resume=True, seed=999, callbacks=[draw])
    assert draws == expected


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9)])
def test_any_optimizer_is_resumed(tmp_path, optimizer):
    def run(folder, **keywords):
        model = classifier(p_dropout=0.0)
        ours = pruner()
        ours.fit(
            points(),
            model=model,
            n_epochs=4,
            batch_size=8,
            optimizer=optimizer(model.parameters(), 0.1),
            checkpoint_dir=folder,
            **keywords,
        )
        return ours, model

    expected = run(tmp_path / "whole")
    with pytest.raises(StoppedAfterEvaluation):
        run(tmp_path / "broken", callbacks=[stop_after(1)])
    assert_same_run(*run(tmp_path / "broken", resume=True), *expected)


def test_tied_parameters_are_saved_and_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    torch.manual_seed(0)
    pruner().fit(points(), model=Tied(), n_epochs=2, batch_size=8, learning_rate=0.1, checkpoint_dir=tmp_path)
    model = Tied()
    pruner().fit(
        points(), model=model, n_epochs=2, batch_size=8, learning_rate=0.1, checkpoint_dir=tmp_path, resume=True
    )
    assert model.first.weight is model.second.weight


def test_the_newest_whole_checkpoint_is_the_only_one_left(tmp_path):
    fit_run(tmp_path)
    (path,) = tmp_path.glob("checkpoint-*")
    assert path.name == "checkpoint-0004-000003"
    assert sorted(file.name for file in path.iterdir()) == sorted([LOOP, MODEL, OPTIMIZER, PRUNER])
    assert len(list(tmp_path.glob("best-*"))) == 1


def test_checkpoints_of_another_library_stay(tmp_path):
    theirs = tmp_path / "checkpoint-500" / "model.safetensors"
    theirs.parent.mkdir()
    theirs.touch()
    fit_run(tmp_path)
    assert theirs.exists()


def test_a_folder_without_the_pruners_file_does_not_count(tmp_path, whole):
    broken_off(tmp_path, 1)
    (good,) = tmp_path.glob("checkpoint-*")
    half = tmp_path / "checkpoint-0002-000003"
    shutil.copytree(good, half)
    (half / PRUNER).unlink()
    (half / MODEL).write_bytes(b"half of a f")
    assert_same_run(*fit_run(tmp_path, resume=True, seed=999), *whole)


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, LOOP, PRUNER])
@pytest.mark.parametrize("n_bytes", [0, 60, -1])
def test_a_damaged_checkpoint_is_one_sentence_that_names_the_file(tmp_path, name, n_bytes):
    broken_off(tmp_path, 1)
    (path,) = tmp_path.glob(f"checkpoint-*/{name}")
    path.write_bytes(path.read_bytes()[:n_bytes] if name != LOOP or n_bytes >= 0 else path.read_bytes()[:-9])
    with pytest.raises(StateError, match=rf"{name}.*\.$") as caught:
        fit_run(tmp_path, resume=True)
    assert "Traceback" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_best_model_is_one_sentence(tmp_path):
    broken_off(tmp_path, 1)
    for path in tmp_path.glob("best-*"):
        path.unlink()
    with pytest.raises(StateError, match=r"best-000\d.safetensors"):
        fit_run(tmp_path, resume=True)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    broken_off(tmp_path, 1)
    with pytest.raises(
        StateError, match=r"The checkpoint .*checkpoint-0001-000003 belongs to another model or optimizer"
    ):
        pruner().fit(
            points(),
            model=nn.Linear(4, 3),
            n_epochs=FIT_EPOCHS,
            batch_size=8,
            learning_rate=0.02,
            n_accumulation=2,
            checkpoint_dir=tmp_path,
            resume=True,
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_epochs": 7}, "saved with n_epochs=5, but this run has 7"),
        ({"batch_size": 4}, "saved with batch_size=8, but this run has 4"),
        ({"ours": pruner(selector=WeightedK())}, "saved with selector="),
        ({"learning_rate": 0.03}, r"saved with learning_rate=0.02, but this run has 0.03\.$"),
        ({"lr_schedule": "cosine"}, "saved with lr_schedule='linear', but this run has 'cosine'"),
        ({"max_grad_norm": None}, "saved with max_grad_norm=1.0, but this run has None"),
        ({"mixed_precision": "bf16"}, "saved with mixed_precision='no', but this run has 'bf16'"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, words):
    broken_off(tmp_path, 1)
    with pytest.raises(StateError, match=words):
        fit_run(tmp_path, resume=True, **changes)


def test_the_rate_of_a_part_of_an_own_optimizer_is_compared(tmp_path):
    def run(rate, **keywords):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
        rates = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[1].parameters(), "lr": rate}]
        given = {"n_epochs": 2, "batch_size": 8, "checkpoint_dir": tmp_path, **keywords}
        pruner().fit(points(), model=model, optimizer=torch.optim.SGD(rates), **given)

    run(0.1)
    run(0.1, resume=True)
    with pytest.raises(StateError, match=r"learning_rate=\[0.01, 0.1\], but this run has \[0.01, 0.2\]"):
        run(0.2, resume=True)


def test_changed_data_are_refused(tmp_path):
    given = {"model": classifier(), "n_epochs": 2, "batch_size": 8, "checkpoint_dir": tmp_path}
    pruner().fit(points(), **given)
    with pytest.raises(StateError, match="saved for other data"):
        pruner().fit(points(seed=5), resume=True, **given)


def test_the_best_file_of_an_earlier_run_in_the_same_folder_is_not_taken_for_ours(tmp_path):
    def metrics(signals):
        list(signals)
        seen.append(None)
        return {"score": 1.0 / len(seen)}  # the first epoch is the best

    seen = []
    fit_run(tmp_path, metrics=metrics)
    seen.clear()
    model, first = classifier(seed=5), {}

    def note(pruner):
        if pruner.epoch_ == 0:
            first.update(weights_of(model))

    given = {"n_epochs": 3, "batch_size": 8, "eval_dataset": points(9), "metrics": metrics, "checkpoint_dir": tmp_path}
    pruner().fit(points(), model=model, learning_rate=0.05, callbacks=[note], **given)
    resumed = classifier(seed=5)
    pruner().fit(points(), model=resumed, learning_rate=0.05, resume=True, **given)
    assert torch.equal(model.state_dict()["0.weight"], first["0.weight"])
    assert torch.equal(resumed.state_dict()["0.weight"], first["0.weight"])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((DataPruneError, OSError), match="file"):
        fit_run(tmp_path / "file" / "folder")


def test_ctrl_c_without_a_folder_says_that_nothing_was_saved():
    def press(ours):
        if ours.epoch_ == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match=r"nothing was saved, for fit\(\) had no checkpoint_dir"):
        fit_run(None, on_batch=press, n_accumulation=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with InterruptFlag() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_of_the_same_moment_is_replaced(tmp_path):
    model = classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    ours = pruner(scorer=EL2N())
    ours.attach(torch.utils.data.DataLoader(points(), 8, shuffle=True), n_epochs=2)
    ours.set_epoch(0)
    checkpoints = Checkpoints(tmp_path, model, optimizer, ours, BestModel(), settings={})
    assert checkpoints.newest() is None
    first = checkpoints.save()
    assert checkpoints.save() == first == checkpoints.newest()
