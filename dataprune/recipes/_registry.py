"""The table of recipes: what `dataprune methods` lists, and what ``--recipe`` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Make = TypeVar("Make", bound=Callable[..., Any])


@dataclass(frozen=True)
class Recipe:
    """A published method by name.

    Parameters
    ----------
    name : str
        Of the function, and of the command line's ``--recipe``.
    kind : {"dynamic", "static"}
        Whether it chooses again and again while a model trains, or once: before the training (a `StaticPruner`), or
        after a warm-up that its scores are of (a `DynamicPruner`).
    cost : str
        Beside the training itself.
    source : str
        Where it was published.
    make : callable
        Returns the pruner.

    Examples
    --------
    >>> RECIPES["infobatch"].kind
    'dynamic'
    """

    name: str
    kind: str
    cost: str
    source: str
    make: Callable[..., Any]

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (inspect.getdoc(self.make) or "").split("\n")[0]


RECIPES: dict[str, Recipe] = {}
"""All recipes by name."""


def recipe(kind: str, *, cost: str, source: str) -> Callable[[Make], Make]:
    """Return a decorator that enters a function into `RECIPES`.

    Parameters
    ----------
    kind : {"dynamic", "static"}
        As for `Recipe`.
    cost : str
        As for `Recipe`.
    source : str
        As for `Recipe`.

    Returns
    -------
    callable
        Leaves the function as it is.
    """

    def enter(make: Make) -> Make:
        RECIPES[make.__name__] = Recipe(make.__name__, kind, cost, source, make)
        return make

    return enter
