"""What the tasks on texts share: tokenising, the limit of length, padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from dataprune.data.base import Task
from dataprune.data.collating import PadCollate
from dataprune.errors import InvalidTypeError, InvalidValueError, check_count

if TYPE_CHECKING:
    import datasets


class TextTask(Task):
    """Tokenise rows of texts; the base of all tasks on them.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Role -> column name, as in `LoadedData.columns`; None means that the columns are named as the roles.
    max_length_tokens : int, default=128
        Longer inputs are cut, special tokens included; `cut_report` says how many were.

    Attributes
    ----------
    labels_ : dict of str to list of str
        Head -> sorted names of the classes in the train set; a class's id is its position.
    unseen_labels_ : dict of str to list of str
        Head -> names that `encode` met and the train set lacks.
    n_cut_rows_ : int
        Rows that `encode` has cut since `fit`.

    Examples
    --------
    >>> from dataprune.data.tasks import TASKS
    >>> [name for name, task in TASKS.items() if issubclass(task, TextTask)][:2]
    ['joint-nlu', 'classification']
    """

    add_prefix_space: ClassVar[bool] = True
    """Whether a byte-level tokenizer reads the first word as it reads the others; models of whole texts do not."""

    n_cut_rows_: int

    def __init__(self, *, columns: Mapping[str, str] | None = None, max_length_tokens: int = 128) -> None:
        super().__init__(columns=columns)
        self.max_length_tokens = max_length_tokens

    def fit(self, train: datasets.Dataset) -> Self:  # noqa: D102 - inherited
        check_count(type(self).__name__, "max_length_tokens", self.max_length_tokens, minimum=3)
        super().fit(train)
        self.n_cut_rows_ = 0
        return self

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:  # noqa: D102 - inherited
        task = super().from_dict(state)
        task.n_cut_rows_ = 0
        return task

    def encode(self, dataset: datasets.Dataset, tokenizer: Any = None) -> datasets.Dataset:  # noqa: D102 - inherited
        self.check_fitted("encode")
        if not getattr(tokenizer, "is_fast", False):
            raise InvalidTypeError(
                f"{type(self).__name__}.encode needs a fast tokenizer, got {type(tokenizer).__name__}. "
                "Load it with dataprune.models.load_tokenizer."
            )
        return super().encode(dataset, tokenizer)

    def lengths(self, encoded: Mapping[str, list[Any]]) -> list[int]:  # noqa: D102 - inherited
        return [len(ids) for ids in encoded["input_ids"]]

    def collator(self, tokenizer: Any = None) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
        """Return the function that pads encoded examples into a batch.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerFast
            Gives the padding ids.

        Returns
        -------
        PadCollate
            Picklable; labels are padded with -100.

        Raises
        ------
        InvalidValueError
            If the tokenizer has no padding token.
        """
        if getattr(tokenizer, "pad_token_id", None) is None:
            raise InvalidValueError("The tokenizer must have a padding token, got none. Set tokenizer.pad_token first.")
        return PadCollate(
            {
                "input_ids": tokenizer.pad_token_id,
                "attention_mask": 0,
                "token_type_ids": tokenizer.pad_token_type_id,
            }
        )

    def texts(self, dataset: datasets.Dataset) -> list[str]:  # noqa: D102 - inherited
        values = dataset[self.column(self.read_roles[0])][:]
        return [value if isinstance(value, str) else " ".join(value) for value in values]

    def cut_report(self) -> list[str]:
        """Say how many rows were cut.

        Returns
        -------
        list of str
            One sentence, or none.
        """
        self.check_fitted("cut_report")
        if not self.n_cut_rows_:
            return []
        sentence = (
            f"Rows that lost words: {self.n_cut_rows_}, as they are longer than {self.max_length_tokens} tokens "
            "(max_length_tokens) or the tokenizer drops a word. Lost words are neither trained on nor measured."
        )
        return [sentence]

    def length_limit(self, tokenizer: Any) -> int:
        """Return how many tokens an input may have, special ones included.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerFast
            Knows how many the model can take.

        Returns
        -------
        int
            The smaller of the two limits.
        """
        return min(self.max_length_tokens, int(tokenizer.model_max_length))

    def encode_texts(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> Mapping[str, list[Any]]:
        """Tokenise texts, or pairs of them, and count those that are cut.

        Parameters
        ----------
        rows : mapping of str to list
            ``text`` and, for pairs, ``text_pair``.
        tokenizer : PreTrainedTokenizerFast
            The model's tokenizer.

        Returns
        -------
        mapping of str to list
            What the tokenizer gives.
        """
        encoding: Any = tokenizer(
            rows["text"], rows.get("text_pair"), truncation=True, max_length=self.length_limit(tokenizer)
        )
        self.n_cut_rows_ += sum(bool(part.overflowing) for part in encoding.encodings)
        return {**encoding}
