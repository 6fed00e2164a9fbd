"""An interrupted ``dataprune train``, resumed, equals one that was not."""

import json
import signal

import pytest
from cli_parts import (
    RUN_KEYS,
    await_checkpoint,
    press_ctrl_c_after,
    read_history,
    run_cli,
    start_process,
    train_words,
    write_joint,
)

MORE = ("--n-epochs", 12, "--batch-size", 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_joint(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(data, tiny_encoder_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_cli(*train_words(data, tiny_encoder_dir, out, *MORE)).exit_code == 0
    return out


def check_same(resumed, whole):
    for name in ("model/model.safetensors", "model/task.json", "kept.parquet", "scores.safetensors"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    runs = [json.loads((folder / "run.json").read_text()) for folder in (resumed, whole)]
    for key in RUN_KEYS - {"seconds", "config"}:
        assert runs[0][key] == runs[1][key], key
    counts = [
        [{k: v for k, v in row.items() if not k.endswith("_s")} for row in read_history(folder)]
        for folder in (resumed, whole)
    ]
    assert counts[0] == counts[1]


def test_a_run_equals_the_uninterrupted_one_after_kill_9(tmp_path, data, tiny_encoder_dir, whole):
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE)
    process = start_process(*words)
    await_checkpoint(tmp_path / "run", 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "run.json").exists()
    assert run_cli(*words, "--resume").exit_code == 0
    check_same(tmp_path / "run", whole)


def test_a_second_process_stays_out_of_a_folder(tmp_path, data, tiny_encoder_dir):
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE)
    process = start_process(*words)
    try:
        await_checkpoint(tmp_path / "run", 1)
        process.send_signal(signal.SIGSTOP)
        done = run_cli(*words, "--resume")
    finally:
        process.kill()
        process.communicate()
    assert done.exit_code == 1
    assert f"A run is at work in {tmp_path / 'run'}. Wait for its end" in " ".join(done.stderr.split())
    assert run_cli(*words, "--resume").exit_code == 0  # the lock went with the process
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_equals_the_uninterrupted_one_after_ctrl_c_of_a_process(tmp_path, data, tiny_encoder_dir, whole):
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE)
    process = start_process(*words)
    await_checkpoint(tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err == (f"Interrupted; the state is saved in {tmp_path}/run. Go on with the same command and --resume.\n")
    assert run_cli(*words, "--resume").exit_code == 0
    check_same(tmp_path / "run", whole)


def test_a_run_goes_on_in_a_folder_that_was_moved(tmp_path, data, tiny_encoder_dir, whole):
    thread = press_ctrl_c_after(tmp_path / "run", 4)
    assert run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE)).exit_code == 130
    thread.join()
    (tmp_path / "run").rename(tmp_path / "moved")
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "moved", *MORE, "--resume"))
    assert done.exit_code == 0, done.stderr
    check_same(tmp_path / "moved", whole)


def test_resuming_nothing_starts_anew(tmp_path, data, tiny_encoder_dir, whole):
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE, "--resume"))
    assert done.exit_code == 0
    check_same(tmp_path / "run", whole)


def test_resuming_is_needed_for_an_unfinished_run(tmp_path, data, tiny_encoder_dir):
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", *MORE)
    thread = press_ctrl_c_after(tmp_path / "run", 0)
    assert run_cli(*words).exit_code == 130
    thread.join()
    again = run_cli(*words)
    assert again.exit_code == 1
    assert again.stderr == (
        f"Error: The folder {tmp_path}/run holds an unfinished run. "
        "Go on with --resume, or choose another --output-dir.\n"
    )
    other = run_cli(*words, "--seed", 5, "--resume")
    assert other.exit_code == 1
    assert "was started with seed=0, now it is 5" in other.stderr


def test_resuming_never_overwrites_a_finished_run(data, tiny_encoder_dir, whole):
    before = (whole / "run.json").read_bytes()
    for more in ((), ("--resume",)):
        done = run_cli(*train_words(data, tiny_encoder_dir, whole, *MORE, *more))
        assert done.exit_code == 1
        assert "already holds a finished run" in done.stderr
    assert (whole / "run.json").read_bytes() == before
