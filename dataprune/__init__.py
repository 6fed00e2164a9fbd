"""Fine-tune on the examples that still matter: score, select and schedule them while a model trains.

The data's way: a `BatchScorer` turns signals (logits, labels) into one number per example; a `Selector` turns scores
and a budget into the examples to keep; a `Scheduler` turns the epoch into the budget; a `DynamicPruner` applies the
three while a model trains.

>>> import dataprune
>>> dataprune.EL2N(), dataprune.TopK(), dataprune.CyclicScheduler(keep_fraction=0.3)
(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.3))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch as _torch  # noqa: F401 - the one library that every use needs; the others load with the name asked for

if TYPE_CHECKING:
    from dataprune.data.indexed import Indexed, IndexedCollate, IndexedDataset
    from dataprune.data.loading import LoadedData, load_data
    from dataprune.data.synthetic import SyntheticData, make_classification, make_joint_nlu
    from dataprune.data.tasks import ClassificationTask, JointNLUTask, Task
    from dataprune.errors import DataPruneError
    from dataprune.integrations.huggingface import PruningTrainer
    from dataprune.models import JointIntentSlotModel, build_model, load_tokenizer
    from dataprune.scheduling import ConstantScheduler, CyclicScheduler, Decision, Plan, Scheduler
    from dataprune.scoring.base import BatchScorer, Scorer
    from dataprune.scoring.error_norm import EL2N, JointEL2N
    from dataprune.scoring.store import ScoreStore
    from dataprune.scoring.uncertainty import Loss
    from dataprune.selection.base import Selector
    from dataprune.selection.random import RandomK, WeightedK
    from dataprune.selection.ranked import TopK
    from dataprune.training.history import EpochRecord, PruningHistory
    from dataprune.training.pruner import DynamicPruner
    from dataprune.training.sampler import PruningSampler

__version__ = "0.1.0.dev0"

_HOMES = {
    "data.indexed": ("Indexed", "IndexedCollate", "IndexedDataset"),
    "data.loading": ("LoadedData", "load_data"),
    "data.synthetic": ("SyntheticData", "make_classification", "make_joint_nlu"),
    "data.tasks": ("ClassificationTask", "JointNLUTask", "Task"),
    "errors": ("DataPruneError",),
    "integrations.huggingface": ("PruningTrainer",),
    "models": ("JointIntentSlotModel", "build_model", "load_tokenizer"),
    "scheduling": ("ConstantScheduler", "CyclicScheduler", "Decision", "Plan", "Scheduler"),
    "scoring.base": ("BatchScorer", "Scorer"),
    "scoring.error_norm": ("EL2N", "JointEL2N"),
    "scoring.store": ("ScoreStore",),
    "scoring.uncertainty": ("Loss",),
    "selection.base": ("Selector",),
    "selection.random": ("RandomK", "WeightedK"),
    "selection.ranked": ("TopK",),
    "training.history": ("EpochRecord", "PruningHistory"),
    "training.pruner": ("DynamicPruner",),
    "training.sampler": ("PruningSampler",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "EL2N",
    "BatchScorer",
    "ClassificationTask",
    "ConstantScheduler",
    "CyclicScheduler",
    "DataPruneError",
    "Decision",
    "DynamicPruner",
    "EpochRecord",
    "Indexed",
    "IndexedCollate",
    "IndexedDataset",
    "JointEL2N",
    "JointIntentSlotModel",
    "JointNLUTask",
    "LoadedData",
    "Loss",
    "Plan",
    "PruningHistory",
    "PruningSampler",
    "PruningTrainer",
    "RandomK",
    "Scheduler",
    "ScoreStore",
    "Scorer",
    "Selector",
    "SyntheticData",
    "Task",
    "TopK",
    "WeightedK",
    "build_model",
    "load_data",
    "load_tokenizer",
    "make_classification",
    "make_joint_nlu",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dataprune' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dataprune.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
