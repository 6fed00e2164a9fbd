"""Every public selector, scheduler and batch policy has a method card, and every card is listed."""

import inspect
import re
from pathlib import Path

import pytest

import dataprune

FOLDER = Path(__file__).parents[2] / "docs" / "methods"
INDEX = (FOLDER / "index.md").read_text("utf-8")
ROWS = re.findall(r"^\| \[([^\]]+)\]\(([a-z0-9_]+)\.md\) \|", INDEX, flags=re.MULTILINE)
IN_THE_MENU = set(re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", INDEX, flags=re.DOTALL)[1].split())
BASES = (dataprune.Selector, dataprune.Scheduler, dataprune.BatchPolicy)
CLASSES = [
    name
    for name in sorted(dataprune.__all__)
    if inspect.isclass(cls := getattr(dataprune, name))
    and issubclass(cls, BASES)
    and cls not in BASES
    and not inspect.isabstract(cls)
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_part_that_chooses_has_a_card(name):
    cards = []
    for title, card in ROWS:
        heading = (FOLDER / f"{card}.md").read_text("utf-8").splitlines()[0]
        if re.search(rf"\b{name}\b", f"{title} {heading}"):
            cards.append(card)
    assert len(cards) == 1, f"add one card with {name} in its heading, or in its title in {FOLDER / 'index.md'}"
    text = (FOLDER / f"{cards[0]}.md").read_text("utf-8")
    for part in ("Cost", "Settings that worked, and on what data", "Source", "Use it"):
        assert f"**{part}.**" in text, f"{cards[0]}.md lacks the part {part!r} of _template.md"
    assert name in text


def test_every_card_is_listed_once():
    cards = {path.stem for path in FOLDER.glob("*.md")} - {"index", "_template"}
    listed = [card for _, card in ROWS]
    assert cards == set(listed) == IN_THE_MENU
    assert len(listed) == len(cards)


def test_reflection_finds_the_parts_of_this_release():
    assert {"BatchWindow", "ConstantScheduler", "CyclicScheduler", "ScorePerCost", "TopOrStratified"} <= set(CLASSES)
