"""What every task shares: label maps, the way from rows to model inputs, saving."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from dataprune.data.columns import (
    check_inputs,
    class_name,
    encoded_features,
    flatten,
    sorted_classes,
    tag_names,
)
from dataprune.data.forward import IGNORED_LABEL
from dataprune.errors import DataError, InvalidValueError, NotFittedError

if TYPE_CHECKING:
    import datasets

ROWS_PER_BATCH = 1000
"""Rows that are encoded at once: enough for a tokenizer's speed, little enough for memory."""


class Task(ABC):
    """Turn rows into model inputs and outputs into metrics; the base of all tasks.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Role -> column name, as in `LoadedData.columns`; None means that the columns are named as the roles.

    Attributes
    ----------
    labels_ : dict of str to list of str
        Head -> sorted names of the classes in the train set; a class's id is its position.
    unseen_labels_ : dict of str to list of str
        Head -> names that `encode` met and the train set lacks. The k-th has the id ``-101 - k``: it counts
        neither in losses nor in scores, but as an error in `metrics`.

    See Also
    --------
    TextTask : The base of tasks on texts.

    Examples
    --------
    >>> from dataprune.data.tasks import TASKS
    >>> all(issubclass(task, Task) for task in TASKS.values())
    True
    """

    name: ClassVar[str]
    """Name in `TASKS`, on the command line and in saved runs."""
    main_metric: ClassVar[str]
    """Key of `metrics` that the best model is chosen by; higher is better."""
    inputs: ClassVar[tuple[str, ...]]
    """Roles of the columns that the model reads."""
    optional_inputs: ClassVar[tuple[str, ...]] = ()
    """Roles that the model reads where `columns` names them."""
    heads: ClassVar[dict[str, str]]
    """Head -> role of the column that holds its labels."""
    class_column: ClassVar[str | None] = "labels"
    """Encoded column with one class per example, for selectors that balance classes; None where there is none."""
    token_heads: ClassVar[frozenset[str]] = frozenset()
    """Heads with one label per token of the role ``tokens``."""
    learned: ClassVar[tuple[str, ...]] = ()
    """Attributes that `fit` sets beside the label maps, of types that JSON has."""

    labels_: dict[str, list[str]]
    unseen_labels_: dict[str, list[str]]

    def __init__(self, *, columns: Mapping[str, str] | None = None) -> None:
        self.columns = columns

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings())
        return f"{type(self).__name__}({settings})"

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the constructor's parameters.

        Returns
        -------
        list of str
            ``columns``, and what else the task takes.

        Examples
        --------
        >>> from dataprune import RegressionTask
        >>> RegressionTask.settings()
        ['columns', 'max_length_tokens']
        """
        return list(inspect.signature(cls).parameters)

    @classmethod
    def fits(cls, roles: Collection[str]) -> bool:
        """Say whether a data set has what the task needs, which is how a task is guessed.

        Parameters
        ----------
        roles : collection of str
            Roles of its columns, such as `LoadedData.columns`.

        Returns
        -------
        bool
            True if all that is needed is there.

        Examples
        --------
        >>> from dataprune import RegressionTask
        >>> RegressionTask.fits({"text", "number"}), RegressionTask.fits({"text", "label"})
        (True, False)
        """
        return {*cls.inputs, *cls.heads.values()} <= {*roles}

    @abstractmethod
    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:
        """Return the encoded columns of some rows; the method that a new task writes.

        Parameters
        ----------
        rows : mapping of str to list
            Role -> one value per row: checked inputs, and class ids (lists of them for heads on tokens).
        tokenizer : PreTrainedTokenizerFast or None
            The model's tokenizer; None for tasks without texts.

        Returns
        -------
        dict of str to list
            Columns for the model, of texts ``input_ids``, ``attention_mask`` and what else the tokenizer gives, and
            ``labels`` or one ``<head>_labels`` per head.
        """

    @abstractmethod
    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
        """Measure predictions, batch by batch, in memory that does not grow with the width of the logits.

        Parameters
        ----------
        signals : iterable of mapping
            What a forward function returns: logits and labels of each batch, on any device.

        Returns
        -------
        dict of str to float
            Shares and correlations, and ``perplexity`` where there is one; the first key is `main_metric`.

        Raises
        ------
        InvalidValueError
            If there is no batch, or a batch lacks a signal.
        """

    def fit(self, train: datasets.Dataset) -> Self:
        """Learn the label maps from the train set.

        Parameters
        ----------
        train : datasets.Dataset
            The train set; labels may be texts, whole numbers or a `datasets.ClassLabel`.

        Returns
        -------
        Task
            self.

        Raises
        ------
        DataError
            If a column is missing, a label is neither a text nor a whole number, or there is one class only.
        """
        self.check_columns(train)
        columns = {self.column(role) for role in (*self.read_roles, *self.heads.values())}
        columns |= {"source_row"} & {*train.column_names}
        rows = self.read_rows(train.with_format(None).select_columns(sorted(columns))[:], train.features)
        self.learn(rows, train)
        return self

    def learn(self, rows: Mapping[str, list[Any]], train: datasets.Dataset) -> None:
        """Learn the label maps from the checked rows of the train set.

        Parameters
        ----------
        rows : mapping of str to list
            Role -> one value per row; of inputs only where labels are read beside them.
        train : datasets.Dataset
            The train set.
        """
        self.labels_ = {}
        for head, role in self.heads.items():
            self.labels_[head] = self.learn_labels(head, rows[role], train.features[self.column(role)])
        self.unseen_labels_ = {head: [] for head in self.heads}

    def encode(self, dataset: datasets.Dataset, tokenizer: Any = None) -> datasets.Dataset:
        """Turn a split into inputs of the model, and its labels into class ids.

        Labels that the train set lacks are noted in `unseen_labels_`. Nothing is padded, printed or cached.

        Parameters
        ----------
        dataset : datasets.Dataset
            The train set or another split.
        tokenizer : PreTrainedTokenizerFast, optional
            The model's tokenizer, best from `dataprune.models.load_tokenizer`; tasks on texts need it.

        Returns
        -------
        datasets.Dataset
            The encoded columns, ``length`` (tokens, special ones included; 1 where there are none), and ``source_row``
            if there is one.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        InvalidTypeError
            If the task is on texts, and the tokenizer is not a fast one.
        DataError
            If a column is missing, or a row has no tokens, a wrong type, or not as many tags as tokens.
        """
        from datasets import Dataset, concatenate_datasets

        self.check_fitted("encode")
        self.check_columns(dataset)
        parts, first_row = [], 0
        for batch in dataset.with_format(None).iter(batch_size=ROWS_PER_BATCH):
            rows = self.read_rows(batch, dataset.features, first_row=first_row)
            first_row += len(rows[self.read_roles[0]])
            for head, role in self.heads.items():
                rows[role] = self.encode_labels(head, rows[role])
            encoded = self.encode_rows(rows, tokenizer)
            encoded["length"] = self.lengths(encoded)
            if "source_row" in batch:
                encoded["source_row"] = batch["source_row"]
            parts.append(Dataset.from_dict(encoded, features=encoded_features(encoded)))
        return concatenate_datasets(parts)

    @abstractmethod
    def collator(self, tokenizer: Any = None) -> Callable[[Sequence[Mapping[str, Any]]], Any]:
        """Return the function that makes a batch of encoded examples.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerFast, optional
            The model's tokenizer; tasks on texts need it.

        Returns
        -------
        callable
            Picklable.
        """

    def lengths(self, encoded: Mapping[str, list[Any]]) -> list[int]:
        """Return what each encoded row costs to train on, in tokens; 1 where there are none.

        Parameters
        ----------
        encoded : mapping of str to list
            What `encode_rows` returned.

        Returns
        -------
        list of int
            One number per row.
        """
        return [1] * len(next(iter(encoded.values())))

    def texts(self, dataset: datasets.Dataset) -> list[str]:  # noqa: ARG002 - of those that have texts
        """Return each row as one text, for scores and embeddings of texts.

        Parameters
        ----------
        dataset : datasets.Dataset
            Rows, before `encode`.

        Returns
        -------
        list of str
            Texts.

        Raises
        ------
        InvalidValueError
            If the task has none.
        """
        raise InvalidValueError(
            f"{type(self).__name__} has no texts, got a method that reads them. Choose one that needs scores alone."
        )

    def unseen_report(self) -> list[str]:
        """Say which labels the encoded splits have and the train set lacks.

        Returns
        -------
        list of str
            One sentence per head that has such labels.
        """
        self.check_fitted("unseen_report")
        return [
            f"Labels that the train set lacks count as errors: {len(names)} of column "
            f"{self.column(self.heads[head])!r} ({', '.join(sorted(names))})."
            for head, names in self.unseen_labels_.items()
            if names
        ]

    def cut_report(self) -> list[str]:
        """Say what was lost of the rows.

        Returns
        -------
        list of str
            Sentences.
        """
        self.check_fitted("cut_report")
        return []

    def to_dict(self) -> dict[str, Any]:
        """Return all that `from_dict` needs to rebuild the fitted task, ready for JSON.

        Returns
        -------
        dict
            Keys ``name``, those of `settings` and of `learned`, ``labels`` and ``unseen_labels``.
        """
        self.check_fitted("to_dict")
        settings = {name: getattr(self, name) for name in self.settings()}
        return {
            "name": self.name,
            **settings,
            "columns": None if self.columns is None else dict(self.columns),
            "labels": {head: list(names) for head, names in self.labels_.items()},
            "unseen_labels": {head: list(names) for head, names in self.unseen_labels_.items()},
            **{name: getattr(self, name) for name in self.learned},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild a task from `to_dict`.

        Parameters
        ----------
        state : mapping
            What `to_dict` returned.

        Returns
        -------
        Task
            The fitted task.
        """
        task = cls(**{name: state[name] for name in cls.settings()})
        task.labels_ = {head: list(names) for head, names in state["labels"].items()}
        task.unseen_labels_ = {head: list(names) for head, names in state["unseen_labels"].items()}
        for name in cls.learned:
            setattr(task, name, state[name])
        return task

    @property
    def read_roles(self) -> tuple[str, ...]:
        """Roles of the columns that the model reads."""
        return (*self.inputs, *(role for role in self.optional_inputs if role in (self.columns or {})))

    def column(self, role: str) -> str:
        """Return the name of the column that plays `role`.

        Parameters
        ----------
        role : str
            Such as ``"text"`` or ``"slots"``.

        Returns
        -------
        str
            The column's name.
        """
        return (self.columns or {}).get(role, role)

    def check_fitted(self, method: str) -> None:
        """Raise unless `fit` was called.

        Parameters
        ----------
        method : str
            Method that the message names.

        Raises
        ------
        NotFittedError
            If there are no label maps yet.
        """
        if not hasattr(self, "labels_"):
            raise NotFittedError(f"{type(self).__name__}.{method} needs label maps, got none. Call fit(train) first.")

    def check_columns(self, dataset: datasets.Dataset) -> None:
        """Raise unless `dataset` has rows and the task's columns.

        Parameters
        ----------
        dataset : datasets.Dataset
            Any split.

        Raises
        ------
        DataError
            If a column is missing or there is no row.
        """
        for role in (*self.read_roles, *self.heads.values()):
            if self.column(role) not in dataset.column_names:
                found = ", ".join(map(repr, dataset.column_names))
                raise DataError(
                    f"{type(self).__name__} needs a column {self.column(role)!r} ({role}), got only {found}. "
                    f"Name yours with columns={{{role!r}: ...}}."
                )
        if len(dataset) == 0:
            raise DataError(f"{type(self).__name__} needs at least one row, got an empty split.")

    def read_rows(
        self, batch: Mapping[str, list[Any]], features: Mapping[str, Any], *, first_row: int = 0
    ) -> dict[str, list[Any]]:
        """Check rows and name their labels.

        Parameters
        ----------
        batch : mapping of str to list
            Column -> one value per row.
        features : mapping of str to datasets feature
            Column -> type.
        first_row : int, default=0
            Number of the first row, for messages; a column ``source_row`` goes before it.

        Returns
        -------
        dict of str to list
            Role -> one value per row: inputs as they are, labels as names.

        Raises
        ------
        DataError
            If a row cannot be used; the message names it.
        """
        n_rows = len(batch[self.column(self.read_roles[0])])
        row_names = batch.get("source_row", range(first_row, first_row + n_rows))
        rows: dict[str, list[Any]] = {}
        for role in self.read_roles:
            column = self.column(role)
            rows[role] = batch[column]
            self.check_inputs(role, rows[role], row_names=row_names)
        for head, role in self.heads.items():
            column = self.column(role)
            rows[role] = self.read_labels(head, batch[column], features[column], rows=rows, row_names=row_names)
        return rows

    def check_inputs(self, role: str, values: Sequence[Any], *, row_names: Sequence[int]) -> None:
        """Raise unless a column holds what the model can read.

        Parameters
        ----------
        role : str
            One of `read_roles`.
        values : sequence
            One per row.
        row_names : sequence of int
            Row numbers that messages name.

        Raises
        ------
        DataError
            If a value is of another kind; the message names the row.
        """
        check_inputs(values, column=self.column(role), row_names=row_names, split=role == "tokens")

    def read_labels(
        self, head: str, values: Sequence[Any], feature: Any, *, rows: Mapping[str, list[Any]], row_names: Sequence[int]
    ) -> list[Any]:
        """Check one column of labels and name them.

        Parameters
        ----------
        head : str
            A key of `heads`.
        values : sequence
            One per row.
        feature : datasets feature
            The column's type.
        rows : mapping of str to list
            The checked inputs.
        row_names : sequence of int
            Row numbers that messages name.

        Returns
        -------
        list
            One name, or one list of names, per row.

        Raises
        ------
        DataError
            If a label cannot be used; the message names the row.
        """
        column = self.column(self.heads[head])
        if head in self.token_heads:
            return tag_names(values, feature, column=column, row_names=row_names, tokens=rows["tokens"])
        pairs = zip(values, row_names, strict=True)
        return [class_name(value, feature, column=column, row=row) for value, row in pairs]

    def learn_labels(self, head: str, labels: list[Any], feature: Any) -> list[str]:
        """Return the names of a head's classes, in the order of their ids.

        Parameters
        ----------
        head : str
            A key of `heads`.
        labels : list
            What `read_labels` returned for the train set.
        feature : datasets feature
            The column's type.

        Returns
        -------
        list of str
            Sorted names.

        Raises
        ------
        DataError
            If the first head has one class only.
        """
        names = sorted_classes(flatten(labels), feature)
        if head == next(iter(self.heads)) and len(names) < 2:
            raise DataError(
                f"The train set must have at least 2 classes in column {self.column(self.heads[head])!r}, "
                f"got only {names!r}. There is nothing to learn."
            )
        return names

    def encode_labels(self, head: str, labels: list[Any]) -> list[Any]:
        """Return the ids of class names; names that the train set lacks get new ids below -100.

        Parameters
        ----------
        head : str
            A key of `heads`.
        labels : list of str or list of list of str
            One name, or one list of names, per row.

        Returns
        -------
        list of int or list of list of int
            The ids, shaped as `labels`.
        """
        known, unseen = self.labels_[head], self.unseen_labels_[head]
        seen = {*known, *unseen}
        unseen += [name for name in dict.fromkeys(flatten(labels)) if name not in seen]
        ids = {name: position for position, name in enumerate(known)}
        ids |= {name: IGNORED_LABEL - 1 - position for position, name in enumerate(unseen)}
        return [ids[name] if isinstance(name, str) else [ids[member] for member in name] for name in labels]
