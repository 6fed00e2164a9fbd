"""`dataprune select --recipe`: every recipe that chooses once keeps its share of a file, or says what it needs."""

import json

import numpy as np
import pytest
from cli_parts import run_cli, train_words, write_rows, write_texts

from dataprune import recipes
from dataprune.data.reading import read_file
from dataprune.data.score_files import mean_scores
from dataprune.recipes import RECIPES

ONCE = {name for name, recipe in RECIPES.items() if recipe.kind == "static"}
AFTER_A_RUN = {name for name in ONCE if RECIPES[name].make.__module__.endswith(".once")}
EXTRA = {
    "metadata_pruning": ["--recipe-arg", "column=n"],
    "sexism_data_diet": ["--recipe-arg", "n_min=3", "--label-column", "queue"],
    "smart": ["--group-column", "source"],
}
BALANCED = ("--scorer", "tfidf-distance", "--selector", "class-balanced")
MODELS = {"deft_ucs": "tiny_encoder_dir", "smart": "tiny_encoder_dir", "perplexity_pruning": "tiny_language_model_dir"}
TEXTS = [f"{verb} the {noun} {place}" for verb in ("play", "stop") for noun in ("song", "film") for place in "abcdefg"]


@pytest.fixture
def rows(tmp_path):
    data = [{"utterance": text, "queue": text[0], "source": i % 4, "n": len(text)} for i, text in enumerate(TEXTS)]
    write_rows(tmp_path / "rows.jsonl", data)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def scores(tmp_path):
    values = np.random.default_rng(0).normal(size=len(TEXTS))
    write_rows(tmp_path / "s.jsonl", [{"source_row": i, "score": float(value)} for i, value in enumerate(values)])
    return tmp_path / "s.jsonl"


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_recipe_that_chooses_once_keeps_its_share_of_a_file(name, rows, scores, tmp_path, request):
    words = ["--recipe", name, *(["--scores", scores] if name in AFTER_A_RUN else [])]
    words += ["--model", request.getfixturevalue(MODELS[name])] if name in MODELS else []
    done = run_cli(
        "select", rows, *words, *EXTRA.get(name, []), "--keep-fraction", 0.5, "--output", tmp_path / "o.jsonl", "--json"
    )
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["recipe"], said["n_kept"], len(read_file(tmp_path / "o.jsonl"))) == (name, 14, 14)


def test_the_command_keeps_what_the_recipe_keeps_in_python(rows, tmp_path):
    words = ["--recipe", "active_inheritance", "--recipe-arg", "metric=length", "--recipe-arg", "band=low"]
    run_cli("select", rows, *words, "--keep-fraction", 0.25, "--output", tmp_path / "o.jsonl")
    pruner = recipes.active_inheritance("length", column="utterance", band="low", keep_fraction=0.25)
    kept = pruner.fit_transform(read_file(rows))["utterance"][:]
    assert read_file(tmp_path / "o.jsonl")["utterance"][:] == kept


def test_a_run_that_trains_on_everything_has_the_scores_of_a_recipe(tmp_path, tiny_encoder_dir):
    data = write_texts(tmp_path / "data", 40)
    run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", "--scorer", "aum", "--keep-fraction", 1))
    words = ["--recipe", "ccs", "--scores", tmp_path / "run" / "kept.parquet", "--keep-fraction", 0.5]
    done = run_cli("select", data, *words, "--output", tmp_path / "o.jsonl")
    assert done.exit_code == 0, done.stderr
    assert len(read_file(tmp_path / "o.jsonl")) == 18


def test_scores_that_a_recipe_does_not_choose_by_are_refused(tmp_path, tiny_encoder_dir):
    data, run = write_texts(tmp_path / "data", 40), tmp_path / "run"
    run_cli(*train_words(data, tiny_encoder_dir, run, "--scorer", "confidence", "--keep-fraction", 1))
    made = run_cli("score", data, "--scorer", "el2n", "--model", run, "--output", tmp_path / "el2n.parquet")
    assert made.exit_code == 0, made.stderr
    select = ["select", data, "--keep-fraction", 0.5, "--output", tmp_path / "o.jsonl", "--recipe"]
    for recipe, scores, wanted in [
        (["cartography"], "run/kept.parquet", "'cartography' chooses by Variability"),
        (["cartography", "--recipe-arg", "region=hard"], "run/kept.parquet", None),
        (["cartography", "--recipe-arg", "region=easy"], "el2n.parquet", "'cartography' chooses by Confidence"),
        (["data_diet"], "el2n.parquet", None),
        (["data_diet", "--recipe-arg", "score=grand"], "el2n.parquet", "'data_diet' chooses by GraNd"),
    ]:
        done = run_cli(*select, *recipe, "--scores", tmp_path / scores)
        assert done.exit_code == (0 if wanted is None else 2), done.stderr
        assert (wanted or "") in " ".join(done.stderr.split())


def test_scores_of_several_runs_are_averaged_over_those_that_have_one(tmp_path):
    for name, values in {"a": {0: 1.0, 1: 4.0, 3: None}, "b": {0: 3.0, 3: 2.0}}.items():
        rows = [{"source_row": row, "score": score} for row, score in values.items()]
        write_rows(tmp_path / f"{name}.jsonl", rows)
    rows, scores = mean_scores([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], 5)
    assert rows.tolist() == [0, 1, 3]
    assert scores.tolist() == [2.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "odd"], "--recipe must be one of"),
        (["--recipe", "infobatch"], "chooses while a model trains. Run it with `dataprune train --recipe infobatch`"),
        (
            ["--recipe", "ccs"],
            "a file of them, the kept.parquet of `dataprune train --scorer aum --keep-fraction 1`",
        ),
        (
            ["--recipe", "data_diet", "--recipe-arg", "score=grand"],
            "a file of them: `dataprune score --scorer grand --model RUN` makes them, of a run on everything",
        ),
        (["--recipe", "ccs", "--recipe-arg", "n_warmup_epochs=7"], "must not set 'n_warmup_epochs', for nothing is"),
        (["--recipe", "deft_ucs", "--scores", "s.csv"], "--scores must be left out with the recipe 'deft_ucs'"),
        (["--recipe", "scdp", "--scores", "s.csv"], "--scores must be left out with the recipe 'scdp'"),
        (["--recipe", "scdp", "--label-column", "queue"], "--label-column must be left out, for TfidfDistance and Top"),
        (
            ["--recipe", "scdp", "--model", "encoder"],
            "--model must be left out, for TfidfDistance and TopOrStratified do",
        ),
        (
            ["--recipe", "metadata_pruning", "--recipe-arg", "column=n", "--text-column", "utterance"],
            "--text-column must be left out, for ColumnScore and TopK do not read it",
        ),
        (
            [*BALANCED, "--label-column", "queue", "--group-column", "source"],
            "do not read it, got 'source'. Pass --selector-arg by=groups.",
        ),
        (
            [
                "--recipe",
                "sexism_data_diet",
                "--scores",
                "s.csv",
                "--label-column",
                "queue",
                "--group-column",
                "source",
            ],
            "--group-column must be left out, for ClassFloor does not read it, got 'source'.",
        ),
        (["--recipe", "scdp", "--recipe-arg", "odd=1"], "The recipe 'scdp' has no 'odd'"),
        (
            ["--recipe", "scdp", "--recipe-arg", "column=n"],
            "--recipe-arg must not set 'column'. Pass --text-column.",
        ),
        (["--recipe", "scdp", "--selector", "top-k"], "--selector must be left out with the recipe 'scdp'"),
        (["--recipe", "scdp", "--scorer", "column"], "--scorer must be left out with the recipe 'scdp'"),
        (["--recipe", "deft_ucs"], "needs embeddings. Pass --model"),
        (["--recipe", "smart"], "needs groups. Pass --group-column"),
        (["--recipe", "metadata_pruning"], "The recipe 'metadata_pruning' needs 'column'"),
        (["--recipe-arg", "band=low"], "--recipe-arg must be left out without a recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_recipe_lacks_is_said_in_one_sentence(words, sentence, rows, tmp_path):
    done = run_cli("select", rows, *words, "--keep-fraction", 0.5, "--output", tmp_path / "o.csv")
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "o.csv").exists()


def test_methods_tell_when_each_recipe_chooses_what_it_costs_and_where_it_is_from():
    listed = [method for method in json.loads(run_cli("methods", "--json").stdout) if method["kind"] == "recipe"]
    assert {m["option"]: m["when"] for m in listed} == {name: recipe.kind for name, recipe in RECIPES.items()}
    assert all(m["summary"] and m["cost"] and m["source"] for m in listed)
    shown = " ".join(run_cli("methods").stdout.split())
    assert all(word in shown for word in ("data_diet", "static", "dynamic", "Costs:"))
