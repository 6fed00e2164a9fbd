"""The benchmark of recipes that choose once: its page is that of its lines, and it asks every such recipe."""

import subprocess
import sys
from pathlib import Path

import pytest

from dataprune.recipes import RECIPES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def static(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("static_recipes")


def line(method, seed, accuracy, *, train=10.0, score=0.0):
    return {
        "data": "clinc150",
        "method": method,
        "seed": seed,
        "metrics": {"test": {"accuracy": accuracy}},
        "n_updates": 141,
        "tokens_trained": 1000,
        "cpu_seconds": {"score": score, "select": 0.0, "train": train},
    }


def test_the_page_shows_the_committed_results(static):
    page, lines = static.README.read_text("utf-8"), static.read_lines(static.RESULTS)
    assert static.with_tables(page, lines) == page, "run: python benchmarks/static_recipes.py --report"


def test_differences_are_to_chance_of_the_same_seed_and_scores_count_as_time(static):
    lines = [line("full", seed, 0.9, train=100.0) for seed in (0, 1)]
    lines += [line("random keep 0.3", seed, 0.5 + 0.1 * seed) for seed in (0, 1)]
    lines += [line("scdp keep 0.3", seed, 0.51 + 0.1 * seed, score=40.0) for seed in (0, 1)]
    page = static.with_tables(f"a\n{static.BEGIN}\n{static.END}\nb", lines)
    row = next(row for row in page.splitlines() if row.startswith("| scdp"))
    assert row == "| scdp | 2 | 56.00 | +1.00 ± 0.00 | 141 | 1,000 | 40.0 | 10 | 50% |"
    assert "keep 0.7" not in page, "a table of nothing but full data"


def test_finished_cells_are_not_run_again(static, monkeypatch, tmp_path):
    results = tmp_path / "lines.jsonl"
    results.write_text('{"data": "sst2", "method": "full", "seed": 0}\n')
    monkeypatch.setattr(static, "RESULTS", results)
    assert static.missing_methods("sst2", 0) == list(static.METHODS[1:])
    assert static.missing_methods("sst2", 1) == static.missing_methods("clinc150", 0) == list(static.METHODS)


def test_every_recipe_that_chooses_once_is_asked(static):
    once = {name for name, recipe in RECIPES.items() if recipe.kind == "static"}
    assert {choice.recipe for choice in static.CHOICES.values()} == once


def test_runs_without_the_data_say_what_is_missing():
    command = [sys.executable, str(BENCHMARKS / "static_recipes.py")]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "set DATAPRUNE_DATA" in done.stderr
