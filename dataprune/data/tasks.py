"""The tasks: single-sentence classification, and joint intents and slots.

A new task is a subclass of `Task` with two methods, `encode_rows` and `metrics`, and an entry in `TASKS`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.base import Task
from dataprune.data.forward import IGNORED_LABEL
from dataprune.data.metrics import classification_metrics, span_f1, split_rows
from dataprune.errors import DataError, InvalidValueError, check_choice

if TYPE_CHECKING:
    import datasets

__all__ = ["TASKS", "ClassificationTask", "JointNLUTask", "Task", "guess_task", "load_task"]

BIO_TAG = re.compile(r"O|[BIES](-.+)?")
"""What seqeval reads; other tags have no spans."""


class ClassificationTask(Task):
    """One label per text.

    Signals: ``logits`` (B, C) and ``labels`` (B,). Metrics: ``accuracy`` (main) and ``macro_f1``.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``text`` and ``label``; None means these names.
    max_length_tokens : int, default=128
        Longer texts are cut, special tokens included.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"": sorted names}``.
    unseen_labels_ : dict of str to list of str
        ``{"": names that the train set lacks}``.
    n_cut_rows_ : int
        Rows that `encode` has cut since `fit`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"text": ["fine film", "dull"], "label": ["good", "bad"]})
    >>> ClassificationTask().fit(train).labels_
    {'': ['bad', 'good']}
    """

    name: ClassVar[str] = "classification"
    main_metric: ClassVar[str] = "accuracy"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    heads: ClassVar[dict[str, str]] = {"": "label"}

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        encoding = tokenizer(rows["text"], truncation=True, max_length=self.length_limit(tokenizer))
        self.n_cut_rows_ += sum(bool(part.overflowing) for part in encoding.encodings)
        return {**encoding, "labels": rows["label"]}

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        predicted, gold = [], []
        for batch in signals:
            logits, labels = read_signals(batch, "logits", "labels")
            counted = labels != IGNORED_LABEL
            predicted.append(to_numpy(logits.argmax(-1)[counted]))
            gold.append(to_numpy(labels[counted]))
        return classification_metrics(join(predicted), join(gold))


class JointNLUTask(Task):
    """One intent per sentence and one slot tag per word.

    Words are tokenised one by one: the first sub-word carries the tag, the rest -100. Signals: ``intent_logits``
    (B, I), ``slot_logits`` (B, T, S), and their labels (B,), (B, T). Metrics: ``frame_accuracy`` (main: the
    intent and every tag are right), ``span_f1`` (seqeval), ``intent_accuracy``.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``tokens``, ``intent`` and ``slots``; None means these names.
    max_length_tokens : int, default=128
        Longer sentences are cut, special tokens included.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"intent": sorted names, "slot": sorted tags}``.
    unseen_labels_ : dict of str to list of str
        Names and tags that the train set lacks.
    n_cut_rows_ : int
        Rows of which `encode` has lost words since `fit`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> rows = {"tokens": [["to", "Rome"], ["hi"]], "intent": ["fly", "hi"], "slots": [["O", "B-city"], ["O"]]}
    >>> JointNLUTask().fit(Dataset.from_dict(rows)).labels_
    {'intent': ['fly', 'hi'], 'slot': ['B-city', 'O']}
    """

    name: ClassVar[str] = "joint-nlu"
    main_metric: ClassVar[str] = "frame_accuracy"
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)
    heads: ClassVar[dict[str, str]] = {"intent": "intent", "slot": "slots"}
    token_heads: ClassVar[frozenset[str]] = frozenset({"slot"})

    def fit(self, train: datasets.Dataset) -> Self:  # noqa: D102 - inherited
        super().fit(train)
        check_bio_tags(self.labels_["slot"], column=self.column("slots"))
        return self

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        check_bio_tags(self.unseen_labels_["slot"], column=self.column("slots"))
        encoding = tokenizer(
            rows["tokens"], is_split_into_words=True, truncation=True, max_length=self.length_limit(tokenizer)
        )
        slot_labels = []
        for part, tags in zip(encoding.encodings, rows["slots"], strict=True):
            labels, previous = [], None
            for word in part.word_ids:
                first = word is not None and word != previous
                labels.append(tags[word] if first else IGNORED_LABEL)
                previous = word
            slot_labels.append(labels)
            self.n_cut_rows_ += len({*part.word_ids} - {None}) < len(tags)
        return {**encoding, "intent_labels": rows["intent"], "slot_labels": slot_labels}

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        intent_right, frame_right, slots_predicted, slots_gold, lengths = [], [], [], [], []
        for batch in signals:
            intent_logits, intents, slot_logits, slots = read_signals(
                batch, "intent_logits", "intent_labels", "slot_logits", "slot_labels"
            )
            counted = slots != IGNORED_LABEL  # (B, T)
            slots_found = slot_logits.argmax(-1)  # (B, T)
            right = intent_logits.argmax(-1) == intents  # (B,)
            intent_right.append(to_numpy(right))
            frame_right.append(to_numpy(right & ((slots_found == slots) | ~counted).all(-1)))
            slots_predicted.append(to_numpy(slots_found[counted]))
            slots_gold.append(to_numpy(slots[counted]))
            lengths.append(to_numpy(counted.sum(-1)))
        names = np.array(self.labels_["slot"] + self.unseen_labels_["slot"], dtype=object)
        gold, n_words = join(slots_gold), join(lengths)
        gold = np.where(gold < 0, len(self.labels_["slot"]) + IGNORED_LABEL - 1 - gold, gold)
        return {
            "frame_accuracy": float(join(frame_right).mean()),
            "span_f1": span_f1(split_rows(names[join(slots_predicted)], n_words), split_rows(names[gold], n_words)),
            "intent_accuracy": float(join(intent_right).mean()),
        }


TASKS: dict[str, type[Task]] = {task.name: task for task in (ClassificationTask, JointNLUTask)}
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
    for name in ("joint-nlu", "classification"):
        if {*TASKS[name].inputs, *TASKS[name].heads.values()} <= {*columns}:
            return name
    found = ", ".join(map(repr, columns)) or "none of these"
    raise DataError(
        "The data must have the columns tokens, intent, slots (joint-nlu) or text, label (classification), "
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


def check_bio_tags(tags: Iterable[str], *, column: str) -> None:
    """Raise unless each tag is ``O``, ``B-x`` or ``I-x`` (or ``E-x``, ``S-x``), which spans are read from.

    Parameters
    ----------
    tags : iterable of str
        Names of slot classes.
    column : str
        Column that the message names.

    Raises
    ------
    DataError
        If a tag has another form.

    Examples
    --------
    >>> check_bio_tags(["O", "B-city", "I-city"], column="slots")
    """
    for tag in tags:
        if BIO_TAG.fullmatch(tag) is None:
            raise DataError(
                f"Column {column!r} must hold BIO tags (O, B-city, I-city), got {tag!r}. "
                f"Write a span's first word as 'B-{tag}' and its others as 'I-{tag}'."
            )


def read_signals(batch: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    """Return the named signals of a batch.

    Parameters
    ----------
    batch : mapping of str to Tensor
        What a forward function returned.
    *names : str
        The signals.

    Returns
    -------
    list of Tensor
        The signals in the order of `names`.

    Raises
    ------
    InvalidValueError
        If one is missing.

    Examples
    --------
    >>> read_signals({"logits": Tensor([[0.0, 1.0]])}, "logits")
    [tensor([[0., 1.]])]
    """
    missing = [name for name in names if name not in batch]
    if missing:
        raise InvalidValueError(
            f"The task's metrics need the signals {', '.join(map(repr, names))}, got only "
            f"{', '.join(map(repr, batch))}. Return them from forward."
        )
    return [batch[name] for name in names]


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return `tensor` as an array in main memory.

    Parameters
    ----------
    tensor : Tensor
        Of any device.

    Returns
    -------
    ndarray
        Of the same shape and type.

    Examples
    --------
    >>> to_numpy(Tensor([1.0]))
    array([1.], dtype=float32)
    """
    return tensor.detach().cpu().numpy()


def join(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate what was kept of each batch.

    Parameters
    ----------
    parts : list of ndarray
        One array per batch.

    Returns
    -------
    ndarray
        Their values, one after the other.

    Raises
    ------
    InvalidValueError
        If there is nothing to measure.

    Examples
    --------
    >>> join([np.array([1, 2]), np.array([3])])
    array([1, 2, 3])
    """
    if not parts:
        raise InvalidValueError("The task's metrics need at least one batch, got none. Pass a split with rows.")
    return np.concatenate(parts)
