"""After kill -9 or Ctrl-C at any point, a resumed run is the uninterrupted one, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_and_die import PARTS
from training_parts import FIT_EPOCHS, assert_same_run, fit_run, pruner

import dataprune
from dataprune.training.checkpoint import PRUNER

KILLED_AT = [[0, 3], [1, 2], [2, 0], [4, 1]]  # epoch, batch; epoch 0 has eight batches, the others three
INTERRUPTED_AT = [[0, 1], [1, 1], [1, 2], [4, 2]]
KILLED_WRITING = range(1, 13)  # the n-th file that is written: three checkpoints of four or five files


def scenarios(folder):
    base = {"signal": "SIGKILL", "parts": "observed", "n_workers": 0}
    found = {}
    for parts in PARTS:
        for epoch, batch in KILLED_AT:
            found[f"kill-{parts}-{epoch}-{batch}"] = {**base, "parts": parts, "batch": [epoch, batch]}
    for n_files in KILLED_WRITING:
        found[f"file-{n_files}"] = {**base, "file": n_files}
    for epoch, batch in INTERRUPTED_AT:
        found[f"ctrl-c-{epoch}-{batch}"] = {**base, "signal": "SIGINT", "batch": [epoch, batch]}
    found["ctrl-c-workers"] = {**base, "signal": "SIGINT", "batch": [1, 0], "n_workers": 2}
    for name, scenario in found.items():
        (folder / name).mkdir()
        scenario["folder"] = str(folder / name)
    return found


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Folder of each scenario, after its process has ended, and how it ended."""
    folder = tmp_path_factory.mktemp("runs")
    found = scenarios(folder)
    (folder / "scenarios.json").write_text(json.dumps(list(found.values())))
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(Path(dataprune.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, str(here / "run_and_die.py"), str(folder / "scenarios.json")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    codes = [int(line) for line in done.stdout.split()]
    return {name: (folder / name, code) for name, code in zip(found, codes, strict=True)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted runs."""
    return {parts: fit_run(tmp_path_factory.mktemp(parts), ours=pruner(**PARTS[parts])) for parts in PARTS}


def resumed_equals(whole, folder, parts="observed", *, seed=999, **changes):
    """Resume with another global seed: it must not matter once there is a checkpoint."""
    ours, model = fit_run(folder, resume=True, seed=seed, ours=pruner(**PARTS[parts]), **changes)
    assert len(ours.history_) == FIT_EPOCHS
    assert_same_run(ours, model, *whole[parts])


def whole_checkpoints(folder):
    return [path.parent.name for path in folder.glob(f"checkpoint-*/{PRUNER}")]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize(("epoch", "batch"), KILLED_AT)
def test_a_run_that_was_killed_in_mid_epoch_is_resumed_bit_for_bit(ended, whole, parts, epoch, batch):
    folder, code = ended[f"kill-{parts}-{epoch}-{batch}"]
    assert code == signal.SIGKILL
    assert len(whole_checkpoints(folder)) == (1 if epoch else 0)
    resumed_equals(whole, folder, parts, seed=999 if epoch else 0)  # without a checkpoint it starts afresh


@pytest.mark.parametrize("n_files", KILLED_WRITING)
def test_a_run_that_was_killed_while_writing_a_checkpoint_goes_on_from_the_one_before(ended, whole, n_files):
    folder, code = ended[f"file-{n_files}"]
    assert code == signal.SIGKILL
    checkpoints = sorted(folder.glob("checkpoint-*"))
    assert len(checkpoints) == len(whole_checkpoints(folder)) + 1  # the half-written one is there
    resumed_equals(whole, folder, seed=999 if whole_checkpoints(folder) else 0)
    assert not list(folder.glob("**/.*.part"))
    assert len(list(folder.glob("checkpoint-*"))) == 1


@pytest.mark.parametrize(("epoch", "batch"), INTERRUPTED_AT)
def test_ctrl_c_saves_says_how_to_resume_and_is_resumed_bit_for_bit(ended, whole, epoch, batch):
    folder, code = ended[f"ctrl-c-{epoch}-{batch}"]
    assert code == 0
    (checkpoint,) = whole_checkpoints(folder)
    message = (folder / "message.txt").read_text()
    assert message == (
        f"Training was interrupted; its state is in {folder / checkpoint}. Call fit(..., resume=True) to go on."
    )
    resumed_equals(whole, folder)


def test_ctrl_c_reaches_the_workers_of_the_loader_too(ended, whole):
    folder, _ = ended["ctrl-c-workers"]
    assert "Call fit(..., resume=True)" in (folder / "message.txt").read_text()
    resumed_equals(whole, folder, n_workers=2)
