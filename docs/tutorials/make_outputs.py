"""Run the commands of a tutorial on real data, and keep what they print, the pictures and the figures.

Run: python docs/tutorials/make_outputs.py FOLDER     (needs chromium and chromedriver)

FOLDER holds clinc150/ and minilm/. A block of commands whose output is in FOLDER/outputs.json is not run again: some
train; remove that file and what the commands wrote to begin anew. The comparison on ATIS is made of the runs of
benchmarks/nlu.py, read from their result file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from dataprune.cli.compare import print_comparison
from dataprune.reporting import plot_pareto
from dataprune.runs.compare import FEWER, FULL, PRUNED, RANDOM, summarise

HERE = Path(__file__).resolve().parent
PAGE = HERE / "clinc-and-atis.md"
OUTPUTS = HERE / PAGE.stem
PICTURES = {"report-top": ("", 900), "report-suspects": ("#suspects", 700)}
"""Name -> part of the report, height."""

BENCHMARK = HERE.parents[1] / "benchmarks" / "results" / "nlu.jsonl"
COMPARED = {
    FULL: "full",
    FEWER: "full for 3 epochs",
    RANDOM: "dynamic random keep 0.2",
    PRUNED: "observed TopK keep 0.2",
}
"""Method of `dataprune compare` -> its name in the benchmark."""

KEPT = ("metrics", "best_epoch", "seconds", "n_examples", "n_updates", "tokens_trained", "compute_fraction", "config")


def command_blocks(page: str) -> list[tuple[str, str]]:
    """Return each block of commands, and the name of the file with its output, if the page shows one below it."""
    fences = [token for token in MarkdownIt().parse(page) if token.type == "fence"]
    return [
        (block.content, Path(below.info.split()[-1]).name if below.info.startswith("{literalinclude}") else "")
        for block, below in zip(fences, [*fences[1:], fences[0]], strict=True)
        if block.info == "bash"
    ]


def run_block(commands: str, folder: Path) -> str:
    """Run commands as a user would, and return what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(  # noqa: S603 - the page's own commands
        ["bash", "-euc", commands],  # noqa: S607
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{commands}\n{done.stdout}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def figures(folder: Path) -> dict[str, Any]:
    """Return what the run measured."""
    run = json.loads((folder / "run" / "run.json").read_text())
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = re.search(r"model name\s*: (.*)", info)
    return {
        "runs": {"run": {what: run[what] for what in KEPT}},
        "hardware": {"cpu": cpu[1] if cpu else platform.processor(), "n_cores": os.cpu_count(), "n_threads": 1},
        "versions": {name: version(name) for name in ("dataprune", "torch", "transformers", "scikit-learn", "numpy")},
    }


def read_comparison() -> dict[tuple[str, int], dict[str, Any]]:
    """Return the benchmark's runs by method and seed, in seconds of the CPU: the clock saw other processes too."""
    methods = {name: method for method, name in COMPARED.items()}
    lines = [json.loads(line) for line in BENCHMARK.read_text().splitlines()]
    lines = [line for line in lines if line["suite"] == "atis-10" and line["method"] in methods]
    runs = {}
    for line in sorted(lines, key=lambda line: list(methods).index(line["method"])):
        share = line["cpu_seconds"] / line["seconds"]["total"]
        seconds = {what: share * spent for what, spent in line["seconds"].items()}
        runs[methods[line["method"]], line["seed"]] = {**line, "seconds": seconds}
    return runs


def main() -> None:
    """Run what has not been run, then write all files of the page."""
    sys.path.insert(0, str(HERE.parent / "how-to"))
    from make_report_pictures import take_picture

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    record = folder / "outputs.json"
    outputs = json.loads(record.read_text()) if record.exists() else {}
    for commands, name in command_blocks(PAGE.read_text("utf-8")):
        if not name or "atis/" in commands:
            continue
        if commands not in outputs:
            outputs[commands] = run_block(commands, folder)
            record.write_text(json.dumps(outputs, indent=1))
        (OUTPUTS / name).write_text(outputs[commands], encoding="utf-8")
    (OUTPUTS / "results.json").write_text(json.dumps(figures(folder), indent=1) + "\n")
    for name, (part, height) in PICTURES.items():
        picture = OUTPUTS / f"{name}.png"
        take_picture(folder / "report.html", picture, part=part, width=1280, height=height, colours="light")
    runs = read_comparison()
    with (OUTPUTS / "compare.txt").open("w") as file, redirect_stdout(file):
        print_comparison(summarise(runs))
    ax = plot_pareto(
        [method for method, _ in runs],
        [run["seconds"]["total"] for run in runs.values()],
        [run["metrics"]["test"]["frame_accuracy"] for run in runs.values()],
        metric="frame accuracy",
    )
    ax.figure.savefig(OUTPUTS / "frames.png", dpi=120)


if __name__ == "__main__":
    main()
