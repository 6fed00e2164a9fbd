"""`dataprune score --model RUN`: what a trained model finds hard in a file, for every task, and what is refused."""

import json

import numpy as np
import pytest
from cli_parts import run_cli, train_words, write_joint, write_rows, write_texts

from dataprune import Loss, build_model, load_split, load_tokenizer
from dataprune.data.reading import read_file
from dataprune.data.tasks import load_task
from dataprune.runs.scoring import MODEL_SCORERS, score_by_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_encoder_dir):
    """Runs of two tasks: name -> folder of the data, folder of the run."""
    folder = tmp_path_factory.mktemp("trained")
    made = {}
    for name, write in {"texts": write_texts, "joint": write_joint}.items():
        data = write(folder / name)
        done = run_cli(*train_words(data, tiny_encoder_dir, folder / f"{name}-run"))
        assert done.exit_code == 0, done.stderr
        made[name] = data, folder / f"{name}-run"
    return made


def test_the_losses_are_those_of_the_library(trained, tmp_path):
    data, run = trained["texts"]
    done = run_cli("score", data, "--scorer", "loss", "--model", run, "--output", tmp_path / "s.parquet", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    task = load_task(json.loads((run / "model" / "task.json").read_text()))
    tokenizer = load_tokenizer(run / "model")
    encoded = task.encode(load_split(data)[0], tokenizer)
    model = build_model(task, run / "model")
    expected = Loss().fit(encoded, model=model, collate_fn=task.collator(tokenizer)).scores_
    table = read_file(tmp_path / "s.parquet")
    np.testing.assert_allclose(table["score"][:], expected, rtol=1e-5)
    assert table["source_row"][:] == list(range(len(expected)))
    assert json.loads(done.stdout)["scorer"] == "Loss()"


@pytest.mark.parametrize("name", sorted(MODEL_SCORERS.keys() - {"joint-el2n", "multilabel-el2n", "regression-error"}))
def test_every_score_of_a_model_runs_and_the_hardest_row_is_shown(name, trained, tmp_path):
    data, run = trained["texts"]
    done = run_cli("score", data, "--scorer", name, "--model", run / "model", "--output", tmp_path / "s.csv")
    assert done.exit_code == 0, done.stderr
    scores = np.array(read_file(tmp_path / "s.csv")["score"][:])
    assert len(np.unique(scores)) > 1
    hardest = load_split(data)[0][int(scores.argmax())]["text"]
    assert hardest in " ".join(done.stdout.split())


def test_the_error_norm_is_that_of_the_model_s_task(trained, tmp_path):
    data, run = trained["joint"]
    done = run_cli("score", data / "train.jsonl", "--scorer", "margin", "--model", run, "-o", data / "no.csv")
    assert "'margin' is of one class among several, but" in done.stderr
    done = run_cli("score", data, "--scorer", "el2n", "--model", run, "--output", tmp_path / "s.csv", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["scorer"] == "JointEL2N()"
    words = ["--scorer", "el2n", "--model", run, "--output", tmp_path / "t.csv", "--dry-run", "--json"]
    told = json.loads(run_cli("score", data, *words).stdout)
    assert (told["scorer"], told["text_column"], told["dry_run"]) == ("JointEL2N()", "tokens", True)
    assert not (tmp_path / "t.csv").exists()


def test_the_progress_is_told_up_to_the_last_row(trained):
    data, run = trained["texts"]
    told = []
    scores = score_by_model(str(data), "el2n", {}, model=str(run), progress=lambda *state: told.append(state)).scores
    assert [state[1] for state in told] == [64, len(scores)]
    assert told[-1] == ("Scoring", len(scores), 1.0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "The score 'el2n' needs a trained model. Pass --model with the folder of a run"),
        ("data", "must be the folder of a run of `dataprune train`, or the folder model/ in it"),
    ],
)
def test_a_model_that_no_run_has_saved_is_refused(model, message, trained, tmp_path):
    data, _ = trained["texts"]
    words = [] if model is None else ["--model", data]
    done = run_cli("score", data, "--scorer", "el2n", "--output", tmp_path / "s.csv", *words)
    assert done.exit_code == (2 if model is None else 1)
    assert message in done.stderr
    assert not (tmp_path / "s.csv").exists()


def test_labels_that_the_model_does_not_know_are_refused_where_they_count(trained, tmp_path):
    _, run = trained["texts"]
    write_rows(tmp_path / "new.jsonl", [{"text": "fly to boston", "label": "flight"}, {"text": "hi", "label": "hello"}])
    words = ["--model", run, "--output", tmp_path / "s.csv"]
    done = run_cli("score", tmp_path / "new.jsonl", "--scorer", "loss", *words)
    assert done.exit_code == 1
    assert "column 'label' has labels that the model does not know (hello). Correct or drop these rows." in done.stderr
    done = run_cli("score", tmp_path / "new.jsonl", "--scorer", "entropy", *words)
    assert done.exit_code == 0, done.stderr
