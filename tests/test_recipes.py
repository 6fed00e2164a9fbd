"""Every recipe runs from Python on built-in data, prints, clones, and says where it comes from."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from dataprune import DynamicPruner, Loss, StaticPruner, TopK, make_joint_nlu, recipes
from dataprune.errors import DataError, DataPruneError
from dataprune.recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs"
N = 120
NEEDED = {
    "infobatch": {"n_epochs": 8},
    "rho_loss": {"irreducible_loss": np.linspace(0, 1, N)},
    "metadata_pruning": {"column": "length"},
}
"""What some recipes cannot do without."""
BEFORE_TRAINING = [name for name, recipe in RECIPES.items() if recipe.make.__module__.endswith(".static")]
WHILE_TRAINING = [name for name in RECIPES if name not in {*BEFORE_TRAINING, "bilevel_architecture_search"}]


def digits():
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images[:N] / 16, dtype=torch.float32), torch.tensor(labels[:N]))


def texts():
    sentences = make_joint_nlu(N, random_state=0).dataset
    rows = [{"text": " ".join(tokens), "length": len(tokens)} for tokens in sentences["tokens"]]
    return Dataset.from_list(rows)


def make(name, **settings):
    return RECIPES[name].make(**NEEDED.get(name, {}), **settings)


@pytest.mark.parametrize("name", WHILE_TRAINING)
def test_a_recipe_that_needs_a_model_trains_it_on_less_than_everything(name):
    data, settings = digits(), {}
    if "n_warmup_epochs" in inspect.signature(RECIPES[name].make).parameters:
        settings["n_warmup_epochs"] = 1
    if name == "sexism_data_diet":
        settings["n_min"] = 3
    if name == "nlu_data_diets":
        settings["task"] = "sentence"
    pruner = make(name, **settings)
    assert isinstance(pruner, DynamicPruner)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    pruner.fit(data, model=model, n_epochs=4, batch_size=20, learning_rate=1e-2, labels=data.tensors[1].numpy())
    trained = sum(record.n_trained for record in pruner.history_)
    least = N * settings.get("n_warmup_epochs", 0)
    assert trained == 4 * N if name == "ir_dro" else least < trained < 4 * N
    assert sum(record.n_updates for record in pruner.history_) <= pruner.plan_.n_updates


@pytest.mark.parametrize("name", BEFORE_TRAINING)
def test_a_static_recipe_keeps_its_share(name):
    data, features = texts(), np.random.default_rng(0).normal(size=(N, 6))
    pruner = make(name, keep_fraction=0.25)
    assert isinstance(pruner, StaticPruner)
    if name == "perplexity_pruning":
        pruner.scorer.scores_ = np.random.default_rng(1).gamma(2.0, size=N).astype(np.float32)
    kept = pruner.fit_transform(data, features=features, groups=np.arange(N) % 3)
    assert len(kept) == len(pruner.indices_) == N // 4


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_prints_and_takes_other_parameters(name):
    made = make(name)
    for pruner in made if isinstance(made, tuple) else (made,):
        assert repr(pruner)
        if pruner.scorer is not None:
            pruner.set_params(scorer__smoothing="mean") if "smoothing" in pruner.scorer.get_params() else None
        assert repr(clone(pruner)) == repr(pruner)
        part = "selector" if isinstance(pruner, StaticPruner) else "scheduler"
        if "keep_fraction" in getattr(pruner, part).get_params():
            pruner.set_params(**{f"{part}__keep_fraction": 0.123})
            assert "0.123" in repr(pruner)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_tells_its_cost_and_source(name):
    recipe = RECIPES[name]
    assert getattr(recipes, name) is recipe.make
    assert recipe.kind in {"dynamic", "static"}
    assert recipe.summary.endswith(".")
    assert recipe.cost
    assert recipe.source


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_its_card_and_its_place_among_the_methods(name):
    cards = "".join(path.read_text("utf-8") for path in (DOCS / "methods").glob("*.md"))
    headings = [line for line in cards.splitlines() if line.startswith(("#", f"`{name}`:"))]
    assert any(name in line for line in headings)
    assert f"`{name}`" in (DOCS / "concepts" / "taxonomy.md").read_text("utf-8")


def test_a_wrong_word_is_named():
    for call, words in [
        (lambda: recipes.cartography(region="odd"), "cartography.region must be one of 'ambiguous', 'hard', 'easy'"),
        (lambda: recipes.perplexity_pruning(band="top"), "perplexity_pruning.band must be one of"),
        (lambda: recipes.nlu_data_diets(task="glue"), "nlu_data_diets.task must be one of"),
        (lambda: recipes.active_inheritance("charm"), "active_inheritance.metric must be one of"),
        (lambda: recipes.infobatch(n_epochs="ten"), "infobatch.n_epochs must be a whole number"),
        (
            lambda: recipes.metadata_pruning("n", keep_fraction="half"),
            "metadata_pruning.keep_fraction must be a number",
        ),
    ]:
        with pytest.raises(DataPruneError, match=words):
            call()


def test_the_metrics_of_active_inheritance_read_lists_and_data_sets():
    rows = [{"text": "a a a a"}, {"text": "a b c"}]
    for data in (rows, Dataset.from_list(rows)):
        by_length = recipes.active_inheritance("length").fit(data)
        assert by_length.scores_.tolist() == [4.0, 3.0]
        by_diversity = recipes.active_inheritance().fit(data)
        assert by_diversity.scores_.tolist() == [0.25, 1.0]


@pytest.mark.parametrize("kind", [list, Dataset.from_list], ids=["list", "datasets"])
def test_a_metric_of_a_column_that_is_not_there_says_so(kind):
    with pytest.raises(DataError, match="There is no column 'body'"):
        recipes.active_inheritance("length", column="body").fit(kind([{"text": "a b"}, {"text": "a"}]))


def test_a_search_has_a_pruner_for_each_of_its_two_sets():
    first, second = recipes.bilevel_architecture_search(keep_fraction=0.3, random_state=5)
    assert (first.random_state, second.random_state) == (5, 6)
    assert first.scheduler.keep_fraction == second.scheduler.keep_fraction == 0.3
    first.set_params(scheduler__keep_fraction=0.2)
    assert second.scheduler.keep_fraction == 0.3


def test_infobatch_ends_on_everything():
    pruner = recipes.infobatch(n_epochs=8)
    pruner.fit(digits(), model=nn.Linear(64, 10), n_epochs=8, batch_size=20)
    kept = [record.n_kept for record in pruner.history_]
    assert kept[0] == kept[-1] == N
    assert all(n < N for n in kept[1:-1])
    assert isinstance(pruner.scorer, Loss)


def small_model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("score", ["el2n", "grand"])
def test_a_data_diet_averages_over_several_runs(score):
    data, scorer = digits(), recipes.data_diet(score=score).scorer
    single = []
    for seed in range(3):
        model = small_model(seed)
        scorer.partial_fit(data, model=model)
        single.append(clone(scorer).fit(data, model=model).scores_)
    pruner = StaticPruner(scorer, TopK(keep_fraction=0.25)).fit(data)
    np.testing.assert_allclose(pruner.scores_, np.mean(single, axis=0), rtol=1e-5)
    assert len(pruner.fit_transform(data)) == N // 4


@pytest.mark.parametrize("score", ["pvi", "vog"])
def test_scores_of_trained_models_choose_within_the_floors(score):
    data, pruner = digits(), recipes.sexism_data_diet(score=score, n_min=2, keep_fraction=0.25)
    labels = data.tensors[1].numpy()
    pruner.scorer.fit(data, model=small_model(0) if score == "pvi" else [small_model(0), small_model(1)])
    kept = pruner.fit(data, labels=labels).indices_
    assert len(kept) == N // 4
    assert np.bincount(labels[kept], minlength=10).min() >= 2
    free = len(kept) - 2 * 10  # what the floors leave for the hardest of all
    hardest = np.argsort(-pruner.scorer.scores_, kind="stable")[:free]
    assert set(hardest.tolist()) <= set(kept.tolist())
