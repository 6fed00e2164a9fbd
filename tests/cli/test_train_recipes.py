"""`dataprune train --recipe`: every recipe runs on a small real folder, or says what it needs."""

import re
from dataclasses import replace

import pytest
import torch
from cli_parts import run_cli, train_words, write_joint, write_rows, write_texts

from dataprune.cli.settings import to_config
from dataprune.data.loading import load_data
from dataprune.data.reading import read_file
from dataprune.data.tasks import CausalLMTask, ClassificationTask
from dataprune.recipes import RECIPES
from dataprune.runs.compose import make_pruner
from dataprune.runs.config import COMPOSITION, RunConfig
from dataprune.runs.irreducible import losses_of_rows
from dataprune.runs.run_file import read_run_file, write_run_file
from dataprune.scoring.store import ScoreStore

EXTRA = {
    "metadata_pruning": ["--recipe-arg", "column=length", "--recipe-arg", "band=low"],
    "sexism_data_diet": ["--recipe-arg", "n_min=5"],
    "forgetting_events": ["--n-warmup-epochs", 1],
    "cartography": ["--n-warmup-epochs", 1, "--recipe-arg", "region=hard"],
    "ccs": ["--n-warmup-epochs", 1],
}
ELSEWHERE = {"bilevel_architecture_search", "perplexity_pruning"}  # on images; by `select`


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts"), 48)


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - ELSEWHERE - {"metadata_pruning"}))
def test_a_recipe_runs_from_the_command_line(name, texts, tmp_path, tiny_encoder_dir):
    words = train_words(texts, tiny_encoder_dir, tmp_path / "run", "--recipe", name, "--json", *EXTRA.get(name, []))
    if name == "rho_loss":
        n_train = 43  # a tenth of 48 was cut off to validate
        store = ScoreStore(n_train)
        store.update(torch.arange(n_train), torch.linspace(0, 1, n_train), epoch=0)
        words += ["--scores", store_file(store, tmp_path)]
    done = run_cli(*words)
    assert done.exit_code == 0, done.stderr
    assert f'"recipe": "{name}"' in done.stdout


def test_losses_of_other_rows_are_refused(texts, tmp_path, tiny_encoder_dir):
    store = ScoreStore(43)
    store.update(torch.arange(43), torch.linspace(0, 1, 43), epoch=0)
    store.provenance = {"data_fingerprint": "0123456789abcdef"}
    words = train_words(texts, tiny_encoder_dir, tmp_path / "run", "--recipe", "rho_loss")
    done = run_cli(*words, "--scores", store_file(store, tmp_path))
    assert done.exit_code == 1
    assert "made for other data: their fingerprint is 0123456789ab, the data set's is" in done.stderr


def test_losses_that_the_command_line_makes_are_taken(texts, tmp_path, tiny_encoder_dir):
    """A model of other data, its losses on the rows to train on, and the recipe: three commands."""
    held_out, losses = write_texts(tmp_path / "held-out", 30), tmp_path / "losses.parquet"
    plain = ["--keep-fraction", 1, "--scorer", "loss"]
    assert run_cli(*train_words(held_out, tiny_encoder_dir, tmp_path / "other", *plain)).exit_code == 0
    score = ["score", texts, "--model", tmp_path / "other", "--scorer"]
    assert run_cli(*score, "loss", "--output", losses).exit_code == 0
    words = train_words(texts, tiny_encoder_dir, tmp_path / "run", "--recipe", "rho_loss", "--scores")
    done = run_cli(*words, losses)
    assert done.exit_code == 0, done.stderr
    # Each row gets the loss of its own source row: the train split is what validation left.
    config = RunConfig(**read_run_file(tmp_path / "run" / "run.toml").settings)
    raw = load_data(texts, random_state=config.seed).splits["train"]
    rows = read_file(losses)
    taken = losses_of_rows(str(losses), str(texts), raw)
    assert taken.tolist() == [rows["score"][row] for row in raw["source_row"]]

    run_cli(*train_words(texts, tiny_encoder_dir, tmp_path / "own", *plain))
    run_cli(*score, "el2n", "--output", tmp_path / "el2n.parquet")
    run_cli(
        "score", held_out, "--model", tmp_path / "other", "--scorer", "loss", "--output", tmp_path / "others.parquet"
    )
    run_cli(*score, "loss", "--scorer-arg", "reduction=mean", "--output", tmp_path / "means.parquet")
    write_rows(tmp_path / "few.jsonl", list(rows.select(range(40))))
    write_rows(tmp_path / "gap.jsonl", [{**row, "score": None if row["source_row"] == 8 else 1.0} for row in rows])
    write_rows(tmp_path / "many.jsonl", [{"source_row": row, "score": 1.0} for row in range(500)])
    for name, (code, sentence) in {
        "own/scores.safetensors": (2, "has those of a run on its own rows"),
        "own/kept.parquet": (2, "has those of a run on its own rows"),
        "el2n.parquet": (2, "needs losses, but"),
        "means.parquet": (2, "the sum of an example's losses"),
        "others.parquet": (1, "made for other data"),
        "few.jsonl": (1, "must have a finite loss of each row, got none of row 4"),
        "gap.jsonl": (1, "must have a finite loss of each row, got none of row 8"),
        "many.jsonl": (1, "but the data have 48 rows"),
    }.items():
        done = run_cli(*words, tmp_path / name, "--output-dir", tmp_path / "again", "--dry-run")
        assert done.exit_code == code, (name, done.stderr)
        assert sentence in " ".join(done.stderr.split())


def store_file(store, folder):
    store.save(folder / "irreducible.safetensors")
    return folder / "irreducible.safetensors"


def test_joint_data_get_the_joint_error_norm(tmp_path, tiny_encoder_dir):
    data = write_joint(tmp_path / "data", 30)
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", "--recipe", "data_diet", "--json"))
    assert done.exit_code == 0, done.stderr
    assert "JointEL2N" in done.stdout


def test_a_parameter_with_an_option_of_its_own_is_told_with_the_line_of_the_file(tmp_path):
    old = RunConfig(data="data", model="model", output_dir="run", recipe="ucb", recipe_args={"keep_fraction": 0.4})
    write_run_file(tmp_path / "old.toml", old)
    done = run_cli("train", tmp_path / "old.toml", "--keep-fraction", 0.4)
    assert re.search(
        r"old\.toml, line \d+: recipe_args must not set 'keep_fraction'\. Pass --keep-fraction\.", done.stderr
    )


def test_a_language_model_gets_the_mean_loss_where_a_recipe_has_the_choice():
    def reduction(task, **own):
        config = RunConfig(data="", model="", output_dir="", recipe="ir_dro", recipe_args=own)
        return make_pruner(config, task).scorer.reduction

    assert reduction(ClassificationTask()) == "sum"
    assert reduction(CausalLMTask()) == "mean"
    assert reduction(CausalLMTask(), reduction="sum") == "sum"


@pytest.mark.parametrize("recipe", ["scdp", "active_inheritance"])
def test_a_recipe_reads_the_text_that_the_run_reads(recipe, tmp_path, tiny_encoder_dir):
    rows = [
        {"text": "same", "utterance": f"{'word ' * (i % 7 + 1)}other{i % 5}", "label": "ab"[i % 2]} for i in range(40)
    ]
    write_rows(tmp_path / "data" / "train.jsonl", rows)
    words = train_words(tmp_path / "data", tiny_encoder_dir, tmp_path / "run", "--column", "text=utterance")
    done = run_cli(*words, "--recipe", recipe)
    assert done.exit_code == 0, done.stderr
    assert len(set(read_file(tmp_path / "run" / "kept.parquet")["score"])) > 2


def test_groups_that_a_recipe_does_not_read_are_refused_without_a_remedy(texts, tmp_path, tiny_encoder_dir):
    words = ["--recipe", "sexism_data_diet", "--recipe-arg", "n_min=3", "--group-column", "label"]
    done = run_cli(*train_words(texts, tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 2
    assert "--group-column must be left out" in done.stderr
    assert "by=groups" not in done.stderr


def test_what_is_given_goes_to_the_recipe_even_where_it_is_the_default_elsewhere():
    def scheduler(recipe, **settings):
        config = RunConfig(data="", model="", output_dir="", recipe=recipe, **settings)
        return make_pruner(config, ClassificationTask()).scheduler

    assert scheduler("swiftlearn").keep_fraction == 0.1
    assert scheduler("swiftlearn", keep_fraction=0.5).keep_fraction == 0.5
    published, given = (scheduler("nlu_data_diets", **own) for own in ({}, {"n_warmup_epochs": 1, "n_cycle_epochs": 1}))
    assert (published.n_warmup_epochs, published.n_cycle_epochs) == (2, 2)
    assert (given.n_warmup_epochs, given.n_cycle_epochs) == (1, 1)


def test_a_recipe_takes_the_place_of_what_the_file_of_a_run_says(texts, tmp_path, tiny_encoder_dir):
    written = RunConfig(data=str(texts), model=str(tiny_encoder_dir), output_dir=str(tmp_path / "run"))
    write_run_file(tmp_path / "run.toml", replace(written, selector="random-k", keep_fraction=0.3))

    def config(**typed):
        return to_config(str(tmp_path / "run.toml"), typed)

    without_share, with_share = config(recipe="infobatch"), config(recipe="ccs")
    assert (without_share.recipe, without_share.selector, without_share.keep_fraction) == ("infobatch", None, None)
    assert (with_share.selector, with_share.keep_fraction, with_share.n_warmup_epochs) == (None, 0.3, None)
    assert config(recipe="ccs", n_warmup_epochs=1).n_warmup_epochs == 1
    assert config(budget={"n_updates": 9}).keep_fraction is None
    write_run_file(tmp_path / "run.toml", config(budget={"n_updates": 9}))
    assert (config(keep_fraction=0.4).budget, config().budget) == ({}, {"n_updates": 9})


def test_files_of_earlier_versions_have_the_defaults_of_all_settings(tmp_path):
    plain = RunConfig(data="data", model="model", output_dir="run")
    for decides in ('recipe = "swiftlearn"', "budget = { n_updates = 9 }"):
        write_run_file(tmp_path / "run.toml", plain)
        (tmp_path / "run.toml").write_text(f"{decides}\n{(tmp_path / 'run.toml').read_text().replace('[budget]', '')}")
        assert RunConfig(**read_run_file(tmp_path / "run.toml").settings).keep_fraction is None
    write_run_file(
        tmp_path / "new.toml",
        replace(plain, recipe="swiftlearn", **{**dict.fromkeys(COMPOSITION), "keep_fraction": 0.5}),
    )
    assert read_run_file(tmp_path / "new.toml").settings["keep_fraction"] == 0.5  # it was typed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "odd"], "--recipe must be one of"),
        (["--recipe", "ucb", "--selector", "random-k"], "--selector must be left out with the recipe 'ucb'"),
        (["--recipe", "ucb", "--selector", "top-k"], "--selector must be left out with the recipe 'ucb', got 'top-k'"),
        (["--recipe", "infobatch", "--keep-fraction", "0.5"], "--keep-fraction must be left out with the recipe"),
        (["--recipe", "ucb", "--recipe-arg", "odd=1"], "The recipe 'ucb' has no 'odd'"),
        (["--recipe", "ucb", "--recipe-arg", "odd"], "--recipe-arg must be NAME=VALUE"),
        (
            ["--recipe", "ucb", "--recipe-arg", "keep_fraction=0.5"],
            "must not set 'keep_fraction'. Pass --",
        ),
        (["--recipe", "ucb", "--recipe-arg", "random_state=3"], "must not set 'random_state'. Pass --"),
        (["--recipe", "infobatch", "--recipe-arg", "n_epochs=160"], "must not set 'n_epochs'. Pass --"),
        (["--recipe", "nlu_data_diets", "--recipe-arg", "task=joint"], "must not set 'task'. Pass --"),
        (["--recipe", "scdp", "--recipe-arg", "column=a"], "must not set 'column'. Pass --"),
        (["--recipe", "rho_loss"], "--scores must be given with the recipe"),
        (["--recipe", "metadata_pruning"], "needs 'column'"),
        (["--recipe", "perplexity_pruning"], "needs a language model"),
        (["--recipe", "sexism_data_diet", "--recipe-arg", "score=vog"], "needs models that are trained already"),
        (["--recipe", "bilevel_architecture_search", "--selector", "random-k"], "--selector must be left out"),
        (["--recipe-arg", "band=low"], "--recipe-arg must be left out without a recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_recipe_cannot_do_is_said_in_one_sentence(words, sentence, texts, tmp_path, tiny_encoder_dir):
    done = run_cli(*train_words(texts, tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 2
    assert sentence in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()
