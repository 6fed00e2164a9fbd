"""`dataprune train --recipe`: every recipe runs on a small real folder, or says what it needs."""

from dataclasses import replace

import pytest
import torch
from cli_parts import run_cli, train_words, write_joint, write_texts

from dataprune.cli.settings import to_config
from dataprune.data.tasks import ClassificationTask
from dataprune.recipes import RECIPES
from dataprune.runs.compose import make_pruner
from dataprune.runs.config import COMPOSITION, RunConfig
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


def store_file(store, folder):
    store.save(folder / "irreducible.safetensors")
    return folder / "irreducible.safetensors"


def test_joint_data_get_the_joint_error_norm(tmp_path, tiny_encoder_dir):
    data = write_joint(tmp_path / "data", 30)
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", "--recipe", "data_diet", "--json"))
    assert done.exit_code == 0, done.stderr
    assert "JointEL2N" in done.stdout


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
