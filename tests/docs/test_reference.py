"""The reference page and the public names are the same list."""

import re
from pathlib import Path

import pytest

import dataprune

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "index.md"
PUBLIC = sorted(name for name in dataprune.__all__ if not name.startswith("__"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_on_the_reference_page(name):
    assert re.search(rf"^ +{name}$", PAGE.read_text("utf-8"), flags=re.MULTILINE), f"add {name} to {PAGE}"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_shows_an_example(name):
    assert ">>> " in (getattr(dataprune, name).__doc__ or ""), f"{name} has no doctest"
