"""Conversations as one text, and which parts of it are answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataprune.errors import DataError

ANSWERING = "assistant"
"""The role whose turns a model is trained on."""


def render_chat(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    r"""Write a conversation as the model will read it, and find the answers in it.

    Parameters
    ----------
    messages : sequence of mapping
        Turns, with ``role`` and ``content``.
    tokenizer : PreTrainedTokenizerFast
        Its chat template is used where it has one.

    Returns
    -------
    text : str
        The conversation, with the template's special tokens.
    answers : list of (int, int)
        Where the assistant's turns stand in it, their end tokens included: start and end in characters.

    Raises
    ------
    DataError
        If the template refuses the conversation, or writes an earlier turn in another way once more turns follow.

    Notes
    -----
    Without a template each turn is ``role: content`` on a line of its own, and the tokenizer's end token, where it has
    one, follows each answer.

    Examples
    --------
    >>> class Plain:
    ...     chat_template, eos_token = None, "</s>"
    >>> messages = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    >>> text, [(start, end)] = render_chat(messages, Plain())
    >>> text, text[start:end]
    ('user: 2 + 2?\nassistant: 4</s>\n', '4</s>')
    """
    if getattr(tokenizer, "chat_template", None):
        return _render_by_template(messages, tokenizer)
    text, answers = "", []
    for message in messages:
        text += f"{message['role']}: "
        start = len(text)
        text += message["content"]
        if message["role"] == ANSWERING:
            text += tokenizer.eos_token or ""
            answers.append((start, len(text)))
        text += "\n"
    return text, answers


def _render_by_template(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    text = _templated(messages, tokenizer)
    answers = []
    for position, message in enumerate(messages):
        if message["role"] != ANSWERING:
            continue
        before = _templated(messages[:position], tokenizer, add_generation_prompt=True)
        after = _templated(messages[: position + 1], tokenizer)
        if not (text.startswith(before) and text.startswith(after)):
            raise DataError(
                f"The tokenizer's chat template writes the answer {_short(message)} in another way where more turns "
                "follow, so it cannot be told from the rest. Keep one answer per row, the last turn."
            )
        # What stands before the next turn is often a line break that the model never has to write.
        answers.append((len(before), len(after.rstrip())))
    return text, answers


def _templated(messages: Sequence[Mapping[str, str]], tokenizer: Any, **options: bool) -> str:
    from jinja2 import TemplateError

    try:
        rendered: str = tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
    except TemplateError as error:
        raise DataError(
            f"The tokenizer's chat template refuses a conversation that begins with {_short(messages[0])}: {error}. "
            "Correct or drop that row."
        ) from None
    return rendered


def _short(message: Mapping[str, str]) -> str:
    return repr(message["content"][:40])


def check_messages(values: Sequence[Any], *, column: str, row_names: Sequence[int]) -> None:
    """Raise unless each value is a conversation with an answer.

    Parameters
    ----------
    values : sequence
        One per row.
    column : str
        Column that the message names.
    row_names : sequence of int
        Row numbers that the message names.

    Raises
    ------
    DataError
        If a value is no list of turns with ``role`` and ``content``, or the assistant has none.

    Examples
    --------
    >>> check_messages([[{"role": "assistant", "content": "Hello."}]], column="messages", row_names=[0])
    """
    for turns, row in zip(values, row_names, strict=True):
        for turn in turns if isinstance(turns, list) else [turns]:
            is_turn = isinstance(turn, Mapping) and all(isinstance(turn.get(key), str) for key in ("role", "content"))
            if not is_turn:
                raise DataError(
                    f"Column {column!r} must hold lists of turns with the texts 'role' and 'content', got {turn!r} in "
                    f"row {row}. Correct or drop that row."
                )
        if all(turn["role"] != ANSWERING for turn in turns):
            raise DataError(
                f"Column {column!r} must have a turn of the role {ANSWERING!r} in each row, got none in row {row}. "
                "Correct or drop that row."
            )
