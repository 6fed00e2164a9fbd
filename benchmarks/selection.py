"""Selectors on 10^8 float32 scores: seconds of processor time and peak memory, each in a process of its own.

    python benchmarks/selection.py                         # all; adds a line each to results/selection.jsonl
    python benchmarks/selection.py --n-scores 1000000 --only TopK

Beside them numpy's full argsort of the same scores. Times are those of the process (user and system), not of the clock,
for other work may run beside; of three runs the median is the result, and the first is told too. System time is mostly
the first touch of fresh pages of memory: most in the first run of a process, and on a virtual machine it varies with
the host. Memory is the peak above the scores, results included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import StratifiedK
from dataprune.selection.unbiased import ImportanceSample, SoftPrune

RESULTS = Path(__file__).parent / "results" / "selection.jsonl"
SELECTORS = {
    type(selector).__name__: selector
    for selector in (
        TopK(),
        RandomK(),
        ScoreWindow(),
        BothEnds(),
        StratifiedK(),
        WeightedK(),
        EpsilonGreedy(),
        SoftPrune(),
        ImportanceSample(),
    )
}
GOAL_SECONDS = {"TopK": 1.5, "ScoreWindow": 1.5, "StratifiedK": 5.0, "WeightedK": 5.0, "ImportanceSample": 5.0}
GOAL_MIB = 1024


def make_scores(n_scores: int, seed: int) -> np.ndarray:
    """Draw positive scores with a long tail, like losses; in pieces, so that the peak is that of the scores."""
    rng = np.random.default_rng([seed, 54321])  # not the stream of a selector's seed: its draw would follow the scores
    scores = np.empty(n_scores, np.float32)
    for start in range(0, n_scores, 1_000_000):
        piece = scores[start : start + 1_000_000]
        piece[:] = rng.gamma(1.0, size=len(piece))
    return scores


def peak_mib() -> float:
    """Return the peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def measure(name: str, n_scores: int, keep_fraction: float, n_runs: int, seed: int) -> dict[str, Any]:
    """Run one selector, or ``argsort``, some times in this process."""
    scores = make_scores(n_scores, seed)
    before, runs = peak_mib(), []
    for run in range(n_runs):
        start = os.times()
        if name == "argsort":
            np.argsort(scores)
        else:
            selector = clone(SELECTORS[name]).set_params(keep_fraction=keep_fraction, random_state=run).fit(scores)
        end = os.times()
        if name != "argsort":
            assert len(selector.indices_) == round(keep_fraction * n_scores)  # noqa: S101
            del selector
        runs.append({"user": round(end.user - start.user, 2), "system": round(end.system - start.system, 2)})
    return {
        "cpu_seconds": round(statistics.median(run["user"] + run["system"] for run in runs), 2),
        "cpu_seconds_of_first_run": round(runs[0]["user"] + runs[0]["system"], 2),
        "user_seconds": statistics.median(run["user"] for run in runs),
        "runs": runs,
        "peak_mib_above_scores": round(peak_mib() - before),
    }


def measure_apart(name: str, options: argparse.Namespace, keep_fraction: float) -> dict[str, Any]:
    """Run `measure` in a process of its own."""
    command = [sys.executable, __file__, "--worker", name, "--n-scores", str(options.n_scores)]
    command += ["--keep-fraction", str(keep_fraction), "--n-runs", str(options.n_runs), "--seed", str(options.seed)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure each selector at each share and add a line for each to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-scores", type=int, default=100_000_000)
    parser.add_argument("--keep-fraction", type=float, nargs="+", default=[0.1, 0.5])
    parser.add_argument("--only", nargs="+", choices=SELECTORS, default=list(SELECTORS))
    parser.add_argument("--n-runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", choices=[*SELECTORS, "argsort"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        (keep_fraction,) = options.keep_fraction
        print(json.dumps(measure(options.worker, options.n_scores, keep_fraction, options.n_runs, options.seed)))
        return
    argsort = measure_apart("argsort", options, 1.0)
    print("argsort", argsort)
    for name in options.only:
        for keep_fraction in options.keep_fraction:
            result = measure_apart(name, options, keep_fraction)
            line = {
                "selector": repr(SELECTORS[name]),
                "n_scores": options.n_scores,
                "dtype": "float32",
                "keep_fraction": keep_fraction,
                "seed": options.seed,
                **result,
                "argsort_cpu_seconds": argsort["cpu_seconds"],
                "times_as_fast_as_argsort": round(argsort["cpu_seconds"] / max(result["cpu_seconds"], 0.01), 1),
                "goal_seconds": GOAL_SECONDS.get(name),
                "goal_mib": GOAL_MIB,
                "hardware": {"cpu": cpu(), "n_threads": 1},
                "versions": {"python": platform.python_version(), "numpy": np.__version__},
                "command": " ".join(["python", *sys.argv]),
            }
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(name, keep_fraction, result)


if __name__ == "__main__":
    main()
