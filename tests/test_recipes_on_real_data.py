"""Every recipe on a part of a real set (SST-2, from DATAPRUNE_DATA): from Python and from the command line.

But for ``bilevel_architecture_search``: it searches in images, and its real set is scikit-learn's digits, in the
default suite (``examples/architecture_search.py`` and ``tests/cli/test_train_images.py``).
"""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_parts import run_cli, train_words, write_rows

from dataprune import ClassificationTask, StaticPruner, build_model, embed_texts, load_data, load_tokenizer
from dataprune.data.reading import read_file
from dataprune.recipes import RECIPES
from dataprune.scoring.store import ScoreStore

N_ROWS = 300
ONCE = sorted(name for name, recipe in RECIPES.items() if recipe.kind == "static")
TRAINED = sorted(RECIPES.keys() - {"bilevel_architecture_search", "perplexity_pruning"})
NEEDED = {
    "infobatch": {"n_epochs": 3},
    "rho_loss": {"irreducible_loss": np.linspace(0, 1, N_ROWS)},
    "metadata_pruning": {"column": "n_characters"},
    "sexism_data_diet": {"n_min": 20},
    "nlu_data_diets": {"task": "sentence", "n_warmup_epochs": 1},
    "forgetting_events": {"n_warmup_epochs": 1},
    "cartography": {"n_warmup_epochs": 1},
    "ccs": {"n_warmup_epochs": 1},
}
"""What a run of three epochs on data without metadata takes."""
MODELS = {"deft_ucs": "tiny_encoder_dir", "smart": "tiny_encoder_dir", "perplexity_pruning": "tiny_language_model_dir"}
"""What `select` looks through."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DATAPRUNE_DATA" not in os.environ, reason="DATAPRUNE_DATA names no folder of real data"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first rows of each split."""
    made = tmp_path_factory.mktemp("sst2")
    for split, n_rows in {"train": N_ROWS, "valid": 60, "test": 60}.items():
        path = Path(os.environ["DATAPRUNE_DATA"]) / "sst2" / f"{split}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [{**json.loads(line), "row": row} for row, line in zip(range(n_rows), file, strict=False)]
        for row in rows:
            row.update(n_characters=len(row["text"]), source=row["row"] % 3)
        write_rows(made / f"{split}.jsonl", rows)
    return made


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "bilevel_architecture_search"])
def test_a_recipe_runs_from_python(name, folder, request):
    encoder = request.getfixturevalue("tiny_encoder_dir")
    rows, tokenizer = load_data(folder).splits["train"], load_tokenizer(encoder)
    task = ClassificationTask(max_length_tokens=32).fit(rows)
    data, model = task.encode(rows, tokenizer), build_model(task, encoder)
    pruner = RECIPES[name].make(**NEEDED.get(name, {}))
    if isinstance(pruner, StaticPruner):
        if name == "perplexity_pruning":
            from transformers import AutoModelForCausalLM

            language_model = request.getfixturevalue("tiny_language_model_dir")
            pruner.scorer.fit(
                rows,
                model=AutoModelForCausalLM.from_pretrained(language_model),
                tokenizer=load_tokenizer(language_model),
            )
        features = embed_texts(rows["text"][:], model.base_model, tokenizer)
        kept = pruner.fit_transform(rows, features=features, groups=data["labels"][:])
        assert len(kept) == round(pruner.selector.keep_fraction * N_ROWS)
        return
    pruner.fit(
        data, model=model, n_epochs=3, collate_fn=task.collator(tokenizer), labels=data["labels"][:], learning_rate=1e-3
    )
    trained = sum(record.n_trained for record in pruner.history_)
    assert trained == 3 * N_ROWS if name == "ir_dro" else 0 < trained < 3 * N_ROWS


@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_trains_from_the_command_line(name, folder, tmp_path, tiny_encoder_dir):
    arguments = {key: value for key, value in NEEDED.get(name, {}).items() if key in {"column", "n_min"}}
    words = [word for key, value in arguments.items() for word in ("--recipe-arg", f"{key}={value}")]
    words += ["--n-warmup-epochs", 1] if "n_warmup_epochs" in NEEDED.get(name, {}) else []
    if name == "rho_loss":
        store = ScoreStore(N_ROWS)
        store.update(torch.arange(N_ROWS), torch.linspace(0, 1, N_ROWS), epoch=0)
        store.save(tmp_path / "irreducible.safetensors")
        words += ["--scores", tmp_path / "irreducible.safetensors"]
    done = run_cli(*train_words(folder, tiny_encoder_dir, tmp_path / "run", "--recipe", name, "--json", *words))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["n_examples"] == N_ROWS


@pytest.mark.parametrize("name", ONCE)
def test_a_recipe_selects_from_the_command_line(name, folder, tmp_path, request):
    arguments = {key: value for key, value in NEEDED.get(name, {}).items() if key in {"column", "n_min"}}
    words = [word for key, value in arguments.items() for word in ("--recipe-arg", f"{key}={value}")]
    if RECIPES[name].make.__module__.endswith(".once"):
        scores = np.random.default_rng(0).normal(size=N_ROWS)
        write_rows(tmp_path / "s.jsonl", [{"source_row": i, "score": float(s)} for i, s in enumerate(scores)])
        words += ["--scores", tmp_path / "s.jsonl"]
    words += ["--model", request.getfixturevalue(MODELS[name])] if name in MODELS else []
    words += {"sexism_data_diet": ["--label-column", "label"], "smart": ["--group-column", "source"]}.get(name, [])
    done = run_cli("select", folder, "--recipe", name, *words, "--keep-fraction", 0.3, "--output", tmp_path / "o.jsonl")
    assert done.exit_code == 0, done.stderr
    assert len(read_file(tmp_path / "o.jsonl")) == round(0.3 * N_ROWS)
