"""Every Python block of the docs runs as it stands."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]


def python_blocks(text):
    """Return (first line, source) of each fence whose info names Python in whatever spelling.

    Files that a page includes are run by tests of their own.
    """
    found = (token for token in MarkdownIt().parse(text) if token.type == "fence")
    fences = (fence for fence in found if not fence.info.startswith("{literalinclude}"))
    return [(fence.map[0] + 1, fence.content) for fence in fences if re.search(r"\b(py|python|python3)\b", fence.info)]


def pages():
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in files if "_build" not in page.parts and python_blocks(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, source in python_blocks(page.read_text("utf-8")):
        # Empty lines before the source make a traceback name the page's own line.
        exec(compile("\n" * line + source, str(page), "exec"), namespace)  # noqa: S102
