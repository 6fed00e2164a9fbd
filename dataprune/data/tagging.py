"""A label per token, alone or beside one per sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.forward import IGNORED_LABEL
from dataprune.data.metrics import join, read_signals, span_f1, split_rows, to_numpy
from dataprune.data.text_task import TextTask
from dataprune.errors import DataError

if TYPE_CHECKING:
    import datasets

BIO_TAG = re.compile(r"O|[BIES](-.+)?")
"""What seqeval reads; other tags have no spans."""


class TokenClassificationTask(TextTask):
    """One tag per word.

    Words are tokenised one by one: the first sub-word carries the tag, the rest -100. Signals: ``logits`` (B, T, C) and
    ``labels`` (B, T). Metrics: ``span_f1`` (main; seqeval) and ``token_accuracy``. Where tags are not BIO, as parts of
    speech, each is a span of its own, and the two are the same.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``tokens`` and ``slots``; None means these names.
    max_length_tokens : int, default=128
        Longer sentences are cut, special tokens included.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"": sorted tags}``.
    unseen_labels_ : dict of str to list of str
        ``{"": tags that the train set lacks}``.
    n_cut_rows_ : int
        Rows of which `encode` has lost words since `fit`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> rows = {"tokens": [["to", "Rome"], ["hi"]], "slots": [["O", "B-city"], ["O"]]}
    >>> TokenClassificationTask().fit(Dataset.from_dict(rows)).labels_
    {'': ['B-city', 'O']}
    """

    name: ClassVar[str] = "token-classification"
    main_metric: ClassVar[str] = "span_f1"
    inputs: ClassVar[tuple[str, ...]] = ("tokens",)
    heads: ClassVar[dict[str, str]] = {"": "slots"}
    token_heads: ClassVar[frozenset[str]] = frozenset({""})
    class_column: ClassVar[str | None] = None

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        encoding, labels = encode_words(self, rows, tokenizer)
        return {**encoding, "labels": labels}

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        predicted, gold, lengths = [], [], []
        for batch in signals:
            logits, labels = read_signals(batch, "logits", "labels")
            counted = labels != IGNORED_LABEL  # (B, T)
            predicted.append(to_numpy(logits.argmax(-1)[counted]))
            gold.append(to_numpy(labels[counted]))
            lengths.append(to_numpy(counted.sum(-1)))
        found, wanted = join(predicted), join(gold)
        tags = [*self.labels_[""], *self.unseen_labels_[""]]
        if not all(BIO_TAG.fullmatch(tag) for tag in tags):
            tags = [f"B-{tag}" for tag in tags]
        return {
            "span_f1": f1_of_spans(found, wanted, join(lengths), tags, n_known=len(self.labels_[""])),
            "token_accuracy": float((found == wanted).mean()),
        }


class JointNLUTask(TextTask):
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
    class_column: ClassVar[str | None] = "intent_labels"

    def fit(self, train: datasets.Dataset) -> Self:  # noqa: D102 - inherited
        super().fit(train)
        check_bio_tags(self.labels_["slot"], column=self.column("slots"))
        return self

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        check_bio_tags(self.unseen_labels_["slot"], column=self.column("slots"))
        encoding, slot_labels = encode_words(self, rows, tokenizer)
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
        tags, n_known = self.labels_["slot"] + self.unseen_labels_["slot"], len(self.labels_["slot"])
        return {
            "frame_accuracy": float(join(frame_right).mean()),
            "span_f1": f1_of_spans(join(slots_predicted), join(slots_gold), join(lengths), tags, n_known=n_known),
            "intent_accuracy": float(join(intent_right).mean()),
        }


def encode_words(
    task: TextTask, rows: Mapping[str, list[Any]], tokenizer: Any
) -> tuple[Mapping[str, list[Any]], list[list[int]]]:
    """Tokenise words one by one, and give each tag to the first sub-word of its word.

    Parameters
    ----------
    task : TextTask
        Its limit of length holds, and it counts the rows that lost words.
    rows : mapping of str to list
        ``tokens`` and ``slots``, ids of tags.
    tokenizer : PreTrainedTokenizerFast
        The model's tokenizer.

    Returns
    -------
    encoding : mapping of str to list
        What the tokenizer gives.
    labels : list of list of int
        One per sub-word; -100 for all but the first of a word, and for special tokens.
    """
    encoding = tokenizer(
        rows["tokens"], is_split_into_words=True, truncation=True, max_length=task.length_limit(tokenizer)
    )
    all_labels = []
    for part, tags in zip(encoding.encodings, rows["slots"], strict=True):
        labels, previous = [], None
        for word in part.word_ids:
            first = word is not None and word != previous
            labels.append(tags[word] if first else IGNORED_LABEL)
            previous = word
        all_labels.append(labels)
        task.n_cut_rows_ += len({*part.word_ids} - {None}) < len(tags)
    return encoding, all_labels


def f1_of_spans(
    predicted: NDArray[np.int64],
    gold: NDArray[np.int64],
    lengths: NDArray[np.int64],
    tags: Sequence[str],
    *,
    n_known: int,
) -> float:
    """Return the F1 of spans from ids of tags.

    Parameters
    ----------
    predicted : ndarray of int64, shape (n_words,)
        Ids of all words, one after the other.
    gold : ndarray of int64, shape (n_words,)
        True ids; those below -100 stand for tags that the train set lacks.
    lengths : ndarray of int64, shape (n_examples,)
        Words of each example.
    tags : sequence of str
        Names: first those of the train set, then the others.
    n_known : int
        How many of them the train set has.

    Returns
    -------
    float
        In [0, 1].
    """
    names = np.array(tags, dtype=object)
    gold = np.where(gold < 0, n_known + IGNORED_LABEL - 1 - gold, gold)
    return span_f1(split_rows(names[predicted], lengths), split_rows(names[gold], lengths))


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
