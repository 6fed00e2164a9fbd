"""What counting training dynamics costs: 1M examples x 10 epochs through a `DynamicsStore`, given their values.

Goals: under 1 microsecond per example and epoch (`update` and `flush`), at most 40 bytes per example. For comparison,
in the same run: a loop over examples that sums the margins alone (as the package `aum` does, without its records), and
the forming of the values from logits (C = 10). CPU time is what to read on a shared machine; wall-clock stands beside
it. One line is added to results/dynamics.jsonl:

    OMP_NUM_THREADS=1 python benchmarks/dynamics.py
"""

from __future__ import annotations

import json
import platform
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from cells import cpu_name

from dataprune.scoring.dynamics_functional import visit_values
from dataprune.scoring.dynamics_store import DynamicsStore
from dataprune.scoring.store import MAX_NOTES

RESULTS = Path(__file__).parent / "results" / "dynamics.jsonl"
N_EXAMPLES, N_EPOCHS, BATCH_SIZE, N_CLASSES = 1_000_000, 10, 4096, 10
N_EXAMPLES_OF_THE_LOOP = 100_000


class Clock:
    """CPU and wall-clock seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count what the block takes."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.seconds[part][0] += time.process_time() - cpu
        self.seconds[part][1] += time.perf_counter() - wall

    def microseconds(self, part: str, n: int) -> dict[str, float]:
        """Return the part's time for one of n."""
        cpu, wall = self.seconds[part]
        return {"cpu": round(1e6 * cpu / n, 4), "wall": round(1e6 * wall / n, 4)}


def main() -> None:
    """Measure, and add a line to the results."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    store = DynamicsStore(N_EXAMPLES, score="aum")
    margins: defaultdict[int, float] = defaultdict(float)
    clock = Clock()
    for epoch in range(N_EPOCHS):
        order = torch.randperm(N_EXAMPLES, generator=generator)
        batches = []
        for index in order.split(BATCH_SIZE):
            logits = torch.randn(len(index), N_CLASSES, generator=generator)  # (B, C)
            labels = torch.randint(N_CLASSES, (len(index),), generator=generator)
            with clock("values"):
                values = visit_values(logits, labels)
            batches.append((index, values))
        with clock("store"), clock(f"epoch {epoch}"):
            for index, values in batches:
                store.update(index, values, epoch=epoch)
            store.flush()
        with clock("loop"):
            for index, values in batches[: N_EXAMPLES_OF_THE_LOOP // BATCH_SIZE]:
                for i, margin in zip(index.tolist(), values[:, 1].tolist(), strict=True):
                    margins[i] += margin
    n_visits = N_EXAMPLES * N_EPOCHS
    n_looped = N_EXAMPLES_OF_THE_LOOP // BATCH_SIZE * BATCH_SIZE * N_EPOCHS
    assert int(store.counts.sum()) == n_visits  # noqa: S101 - nothing was dropped
    tracemalloc.start()
    for index, values in batches:
        store.update(index, values, epoch=N_EPOCHS)
    store.flush()
    peak = tracemalloc.get_traced_memory()[1]
    line = {
        "n_examples": N_EXAMPLES,
        "n_epochs": N_EPOCHS,
        "batch_size": BATCH_SIZE,
        "n_classes": N_CLASSES,
        "microseconds_per_example_and_epoch": {
            "store, all dynamics": clock.microseconds("store", n_visits),
            "store, first epoch": clock.microseconds("epoch 0", N_EXAMPLES),
            "values from logits": clock.microseconds("values", n_visits),
            "loop over examples, margins alone": clock.microseconds("loop", n_looped),
        },
        "bytes_per_example": {
            "table": sum(array.nbytes for name, array in store.state_dict().items() if hasattr(array, "nbytes"))
            / N_EXAMPLES,
            "notes until they are counted": round(MAX_NOTES * (8 + 3 * 4) / N_EXAMPLES, 1),
            "what counting them takes beside": round(peak / N_EXAMPLES, 1),
        },
        "hardware": {"cpu": cpu_name(), "n_threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in ("dataprune", "torch", "numpy")}
        | {"python": platform.python_version()},
        "command": "OMP_NUM_THREADS=1 python benchmarks/dynamics.py",
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=2))


if __name__ == "__main__":
    main()
