"""The tasks by name, and which of them a data set's columns fit.

A new task on texts is a subclass of `TextTask` with two methods, `encode_rows` and `metrics`, and an entry in `KINDS`;
one on something else is a subclass of `Task` with a third, `collator`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dataprune.data.base import Task
from dataprune.data.classification import ClassificationTask, MultiLabelTask, RegressionTask
from dataprune.data.images import ImageClassificationTask
from dataprune.data.language import CausalLMTask
from dataprune.data.tagging import JointNLUTask, TokenClassificationTask
from dataprune.data.text_task import TextTask
from dataprune.errors import DataError, InvalidValueError, check_choice

__all__ = [
    "KINDS",
    "TASKS",
    "CausalLMTask",
    "ClassificationTask",
    "ImageClassificationTask",
    "JointNLUTask",
    "MultiLabelTask",
    "RegressionTask",
    "Task",
    "TextTask",
    "TokenClassificationTask",
    "check_task",
    "guess_task",
    "load_task",
]

KINDS: tuple[type[Task], ...] = (
    *(JointNLUTask, ClassificationTask, TokenClassificationTask, MultiLabelTask, RegressionTask, CausalLMTask),
    ImageClassificationTask,
)
"""In the order in which `guess_task` tries them."""

TASKS: dict[str, type[Task]] = {task.name: task for task in KINDS}
"""Name -> class."""


UNSUPPORTED = {
    **dict.fromkeys(
        ("seq2seq", "sequence-to-sequence", "text2text", "text2text-generation", "translation", "summarization"),
        "An encoder-decoder is not supported. Name the columns prompt and response, and train a decoder: "
        "--task causal-lm.",
    ),
    **dict.fromkeys(
        ("question-answering", "qa", "extractive-qa"),
        "Spans of answers are not supported. Put passage and question into a column prompt, the answer into a column "
        "response, and train a decoder: --task causal-lm.",
    ),
}
"""Names that people look for -> what to do."""


def check_task(owner: str, name: str, *, parameter: str = "task") -> str:
    """Return the name of a task or raise.

    Parameters
    ----------
    owner : str
        Function that the message names.
    name : str
        What the user passed.
    parameter : str, default="task"
        Parameter that the message names.

    Returns
    -------
    str
        The name.

    Raises
    ------
    InvalidValueError
        If there is no such task; the message says what to do instead where there is something.

    Examples
    --------
    >>> check_task("train", "regression")
    'regression'
    """
    if name in UNSUPPORTED:
        raise InvalidValueError(
            f"{owner}.{parameter} must be one of {', '.join(map(repr, TASKS))}, got {name!r}. {UNSUPPORTED[name]}"
        )
    return check_choice(owner, parameter, name, TASKS)


def guess_task(columns: Collection[str], *, names: Collection[str] = ()) -> str:
    """Return the name of the task that a data set's columns fit.

    Parameters
    ----------
    columns : collection of str
        The roles at hand, such as `LoadedData.columns`.
    names : collection of str, default=()
        All columns of the data, for the message.

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
        if kind.fits(columns):
            return kind.name
    found = ", ".join(map(repr, columns)) or "none of these"
    others = [name for name in names if name != "source_row"]  # which `load_data` adds
    found += f"; the columns are {', '.join(map(repr, others))}" if others else ""
    needed = "; ".join(
        f"{', '.join((*kind.inputs, *kind.heads.values()))} ({kind.name})" for kind in KINDS if kind.heads
    )
    needed += f"; messages, or prompt and response ({CausalLMTask.name})"
    raise DataError(
        f"The data must have columns of one of these tasks: {needed}; "
        f"got {found}. Name yours, such as columns={{'label': 'intent'}}."
        f"{' Texts alone are for --task causal-lm.' if 'text' in columns else ''}"
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
