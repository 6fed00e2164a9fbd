"""The tasks by name, and which of them a data set's columns fit.

A new task is a subclass of `Task` with two methods, `encode_rows` and `metrics`, and an entry in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dataprune.data.base import Task
from dataprune.data.classification import ClassificationTask, MultiLabelTask, RegressionTask
from dataprune.data.tagging import JointNLUTask, TokenClassificationTask
from dataprune.errors import DataError, check_choice

__all__ = [
    "KINDS",
    "TASKS",
    "ClassificationTask",
    "JointNLUTask",
    "MultiLabelTask",
    "RegressionTask",
    "Task",
    "TokenClassificationTask",
    "guess_task",
    "load_task",
]

KINDS = (JointNLUTask, ClassificationTask, TokenClassificationTask, MultiLabelTask, RegressionTask)
"""In the order in which `guess_task` tries them."""

TASKS: dict[str, type[Task]] = {task.name: task for task in KINDS}
"""Name -> class."""


def guess_task(columns: Collection[str]) -> str:
    """Return the name of the task that a data set's columns fit.

    Parameters
    ----------
    columns : collection of str
        The roles at hand, such as `LoadedData.columns`.

    Returns
    -------
    str
        A key of `TASKS`.

    Raises
    ------
    DataError
        If no task fits.

    Examples
    --------
    >>> guess_task({"tokens": "words", "intent": "intent", "slots": "tags"})
    'joint-nlu'
    """
    for kind in KINDS:
        if {*kind.inputs, *kind.heads.values()} <= {*columns}:
            return kind.name
    found = ", ".join(map(repr, columns)) or "none of these"
    needed = "; ".join(f"{', '.join((*kind.inputs, *kind.heads.values()))} ({kind.name})" for kind in KINDS)
    raise DataError(
        f"The data must have columns of one of these tasks: {needed}; "
        f"got {found}. Name yours, such as columns={{'label': 'intent'}}."
    )


def load_task(state: Mapping[str, Any]) -> Task:
    """Rebuild a task of any class from `Task.to_dict`.

    Parameters
    ----------
    state : mapping
        What `Task.to_dict` returned.

    Returns
    -------
    Task
        The fitted task.

    Raises
    ------
    InvalidValueError
        If no task has that name.

    Examples
    --------
    >>> state = {"name": "classification", "columns": None, "max_length_tokens": 64,
    ...          "labels": {"": ["bad", "good"]}, "unseen_labels": {"": []}}
    >>> load_task(state)
    ClassificationTask(columns=None, max_length_tokens=64)
    """
    return TASKS[check_choice("load_task", "name", state.get("name"), TASKS)].from_dict(state)
