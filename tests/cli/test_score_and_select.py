"""`dataprune score` and `select`: from a file to scores, and from scores to a smaller file."""

import json

import numpy as np
import pytest
from cli_parts import run_cli, train_words, write_rows, write_texts

from dataprune import ImportanceSample, NearDuplicate, TfidfDistance, TopK
from dataprune.data.fingerprint import fingerprint
from dataprune.data.reading import read_file
from dataprune.data.score_files import read_note
from dataprune.runs.scoring import DATASET_SCORERS
from dataprune.runs.selecting import FILE_SELECTORS

TEXTS = [f"{verb} the {noun} {place}" for verb in ("play", "stop") for noun in ("song", "film") for place in "abcdefg"]


@pytest.fixture
def rows(tmp_path):
    data = [{"utterance": text, "queue": text[0], "source": i % 4, "n": len(text)} for i, text in enumerate(TEXTS)]
    write_rows(tmp_path / "rows.jsonl", data)
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_scores_are_those_of_the_library(rows, tmp_path, ending):
    out = tmp_path / f"scores.{ending}"
    done = run_cli("score", rows, "--scorer", "tfidf-distance", "--output", out, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    expected = TfidfDistance(column=None).fit(TEXTS).scores_
    table = read_file(out)
    assert table["source_row"][:] == list(range(len(TEXTS)))
    np.testing.assert_allclose(table["score"][:], expected, rtol=1e-6)
    assert json.loads(done.stdout)["n_rows"] == len(TEXTS)


def test_the_extremes_are_shown_with_their_text(rows, tmp_path):
    done = run_cli("score", rows, "--scorer", "near-duplicate", "--output", tmp_path / "s.csv")
    scores = NearDuplicate(column=None).fit(TEXTS).scores_
    assert TEXTS[int(np.argmax(scores))] in done.stdout
    assert "Lowest scores" in done.stdout


@pytest.mark.parametrize("name", sorted(DATASET_SCORERS.keys() - {"perplexity"}))
def test_every_scorer_runs(name, rows, tmp_path, tiny_encoder_dir):
    extra = {"column": ["--scorer-arg", "column=n"], "prototype-distance": ["--scorer-arg", "n_prototypes=3"]}
    words = ["--model", tiny_encoder_dir, *extra.get(name, [])]
    done = run_cli("score", rows, "--scorer", name, "--output", tmp_path / "s.csv", *words)
    assert done.exit_code == 0, done.stderr


def test_a_score_file_makes_a_smaller_file_of_the_same_rows(rows, tmp_path):
    run_cli("score", rows, "--scorer", "tfidf-distance", "--output", tmp_path / "s.parquet")
    words = ["--scores", tmp_path / "s.parquet", "--keep-fraction", 0.25, "--output", tmp_path / "small.csv"]
    done = run_cli("select", rows, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    scores = TfidfDistance(column=None).fit(TEXTS).scores_
    expected = TopK(keep_fraction=0.25).fit(scores).indices_
    assert read_file(tmp_path / "small.csv")["utterance"][:] == [TEXTS[i] for i in expected]
    assert "holds 7 of 28 rows" in done.stdout


def test_a_dry_run_reads_the_data_and_writes_nothing(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("dataprune.scoring.text.TfidfDistance.fit", lambda *_: pytest.fail("scored"))
    scorer, out = ["--scorer", "tfidf-distance"], tmp_path / "out.csv"
    done = run_cli("score", rows, *scorer, "--output", out, "--dry-run", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert (told["n_rows"], told["text_column"], told["scorer"]) == (28, "utterance", "TfidfDistance()")
    done = run_cli("score", rows, *scorer, "--output", out, "--dry-run")
    assert "28 rows with texts in column 'utterance'." in " ".join(done.stdout.split())
    done = run_cli("select", rows, *scorer, "--keep-fraction", 0.3, "--output", out, "--dry-run")
    assert (done.exit_code, done.stdout) == (0, f"{out} would hold 8 of 28 rows.\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["score", "--scorer", "column", "--scorer-arg", "column=nope"], "'nope'"),
        (["select", "--keep-fraction", 0.5, "--scorer", "column", "--scorer-arg", "column=nope"], "'nope'"),
        (["score", "--scorer", "tfidf-distance", "--text-column", "n"], "column 'n' must hold texts"),
        (["score", "--scorer", "perplexity", "--model", "no/such/model"], "'no/such/model'"),
    ],
)
def test_a_dry_run_fails_where_the_run_would(words, sentence, rows, tmp_path):
    command, *options = words
    runs = [run_cli(command, rows, *options, "-o", tmp_path / "o.csv", *flag) for flag in ([], ["--dry-run"])]
    assert [done.exit_code for done in runs] in ([1, 1], [2, 2])
    assert runs[0].stderr == runs[1].stderr
    assert sentence in " ".join(runs[0].stderr.split())


@pytest.mark.parametrize("flag", [[], ["--dry-run"]])
def test_what_a_part_lacks_is_said_before_the_data_are_read(flag, tmp_path):
    select = ["select", "missing.csv", "--keep-fraction", 0.5, "--output", tmp_path / "o.csv", *flag]
    score = ["score", "missing.csv", "--output", tmp_path / "o.csv", *flag]
    for words, sentence in (
        ([*select, "--selector", "k-center"], "KCenter needs embeddings."),
        ([*select, "--scorer", "perplexity"], "Perplexity needs a causal language model."),
        ([*select, "--scores", "s.csv", "--selector", "keep-together"], "KeepTogether needs groups."),
        ([*score, "--scorer", "prototype-distance"], "PrototypeDistance needs an encoder."),
        ([*score, "--scorer", "el2n"], "The score 'el2n' needs a trained model."),
        ([*select, "--scores", "s.csv", "--selector", "stratified-k", "--selector-arg", "n_strata=-3"], "n_strata"),
        (
            [*select, "--recipe", "scdp", "--recipe-arg", "keep_fraction=0.9"],
            "recipe-arg must not set 'keep_fraction'.",
        ),
    ):
        done = run_cli(*words)
        assert done.exit_code == 2, done.stderr
        assert sentence in " ".join(done.stderr.split())


def test_scoring_and_selecting_in_one_step_gives_the_same(rows, tmp_path):
    run_cli("score", rows, "--scorer", "tfidf-distance", "--output", tmp_path / "s.parquet")
    for out, words in {"a": ["--scores", tmp_path / "s.parquet"], "b": ["--scorer", "tfidf-distance"]}.items():
        selector = ["--selector", "stratified-k", "--selector-arg", "n_strata=4", "--seed", 3]
        run_cli("select", rows, *words, *selector, "--keep-fraction", 0.5, "--output", tmp_path / f"{out}.jsonl")
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()


@pytest.mark.parametrize("name", sorted(FILE_SELECTORS))
def test_every_selector_keeps_its_share_of_a_file(name, rows, tmp_path, tiny_encoder_dir):
    words = ["--scorer", "tfidf-distance", "--selector", name, "--keep-fraction", 0.5]
    needed = {
        "labels": ["--label-column", "queue"],
        "groups": ["--group-column", "source"],
        "features": ["--model", tiny_encoder_dir],
    }
    words += [word for need, option in needed.items() if need in FILE_SELECTORS[name]().needs for word in option]
    done = run_cli("select", rows, *words, "--output", tmp_path / "o.jsonl", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["n_kept"] == len(read_file(tmp_path / "o.jsonl")) == 14


def test_the_scores_of_a_run_choose_among_the_rows_it_trained_on(tmp_path, tiny_encoder_dir):
    data = write_texts(tmp_path / "data", 40)
    run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run"))
    words = ["--scores", tmp_path / "run" / "kept.parquet", "--keep-fraction", 0.5, "--output", tmp_path / "o.jsonl"]
    done = run_cli("select", data, *words)
    assert done.exit_code == 0, done.stderr
    assert "has no score of 4 rows; these are left out" in done.stderr
    assert len(read_file(tmp_path / "o.jsonl")) == 18
    write_rows(tmp_path / "turned" / "train.jsonl", list(read_file(data / "train.jsonl"))[::-1])
    done = run_cli("select", tmp_path / "turned", *words)  # as many rows, but others at their places
    assert done.exit_code == 1
    assert "These scores were made for other data" in done.stderr


def test_a_model_and_a_folder_are_handled_without_bars(rows, tmp_path, tiny_encoder_dir, capfd):
    words = ["--selector", "k-center", "--model", tiny_encoder_dir, "--keep-fraction", 0.5]
    done = run_cli("select", rows, *words, "--output", tmp_path / "folder")
    assert (done.exit_code, done.stderr, capfd.readouterr().err) == (0, "", "")


def test_an_encoder_is_no_language_model(rows, tmp_path, tiny_encoder_dir):
    words = ["--scorer", "perplexity", "--model", tiny_encoder_dir, "--output", tmp_path / "s.csv"]
    done = run_cli("score", rows, *words)
    assert done.exit_code == 1
    assert "must be a causal language model (such as GPT-2, Llama, SmolLM2), got an encoder" in done.stderr


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([{"source_row": -1, "score": 1.0}], "has a score of row -1, but the data have 28 rows"),
        ([{"source_row": 1, "score": 1.0}] * 2, "has more than one score of row 1"),
        ([{"source_row": 1.5, "score": 1.0}], "row 0: 'source_row' must be a whole number"),
        ([{"source_row": 0, "score": 1.0}, {"source_row": None, "score": 1.0}], "row 1: 'source_row' must be a whole"),
        (
            [{"source_row": 0, "score": "x"}],
            "row 0: 'source_row' must be a whole number and 'score' a number, got 0 and",
        ),
    ],
)
def test_scores_that_are_none_are_refused(table, sentence, rows, tmp_path):
    write_rows(tmp_path / "s.jsonl", table)
    words = ["--scores", tmp_path / "s.jsonl", "--keep-fraction", 0.5, "--output", tmp_path / "o.csv"]
    done = run_cli("select", rows, *words)
    assert done.exit_code == 1
    assert sentence in done.stderr


def test_the_data_and_the_scores_are_not_written_over(rows, tmp_path):
    before = rows.read_bytes()
    for words in (
        ["score", rows, "--scorer", "tfidf-distance"],
        ["select", rows, "--keep-fraction", 0.5, "--selector", "random-k"],
    ):
        done = run_cli(*words, "--output", rows)
        assert done.exit_code == 2
        assert f"{rows} is a file that is read. Choose another name" in " ".join(done.stderr.split())
    assert rows.read_bytes() == before
    folder = write_texts(tmp_path / "data")
    words = ["score", folder, "--scorer", "tfidf-distance", "--output"]
    assert run_cli(*words, next(folder.glob("train.*"))).exit_code == 2
    assert run_cli(*words, folder / "scores.parquet").exit_code == 0


def test_a_row_without_a_text_is_named(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [{"text": "play jazz", "n": 1}, {"text": None, "n": 2}])
    words = ["--scorer", "tfidf-distance", "--output", tmp_path / "o.csv"]
    assert "row 1: column 'text' must hold texts" in run_cli("score", tmp_path / "rows.jsonl", *words).stderr
    done = run_cli("score", tmp_path / "rows.jsonl", *words, "--text-column", "n")
    assert "row 0: column 'n' must hold texts or lists of words, got 1." in done.stderr
    write_rows(tmp_path / "rows.jsonl", [{"embedding": [1.0, 0.5]}, {"embedding": [0.0, 1.0]}])
    done = run_cli("score", tmp_path / "rows.jsonl", *words, "--text-column", "embedding")
    assert "row 0: column 'embedding' must hold texts or lists of words, got [1.0, 0.5]." in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["score", "no.jsonl", "--scorer", "tfidf-distance"], 1, "no.jsonl does not exist"),
        (["score", "ROWS", "--scorer", "odd"], 2, "--scorer must be one of"),
        (["score", "ROWS", "--scorer", "column"], 2, "needs 'column'. Pass --scorer-arg column="),
        (["score", "ROWS", "--scorer", "column", "--scorer-arg", "column=odd"], 1, "no column 'odd'"),
        (["score", "ROWS", "--scorer", "tfidf-distance", "--text-column", "odd"], 1, "no column 'odd'"),
        (["score", "ROWS", "--scorer", "tfidf-distance", "--split", "test"], 1, "has no test split"),
        (["score", "ROWS", "--scorer", "tfidf-distance", "--scorer-arg", "odd=1"], 2, "has no 'odd'"),
        (["score", "ROWS", "--scorer", "perplexity"], 2, "needs a causal language model. Pass --model"),
        (["select", "ROWS", "--keep-fraction", "0.5"], 2, "TopK needs scores. Pass --scores FILE or --scorer NAME"),
        (["select", "ROWS", "--keep-fraction", "1.5", "--selector", "random-k"], 2, "--keep-fraction must be in"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--scores", "no.csv"], 1, "no.csv does not exist"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--scores", "ROWS"], 1, "must have the columns 'source_row'"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--scores", "a", "--scorer", "b"], 2, "were both given"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--selector", "k-center"], 2, "needs embeddings. Pass --model"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--selector", "odd"], 2, "--selector must be one of"),
        (["select", "ROWS", "--keep-fraction", "0.5", "--seed", "-1"], 2, "--seed must be at least 0, got -1."),
        (
            ["select", "ROWS", "--keep-fraction", "0.5", "--selector-arg", "keep_fraction=0.3"],
            2,
            "--selector-arg must not set 'keep_fraction'. Pass --keep-fraction.",
        ),
        (
            ["select", "ROWS", "--keep-fraction", "0.5", "--scorer-arg", "n_prototypes=3"],
            2,
            "--scorer-arg must be left out without --scorer, got n_prototypes=3.",
        ),
        (
            ["select", "ROWS", "--keep-fraction", "0.5", "--recipe", "scdp", "--selector-arg", "n_strata=3"],
            2,
            "--selector-arg must be left out with the recipe 'scdp', got n_strata=3.",
        ),
        (
            ["score", "ROWS", "--scorer", "tfidf-distance", "--scorer-arg", "column=n"],
            2,
            "--scorer-arg must not set 'column' of tfidf-distance. Pass --text-column.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence(words, code, sentence, rows, tmp_path):
    words = [rows if word == "ROWS" else word for word in words]
    done = run_cli(*words, "--output", tmp_path / "out.csv")
    assert done.exit_code == code
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "out.csv").exists()


def test_loss_weights_that_undo_the_choice_go_into_a_column(rows, tmp_path):
    words = ["--scorer", "column", "--scorer-arg", "column=source", "--keep-fraction", 0.5]
    words += ["--selector", "importance-sample"]
    done = run_cli("select", rows, *words, "--output", tmp_path / "out.jsonl")
    assert done.exit_code == 0
    assert "Column 'loss_weight' of" in done.stderr
    weights = read_file(tmp_path / "out.jsonl")["loss_weight"][:]
    table = read_file(rows)
    chosen = ImportanceSample(keep_fraction=0.5, random_state=0).fit(np.array(table["source"][:], np.float32))
    np.testing.assert_allclose(weights, chosen.weights_)
    again = run_cli("select", tmp_path / "out.jsonl", *words, "--output", tmp_path / "again.jsonl")
    assert again.exit_code == 1
    assert "must not have a column 'loss_weight'" in " ".join(again.stderr.split())


def test_a_score_file_with_words_for_numbers_is_refused(rows, tmp_path):
    write_rows(tmp_path / "s.jsonl", [{"source_row": 0, "score": "high"}])
    words = ["--scores", tmp_path / "s.jsonl", "--keep-fraction", 0.5, "--output", tmp_path / "o.csv"]
    done = run_cli("select", rows, *words)
    assert done.exit_code == 1
    assert "row 0: 'source_row' must be a whole number and 'score' a number, got 0 and 'high'." in done.stderr


def test_a_score_that_is_missing_is_of_a_row_never_seen_and_kept_first(rows, tmp_path):
    scores = [{"source_row": i, "score": None if i == 20 else float(-i)} for i in range(28)]
    write_rows(tmp_path / "s.jsonl", scores)
    words = ["--scores", tmp_path / "s.jsonl", "--keep-fraction", 0.08, "--output", tmp_path / "o.jsonl"]
    assert run_cli("select", rows, *words).exit_code == 0
    assert read_file(tmp_path / "o.jsonl")["utterance"][:] == [TEXTS[0], TEXTS[20]]


def test_scores_may_be_whole_numbers_of_any_size(rows, tmp_path):
    write_rows(tmp_path / "s.jsonl", [{"source_row": i, "score": 2**60 if i == 20 else 2**24 + 1} for i in range(28)])
    words = ["--scores", tmp_path / "s.jsonl", "--keep-fraction", 0.04, "--output", tmp_path / "o.jsonl"]
    assert run_cli("select", rows, *words).exit_code == 0
    assert read_file(tmp_path / "o.jsonl")["utterance"][:] == [TEXTS[20]]


def test_scores_of_other_data_are_refused(rows, tmp_path):
    write_rows(tmp_path / "s.jsonl", [{"source_row": 99, "score": 1.0}])
    words = ["--scores", tmp_path / "s.jsonl", "--keep-fraction", 0.5, "--output", tmp_path / "o.csv"]
    done = run_cli("select", rows, *words)
    assert done.exit_code == 1
    assert "has a score of row 99, but the data have 28 rows" in done.stderr


def test_a_parquet_file_of_scores_says_where_they_come_from(rows, tmp_path):
    scores = tmp_path / "s.parquet"
    assert run_cli("score", rows, "--scorer", "tfidf-distance", "--output", scores).exit_code == 0
    assert run_cli("select", rows, "--scores", scores, "--keep-fraction", 0.5, "-o", tmp_path / "o.csv").exit_code == 0
    note = read_note(scores)
    assert note["scorer"].startswith("TfidfDistance(")
    others = [{"utterance": text.upper()} for text in TEXTS]  # as many
    write_rows(tmp_path / "others.jsonl", others)
    done = run_cli(
        "select", tmp_path / "others.jsonl", "--scores", scores, "--keep-fraction", 0.5, "-o", tmp_path / "p.csv"
    )
    assert done.exit_code == 1
    theirs = fingerprint(read_file(tmp_path / "others.jsonl"))
    assert (
        f"These scores were made for other data: their fingerprint is {note['data_fingerprint'][:12]}, the data set's "
        f"is {theirs[:12]}. Use the rows, the order" in done.stderr
    )
    assert not (tmp_path / "p.csv").exists()
    assert run_cli("score", rows, "--scorer", "near-duplicate", "--output", tmp_path / "n.parquet").exit_code == 0
    words = ["--scores", scores, "--scores", tmp_path / "n.parquet", "--keep-fraction", 0.5]
    done = run_cli("select", rows, *words, "-o", tmp_path / "p.csv")
    assert "Only scores of one scorer can be averaged, got those of NearDuplicate and TfidfDistance" in done.stderr
