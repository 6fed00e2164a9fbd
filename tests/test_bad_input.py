"""Each kind of bad input gets one clear sentence: as an error of ours from the library, in red on the command line."""

import json
import os
import resource
import subprocess

import numpy as np
import pytest
import torch
from cli_parts import (
    press_ctrl_c_after,
    run_cli,
    sentence,
    start_process,
    train_words,
    write_joint,
    write_rows,
    write_texts,
)
from datasets import ClassLabel, Dataset, Features, Value
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from transformers import BertModel, T5Config, T5ForConditionalGeneration

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK, build_model, load_data
from dataprune.data.tasks import JointNLUTask
from dataprune.errors import (
    DataError,
    DataPruneError,
    InvalidTypeError,
    InvalidValueError,
    OutputError,
    StateError,
    TrainingInterrupted,
)
from dataprune.runs.config import RunConfig
from dataprune.runs.run import run

FULL_DISK_BYTES = 64 * 1024


def config(data, model, output_dir, **changes):
    """The library's form of `train_words`."""
    settings = {"max_length_tokens": 32, "n_epochs": 3, "batch_size": 8, "learning_rate": 0.01, **changes}
    return RunConfig(data=str(data), model=str(model), output_dir=str(output_dir), **settings)


def fails(done, *parts, exit_code=1):
    """Assert one sentence on standard error, nothing on standard output, and the exit code."""
    assert (done.exit_code, done.stdout) == (exit_code, ""), done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    for part in parts:
        assert part in done.stderr
    return done.stderr


def blobs(n=24):
    """Points of two classes."""
    labels = torch.arange(n) % 2
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) + 2 * labels[:, None], labels


def fit(dataset, model=None, **keywords):
    torch.manual_seed(0)
    return DynamicPruner(EL2N(), TopK(), CyclicScheduler()).fit(
        dataset, model=nn.Linear(4, 2) if model is None else model, **{"n_epochs": 3, "batch_size": 6, **keywords}
    )


# ---------------------------------------------------------------------- data files: (spoil the folder, what is said)


def remove_train(folder):
    (folder / "train.jsonl").unlink()


def empty_test(folder):
    (folder / "test.jsonl").write_text("")


def only_one_class(folder):
    write_rows(folder / "train.jsonl", [{**sentence(row), "intent": "flight"} for row in range(30)])


def one_tag_too_few(folder):
    rows = [sentence(row) for row in range(30)]
    rows[17]["slots"].pop()
    write_rows(folder / "train.jsonl", rows)


def broken_line(folder):
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"tokens": ["fly"\n')


BAD_FILES = {
    "no train split": (remove_train, ("train",)),
    "empty split": (empty_test, ("test", "rows")),
    "one class only": (only_one_class, ("'intent'", "at least 2 classes", "'flight'")),
    "one tag too few": (one_tag_too_few, ("Row 17", "train.jsonl", "one tag per token")),
    "broken line": (broken_line, ("train.jsonl", "91")),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path, tiny_encoder_dir, kind):
    spoil, parts = BAD_FILES[kind]
    spoil(write_joint(tmp_path / "data"))
    with pytest.raises(DataError) as error:
        load_data(tmp_path / "data")
    said = fails(run_cli(*train_words(tmp_path / "data", tiny_encoder_dir, tmp_path / "run")), *parts)
    assert str(error.value) in said


def test_a_missing_file(tmp_path, tiny_encoder_dir):
    missing = tmp_path / "nowhere"
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_data(missing)
    fails(run_cli(*train_words(missing, tiny_encoder_dir, tmp_path / "run")), f"{missing} does not exist")


def test_an_unknown_column(tmp_path, tiny_encoder_dir):
    data = write_texts(tmp_path / "data")
    with pytest.raises(DataError, match=r"must have the column 'said' \(text\), got 'text', 'label'"):
        load_data(data, columns={"text": "said"})
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", "--column", "text=said")
    fails(run_cli(*words), "must have the column 'said' (text), got 'text', 'label'", "--column text=")


def test_labels_out_of_range(tmp_path, tiny_encoder_dir):
    points, _ = blobs()
    for label in (2, -1):
        with pytest.raises(InvalidValueError, match=rf"'labels' must be in \[0, 2\) or -100, got {label}"):
            fit(TensorDataset(points, torch.full((24,), label)))
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b"] * 9 + ["c"], "label": [0, 1] * 9 + [-1]}, features=features)
    rows.save_to_disk(tmp_path / "data")
    fails(run_cli(*train_words(tmp_path / "data", tiny_encoder_dir, tmp_path / "run")), "'label'", "-1")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(tmp_path, tiny_encoder_dir, tokenizer, bad):
    points, labels = blobs()
    points[7, 0] = bad
    model = nn.Linear(4, 2)
    with pytest.raises(
        InvalidValueError, match=r"The loss of example 7 is nan in epoch 0; the weights are those before"
    ):
        fit(TensorDataset(points, labels), model)
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())

    encoder = BertModel.from_pretrained(tiny_encoder_dir, add_pooling_layer=False)
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("denver")] = bad
    encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    data = write_joint(tmp_path / "data")
    rows = [sentence(row) for row in range(30)]
    rows[11]["tokens"][2] = "denver"
    write_rows(data / "train.jsonl", rows)
    fails(
        run_cli(*train_words(data, tmp_path / "encoder", tmp_path / "run")), "The loss of example 11 is nan in epoch 0"
    )


@pytest.mark.parametrize("keep_fraction", [0, 1.5, "half"])
def test_a_keep_fraction_out_of_range(tmp_path, tiny_encoder_dir, keep_fraction):
    points, labels = blobs()
    pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=keep_fraction))
    with pytest.raises(DataPruneError, match=r"CyclicScheduler.keep_fraction must be (a number )?in \(0, 1\]"):
        pruner.fit(TensorDataset(points, labels), model=nn.Linear(4, 2), n_epochs=2)
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    with pytest.raises(DataPruneError, match="keep_fraction must be"):
        run(config(data, tiny_encoder_dir, out, keep_fraction=keep_fraction))
    for words in (train_words(data, tiny_encoder_dir, out), ["plan", "--n-examples", 9]):
        fails(run_cli(*words, "--keep-fraction", keep_fraction), "--keep-fraction", exit_code=2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("n-epochs", 0), ("batch-size", 0), ("n-accumulation", 0), ("learning-rate", 0), ("learning-rate", "nan")),
        *(
            ("max-length-tokens", 0),
            ("seed", -1),
            ("n-warmup-epochs", 0),
            ("n-warmup-epochs", -1),
            ("n-cycle-epochs", 0),
        ),
        *(("task", "translation"), ("scorer", "best"), ("selector", "best"), ("refresh", "1.0")),
        *(("lr-schedule", "up"), ("mixed-precision", "fp8"), ("n-full-final-epochs", -1)),
    ],
)
def test_other_settings_out_of_range(tmp_path, option, value):
    fails(
        run_cli(*train_words(tmp_path / "data", tmp_path / "model", tmp_path / "run", f"--{option}", value)),
        f"--{option} must",
        exit_code=2,
    )
    assert not (tmp_path / "run").exists()


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(*blobs(), strict=True)


def test_a_stream_of_examples():
    for refused in (lambda: fit(Stream()), lambda: DynamicPruner(EL2N()).attach(DataLoader(Stream(), 4), n_epochs=2)):
        with pytest.raises(InvalidTypeError, match=r"IterableDataset|Stream"):
            refused()
    rows = Dataset.from_dict({"x": [1, 2], "labels": [0, 1]})
    with pytest.raises(InvalidTypeError, match="IterableDataset"):
        fit(rows.to_iterable_dataset())


def test_a_seq2seq_model(tmp_path, tokenizer):
    small = T5Config(vocab_size=len(tokenizer), d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    model = T5ForConditionalGeneration(small)
    model.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    rows = [{"input_ids": torch.tensor([1, 2]), "labels": torch.tensor([1, 2])}] * 8
    with pytest.raises(InvalidTypeError, match="Seq2Seq"):
        fit(rows, model)
    data = write_joint(tmp_path / "data")
    with pytest.raises(InvalidTypeError, match="Seq2Seq"):
        build_model(JointNLUTask(max_length_tokens=32).fit(load_data(data).splits["train"]), tmp_path / "t5")
    fails(run_cli(*train_words(data, tmp_path / "t5", tmp_path / "run")), "must be a text encoder", "Seq2Seq")


# ---------------------------------------------------------------------- going on with a run


@pytest.fixture
def unfinished(tmp_path, tiny_encoder_dir):
    """Words of a run that was stopped by Ctrl-C, with its data and output folder."""
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    words = train_words(data, tiny_encoder_dir, out, "--n-epochs", 20)
    thread = press_ctrl_c_after(out, 1)
    done = run_cli(*words)
    thread.join()
    assert done.exit_code == 130
    assert done.stderr == f"Interrupted; the state is saved in {out}. Go on with the same command and --resume.\n"
    return words, data, out


def change_a_word(data):
    text = (data / "train.jsonl").read_text()
    (data / "train.jsonl").write_text(text.replace("boston", "dallas", 1))


def drop_a_row(data):
    lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
    (data / "train.jsonl").write_text("".join(lines[:-1]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_a_word, "was saved for other data"),
        (drop_a_row, "was saved for 90 examples, but the attached dataset has 89"),
    ],
)
def test_data_that_changed_before_a_resume(unfinished, change, said):
    words, data, _ = unfinished
    change(data)
    fails(run_cli(*words, "--resume"), said)


def test_data_that_changed_before_a_resume_of_fit(tmp_path):
    points, labels = blobs()
    fit(TensorDataset(points, labels), checkpoint_dir=tmp_path)
    with pytest.raises(StateError, match="was saved for other data"):
        fit(TensorDataset(points + 1, labels), checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(StateError, match="was saved for 24 examples, but the attached dataset has 20"):
        fit(TensorDataset(points[:20], labels[:20]), checkpoint_dir=tmp_path, resume=True)


CHECKPOINT_FILES = ("pruner.safetensors", "model.safetensors", "optimizer.safetensors", "loop.json")


def truncate(folder, name):
    (path,) = folder.glob(f"checkpoint-*/{name}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_checkpoint(unfinished):
    words, _, out = unfinished
    for name in CHECKPOINT_FILES:  # each is read before the next
        truncate(out / "checkpoints", name)
    for name in CHECKPOINT_FILES[:1]:
        fails(run_cli(*words, "--resume"), name, "damaged")


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
def test_a_truncated_checkpoint_of_fit(tmp_path, name):
    data = TensorDataset(*blobs())
    fit(data, checkpoint_dir=tmp_path)
    truncate(tmp_path, name)
    with pytest.raises(StateError, match=f"{name} is damaged"):
        fit(data, checkpoint_dir=tmp_path, resume=True)


def test_ctrl_c_of_fit(tmp_path):
    thread = press_ctrl_c_after(tmp_path.parent / tmp_path.name, 1)
    with pytest.raises(TrainingInterrupted, match=r"its state is in .*checkpoint-.*resume=True"):
        fit(TensorDataset(*blobs()), n_epochs=2000, checkpoint_dir=tmp_path / "checkpoints")
    thread.join()


# ---------------------------------------------------------------------- folders that cannot be written


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_an_output_folder_that_cannot_be_made(tmp_path, tiny_encoder_dir, place):
    data = write_joint(tmp_path / "data")
    out = data / "train.jsonl" if place == "a file" else data / "train.jsonl" / "run"
    with pytest.raises(OutputError, match="could not be written"):
        run(config(data, tiny_encoder_dir, out))
    fails(run_cli(*train_words(data, tiny_encoder_dir, out)), f"{out} could not be written", "another folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission(tmp_path, tiny_encoder_dir):
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    out.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        run(config(data, tiny_encoder_dir, out))
    fails(run_cli(*train_words(data, tiny_encoder_dir, out)), f"{out}/run.toml could not be written: Permission denied")


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 64 KB: room for the configuration, not for a checkpoint."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path, tiny_encoder_dir, full_disk):
    data = write_joint(tmp_path / "data")
    out = full_disk / "run"
    fails(run_cli(*train_words(data, tiny_encoder_dir, out)), str(out), "No space left on device", "another folder")
    assert not list(full_disk.rglob("*.part"))
    with pytest.raises(OutputError, match="No space left on device"):
        run(config(data, tiny_encoder_dir, full_disk / "other"))


def test_a_file_that_may_not_grow(tmp_path, tiny_encoder_dir):
    """Where nothing can be mounted, a limit on file sizes makes writing fail just as late."""
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    process = start_process(*train_words(data, tiny_encoder_dir, out), preexec_fn=limit_files)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert "could not be written: File too large" in stderr
    assert len(stderr.splitlines()) == 1
    assert not list(out.rglob("*.part"))


def test_a_store_that_cannot_be_written_stays_whole(tmp_path):
    data = TensorDataset(*blobs())
    pruner = fit(data)
    scores = pruner.scorer_.scores_.copy()
    with pytest.raises(OutputError, match="could not be written"):
        pruner.save(tmp_path / "missing" / "pruner.safetensors")
    np.testing.assert_array_equal(pruner.scorer_.scores_, scores)
    assert json.dumps(pruner.history_.to_list())
