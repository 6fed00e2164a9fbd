"""Do the cheap scores rank as GraNd does? EL2N and LastLayerGraNd against GraNd of all parameters, on digits.

An MLP of two hidden layers is trained on all 1,797 of scikit-learn's images; the three score the same model after 0, 1,
3 and 10 epochs. Rank correlation and overlap of the kept half with their 95 % intervals, see `agreement`. One line per
seed is added to results/grand_agreement.jsonl:

    OMP_NUM_THREADS=1 python benchmarks/grand_agreement.py
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from cells import cpu_name
from sklearn.datasets import load_digits
from torch import nn

from dataprune import EL2N, GraNd, LastLayerGraNd, agreement

RESULTS = Path(__file__).parent / "results" / "grand_agreement.jsonl"
EPOCHS, SEEDS = (0, 1, 3, 10), range(3)


def main() -> None:
    """Measure, print, and add lines to the results."""
    torch.set_num_threads(1)
    images, targets = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(targets)
    data = list(zip(x, y, strict=True))
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        start, cells = time.process_time(), []
        for epoch in range(max(EPOCHS) + 1):
            if epoch in EPOCHS:
                scorers = {"grand": GraNd(), "last_layer": LastLayerGraNd(), "el2n": EL2N()}
                found = agreement(
                    {name: scorer.fit(data, model=model) for name, scorer in scorers.items()},
                    keep_fraction=0.5,
                    n_bootstrap=200,
                )
                with torch.no_grad():
                    accuracy = (model(x).argmax(1) == y).float().mean().item()
                pairs = [asdict(pair) for pair in found.pairs if pair.first == "grand"]
                cells.append({"n_epochs": epoch, "train_accuracy": round(accuracy, 4), "pairs": pairs})
                print(f"seed {seed}, {epoch} epochs, train accuracy {accuracy:.3f}\n{found}")
            for rows in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        line = {
            "command": "OMP_NUM_THREADS=1 python benchmarks/grand_agreement.py",
            "data": "scikit-learn's digits",
            "seed": seed,
            "keep_fraction": 0.5,
            "cells": cells,
            "cpu_seconds": round(time.process_time() - start, 1),
            "versions": {p: version(p) for p in ("torch", "scikit-learn", "numpy", "scipy")}
            | {"python": platform.python_version()},
            "hardware": {"cpu": cpu_name(), "threads": 1},
        }
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
