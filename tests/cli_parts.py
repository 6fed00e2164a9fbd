"""What the tests of the command line share: running it in this process or as a real one, and files to run it on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from typer.testing import CliRunner

from dataprune.cli import app

RUN_KEYS = {
    *("metrics", "best_epoch", "seconds", "n_examples", "n_updates", "n_updates_planned", "examples_trained"),
    *("tokens_trained", "tokens_scored", "compute_fraction", "config", "data_path", "train_hash", "pruner"),
    *("versions", "seed", "notes"),
}


def read_history(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def run_cli(*words):
    """Run the command line in this process; a traceback would show as an exception of the result."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def start_process(*words, **options):
    """Start ``python -m dataprune`` as a user would."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dataprune", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sentence(row):
    """Row of a joint data set: three intents, five tags, and a word of its own."""
    intent, words = [("flight", "fly to"), ("fare", "what costs"), ("ground", "taxi in")][row % 3]
    city = [["boston"], ["new", "york"], ["san", "francisco"]][row // 3 % 3]
    return {
        "tokens": [*words.split(), *city, "on", ["monday", "friday"][row % 2]],
        "intent": intent,
        "slots": ["O", "O", "B-city", *["I-city"] * (len(city) - 1), "O", "B-day"],
    }


def write_joint(folder, n=90):
    for split, size in {"train": n, "valid": 18, "test": 18}.items():
        write_rows(folder / f"{split}.jsonl", [sentence(row) for row in range(size)])
    return folder


def write_texts(folder, n=90):
    """A classification data set without a valid split; test has a label that train lacks."""
    rows = [{"text": " ".join(s["tokens"]), "label": s["intent"]} for s in map(sentence, range(n))]
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "test.jsonl", [*rows[:9], {"text": "hello", "label": "greeting"}])
    return folder


def train_words(data, model, output_dir, *more):
    """Words of a small run; later ones replace earlier ones."""
    words = ["train", "--data", data, "--model", model, "--output-dir", output_dir, "--max-length-tokens", 32]
    return [*words, "--n-epochs", 3, "--batch-size", 8, "--learning-rate", 0.01, *more]


def await_checkpoint(folder, epoch, *, seconds=120):
    """Wait until the checkpoint of `epoch` is whole."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = list(Path(folder, "checkpoints").glob("checkpoint-*/pruner.safetensors"))
        if any(int(path.parent.name.split("-")[1]) >= epoch for path in found):
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of epoch {epoch} in {folder}")


def press_ctrl_c_after(folder, epoch):
    """Send this process SIGINT, from another thread, once the checkpoint of `epoch` is there."""

    def press():
        await_checkpoint(folder, epoch)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def copy_of(folder, target):
    """Copy a folder, so that one unfinished run serves several tests."""
    shutil.copytree(folder, target)
    return target
