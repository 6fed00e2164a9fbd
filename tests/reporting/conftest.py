"""Finished runs of a tiny encoder, made once: on texts that try to break the page, on full data, and on joint data."""

import json

import pytest
from cli_parts import run_cli, sentence, train_words, write_joint, write_rows

HOSTILE_TEXT = (
    "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'> </script> 100 % \"said\" & done"
)
HOSTILE_CLASS = '<b>$fare$ & "more" 価格'


def train(data, model, output_dir, *more):
    done = run_cli(*train_words(data, model, output_dir, "--json", *more))
    assert done.exit_code == 0, done.stderr
    return output_dir


@pytest.fixture(scope="session")
def texts_dir(tmp_path_factory):
    """120 texts of three classes; row 5 holds markup, and one class is named in a hostile way."""
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"text": " ".join(s["tokens"]), "label": s["intent"]} for s in map(sentence, range(120))]
    rows = [{**row, "label": HOSTILE_CLASS if row["label"] == "fare" else row["label"]} for row in rows]
    rows[5]["text"] = HOSTILE_TEXT
    write_rows(folder / "train.jsonl", rows)
    write_rows(folder / "valid.jsonl", rows[6:36])
    write_rows(folder / "test.jsonl", rows[60:90])
    return folder


@pytest.fixture(scope="session")
def pruned_dir(tmp_path_factory, texts_dir, tiny_encoder_dir):
    """A run that keeps half after one epoch, with training dynamics. Do not write into it."""
    words = ["--scorer", "confidence", "--n-epochs", 4, "--seed", 3]
    return train(texts_dir, tiny_encoder_dir, tmp_path_factory.mktemp("runs") / "pruned", *words)


@pytest.fixture(scope="session")
def full_dir(tmp_path_factory, texts_dir, tiny_encoder_dir):
    """A run on the same data that leaves nothing out. Do not write into it."""
    words = ["--keep-fraction", 1, "--n-epochs", 4, "--seed", 3]
    return train(texts_dir, tiny_encoder_dir, tmp_path_factory.mktemp("runs") / "full", *words)


@pytest.fixture(scope="session")
def joint_dir(tmp_path_factory, tiny_encoder_dir):
    """A joint run without scores. Do not write into it."""
    data = write_joint(tmp_path_factory.mktemp("joint"))
    words = ["--recipe", "dynamic_random", "--n-epochs", 3]
    return train(data, tiny_encoder_dir, tmp_path_factory.mktemp("runs") / "joint", *words)


@pytest.fixture
def change_summary():
    """Return a function that edits the run.json of a folder."""

    def change(folder, **values):
        summary = json.loads((folder / "run.json").read_text())
        for name, value in values.items():
            part, _, key = name.partition("__")
            if key:
                summary[part][key] = value
            else:
                summary[name] = value
        (folder / "run.json").write_text(json.dumps(summary))

    return change
