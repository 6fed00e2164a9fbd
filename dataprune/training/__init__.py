"""The DynamicPruner: scorer, selector and scheduler at work while a model trains.

Names are resolved on first use (PEP 562): the command line reads `RunConfig` without loading what a run needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataprune.runs.config import RunConfig
    from dataprune.training.history import EpochRecord, PruningHistory
    from dataprune.training.pruner import DynamicPruner
    from dataprune.training.sampler import PruningSampler

_MODULE_OF = {
    "DynamicPruner": "pruner",
    "EpochRecord": "history",
    "PruningHistory": "history",
    "PruningSampler": "sampler",
    "RunConfig": "config",
}

__all__ = ["DynamicPruner", "EpochRecord", "PruningHistory", "PruningSampler", "RunConfig"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
