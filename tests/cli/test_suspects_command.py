"""`dataprune suspects`: from data to a review, from an edited review to corrected data, and what is refused."""

import json
import os
import signal

import pytest
from cli_parts import run_cli, train_words, write_joint, write_rows, write_texts
from suspects_parts import read_csv, save_encoder, write_csv

from dataprune import ClassificationTask, find_suspects, load_data, make_classification, make_joint_nlu
from dataprune.data.counting import count_updates
from dataprune.data.reading import read_file
from dataprune.errors import TrainingInterrupted
from dataprune.runs.demo import make_tokenizer
from dataprune.runs.suspects import count_training
from dataprune.training.checkpoint import Checkpoints

FAST = ["--n-epochs", 2, "--learning-rate", 0.01, "--batch-size", 8, "--max-length-tokens", 32]


@pytest.fixture
def tickets(tmp_path):
    rows = [{"id": i, **row} for i, row in enumerate(read_file(write_texts(tmp_path / "folder") / "train.jsonl"))]
    rows[4]["label"] = "ground"  # it is a fare
    write_rows(tmp_path / "tickets.jsonl", rows)
    return tmp_path / "tickets.jsonl"


@pytest.fixture(scope="module")
def noisy_joint(tmp_path_factory):
    """A file of joint data with 24 wrong intents, the right ones, and an encoder that can learn it."""
    folder = tmp_path_factory.mktemp("joint")
    clean = make_joint_nlu(240, redundant_fraction=0.9, noise_fraction=0.0, random_state=2).dataset.to_list()
    names = sorted({row["intent"] for row in clean})
    noisy = [dict(row) for row in clean]
    for row in range(0, 240, 10):
        noisy[row]["intent"] = names[(names.index(clean[row]["intent"]) + 1 + row // 10 % 7) % len(names)]
    write_rows(folder / "train.jsonl", noisy)
    return folder / "train.jsonl", clean, save_encoder(folder / "encoder", [row["tokens"] for row in clean])


def test_the_whole_way_round_gives_back_the_clean_intents(noisy_joint, tmp_path):
    data, clean, encoder = noisy_joint
    review, corrected = tmp_path / "suspects.csv", tmp_path / "corrected.jsonl"
    settings = ["--n-epochs", 16, "--learning-rate", 0.005, "--max-length-tokens", 64]
    done = run_cli("suspects", data, "--model", encoder, "--output", review, *settings)
    assert done.exit_code == 0, done.stderr
    lines = read_csv(review)
    assert f"{review} holds {len(lines)} lines" in " ".join(done.stdout.split())
    for line in lines:  # a person goes through it
        right = clean[int(line["source_row"])]["intent"]
        if line["column"] != "intent" or right == line["given_label"]:
            line["decision"] = "keep"
        elif right == line["suggested_label"]:
            line["decision"] = "accept"
        else:
            line["own_label"] = right
    write_csv(review, lines)
    told = run_cli("suspects", data, "--apply", review, "--output", corrected, "--json", "--dry-run")
    assert not corrected.exists()
    done = run_cli("suspects", data, "--apply", review, "--output", corrected, "--json")
    assert told.stdout == done.stdout
    assert (done.exit_code, done.stderr) == (0, "")
    rows = read_file(corrected).to_list()
    n_wrong = sum(row["intent"] != right["intent"] for row, right in zip(rows, clean, strict=True))
    assert n_wrong <= 4  # of 24
    assert json.loads(done.stdout)["corrected"] == 24 - n_wrong
    assert [(row["tokens"], row["slots"]) for row in rows] == [(row["tokens"], row["slots"]) for row in clean]


def test_the_review_of_a_file_covers_all_of_its_rows_and_is_told_as_json(tickets, tmp_path, tiny_encoder_dir):
    words = ["suspects", tickets, "--model", tiny_encoder_dir, *FAST, "--json"]
    done = run_cli(*words, "--output", tmp_path / "suspects.jsonl")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    lines = [json.loads(line) for line in (tmp_path / "suspects.jsonl").read_text().splitlines()]
    assert told["columns"]["label"]["n_labels"] == 90  # none is set aside to validate
    assert told["columns"]["label"]["n_lines"] == len(lines)
    assert set(lines[0]) >= {"source_row", "text", "given_label", "suggested_label", "score", "why", "decision"}
    data = read_file(tickets)
    assert all(data["text"][line["source_row"]] == line["text"] for line in lines)


@pytest.mark.parametrize("method", ["aum", "confident-learning"])
def test_as_many_suspects_are_listed_as_are_asked_for_the_worst_first(method, places, tmp_path):
    words = ["suspects", places["DATA"], "--model", places["MODEL"], *FAST, "--method", method]
    words += [] if method == "aum" else ["--n-folds", 2]
    review = tmp_path / "s.jsonl"
    done = run_cli(*words, "--n-suspects", 7, "--output", review, "--json")
    assert json.loads(done.stdout)["columns"]["label"] == {
        "n_labels": 90,
        "n_suspects": 7,
        "cutoff": None,
        "n_lines": 7,
    }
    scores = [json.loads(line)["score"] for line in review.read_text().splitlines()]
    assert scores == sorted(scores, reverse=True)
    assert run_cli(*words, "--n-suspects", 90, "--output", review).exit_code == 0
    every = sorted((json.loads(line)["score"] for line in review.read_text().splitlines()), reverse=True)
    assert scores == every[:7]


def test_confident_learning_writes_the_same_kind_of_review(tickets, tmp_path, tiny_encoder_dir):
    words = ["--method", "confident-learning", "--n-folds", 2, "--output", tmp_path / "s.csv"]
    done = run_cli("suspects", tickets, "--model", tiny_encoder_dir, *FAST, *words)
    assert done.exit_code == 0, done.stderr
    assert "models that did not train on the row" in (tmp_path / "s.csv").read_text("utf-8-sig")


@pytest.mark.parametrize(("method", "n_runs", "n_updates"), [("aum", 1, 2 * 12), ("confident-learning", 2, 2 * 2 * 6)])
def test_a_dry_run_says_what_would_be_trained(method, n_runs, n_updates, places, tmp_path):
    tickets = places["DATA"]
    words = ["suspects", tickets, "--model", places["MODEL"], *FAST, "--method", method, "--dry-run"]
    words += [] if method == "aum" else ["--n-folds", 2]
    done = run_cli(*words, "--output", tmp_path / "s.csv", "--json")
    told = {"data": str(tickets), "task": "classification", "method": method, "n_rows": 90, "n_epochs": 2}
    assert json.loads(done.stdout) == {**told, "n_runs": n_runs, "n_updates": n_updates}
    shown = " ".join(run_cli(*words, "--output", tmp_path / "s.csv").stdout.split())
    assert f"90 rows of the task classification. {method} trains {n_runs} run" in shown
    assert f"of 2 epochs, {n_updates} updates in all." in shown
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("method", ["aum", "confident-learning"])
def test_the_updates_of_a_dry_run_are_those_that_are_made(method, monkeypatch):
    made = []

    def fit(self, dataset, *, n_epochs, batch_size, **others):
        made.append(n_epochs * count_updates(len(dataset), batch_size))
        raise_on = 1 if method == "aum" else 3
        if len(made) == raise_on:
            raise TrainingInterrupted("enough")

    monkeypatch.setattr("dataprune.runs.suspects.DynamicPruner.fit", fit)
    monkeypatch.setattr("dataprune.runs.suspects.scoring_pass", lambda *_, **__: [])
    monkeypatch.setattr("dataprune.runs.suspects.build_model", lambda *_: None)
    monkeypatch.setattr("dataprune.runs.suspects.load_tokenizer", lambda _: make_tokenizer([["a", "b"]]))
    rows = make_classification(100).dataset
    settings = {"method": method, "n_epochs": 2, "batch_size": 8, "n_folds": 3}
    with pytest.raises(TrainingInterrupted):
        find_suspects(rows, ClassificationTask(), model="encoder/", **settings)
    assert count_training(100, **settings)["n_updates"] == sum(made)


def test_another_split_and_other_column_names_are_judged_and_corrected(tmp_path, tiny_encoder_dir):
    folder = write_joint(tmp_path / "data", 30)
    rows = [{"words": r["tokens"], "what": r["intent"], "tags": r["slots"]} for r in read_file(folder / "train.jsonl")]
    for split in ("train", "test"):
        write_rows(folder / f"{split}.jsonl", rows)
    (folder / "valid.jsonl").unlink()
    where = [folder, "--split", "test", "--column", "intent=what"]
    done = run_cli("suspects", *where, "--model", tiny_encoder_dir, *FAST, "--output", tmp_path / "s.csv")
    assert done.exit_code == 0, done.stderr
    lines = read_csv(tmp_path / "s.csv")
    write_csv(tmp_path / "s.csv", [{**lines[0], "decision": "drop"}])
    done = run_cli("suspects", *where, "--apply", tmp_path / "s.csv", "--output", tmp_path / "c.parquet")
    assert done.exit_code == 0, done.stderr
    assert "29 rows: 0 labels corrected, 1 row dropped" in done.stdout
    assert len(read_file(tmp_path / "c.parquet")) == 29


@pytest.fixture(scope="module")
def aum_run(tmp_path_factory, tiny_encoder_dir):
    folder = tmp_path_factory.mktemp("run")
    data = write_texts(folder / "data", 60)
    words = train_words(data, tiny_encoder_dir, folder / "run", "--scorer", "aum", "--keep-fraction", 0.8)
    assert run_cli(*words).exit_code == 0
    return folder


def test_a_run_with_training_dynamics_needs_no_training(aum_run, tmp_path):
    done = run_cli("suspects", aum_run / "run", "--output", tmp_path / "s.csv", "--json")
    assert done.exit_code == 0, done.stderr
    assert "The run left examples out in some epochs" in " ".join(done.stderr.split())
    rows = load_data(aum_run / "data").splits["train"]
    texts = dict(zip(rows["source_row"], rows["text"], strict=True))
    assert json.loads(done.stdout)["columns"]["label"]["n_labels"] == len(texts)
    for line in read_csv(tmp_path / "s.csv"):
        assert texts[int(line["source_row"])] == line["text"]
        assert float(line["score"]) >= 0  # another class was ahead


def test_a_run_without_training_dynamics_says_what_to_do(tmp_path, tiny_encoder_dir):
    data = write_texts(tmp_path / "data", 30)
    run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run"))
    done = run_cli("suspects", tmp_path / "run", "--output", tmp_path / "s.csv")
    assert done.exit_code == 1
    assert run_cli("suspects", tmp_path / "run", "--method", "confident-learning", "-o", "s.csv").exit_code == 2
    assert "left out for a run" in run_cli("suspects", tmp_path / "run", "--n-suspects", 3, "-o", "s.csv").stderr
    assert "nothing is trained" in run_cli("suspects", tmp_path / "run", "--dry-run", "-o", "s.csv").stderr
    assert "kept no training dynamics. Repeat it with --scorer aum" in " ".join(done.stderr.split())


def test_the_data_of_a_run_may_not_have_changed(aum_run, tmp_path):
    path = aum_run / "data" / "train.jsonl"
    before = path.read_text()
    try:
        path.write_text(before.replace("boston", "dallas"))
        done = run_cli("suspects", aum_run / "run", "--output", tmp_path / "s.csv")
    finally:
        path.write_text(before)
    assert done.exit_code == 1
    assert "These scores were made for other data" in " ".join(done.stderr.split())


@pytest.fixture
def places(tickets, tmp_path, tiny_encoder_dir):
    """What stands for the words in capitals; the review is of other data."""
    line = {"source_row": 3, "column": "label", "words": "", "given_label": "flight", "suggested_label": "fare"}
    write_csv(tmp_path / "review.csv", [{**line, "text": "another text", "decision": "accept"}])
    return {"DATA": tickets, "MODEL": tiny_encoder_dir, "REVIEW": tmp_path / "review.csv"}


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["DATA", "--output", "OUT.csv"], 2, "Missing option '--model'"),
        (["DATA", "--model", "MODEL", "--output", "OUT.txt"], 2, "must end in .csv or .jsonl"),
        (["DATA", "--model", "MODEL", "--output", "no/s.csv"], 2, "The folder no does not exist"),
        (["DATA", "--model", "MODEL", "--output", "OUT.csv", "--method", "odd"], 2, "--method must be one of"),
        (
            ["DATA", "--model", "MODEL", "--output", "OUT.csv", "--mixed-precision", "fp8"],
            2,
            "-precision must be one of",
        ),
        (["DATA", "--model", "MODEL", "--output", "OUT.csv", "--percentile", "101"], 2, "--percentile must be in"),
        (["DATA", "--model", "MODEL", "--output", "OUT.csv", "--task", "odd"], 2, "--task must be one of"),
        (["DATA", "--model", "MODEL", "--output", "OUT.csv", "--split", "test"], 1, "has no test split, but train"),
        (["DATA", "--model", "MODEL", "--output", "OUT.csv", "--task", "regression"], 1, "got the task 'regression'"),
        (["DATA", "--model", "./no", "--output", "OUT.csv"], 1, "The model './no' must be an existing folder"),
        (["no.jsonl", "--model", "MODEL", "--output", "OUT.csv"], 1, "no.jsonl does not exist"),
        (["DATA", "--apply", "no.csv", "--output", "OUT.csv"], 1, "The review file no.csv does not exist"),
        (["DATA", "--apply", "REVIEW", "--output", "OUT.txt"], 2, "must end in .jsonl"),
        (["DATA", "--apply", "REVIEW", "--output", "OUT.csv"], 1, "Row 3 of DATA has another text than the review"),
        (
            ["DATA", "--model", "MODEL", "--output", "OUT.csv", "--n-suspects", "0"],
            2,
            "--n-suspects must be at least 1",
        ),
        (
            ["DATA", "--model", "MODEL", "--output", "OUT.csv", "--n-folds", "2"],
            2,
            "--n-folds must be left out with --m",
        ),
        (
            ["DATA", "--apply", "REVIEW", "--output", "OUT.csv", "--seed", "1"],
            2,
            "--seed must be left out with --apply",
        ),
        (["DATA", "--apply", "REVIEW", "--output", "DATA"], 2, "DATA is a file that is read. Choose another name"),
        (["DATA", "--model", "MODEL", "--output", "REVIEW"], 2, "has decisions in it. Apply them, or choose another"),
        (["DATA", "--output", "OUT.csv", "--column", "text"], 2, "--column must be NAME=VALUE"),
        (
            ["DATA", "--model", "MODEL", "--output", "OUT.csv", "--task", "regression", "--dry-run"],
            1,
            "got the task 'regression'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(words, code, sentence, places, tmp_path):
    tickets = places["DATA"]
    given = [places.get(word, f"{tmp_path}/{word}" if word.startswith("OUT") else word) for word in words]
    done = run_cli("suspects", *given)
    assert done.exit_code == code
    assert sentence.replace("DATA", str(tickets)) in " ".join(done.stderr.split())
    assert done.stderr.count("Error: ") == 1
    assert not list(tmp_path.glob("OUT*"))


def test_a_label_that_has_changed_since_is_named_with_its_row(tickets, tmp_path):
    line = {"source_row": 0, "column": "label", "words": "", "given_label": "fare", "suggested_label": "flight"}
    write_csv(tmp_path / "r.csv", [{**line, "text": read_file(tickets)["text"][0], "decision": "accept"}])
    done = run_cli("suspects", tickets, "--apply", tmp_path / "r.csv", "--output", tmp_path / "o.csv")
    assert done.exit_code == 1
    assert "has the label 'flight' in 'label', but 'fare' in the review" in " ".join(done.stderr.split())


def test_without_cleanlab_the_pip_command_is_told(tickets, tmp_path, tiny_encoder_dir, monkeypatch):
    monkeypatch.setattr("dataprune.scoring.label_errors.find_spec", lambda _: None)
    words = ["--model", tiny_encoder_dir, "--method", "confident-learning", "--output", tmp_path / "s.csv"]
    done = run_cli("suspects", tickets, *words)
    assert done.exit_code == 1
    assert "pip install 'dataprune[suspects]'" in done.stderr


def test_the_help_shows_the_whole_way_with_an_example():
    text = " ".join(run_cli("suspects", "--help").stdout.split())
    assert "dataprune suspects tickets.csv --model encoder/" in text
    assert "--apply suspects.csv --output corrected.csv" in text


@pytest.fixture
def ctrl_c_after(monkeypatch):
    """Let this process get SIGINT once so many checkpoints are written."""

    def arm(n_checkpoints):
        saved, save = [], Checkpoints.save

        def save_and_press(self):
            path = save(self)
            saved.append(path)
            if len(saved) == n_checkpoints:
                os.kill(os.getpid(), signal.SIGINT)
            return path

        monkeypatch.setattr(Checkpoints, "save", save_and_press)

    return arm


@pytest.mark.parametrize("search", [("aum", 1), ("confident-learning", 1), ("confident-learning", 4)])
def test_an_interrupted_search_goes_on_to_the_same_review(tickets, tmp_path, tiny_encoder_dir, ctrl_c_after, search):
    method, n_checkpoints = search
    words = ["suspects", tickets, "--model", tiny_encoder_dir, *FAST, "--n-epochs", 3, "--method", method]
    words += ["--n-suspects", 9]  # so that there are lines
    words += [] if method == "aum" else ["--n-folds", 3]
    whole, review = tmp_path / "whole.jsonl", tmp_path / "s.jsonl"
    assert run_cli(*words, "-o", whole).exit_code == 0

    ctrl_c_after(n_checkpoints)
    done = run_cli(*words, "-o", review)
    assert done.exit_code == 130
    folder = f"{review}.unfinished"
    assert f"Interrupted; no review was written, the state is saved in {folder}. Go on with the same" in done.stderr
    assert not review.exists()

    done = run_cli(*words, "-o", review)
    assert done.exit_code == 1
    assert done.stderr == f"Error: The folder {folder} holds unfinished work. Resume it, or delete that folder.\n"
    done = run_cli(*words, "-o", review, "--seed", 3, "--resume")
    assert done.exit_code == 1
    assert f"The work in {folder} was started with seed=0, now it is 3. Delete that folder" in done.stderr

    done = run_cli(*words, "-o", review, "--resume")
    assert done.exit_code == 0, done.stderr
    assert review.read_bytes() == whole.read_bytes()
    assert len(review.read_text().splitlines()) == 9
    assert sorted(path.name for path in tmp_path.glob("*s.jsonl*")) == ["s.jsonl", "tickets.jsonl"]


def test_a_search_that_failed_early_is_in_nobodys_way(tickets, tmp_path, tiny_encoder_dir):
    words = ["suspects", tickets, "--model", tiny_encoder_dir, *FAST, "-o", tmp_path / "s.csv"]
    done = run_cli(*words, "--learning-rate", 1e30)
    assert done.exit_code == 1
    assert "is nan in epoch 0" in done.stderr
    done = run_cli(*words)
    assert done.exit_code == 0, done.stderr


def test_what_somebody_else_keeps_under_the_name_is_left_alone(tickets, tmp_path, tiny_encoder_dir):
    (tmp_path / "s.csv.unfinished").mkdir()
    (tmp_path / "s.csv.unfinished" / "novel.txt").write_text("It was a dark and stormy night")
    done = run_cli("suspects", tickets, "--model", tiny_encoder_dir, *FAST, "-o", tmp_path / "s.csv", "--resume")
    assert done.exit_code == 1
    assert "s.csv.unfinished is in the way" in done.stderr
    assert (tmp_path / "s.csv.unfinished" / "novel.txt").exists()
