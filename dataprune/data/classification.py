"""One label, several labels, or a number, per text or per pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from dataprune.data.columns import check_number, class_name, flatten
from dataprune.data.metrics import join, measure_classes, multi_label_metrics, read_signals, to_numpy
from dataprune.data.text_task import TextTask


class ClassificationTask(TextTask):
    """One label per text, or per pair of texts.

    Signals: ``logits`` (B, C) and ``labels`` (B,). Metrics: ``accuracy`` (main) and ``macro_f1``.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``text``, ``label`` and, for pairs, ``text_pair``; None means one text, and these
        names.
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
    optional_inputs: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[dict[str, str]] = {"": "label"}

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        return {**self.encode_texts(rows, tokenizer), "labels": rows["label"]}

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        return measure_classes(signals)


class MultiLabelTask(TextTask):
    """Any number of labels per text, or per pair of texts.

    Signals: ``logits`` (B, C) and ``labels`` (B, C), 0 or 1. Metrics: ``micro_f1`` (main), ``macro_f1`` and
    ``exact_match`` (all labels of an example right).

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``text``, ``labels`` (lists) and, for pairs, ``text_pair``; None means one text, and
        these names.
    max_length_tokens : int, default=128
        Longer texts are cut, special tokens included.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"": sorted names}``.
    unseen_labels_ : dict of str to list of str
        ``{"": names that the train set lacks}``; no output can stand for them, so they are left out.
    n_cut_rows_ : int
        Rows that `encode` has cut since `fit`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"text": ["a film of war", "dull"], "labels": [["war", "film"], []]})
    >>> MultiLabelTask().fit(train).labels_
    {'': ['film', 'war']}
    """

    name: ClassVar[str] = "multi-label"
    main_metric: ClassVar[str] = "micro_f1"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    optional_inputs: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[dict[str, str]] = {"": "labels"}
    class_column: ClassVar[str | None] = None

    def read_labels(  # noqa: D102 - inherited
        self,
        head: str,
        values: Sequence[Any],
        feature: Any,
        *,
        rows: Mapping[str, list[Any]],  # noqa: ARG002
        row_names: Sequence[int],
    ) -> list[Any]:
        column, inner = self.column(self.heads[head]), getattr(feature, "feature", feature)
        pairs = zip(values, row_names, strict=True)
        return [[class_name(value, inner, column=column, row=row) for value in labels] for labels, row in pairs]

    def encode_labels(self, head: str, labels: list[Any]) -> list[Any]:  # noqa: D102 - inherited
        known = {name: position for position, name in enumerate(self.labels_[head])}
        unseen = self.unseen_labels_[head]
        unseen += [name for name in dict.fromkeys(flatten(labels)) if name not in {*known, *unseen}]
        hot = np.zeros((len(labels), len(known)))
        for row, names in enumerate(labels):
            hot[row, [known[name] for name in names if name in known]] = 1.0
        return [list(row) for row in hot.tolist()]

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        return {**self.encode_texts(rows, tokenizer), "labels": rows["labels"]}

    def unseen_report(self) -> list[str]:  # noqa: D102 - inherited
        return [sentence.replace("count as errors", "are left out") for sentence in super().unseen_report()]

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        predicted, gold = [], []
        for batch in signals:
            logits, labels = read_signals(batch, "logits", "labels")
            predicted.append(to_numpy(logits > 0))
            gold.append(to_numpy(labels > 0))
        return multi_label_metrics(join(predicted), join(gold))


class RegressionTask(TextTask):
    """A number per text, or per pair of texts.

    Signals: ``logits`` (B, 1) and ``labels`` (B,), as they are in the data. Metrics: ``pearson`` (main) and
    ``spearman``, in [-1, 1]; 0 where the predictions are all the same.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``text``, ``number`` and, for pairs, ``text_pair``; None means one text, and these
        names.
    max_length_tokens : int, default=128
        Longer texts are cut, special tokens included.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"": []}``.
    unseen_labels_ : dict of str to list of str
        ``{"": []}``.
    n_cut_rows_ : int
        Rows that `encode` has cut since `fit`.

    Examples
    --------
    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"text": ["fine", "dull"], "number": [4.5, 1.0]})
    >>> RegressionTask().fit(train).labels_
    {'': []}
    """

    name: ClassVar[str] = "regression"
    main_metric: ClassVar[str] = "pearson"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    optional_inputs: ClassVar[tuple[str, ...]] = ("text_pair",)
    heads: ClassVar[dict[str, str]] = {"": "number"}
    class_column: ClassVar[str | None] = None

    def read_labels(  # noqa: D102 - inherited
        self,
        head: str,
        values: Sequence[Any],
        feature: Any,  # noqa: ARG002
        *,
        rows: Mapping[str, list[Any]],  # noqa: ARG002
        row_names: Sequence[int],
    ) -> list[Any]:
        column = self.column(self.heads[head])
        return [check_number(value, column=column, row=row) for value, row in zip(values, row_names, strict=True)]

    def learn_labels(self, head: str, labels: list[Any], feature: Any) -> list[str]:  # noqa: ARG002, D102 - inherited
        return []

    def encode_labels(self, head: str, labels: list[Any]) -> list[Any]:  # noqa: ARG002, D102 - inherited
        return labels

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        return {**self.encode_texts(rows, tokenizer), "labels": rows["number"]}

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        from scipy.stats import pearsonr, spearmanr

        predicted, gold = [], []
        for batch in signals:
            logits, labels = read_signals(batch, "logits", "labels")
            predicted.append(to_numpy(logits.float().reshape(-1)))
            gold.append(to_numpy(labels))
        x, y = join(predicted), join(gold)
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return {"pearson": 0.0, "spearman": 0.0}
        return {"pearson": float(pearsonr(x, y).statistic), "spearman": float(spearmanr(x, y).statistic)}
