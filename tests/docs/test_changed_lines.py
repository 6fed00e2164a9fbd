"""The pairs of files that the docs count run, and the counts are what the pages say."""

import runpy
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
from changed_lines import DIFFS, TITLES, count_changed, count_pair  # noqa: E402


@pytest.mark.parametrize("script", sorted(DIFFS.glob("*.py")), ids=lambda script: script.stem)
def test_each_file_runs(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(script))
    if script.stem.endswith("after"):
        assert [record.n_kept for record in left["pruner"].history_][1:] == 3 * [left["pruner"].n_examples_ // 2]


def test_new_and_changed_lines_are_counted_by_kind():
    before = "import torch\nmodel = 1\ntrain(model)\n"
    after = "import torch\nfrom dataprune import TopK\n\nmodel = 1\npruner = TopK()\ntrain(model, pruner)\ndone()\n"
    assert count_changed(before, after) == (2, 1, 1)
    assert count_changed(before, before) == (0, 0, 0)


def test_the_pages_say_what_is_counted():
    assert {name: count_pair(name).in_training for name in TITLES} == {
        "trainer": 2,
        "lightning": 2,
        "accelerate": 4,
        "plain": 5,
    }
    assert "Two lines change" in (DOCS / "how-to" / "huggingface.md").read_text("utf-8")
    assert "Five lines are added or changed" in (DOCS / "how-to" / "own-loop.md").read_text("utf-8")
