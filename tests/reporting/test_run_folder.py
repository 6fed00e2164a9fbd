"""Reading a run back from its folder, and the sentences about folders that are none."""

import json
import shlex

import numpy as np
import pytest
from cli_parts import copy_of, run_cli

from dataprune.data.tasks import load_task
from dataprune.errors import StateError
from dataprune.reporting import read_run


def test_a_run_comes_back(pruned_dir):
    run = read_run(pruned_dir)
    assert (run.name, run.n_examples, run.split, run.metric) == ("pruned", 120, "test", "accuracy")
    assert run.history["kept"].tolist() == [120, 60, 60, 60]
    assert run.is_pruned_epoch.tolist() == [False, True, True, True]
    assert run.prunes
    np.testing.assert_array_equal(run.dynamics.scores, run.kept["score"])


def test_the_metric_told_of_is_the_task_s_main_one(pruned_dir, joint_dir):
    for folder in (pruned_dir, joint_dir):
        task = load_task(json.loads((folder / "model" / "task.json").read_text()))
        assert read_run(folder).metric == task.main_metric


def test_the_share_of_the_pruned_epochs_adds_up(pruned_dir):
    run = read_run(pruned_dir)
    assert run.kept_share.mean() == pytest.approx(0.5)
    np.testing.assert_allclose(run.kept_share * 3 + 1, run.kept["n_epochs_trained"])


def test_without_pruned_epochs_there_is_no_such_share(full_dir):
    run = read_run(full_dir)
    assert not run.prunes
    assert np.isnan(run.kept_share).all()


def test_what_a_batch_policy_left_out_is_pruned_too(full_dir, tmp_path):
    folder = copy_of(full_dir, tmp_path / "run")
    lines = (folder / "history.csv").read_text().splitlines()
    with_policy = [f"{line},{'left_out' if n == 0 else 30 * (n > 2)}" for n, line in enumerate(lines)]
    (folder / "history.csv").write_text("\n".join(with_policy) + "\n")
    assert read_run(folder).is_pruned_epoch.tolist() == [False, False, True, True]


def test_full_data_is_estimated_by_the_tokens(pruned_dir, full_dir):
    run, full = read_run(pruned_dir), read_run(full_dir)
    assert full.seconds_full == pytest.approx(
        full.seconds - full.summary["seconds"]["score"] - full.summary["seconds"]["select"]
    )
    per_token = run.summary["seconds"]["train"] / run.summary["tokens_trained"]
    seconds = run.summary["seconds"]
    rest = seconds["evaluate"] + seconds["other"]
    assert run.seconds_full == pytest.approx(rest + per_token * full.summary["tokens_trained"])
    assert run.n_updates_full == full.summary["n_updates"]


def test_the_command_repeats_the_run(pruned_dir, tmp_path):
    run = read_run(pruned_dir)
    again = tmp_path / "again"
    words = shlex.split(run.command())
    assert words[:2] == ["dataprune", "train"]
    assert f"{pruned_dir}-again" in words
    assert run_cli(*words[1:], "--output-dir", again).exit_code == 0
    other = read_run(again)
    assert other.kept.equals(run.kept)
    assert other.summary["metrics"] == run.summary["metrics"]


@pytest.mark.parametrize("name", ["run.json", "history.csv", "kept.parquet", "scores.safetensors"])
def test_a_truncated_file_is_one_sentence_that_names_it(name, pruned_dir, tmp_path):
    folder = copy_of(pruned_dir, tmp_path / "run")
    whole = (folder / name).read_bytes()
    for size in (0, len(whole) // 2, len(whole) - 2):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(StateError, match=name):
            read_run(folder)


@pytest.mark.parametrize("name", ["history.csv", "kept.parquet"])
def test_a_missing_file_is_one_sentence(name, pruned_dir, tmp_path):
    folder = copy_of(pruned_dir, tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(StateError, match=f"{name} does not exist"):
        read_run(folder)


def test_files_of_two_runs_do_not_make_one(pruned_dir, joint_dir, tmp_path):
    for name in ("history.csv", "kept.parquet"):
        folder = copy_of(pruned_dir, tmp_path / name)
        (folder / name).write_bytes((joint_dir / name).read_bytes())
        with pytest.raises(StateError, match="is damaged"):
            read_run(folder)


def test_json_of_something_else_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(StateError, match="was not written by dataprune train"):
        read_run(tmp_path)
