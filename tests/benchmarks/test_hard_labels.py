"""The tables of pruning where labels are wrong or classes rare are those of the committed result lines."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def hard(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return pytest.importorskip("hard_labels")


def test_the_page_shows_the_committed_results(hard):
    page = hard.README.read_text("utf-8")
    shown = hard.between_marks(page, hard.BEGIN, hard.END, hard.tables(hard.read_lines(hard.RESULTS)))
    assert shown == page, "run: python benchmarks/hard_labels.py --report"


def test_the_rates_are_the_best_on_the_validation_rows(hard):
    tried = hard.read_lines(hard.RATE_RESULTS)
    for name, rate in hard.RATES.items():
        best = max((line for line in tried if line["data"] == name), key=lambda line: line["accuracy"])
        assert best["learning_rate"] == rate


def test_a_cell_trains_each_method_of_its_condition(hard):
    cell = hard.run_cell("digits", hard.RARE, 100)
    assert {*hard.SELECTORS, hard.FULL} < set(cell["methods"])
    assert cell["methods"][hard.FULL]["n_updates"] > cell["methods"]["TopK"]["n_updates"]
