"""What there is to compose a run of: every public class, without an entry here."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import dataprune
from dataprune.recipes import RECIPES
from dataprune.runs.compose import SCORERS
from dataprune.runs.scoring import DATASET_SCORERS
from dataprune.runs.selecting import FILE_SELECTORS
from dataprune.scheduling.base import Scheduler
from dataprune.scheduling.by_name import SCHEDULERS
from dataprune.scoring.base import Scorer
from dataprune.selection.base import Selector
from dataprune.selection.batch import BatchPolicy


@dataclass(frozen=True)
class Method:
    """One scorer, selector, scheduler, batch policy or recipe.

    Parameters
    ----------
    kind : str
        ``scorer``, ``selector``, ``scheduler``, ``batch policy`` or ``recipe``.
    class_name : str
        Name in Python; of a recipe that of its function.
    option : str or None
        Name on the command line, if it has one.
    summary : str
        First line of its docstring.
    cost : str or None
        Of a recipe: what it costs beside training.
    source : str or None
        Of a recipe: where it was published.
    when : str or None
        Of a recipe: ``static`` (it chooses once) or ``dynamic`` (again and again while a model trains).
    """

    kind: str
    class_name: str
    option: str | None
    summary: str
    cost: str | None = None
    source: str | None = None
    when: str | None = None


def list_methods() -> list[Method]:
    """Return all scorers, selectors, schedulers, batch policies and recipes of dataprune.

    Returns
    -------
    list of Method
        By kind; those with a name on the command line first.

    Examples
    --------
    >>> [method.class_name for method in list_methods() if method.kind == "scheduler"]
    ['ConstantScheduler', 'CosineScheduler', 'CyclicScheduler', 'ExponentialScheduler', 'InterleavedScheduler', ...]
    """
    names = [*SCORERS.items(), *DATASET_SCORERS.items(), *FILE_SELECTORS.items(), *SCHEDULERS.items()]
    options = {made.__name__: name for name, made in names}
    bases: dict[str, type[Any]] = {
        "scorer": Scorer,
        "selector": Selector,
        "scheduler": Scheduler,
        "batch policy": BatchPolicy,
    }
    parts = [
        Method(kind, found.__name__, options.get(found.__name__), (inspect.getdoc(found) or "").split("\n")[0])
        for kind, base in bases.items()
        for found in sorted(_concrete(base), key=lambda c: (c.__name__ not in options, c.__name__))
    ]
    return parts + [Method("recipe", r.name, r.name, r.summary, r.cost, r.source, r.kind) for r in RECIPES.values()]


def _concrete(base: type[Any]) -> list[type[Any]]:
    public = (getattr(dataprune, name) for name in dataprune.__all__)
    below = (c for c in public if isinstance(c, type) and issubclass(c, base) and c is not base)
    return [c for c in below if not inspect.isabstract(c)]
