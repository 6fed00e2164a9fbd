"""The commands of the tutorial run as they stand, on built-in data in the places of the real files."""

import gzip
import importlib.util
import json
import re
import shlex
import subprocess
import threading
from pathlib import Path
from statistics import mean, stdev

import pytest
from cli_parts import run_cli
from suspects_parts import save_encoder

from dataprune import make_classification, make_joint_nlu
from dataprune.runs.run import run

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
PAGE = TUTORIALS / "clinc-and-atis.md"
OUTPUTS = TUTORIALS / "clinc-and-atis"


def script():
    """Return the script that runs the page's commands on the real data."""
    spec = importlib.util.spec_from_file_location("make_outputs", TUTORIALS / "make_outputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SIZES = {"train": 120, "valid": 30, "test": 30}
BLOCKS = script().command_blocks(PAGE.read_text("utf-8"))


def write_gzip(path, rows):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the page names: made-up sentences, and an encoder that knows their words."""
    monkeypatch.chdir(tmp_path)
    texts = {split: make_classification(n, random_state=n).dataset.to_list() for split, n in SIZES.items()}
    frames = {split: make_joint_nlu(n, random_state=n).dataset.to_list() for split, n in SIZES.items()}
    for split in SIZES:
        if split != "valid":
            write_gzip(tmp_path / "clinc150" / f"{split}.jsonl.gz", texts[split])
        write_gzip(tmp_path / "atis" / f"{split}.jsonl.gz", frames[split])
    words = [row["text"].split() for row in texts["train"]] + [row["tokens"] for row in frames["train"]]
    save_encoder(tmp_path / "minilm", words, n_positions=128)
    return tmp_path


def in_this_process(monkeypatch):
    """Train the runs of a comparison here, in turn: starting a process for each takes longer than they do."""
    lock = threading.Lock()

    def run_cell(config, *, name, n_threads):
        with lock:
            return run(config)

    monkeypatch.setattr("dataprune.runs.compare._run_cell", run_cell)


def test_the_commands_run_in_order(here, monkeypatch):
    in_this_process(monkeypatch)
    for commands, _ in BLOCKS:
        for line in commands.splitlines():
            program, *words = shlex.split(line)
            if program == "dataprune":
                done = run_cli(*words)
                assert done.exit_code == 0, f"{line}\n{done.stderr}"
            else:
                subprocess.run([program, *words], check=True, cwd=here)
    made = {path.name for path in here.iterdir()}
    assert made >= {"run", "frames", "report.html", "frames.html", "corrected.jsonl", "harder-half.jsonl", "half.jsonl"}


def test_the_outputs_are_those_of_the_page_s_commands():
    names = [name for _, name in BLOCKS if name]
    assert len(BLOCKS) == PAGE.read_text("utf-8").count("```bash") >= 10
    assert len(set(names)) == len(names)
    assert {path.name for path in OUTPUTS.glob("*.txt")} == set(names)


def test_the_table_of_the_comparison_is_that_of_the_benchmark():
    printed = " ".join((OUTPUTS / "compare.txt").read_text().split())
    lines = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "nlu.jsonl").read_text().splitlines()]
    for method, name in script().COMPARED.items():
        cells = [line for line in lines if (line["suite"], line["method"]) == ("atis-10", name)]
        accuracy = [100 * line["metrics"]["test"]["frame_accuracy"] for line in cells]
        assert len(accuracy) == 3
        assert f"{method} {mean(accuracy):.2f} ± {stdev(accuracy):.2f} " in printed


def test_the_figures_of_the_run_are_those_that_it_printed():
    [run] = json.loads((OUTPUTS / "results.json").read_text())["runs"].values()
    printed = " ".join((OUTPUTS / "train.txt").read_text().split())
    accuracy = run["metrics"]
    assert f"accuracy {accuracy['valid']['accuracy']:.2%} {accuracy['test']['accuracy']:.2%}" in printed
    assert f"{run['tokens_trained']:,} {run['n_updates']:,} {run['compute_fraction']:.0%}" in printed


def test_the_pictures_are_small_and_those_that_the_script_makes():
    named = set(re.findall(r"\(clinc-and-atis/([\w-]+)\.png\)", PAGE.read_text("utf-8")))
    assert named == {*script().PICTURES, "frames"}
    for name in named:
        assert 0 < (OUTPUTS / f"{name}.png").stat().st_size < 200_000
