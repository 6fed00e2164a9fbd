"""``dataprune train`` on each task: guessed, trained, scored by its own error norm, written and loaded again."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_parts import run_cli, sentence, train_words, write_rows
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from dataprune.data.tasks import load_task


def pairs(row):
    words = " ".join(sentence(row)["tokens"])
    return {
        "sentence1": words,
        "sentence2": " ".join(sentence(row + row % 2)["tokens"]),
        "label": ["same", "other"][row % 2],
    }


def topics(row):
    found = sentence(row)
    return {
        "text": " ".join(found["tokens"]),
        "labels": sorted({tag[2:] for tag in found["slots"] if tag != "O"} | {found["intent"]}),
    }


def lengths(row):
    tokens = sentence(row)["tokens"]
    return {"text": " ".join(tokens), "score": len(tokens) / 2}


def tags(row):
    found = sentence(row)
    return {"tokens": found["tokens"], "tags": found["slots"]}


TASKS = {
    "classification": (pairs, "accuracy", "EL2N()", AutoModelForSequenceClassification),
    "multi-label": (topics, "micro_f1", "MultiLabelEL2N()", AutoModelForSequenceClassification),
    "regression": (lengths, "pearson", "RegressionError()", AutoModelForSequenceClassification),
    "token-classification": (tags, "span_f1", "EL2N()", AutoModelForTokenClassification),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_each_task(tmp_path, tiny_encoder_dir, task):
    make_row, metric, scorer, model_class = TASKS[task]
    for split, size in (("train", 60), ("valid", 12), ("test", 12)):
        write_rows(tmp_path / "data" / f"{split}.jsonl", [make_row(row) for row in range(size)])
    out = tmp_path / "run"
    done = run_cli(*train_words(tmp_path / "data", tiny_encoder_dir, out, "--n-epochs", 3, "--json"))
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert next(iter(result["metrics"]["test"])) == metric
    assert all(-1 <= value <= 1 for value in result["metrics"]["test"].values())
    assert f"scorer={scorer}" in result["pruner"]
    scores = pq.read_table(out / "kept.parquet")["score"].to_numpy()
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 5
    model_class.from_pretrained(out / "model")
    assert load_task(json.loads((out / "model" / "task.json").read_text())).name == task
    class_balanced = run_cli(
        *train_words(tmp_path / "data", tiny_encoder_dir, tmp_path / "other", "--selector", "class-balanced")
    )
    if task == "classification":
        assert class_balanced.exit_code == 0, class_balanced.stderr
    else:
        assert class_balanced.exit_code == 1
        assert "ClassBalanced needs labels" in class_balanced.stderr
