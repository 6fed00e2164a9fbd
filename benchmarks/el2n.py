"""EL2N from logits (512, C) against `F.cross_entropy(reduction="none")` on the same logits: CPU time and extra memory.

Goals: at most 2 x the cross entropy's time for C = 10 and 150, 1.5 x for 1,000, 0.7 x for 50,000; extra memory at most
0.1 x the logits. One thread; the two take turns, and medians of the thread's CPU time are compared. Memory is the
highest sum of live allocations that torch's profiler saw, the result included (4 bytes per row: 1 / C of the logits).
For C = 150 and above the largest chunk is varied as well. One line is added to results/el2n.jsonl:

    OMP_NUM_THREADS=1 python benchmarks/el2n.py
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name

from dataprune.scoring import functional
from dataprune.scoring.functional import el2n

RESULTS = Path(__file__).parent / "results" / "el2n.jsonl"
BATCH_SIZE = 512
GOALS = {10: 2.0, 150: 2.0, 1_000: 1.5, 50_000: 0.7}
N_REPEATS = {10: 2000, 150: 2000, 1_000: 600, 50_000: 15}
CHUNKS = {150: (7_100,), 1_000: (46_000, 1 << 16, 1 << 17, 1 << 18), 50_000: (1 << 17, 1 << 18)}
Function = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each example."""
    return F.cross_entropy(logits, labels, reduction="none")


def in_chunks(n_elements: int) -> Function:
    """Return EL2N with another largest chunk."""

    def run(logits: Tensor, labels: Tensor) -> Tensor:
        with mock.patch.object(functional, "CHUNK_ELEMENTS", n_elements):
            return el2n(logits, labels)

    return run


def seconds(functions: list[Function], logits: Tensor, labels: Tensor, n_repeats: int) -> list[float]:
    """Return each function's median CPU seconds, all taking turns."""
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(n_repeats + 3):
        for function, own in zip(functions, times, strict=True):
            start = time.thread_time_ns()
            function(logits, labels)
            if repeat >= 3:  # warm
                own.append((time.thread_time_ns() - start) / 1e9)
    return [statistics.median(own) for own in times]


def peak_bytes(function: Function, logits: Tensor, labels: Tensor) -> int:
    """Return the most bytes that were live at once in one call, above what was there before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function(logits, labels)
    results = profile.profiler.kineto_results
    events = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    live = peak = 0
    for _, n_bytes in events:
        live += n_bytes
        peak = max(peak, live)
    return peak


def cpu() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Measure, print, and add a line to the results."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    cells: list[dict[str, Any]] = []
    for n_classes, goal in GOALS.items():
        logits = torch.randn(BATCH_SIZE, n_classes, generator=generator)
        labels = torch.randint(n_classes, (BATCH_SIZE,), generator=generator)
        others = {n_elements: in_chunks(n_elements) for n_elements in CHUNKS.get(n_classes, ())}
        reference, own, *varied = seconds([cross_entropy, el2n, *others.values()], logits, labels, N_REPEATS[n_classes])
        size = logits.numel() * 4
        cell = {
            "n_classes": n_classes,
            "cross_entropy_microseconds": round(1e6 * reference, 1),
            "el2n_microseconds": round(1e6 * own, 1),
            "time_ratio": round(own / reference, 3),
            "time_goal": goal,
            "logits_bytes": size,
            "cross_entropy_extra_memory": round(peak_bytes(cross_entropy, logits, labels) / size, 3),
            "el2n_extra_memory": round(peak_bytes(el2n, logits, labels) / size, 3),
            "memory_goal": 0.1,
            "with_chunks_of": {
                4 * n_elements: {
                    "time_ratio": round(own / reference, 3),
                    "extra_memory": round(peak_bytes(function, logits, labels) / size, 3),
                }
                for (n_elements, function), own in zip(others.items(), varied, strict=True)
            },
        }
        print(json.dumps(cell))
        cells.append(cell)
    line = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/el2n.py",
        "batch_size": BATCH_SIZE,
        "n_repeats": N_REPEATS,
        "cells": cells,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "hardware": {"cpu": cpu(), "threads": 1},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
