"""The tables in the README and in the benchmarks' page are those of the committed result lines."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def nlu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("nlu")


def test_the_pages_show_the_committed_results(nlu):
    for page, text in nlu.pages().items():
        assert page.read_text("utf-8") == text, "run: python benchmarks/nlu.py --report"


def test_finished_cells_are_not_run_again(nlu):
    lines = nlu.read_lines(nlu.RESULTS)
    done = {(line["suite"], line["method"], line["seed"]) for line in lines}

    assert not done & set(nlu.missing_cells(list(nlu.METHODS)))
    assert len(done) == len(lines), "a cell stands twice in the results"
    assert done, "no results are committed"


def test_runs_without_the_data_say_what_is_missing():
    command = [sys.executable, str(BENCHMARKS / "nlu.py")]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "set DATAPRUNE_DATA" in done.stderr


def test_a_row_is_held_against_rows_of_its_own_precision_and_number_of_updates(nlu):
    def line(method, accuracy, *, precision="no", n_updates=392):
        metrics = dict.fromkeys(("frame_accuracy", "span_f1", "intent_accuracy"), accuracy)
        return {
            "suite": "atis-10",
            "method": method,
            "seed": 0,
            "metrics": {"test": metrics},
            "n_updates": n_updates,
            "settings": {"mixed_precision": precision, "n_epochs": 10},
            "seconds": dict.fromkeys(("train", "score", "select", "evaluate", "other", "total"), 1.0),
            "tokens_trained": 1,
            "tokens_scored": 0,
            "compute_fraction": 1.0,
            "cpu_seconds": 1.0,
            "history": {"kept": ["1"], "train_s": ["1"]},
        }

    lines = [
        line("full", 0.9, precision="bf16", n_updates=1400),
        line("dynamic random keep 0.2", 0.5, precision="bf16"),
        line("observed UCB keep 0.2", 0.7),
        line("recipe rho_loss keep 0.2", 0.7, n_updates=280),
        line("recipe ir_dro for 3 epochs", 0.7, n_updates=420),
    ]

    def row(name):
        page = "<!-- tables: written by nlu.py -->\n<!-- end of tables -->"
        page = nlu.with_tables(page, lines, {"atis-10": [line["method"] for line in lines]})
        return next(row for row in page.splitlines() if row.startswith(f"| {name} |")).split(" | ")[3:5]

    assert row("observed UCB keep 0.2") == ["-20.00", "+20.00"]  # the other precision's, where there is no other
    assert row("recipe rho_loss keep 0.2") == ["-20.00", ""]  # chance of as many updates is missing
    assert row("recipe ir_dro for 3 epochs") == ["-20.00", "+20.00"]  # about as many
    lines += [line("full, float32", 0.8, n_updates=1400), line("dynamic random keep 0.2, float32", 0.6)]
    lines += [line("recipe dynamic_random keep 0.2", 0.65, n_updates=280)]
    assert row("observed UCB keep 0.2") == ["-10.00", "+10.00"]
    assert row("recipe rho_loss keep 0.2") == ["-10.00", "+5.00"]
    assert row("full") == ["", ""]
