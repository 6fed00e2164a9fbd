"""Texts for a causal language model: whole texts, prompts with responses, conversations."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from dataprune.data.chat import check_messages, render_chat
from dataprune.data.collating import PadCollate
from dataprune.data.forward import IGNORED_LABEL
from dataprune.data.metrics import read_signals
from dataprune.data.text_task import TextTask
from dataprune.errors import InvalidValueError

if TYPE_CHECKING:
    import datasets


class CausalLMTask(TextTask):
    """The next token, of whole texts or of answers alone.

    Three kinds of rows, told by `columns`: ``messages`` (conversations: lists of turns with ``role`` and ``content``),
    ``prompt`` and ``response`` (with ``context``, where there is one, after the prompt), or ``text``. Of a text every
    token counts; of the others the assistant's tokens alone, up to the end token. A tokenizer's chat template is used
    where it has one.

    Signals: ``logits`` (B, T, V) and ``labels`` (B, T), -100 where a token does not count. Metrics over all tokens that
    count: ``inverse_perplexity`` (main; 1 / perplexity, so that higher is better), ``token_accuracy``, ``perplexity``.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles above; None means a column ``text``.
    max_length_tokens : int, default=128
        Longer rows lose their end, special tokens included.

    Attributes
    ----------
    labels_ : dict
        Empty: there are no classes.
    unseen_labels_ : dict
        Empty.
    n_cut_rows_ : int
        Rows that `encode` has cut since `fit`.
    n_rows_without_answer_ : int
        Those of them that have no token left that counts.

    Notes
    -----
    A row is one example and one sequence: rows are neither packed nor split, for a score belongs to a row. Without a
    chat template a prompt and its response stand on lines of their own, and turns are ``role: content``; a text and a
    response end with the tokenizer's end token.

    Examples
    --------
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"prompt": ["2 + 2?"], "response": ["4"]})
    >>> task = CausalLMTask(columns={"prompt": "prompt", "response": "response"}).fit(rows)
    >>> task.read_roles
    ('prompt', 'response')
    """

    name: ClassVar[str] = "causal-lm"
    main_metric: ClassVar[str] = "inverse_perplexity"
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    optional_inputs: ClassVar[tuple[str, ...]] = ("messages", "prompt", "response", "context")
    heads: ClassVar[dict[str, str]] = {}
    class_column: ClassVar[str | None] = None
    add_prefix_space: ClassVar[bool] = False  # a template's special tokens are followed by no space

    n_rows_without_answer_: int

    @classmethod
    def fits(cls, roles: Collection[str]) -> bool:
        """Say whether a data set has conversations, or prompts with responses; a text alone may be of any task.

        Parameters
        ----------
        roles : collection of str
            Roles of its columns, such as `LoadedData.columns`.

        Returns
        -------
        bool
            True if it has.

        Examples
        --------
        >>> CausalLMTask.fits({"prompt", "response"}), CausalLMTask.fits({"text"})
        (True, False)
        """
        return "messages" in roles or {"prompt", "response"} <= {*roles}

    @property
    def read_roles(self) -> tuple[str, ...]:
        """Roles of the columns that the model reads."""
        named = self.columns or {}
        if "messages" in named:
            return ("messages",)
        if self.fits(named):
            return ("prompt", "response", *(["context"] if "context" in named else []))
        return ("text",)

    def fit(self, train: datasets.Dataset) -> Self:  # noqa: D102 - inherited
        super().fit(train)
        self.n_rows_without_answer_ = 0
        return self

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:  # noqa: D102 - inherited
        task = super().from_dict(state)
        task.n_rows_without_answer_ = 0
        return task

    def check_inputs(self, role: str, values: Sequence[Any], *, row_names: Sequence[int]) -> None:  # noqa: D102
        if role == "messages":
            check_messages(values, column=self.column(role), row_names=row_names)
        else:
            super().check_inputs(role, values, row_names=row_names)

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, list[Any]]:  # noqa: D102 - inherited
        if "text" in rows and len(rows) == 1:
            return self._encode_whole(rows["text"], tokenizer)
        if "messages" in rows or getattr(tokenizer, "chat_template", None):
            pairs = [render_chat(turns, tokenizer) for turns in conversations(rows)]
            is_templated = bool(getattr(tokenizer, "chat_template", None))
        else:
            pairs, is_templated = [_joined(*pair, tokenizer) for pair in prompts_and_responses(rows)], False
        # A template writes all special tokens itself, the first one too.
        encoding = self._tokenize([text for text, _ in pairs], tokenizer, add_special_tokens=not is_templated)
        labels = []
        for part, (_, answers) in zip(encoding.encodings, pairs, strict=True):
            counted = [
                any(start < to and end > since for since, to in answers) and end > start for start, end in part.offsets
            ]
            labels.append([token if counts else IGNORED_LABEL for token, counts in zip(part.ids, counted, strict=True)])
            self.n_rows_without_answer_ += not any(counted[1:])
        return {**encoding, "labels": labels}

    def _encode_whole(self, texts: list[str], tokenizer: Any) -> dict[str, list[Any]]:
        end = tokenizer.eos_token_id
        writes_end = tokenizer("")["input_ids"][-1:] == [end]
        ending = "" if end is None or writes_end else tokenizer.eos_token
        encoding = self._tokenize([text + ending for text in texts], tokenizer)
        return {**encoding, "labels": [list(part.ids) for part in encoding.encodings]}

    def _tokenize(self, texts: list[str], tokenizer: Any, *, add_special_tokens: bool = True) -> Any:
        encoding = tokenizer(
            texts, truncation=True, max_length=self.length_limit(tokenizer), add_special_tokens=add_special_tokens
        )
        self.n_cut_rows_ += sum(bool(part.overflowing) for part in encoding.encodings)
        return encoding

    def collator(self, tokenizer: Any = None) -> Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]:
        """Return the function that pads encoded examples into a batch.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerFast
            Gives the padding id; without one its end token, which is masked.

        Returns
        -------
        PadCollate
            Picklable; labels are padded with -100.
        """
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        return PadCollate({"input_ids": pad or 0, "attention_mask": 0})

    def texts(self, dataset: datasets.Dataset) -> list[str]:  # noqa: D102 - inherited
        rows = {role: dataset[self.column(role)][:] for role in self.read_roles}
        if "text" in rows:
            return list(rows["text"])
        return ["\n".join(turn["content"] for turn in turns) for turns in conversations(rows)]

    def cut_report(self) -> list[str]:  # noqa: D102 - inherited
        sentences = super().cut_report()
        if self.n_rows_without_answer_:
            sentences.append(
                f"Rows without an answer: {self.n_rows_without_answer_}, as no token of it is left within "
                f"{self.max_length_tokens} (max_length_tokens). There is nothing to learn from them."
            )
        return sentences

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        n_tokens = n_right = 0
        surprise = 0.0
        for batch in signals:
            logits, labels, loss = read_signals(batch, "logits", "labels", "loss")
            counted = labels != IGNORED_LABEL  # (B, T)
            n_tokens += int(counted.sum())
            n_right += int(((logits.argmax(-1) == labels) & counted).sum())
            surprise += float(loss.double().sum())  # of each example the sum over its tokens
        if n_tokens == 0:
            raise InvalidValueError(
                "The task's metrics need at least one token that counts, got none. Raise max_length_tokens, or pass a "
                "split whose rows have answers."
            )
        mean = surprise / n_tokens
        return {
            "inverse_perplexity": math.exp(-mean),
            "token_accuracy": n_right / n_tokens,
            "perplexity": math.exp(min(mean, 700.0)),  # a float holds no more
        }


def conversations(rows: Mapping[str, list[Any]]) -> list[list[dict[str, str]]]:
    """Return rows of any kind as conversations.

    Parameters
    ----------
    rows : mapping of str to list
        ``messages``, or ``prompt`` and ``response``, and ``context`` where there is one.

    Returns
    -------
    list of list of dict
        Turns with ``role`` and ``content``.

    Examples
    --------
    >>> conversations({"prompt": ["2 + 2?"], "response": ["4"]})
    [[{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': '4'}]]
    """
    if "messages" in rows:
        return [[{key: turn[key] for key in ("role", "content")} for turn in turns] for turns in rows["messages"]]
    return [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        for prompt, response in prompts_and_responses(rows)
    ]


def prompts_and_responses(rows: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    r"""Return each prompt, with its context, and its response.

    Parameters
    ----------
    rows : mapping of str to list
        ``prompt``, ``response``, and ``context`` where there is one.

    Returns
    -------
    list of (str, str)
        Pairs.

    Examples
    --------
    >>> prompts_and_responses({"prompt": ["Add."], "context": ["2, 3"], "response": ["5"]})
    [('Add.\n\n2, 3', '5')]
    """
    contexts = rows.get("context", [""] * len(rows["prompt"]))
    prompts = [f"{p}\n\n{c}" if c else p for p, c in zip(rows["prompt"], contexts, strict=True)]
    return list(zip(prompts, rows["response"], strict=True))


def _joined(prompt: str, response: str, tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    start = f"{prompt}\n"
    text = f"{start}{response}{tokenizer.eos_token or ''}"
    return text, [(len(start), len(text))]
