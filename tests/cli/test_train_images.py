"""``dataprune train`` on images: folders, arrays, the small network and any other; from files to files."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cli_parts import run_cli
from PIL import Image
from sklearn.datasets import load_digits

from dataprune.data.loading import load_data
from dataprune.data.reading import read_file
from dataprune.data.tasks import load_task
from dataprune.models import build_model
from dataprune.runs.config import RunConfig
from dataprune.runs.run_file import write_run_file
from dataprune.training.evaluation import evaluate

DIGITS = load_digits()
PARTS = {"train": slice(0, 300), "valid": slice(300, 400), "test": slice(400, 500)}


def write_arrays(folder):
    folder.mkdir()
    for split, part in PARTS.items():
        np.savez(folder / f"{split}.npz", images=DIGITS.images[part], labels=DIGITS.target[part])
    return folder


def write_images(folder):
    for split, part in PARTS.items():
        for row, (pixels, label) in enumerate(zip(DIGITS.images[part], DIGITS.target[part], strict=True)):
            path = folder / split / f"digit {label}" / f"{row:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15).astype(np.uint8)).save(path)
    return folder


def train_words(data, output_dir, *more):
    words = ["train", "--data", data, "--model", "small-cnn", "--output-dir", output_dir, "--n-epochs", 4]
    return [*words, "--learning-rate", 0.003, "--batch-size", 16, "--keep-fraction", 0.5, "--json", *more]


@pytest.mark.parametrize("write", [write_arrays, write_images])
def test_a_run_is_written_and_predicts_the_same_when_loaded_again(tmp_path, write):
    data = write(tmp_path / "data")
    done = run_cli(*train_words(data, tmp_path / "run"))
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["metrics"]["test"]) == ["accuracy", "macro_f1"]
    assert result["metrics"]["test"]["accuracy"] > 0.5  # chance: 0.1
    assert result["examples_trained"] == result["tokens_trained"] == 300 + 3 * 150
    assert "scorer=EL2N()" in result["pruner"]
    scores = pq.read_table(tmp_path / "run" / "kept.parquet")["score"].to_numpy()
    assert len(np.unique(scores)) > 200
    folder = tmp_path / "run" / "model"
    task = load_task(json.loads((folder / "task.json").read_text()))
    encoded = task.encode(load_data(data).splits["test"])
    again = evaluate(encoded, build_model(task, folder), metrics=task.metrics, collate_fn=task.collator())
    assert again == pytest.approx(result["metrics"]["test"])


def test_any_torch_model_by_the_name_of_its_maker(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n\n\n"
        "def make(n_classes, in_channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, n_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    data = write_arrays(tmp_path / "data")
    done = run_cli(*train_words(data, tmp_path / "run", "--model", "my_models:make", "--scorer", "aum"))
    assert done.exit_code == 0, done.stderr
    measured = json.loads(done.stdout)["metrics"]["test"]
    folder = tmp_path / "run" / "model"
    task = load_task(json.loads((folder / "task.json").read_text()))
    encoded = task.encode(load_data(data).splits["test"])
    again = evaluate(encoded, build_model(task, folder), metrics=task.metrics, collate_fn=task.collator())
    assert again == pytest.approx(measured)
    further = run_cli(*train_words(data, tmp_path / "further", "--model", folder, "--n-epochs", 2))
    assert further.exit_code == 0, further.stderr
    assert json.loads(further.stdout)["metrics"]["test"]["accuracy"] > measured["accuracy"] - 0.1


def test_the_scores_of_a_run_choose_among_image_files(tmp_path):
    data = write_images(tmp_path / "data")
    run_cli(*train_words(data, tmp_path / "run", "--n-epochs", 2))
    words = ["--scores", tmp_path / "run" / "kept.parquet", "--keep-fraction", 0.1, "--output", tmp_path / "hard.csv"]
    done = run_cli("select", data, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    kept = read_file(tmp_path / "hard.csv")
    assert len(kept) == 30
    assert kept["image"][0].startswith(str(data / "train" / "digit "))
    words = ["--selector", "class-balanced", "--n-epochs", 2, "--image-size", 12]
    again = run_cli(
        *train_words(tmp_path / "hard.csv", tmp_path / "again", *words)
    )  # a table of paths is a data set too
    assert again.exit_code == 0, again.stderr
    task = load_task(json.loads((tmp_path / "again" / "model" / "task.json").read_text()))
    assert task.shape_ == [1, 12, 12]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--model", "resnet"], 1, "must be 'small-cnn', 'module:name' or a folder that dataprune wrote, got 'resnet'"),
        (["--model", "torch.nn:Missing"], 1, "cannot be imported: module 'torch.nn' has no attribute 'Missing'"),
        (["--model", "no_such_module:make"], 1, "cannot be imported: No module named 'no_such_module'"),
        (["--model", "collections:Counter"], 1, "must make a torch.nn.Module, got Counter"),
        (["--model", "torch.nn:Conv2d"], 1, "'torch.nn:Conv2d' cannot be made: "),
        (["--image-size", "0"], 2, "--image-size must be at least 1, got 0"),
        (["--selector", "k-center"], 1, "ImageClassificationTask has no texts, got a method that reads them"),
        *((["--recipe", name], 1, "has no texts, got a method") for name in ("scdp", "deft_ucs", "active_inheritance")),
        (["--task", "classification"], 1, "needs a column 'text'"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, words, code, sentence):
    data = write_arrays(tmp_path / "data")
    extra = ["--keep-fraction", "0.5"] if "--recipe" not in words else []
    base = ["train", "--data", data, "--model", "small-cnn", "--output-dir", tmp_path / "run", "--n-epochs", 2]
    done = run_cli(*base, *extra, *words)
    assert done.exit_code == code, done.stderr
    assert sentence in " ".join(done.stderr.split())


@pytest.mark.parametrize(("write", "shown"), [(write_arrays, "digits"), (write_images, "001.png")])
def test_a_run_is_shown_on_a_page(tmp_path, write, shown):
    data = write(tmp_path / "digits")
    run_cli(*train_words(data, tmp_path / "run", "--n-epochs", 2))
    done = run_cli("report", tmp_path / "run", "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.stderr
    assert shown in (tmp_path / "page.html").read_text()


def test_a_model_of_other_classes_is_refused(tmp_path):
    data = write_arrays(tmp_path / "data")
    run_cli(*train_words(data, tmp_path / "run", "--n-epochs", 1, "--keep-fraction", 1))
    two = DIGITS.target < 2
    np.savez(tmp_path / "two.npz", x_train=DIGITS.images[two], y_train=DIGITS.target[two])
    done = run_cli(*train_words(tmp_path / "two.npz", tmp_path / "other", "--model", tmp_path / "run" / "model"))
    assert done.exit_code == 1
    assert "is for 10 classes and 1 channels, the data have 2 and 1" in done.stderr


def test_a_model_starts_from_the_seed(tmp_path):
    task = load_task(
        {
            "name": "image-classification",
            "columns": None,
            "image_size": None,
            "labels": {"": ["a", "b"]},
            "unseen_labels": {"": []},
            "shape_": [3, 9, 9],
            "mean_": [0.0] * 3,
            "std_": [1.0] * 3,
        }
    )
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(build_model(task, "small-cnn")(torch.ones(1, 3, 9, 9)).logits)
    torch.testing.assert_close(*outputs)


def test_the_architecture_search_recipe_finds_a_network_and_trains_it(tmp_path):
    data, out = write_arrays(tmp_path / "data"), tmp_path / "run"
    words = ["--model", "small-supernet", "--recipe", "bilevel_architecture_search"]
    # An attempt with other settings, broken off before its first checkpoint, left what it had found.
    out.mkdir()
    write_run_file(out / "run.toml", RunConfig(data="other", model="small-supernet", output_dir=str(out)))
    (out / "architecture.json").write_text('{"chosen": ["odd"], "of_a_full_search": 1.0}')
    plain = ["train", "--data", data, "--n-epochs", 3, "--learning-rate", 0.003, "--batch-size", 16, "--json"]
    done = run_cli(*plain, *words, "--output-dir", out)
    assert done.exit_code == 0, done.stderr
    found = json.loads((out / "architecture.json").read_text())
    assert len(found["chosen"]) == 3
    assert found["examples_trained"] == [150 + 2 * 75] * 2  # two halves, half of each after the first epoch
    result = json.loads(done.stdout)
    assert result["examples_trained"] == 3 * 300  # the network that was found, on everything
    assert result["metrics"]["test"]["accuracy"] > 0.5
    assert ", ".join(found["chosen"]) in result["notes"][-1]
    task = load_task(json.loads((out / "model" / "task.json").read_text()))
    assert build_model(task, out / "model").config.chosen == found["chosen"]


def test_a_search_in_a_network_without_a_choice_is_refused(tmp_path):
    data = write_arrays(tmp_path / "data")
    words = ["train", "--data", data, "--model", "small-cnn", "--recipe", "bilevel_architecture_search"]
    done = run_cli(*words, "--output-dir", tmp_path / "run")
    assert done.exit_code == 1
    assert "searches in 'small-supernet', got the model 'small-cnn'" in done.stderr


def test_the_images_that_a_model_finds_hard_are_scored(tmp_path):
    data = write_images(tmp_path / "data")
    assert run_cli(*train_words(data, tmp_path / "run")).exit_code == 0
    done = run_cli("score", data, "--scorer", "loss", "--model", tmp_path / "run", "--output", tmp_path / "s.parquet")
    assert done.exit_code == 0, done.stderr
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 300
    assert "Highest scores" in done.stdout
