"""What pruning changes in training code, counted from pairs of files: ``{name}_before.py`` and ``{name}_after.py``."""

from difflib import ndiff
from pathlib import Path
from typing import NamedTuple

from sphinx.util.docutils import SphinxDirective

DIFFS = Path(__file__).parent / "how-to" / "diffs"
TITLES = {"trainer": "Trainer", "lightning": "Lightning", "accelerate": "Accelerate", "plain": "A loop of your own"}


class Changed(NamedTuple):
    """Lines of the second file that are not in the first."""

    in_training: int
    imports: int
    pruner: int


def count_changed(before, after):
    """Count the lines that are new or changed: those of training, imports, and the one that makes the pruner."""
    lines = [line[2:].strip() for line in ndiff(before.splitlines(), after.splitlines()) if line.startswith("+ ")]
    lines = [line for line in lines if line]
    n_imports = sum(line.startswith(("import ", "from ")) for line in lines)
    n_pruner = sum(line.startswith("pruner = ") for line in lines)
    return Changed(len(lines) - n_imports - n_pruner, n_imports, n_pruner)


def count_pair(name):
    """Count for one pair in `DIFFS`."""
    return count_changed(*((DIFFS / f"{name}_{when}.py").read_text("utf-8") for when in ("before", "after")))


class ChangedLines(SphinxDirective):
    """A table of all pairs, counted when the page is built."""

    def run(self):
        rows = ["| | lines of training | imports | the pruner itself |", "| --- | --- | --- | --- |"]
        for name, title in TITLES.items():
            self.env.note_dependency(str(DIFFS / f"{name}_before.py"))
            self.env.note_dependency(str(DIFFS / f"{name}_after.py"))
            rows.append(f"| {title} | " + " | ".join(map(str, count_pair(name))) + " |")
        return self.parse_text_to_nodes("\n".join(rows))
