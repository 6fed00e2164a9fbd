"""Examples with a stable index, and the ways to load, make, encode and batch them.

`load_data` reads files into splits, a `Task` knows how to tokenise and measure them, `IndexedDataset` and
`IndexedCollate` make the index travel inside the batch, and a ``forward`` function makes signals of a batch.
Names are resolved on first use (PEP 562): ``import dataprune.data.indexed`` loads torch and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataprune.data.forward import default_forward, signals_from_outputs
    from dataprune.data.indexed import Indexed, IndexedCollate, IndexedDataset
    from dataprune.data.loading import LoadedData, load_data
    from dataprune.data.synthetic import SyntheticData, make_classification, make_joint_nlu
    from dataprune.data.tasks import (
        TASKS,
        CausalLMTask,
        ClassificationTask,
        ImageClassificationTask,
        JointNLUTask,
        MultiLabelTask,
        RegressionTask,
        Task,
        TextTask,
        TokenClassificationTask,
        guess_task,
        load_task,
    )

_MODULE_OF = {
    "default_forward": "forward",
    "signals_from_outputs": "forward",
    "Indexed": "indexed",
    "IndexedCollate": "indexed",
    "IndexedDataset": "indexed",
    "LoadedData": "loading",
    "load_data": "loading",
    "SyntheticData": "synthetic",
    "make_classification": "synthetic",
    "make_joint_nlu": "synthetic",
    "TASKS": "tasks",
    "CausalLMTask": "tasks",
    "ClassificationTask": "tasks",
    "ImageClassificationTask": "tasks",
    "JointNLUTask": "tasks",
    "MultiLabelTask": "tasks",
    "RegressionTask": "tasks",
    "Task": "tasks",
    "TextTask": "tasks",
    "TokenClassificationTask": "tasks",
    "guess_task": "tasks",
    "load_task": "tasks",
}

__all__ = [
    "TASKS",
    "CausalLMTask",
    "ClassificationTask",
    "ImageClassificationTask",
    "Indexed",
    "IndexedCollate",
    "IndexedDataset",
    "JointNLUTask",
    "LoadedData",
    "MultiLabelTask",
    "RegressionTask",
    "SyntheticData",
    "Task",
    "TextTask",
    "TokenClassificationTask",
    "default_forward",
    "guess_task",
    "load_data",
    "load_task",
    "make_classification",
    "make_joint_nlu",
    "signals_from_outputs",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
