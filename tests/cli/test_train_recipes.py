"""`dataprune train --recipe`: every recipe runs on a small real folder, or says what it needs."""

import pytest
import torch
from cli_parts import run_cli, train_words, write_joint, write_texts

from dataprune.recipes import RECIPES
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


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "odd"], "--recipe must be one of"),
        (["--recipe", "ucb", "--selector", "random-k"], "--selector must be left out with the recipe 'ucb'"),
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
