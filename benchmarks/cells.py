"""Finished cells as lines of a JSON file, and the missing ones run side by side, each in a process of one thread."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from dataprune.data.forward import emulates_bf16


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def read_lines(results: Path) -> list[dict[str, Any]]:
    """Read the finished cells."""
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def run_cells(
    script: str, cells: Iterable[tuple[str, ...]], results: Path | None, *, n_processes: int, in_bf16: bool = True
) -> bool:
    """Run ``script --cell *cell`` for each cell and add its last line of output to the results, if these are given.

    `in_bf16` says whether any of the cells trains in bfloat16: a CPU that only emulates it is refused. Returns whether
    all went well; a cell that failed is left for the next call.
    """
    if in_bf16 and emulates_bf16(torch.device("cpu")):
        sys.exit(
            "The cells train in bfloat16, which this CPU only emulates: they would take long, and times not compare."
        )
    if results is not None:
        results.parent.mkdir(exist_ok=True)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def start(cell: tuple[str, ...]) -> bool:
        command = [sys.executable, script, "--cell", *cell]
        done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"failed: {cell}", file=sys.stderr)
            return False
        if results is not None:
            with results.open("a") as file:  # one write: lines of two processes do not mix
                file.write(done.stdout.splitlines()[-1] + "\n")
        print(f"done: {cell}", file=sys.stderr)
        return True

    with ThreadPoolExecutor(n_processes) as pool:
        return all(list(pool.map(start, cells)))
