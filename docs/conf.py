"""Sphinx settings: MyST pages, numpydoc reference, furo. No network; warnings are errors."""

import sys
import tomllib
from pathlib import Path

_PYPROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))

sys.path.insert(0, str(Path(__file__).parent))  # for changed_lines
from changed_lines import ChangedLines  # noqa: E402

project = "dataprune"
author = "The dataprune developers"
copyright = "The dataprune developers"
version = release = _PYPROJECT["project"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "numpydoc", "myst_parser"]
exclude_patterns = ["_build", "**/_template.md"]
templates_path = ["_templates"]
default_role = "py:obj"  # `TopK` in a docstring is a link

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False  # other projects' docstrings are theirs to check
# scikit-learn adds these to every estimator for its own pipelines.
autodoc_default_options = {"exclude-members": "set_fit_request, set_partial_fit_request, set_transform_request"}
autodoc_typehints = "none"  # numpydoc's Parameters hold the types
autosummary_imported_members = False
numpydoc_show_class_members = False  # autodoc lists them in full
# Checked on the imported objects, where dataclass fields, properties and inherited constructors are known.
numpydoc_validation_checks = set(_PYPROJECT["tool"]["numpydoc_validation"]["checks"])
# Plain values, where numpydoc would judge the docstring of Python's own type.
numpydoc_validation_exclude = {
    r"\.Indexed\.(index|batch)$",
    r"Task\.(add_prefix_space|class_column|learned|optional_inputs|token_heads)$",
}

html_theme = "furo"
html_title = f"dataprune {release}"


def skip_second_scores(app, what, name, obj, skip, options):  # noqa: ARG001, PLR0917 - Sphinx's signature
    """Leave out the second property of that name: `scores_` in docstrings would have two targets."""
    is_second = getattr(getattr(obj, "fget", None), "__qualname__", "") == "VarianceOfGradients.scores_"
    return True if is_second else None


def setup(app):
    app.add_directive("changed-lines", ChangedLines)
    app.connect("autodoc-skip-member", skip_second_scores)
