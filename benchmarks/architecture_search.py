"""A small architecture search on digits with both of its sets pruned, against full data, chance and fewer epochs.

The supernet of examples/architecture_search.py; what a search chose is trained anew on both of its sets and tested. All
cells, a line of results/architecture_search.jsonl each, take a few minutes of one core:

    OMP_NUM_THREADS=1 python benchmarks/architecture_search.py
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from cells import cpu_name, read_lines

from dataprune import ConstantScheduler, CyclicScheduler, DynamicPruner, RandomK, recipes
from dataprune.runs.searching import search_architecture

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from architecture_search import N_EPOCHS, accuracy, batch, digits, network

RESULTS = Path(__file__).parent / "results" / "architecture_search.jsonl"
SEEDS = range(5)
N_FINAL_EPOCHS = 15
Pruners = tuple[DynamicPruner, DynamicPruner]


def _full(seed: int) -> Pruners:
    first, second = (
        DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=2 * seed + i)
        for i in range(2)
    )
    return first, second


def _chance(seed: int) -> Pruners:
    schedule = CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=1)
    first, second = (DynamicPruner(None, RandomK(), schedule, random_state=2 * seed + i) for i in range(2))
    return first, second


METHODS: dict[str, tuple[Callable[[int], Pruners], int]] = {
    "full": (_full, N_EPOCHS),
    "bilevel_architecture_search keep 0.5": (
        lambda seed: recipes.bilevel_architecture_search(random_state=2 * seed),
        N_EPOCHS,
    ),
    "random keep 0.5": (_chance, N_EPOCHS),
    "full for 6 epochs": (_full, 6),
}


def run_cell(method: str, seed: int) -> dict[str, object]:
    """Search, train what was found, test it."""
    make, n_epochs = METHODS[method]
    pruners = make(seed)
    torch.manual_seed(seed)
    train, test = digits()
    start = time.process_time()
    chosen = search_architecture(network(), train, pruners, n_epochs=n_epochs, collate_fn=batch, seed=seed)
    seconds = time.process_time() - start
    torch.manual_seed(seed)
    net = network(chosen)
    everything = DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=seed)
    everything.fit(train, model=net, n_epochs=N_FINAL_EPOCHS, learning_rate=3e-3, collate_fn=batch)
    return {
        "method": method,
        "seed": seed,
        "accuracy": accuracy(net, test),
        "chosen": chosen,
        "examples_trained": sum(record.n_trained for pruner in pruners for record in pruner.history_),
        "n_updates": sum(record.n_updates for pruner in pruners for record in pruner.history_),
        "search_cpu_seconds": seconds,
        "versions": {"torch": version("torch")},
        "hardware": {"cpu": cpu_name(), "n_threads": torch.get_num_threads()},
    }


def main() -> None:
    """Run what is missing, then print the table of everything."""
    from report import interval, paired, seeds_of, table

    done = {(line["method"], line["seed"]) for line in read_lines(RESULTS)}
    for seed in SEEDS:
        for method in METHODS:
            if (method, seed) not in done:
                line = json.dumps(run_cell(method, seed))
                with RESULTS.open("a") as file:
                    file.write(line + "\n")
    cells = {(line["method"], line["seed"]): line for line in read_lines(RESULTS)}
    rows = []
    for method in METHODS:
        mine = [cells[method, seed] for seed in seeds_of(cells, method)]
        ratios = [a["search_cpu_seconds"] / b["search_cpu_seconds"] for a, b in paired(cells, method)]
        rows.append(
            [
                method,
                f"{100 * sum(line['accuracy'] for line in mine) / len(mine):.1f}",
                "" if method == "full" else interval([a["accuracy"] - b["accuracy"] for a, b in paired(cells, method)]),
                f"{sum(line['n_updates'] for line in mine) / len(mine):,.0f}",
                f"{sum(ratios) / len(ratios):.0%}",
            ]
        )
    print(*table(["method", "accuracy", "vs full", "updates", "CPU time of the search"], rows), sep="\n")


if __name__ == "__main__":
    main()
