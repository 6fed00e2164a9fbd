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
