import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import huggingface_run as small
import numpy as np
import pytest
from safetensors.numpy import load_file

from dataprune import Loss, SoftPrune, SoftPruneScheduler
from dataprune.errors import StateError
from dataprune.integrations.huggingface import PRUNER_FILE


def check_same_arrays(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def state_of(trainer):
    weights = {name: tensor.numpy() for name, tensor in trainer.model.state_dict().items()}
    state = trainer.pruner.state_dict()
    arrays = {name: value for name, value in (state | state["store"]).items() if isinstance(value, np.ndarray)}
    return {**weights, **arrays, "n_updates": np.array(trainer.state.global_step)}


# Updates of the epochs: 10, 5, 5, 5 without accumulation, 4, 2, 2, 2 with 3 batches each.
@pytest.mark.parametrize(("n_accumulation", "points"), [(1, [3, 10, 13, 20, 25]), (3, [2, 4, 5, 8, 10])])
def test_a_run_resumed_from_any_checkpoint_is_the_uninterrupted_run(tmp_path, n_accumulation, points):
    settings = {"save_strategy": "steps", "gradient_accumulation_steps": n_accumulation}
    whole, selections = small.run(tmp_path, save_steps=1, **settings)
    expected = state_of(whole)
    assert whole.state.global_step == whole.pruner.plan_.n_updates == points[-1]

    for point in points:
        resumed, later = small.run(tmp_path, resume=f"{tmp_path}/checkpoint-{point}", save_steps=1000, **settings)
        check_same_arrays(state_of(resumed), expected)
        assert later.items() <= selections.items()
        assert [r.n_updates for r in resumed.pruner.history_] == list(resumed.pruner.plan_.updates)


def test_a_run_of_max_steps_resumes_in_its_cut_epoch_too(tmp_path):
    settings = {"max_steps": 23, "save_strategy": "steps"}  # 10 + 5 + 5 + 3 updates
    whole, _ = small.run(tmp_path, save_steps=1, **settings)
    for point in (4, 15, 22, 23):
        resumed, _ = small.run(tmp_path, resume=f"{tmp_path}/checkpoint-{point}", **settings | {"save_steps": 1000})
        check_same_arrays(state_of(resumed), state_of(whole))
        assert [record.n_updates for record in resumed.pruner.history_] == [10, 5, 5, 3]
        assert resumed.lr_scheduler.get_last_lr() == [0.0, 0.0]
    with pytest.raises(StateError, match="saved with n_updates=23, but this run has 24"):
        small.run(tmp_path, resume=f"{tmp_path}/checkpoint-22", **settings | {"max_steps": 24})


def test_a_run_of_as_many_as_the_scores_say_resumes_with_its_learning_rate(tmp_path):
    parts = {"scorer": Loss(), "selector": SoftPrune(), "scheduler": SoftPruneScheduler()}
    whole, _ = small.run(tmp_path, pruner=small.make_pruner(**parts), save_strategy="steps", save_steps=1)
    n_updates = whole.state.global_step
    assert n_updates < whole.pruner.plan_.n_updates
    for point in (12, n_updates - 1):
        resumed, _ = small.run(
            tmp_path,
            resume=f"{tmp_path}/checkpoint-{point}",
            pruner=small.make_pruner(**parts),
            save_strategy="steps",
            save_steps=1000,
        )
        check_same_arrays(state_of(resumed), state_of(whole))
        assert resumed.lr_scheduler.get_last_lr() == [0.0, 0.0]


def test_the_best_model_and_the_metrics_survive_a_resume(tmp_path):
    settings = {"evaluated": True, "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    whole, _ = small.run(tmp_path, **settings)
    assert whole.state.best_model_checkpoint is not None
    checkpoints = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in checkpoints[2:]:
        shutil.rmtree(checkpoint)

    resumed, _ = small.run(tmp_path, resume=True, **settings)

    check_same_arrays(state_of(resumed), state_of(whole))
    assert resumed.state.best_model_checkpoint == whole.state.best_model_checkpoint
    assert resumed.state.epoch == 4.0
    for ours, theirs in zip(resumed.pruner.history_, whole.pruner.history_, strict=True):
        assert ours.metrics == theirs.metrics
        assert ours.metrics.keys() == {"eval_loss"}


def test_resume_takes_the_newest_checkpoint_that_is_whole(tmp_path):
    whole, _ = small.run(tmp_path, save_strategy="epoch", num_train_epochs=3)
    newest = tmp_path / f"checkpoint-{whole.state.global_step}"
    (newest / PRUNER_FILE).unlink()

    resumed, later = small.run(tmp_path, resume=True, save_strategy="epoch", num_train_epochs=3)
    assert set(later) == {2}
    check_same_arrays(state_of(resumed), state_of(whole))

    (newest / PRUNER_FILE).unlink()
    with pytest.raises(StateError, match=f"{newest.name} has no pruner.safetensors: it was not written whole"):
        resumed.train(resume_from_checkpoint=str(newest))


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(StateError, match="No whole checkpoint is in"):
        small.run(tmp_path, resume=True)


def test_other_data_do_not_resume(tmp_path):
    small.run(tmp_path, save_strategy="epoch", num_train_epochs=2)
    with pytest.raises(StateError, match="saved for 37 examples, but the attached dataset has 36"):
        small.run(tmp_path, resume=True, train_dataset=small.make_dataset(36), num_train_epochs=2)


def test_a_limit_of_one_checkpoint_always_leaves_a_whole_one(tmp_path):
    small.run(tmp_path, save_strategy="epoch", save_total_limit=1, num_train_epochs=3)
    assert len(list(tmp_path.glob(f"checkpoint-*/{PRUNER_FILE}"))) == 2


@pytest.mark.parametrize("n_accumulation", [1, 4])
def test_runs_killed_at_several_points_go_on_bit_for_bit(tmp_path, n_accumulation):
    # Updates of the epochs: 10, 5, 5, 5 without accumulation, 3, 2, 2, 2 with it.
    early, middle = (4, 13) if n_accumulation == 1 else (2, 4)
    kills = {"in the warm-up": (early, False), "in a pruned epoch": (middle, False), "while saving": (middle, True)}
    settings = {"save_strategy": "steps", "save_steps": 1 if n_accumulation > 1 else 3}
    settings |= {"gradient_accumulation_steps": n_accumulation, "save_total_limit": 1}
    if n_accumulation == 1:
        kills["while saving"] = (12, True)
    here = Path(__file__).parent
    script = subprocess.run(
        [sys.executable, here / "huggingface_run.py", tmp_path, json.dumps(settings), json.dumps(kills)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])},
    )
    assert script.returncode == 0, script.stderr
    ends = json.loads(script.stdout.splitlines()[-1])
    assert ends == [0] + [-signal.SIGKILL, 0] * len(kills), script.stderr

    expected = {name: load_file(tmp_path / "whole" / "final" / name) for name in ("model.safetensors", PRUNER_FILE)}
    selections = json.loads((tmp_path / "whole" / "final" / "selections.json").read_text())
    for name in kills:
        for file, arrays in expected.items():
            check_same_arrays(load_file(tmp_path / name / "final" / file), arrays)
        later = json.loads((tmp_path / name / "final" / "selections.json").read_text())
        assert later
        assert later.items() <= selections.items()
