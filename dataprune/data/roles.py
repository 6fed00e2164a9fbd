"""Which column plays which role: a text, its label, an image, a prompt, and so on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import datasets
import pyarrow as pa

from dataprune.errors import DataError, check_choice

COMMON_NAMES = {
    "tokens": ("tokens", "words"),
    "slots": ("slots", "slot_labels", "tags", "ner_tags"),
    "intent": ("intent", "intents"),
    "label": ("label", "labels", "class", "category", "target"),
    "labels": ("labels", "label", "classes", "categories", "topics"),
    "number": ("number", "score", "label", "labels", "target", "rating", "similarity"),
    "text_pair": ("text_pair", "text_b", "text2", "sentence2", "question2", "hypothesis"),
    "text": (
        *("text", "sentence", "utterance", "utt", "query", "question"),
        *("text_a", "text1", "sentence1", "question1", "premise"),
    ),
    "image": ("image", "images", "img", "pixels", "picture", "photo"),
    "messages": ("messages", "conversation", "conversations"),
    "prompt": ("prompt", "instruction", "question"),
    "response": ("response", "completion", "output", "answer"),
    "context": ("context", "input"),
}
"""Role of a column -> the names it is recognised by, in any case."""

CONVERSATION_ROLES = ("messages", "prompt", "response", "context")
"""Roles that make sense together only, and that data of another task do not have."""

ANSWERS = {"label", "labels", "number", "slots", "intent"}
"""Roles of what other tasks learn."""

RULES = {
    "text": "texts",
    "text_pair": "texts",
    "tokens": "lists of words",
    "slots": "lists of tags",
    "labels": "lists of classes",
    "number": "numbers",
    "image": "images: paths, pixels, or what datasets calls an image",
    "messages": "lists of turns, each with a role and a content",
    "prompt": "texts",
    "response": "texts",
    "context": "texts",
}
"""Role -> what its column holds, where that is not one class per row."""

LIST_ROLES = ("tokens", "slots")
"""Roles whose columns hold one list per row."""


def find_columns(
    dataset: datasets.Dataset, columns: Mapping[str, str] | None = None, *, place: str = "the data"
) -> dict[str, str]:
    """Return which column plays which role.

    Parameters
    ----------
    dataset : datasets.Dataset
        The train set.
    columns : mapping of str to str, optional
        Role -> column, as far as the caller knows; the others are recognised by name and type.
    place : str, default="the data"
        What messages call the data.

    Returns
    -------
    dict of str to str
        Role -> column.

    Raises
    ------
    InvalidValueError
        If `columns` has an unknown role.
    DataError
        If `columns` names a column that is not there, or two columns could play the same role.

    Examples
    --------
    >>> data = datasets.Dataset.from_dict({"utt": ["hi"], "intent": ["greet"], "id": [7]})
    >>> find_columns(data)
    {'text': 'utt', 'label': 'intent'}
    >>> find_columns(data, {"label": "id"})
    {'label': 'id', 'intent': 'intent', 'text': 'utt'}
    """
    roles = dict(columns or {})
    for role, column in roles.items():
        check_choice("load_data", "columns", role, COMMON_NAMES)
        check_column(dataset, role, column, place=place)
    for role in COMMON_NAMES:
        if role in roles or role in CONVERSATION_ROLES or (role == "image" and {"text", "tokens"} & {*roles}):
            continue
        best = _candidates(role, dataset, taken=roles.values())
        if len(best) > 1 and role == "text" and "tokens" in roles:
            continue  # the words are there already
        if len(best) > 1:
            raise DataError(
                f"Columns {', '.join(map(repr, best))} of {place} could each be the {role}. "
                f"Choose one with columns={{{role!r}: {best[0]!r}}}."
            )
        if best:
            roles[role] = best[0]
    if "intent" in roles and "slots" not in roles and "label" not in roles:
        roles["label"] = roles.pop("intent")
    return _with_conversation(roles, dataset, chosen={*(columns or {})})


def _candidates(role: str, dataset: datasets.Dataset, *, taken: Collection[str]) -> list[str]:
    free = [name for name in dataset.column_names if name not in taken]
    fitting = [name for name in free if name.lower() in COMMON_NAMES[role] and _fits(role, dataset, name)]
    return [name for name in fitting if name.lower() == role] or fitting


def _with_conversation(roles: dict[str, str], dataset: datasets.Dataset, *, chosen: set[str]) -> dict[str, str]:
    """Add conversations, or prompts with responses, unless the data are of another task."""
    if not chosen & {*CONVERSATION_ROLES} and (ANSWERS & {*roles} or "text" in chosen):
        return roles
    named = {role: roles[role] for role in CONVERSATION_ROLES if role in roles}
    if not {"prompt", "response", "messages"} & {*named} and (found := _candidates("messages", dataset, taken=())):
        return {**roles, "messages": found[0]}
    taken = [column for role, column in roles.items() if role != "text"]  # a question may be either
    for role in ("prompt", "response", "context"):
        found = _candidates(role, dataset, taken=taken)
        if role not in named and found and "messages" not in named:
            named[role] = found[0]
            taken.append(found[0])
    if not {"prompt", "response"} <= {*named}:
        return roles
    return {role: column for role, column in roles.items() if column not in named.values()} | named


def check_column(dataset: datasets.Dataset, role: str, column: str, *, place: str = "the data") -> None:
    """Raise unless a column is there and can play a role.

    Parameters
    ----------
    dataset : datasets.Dataset
        Any split.
    role : str
        A key of `COMMON_NAMES`.
    column : str
        The column's name.
    place : str, default="the data"
        What messages call the data.

    Raises
    ------
    DataError
        If the column is missing, or its type does not fit the role.

    Examples
    --------
    >>> check_column(datasets.Dataset.from_dict({"utt": ["hi"]}), "text", "utt")
    """
    if column not in dataset.column_names:
        raise DataError(
            f"{place} must have the column {column!r} ({role}), got {', '.join(map(repr, dataset.column_names))}. "
            f"Name yours with columns={{{role!r}: ...}}."
        )
    if not _fits(role, dataset, column):
        rule = RULES.get(role, "one class per row")
        raise DataError(
            f"Column {column!r} of {place} must hold {rule} ({role}), "
            f"got {dataset.data.schema.field(column).type}. Choose another with columns={{{role!r}: ...}}."
        )


def _fits(role: str, dataset: datasets.Dataset, column: str) -> bool:
    kind = dataset.data.schema.field(column).type
    types = pa.types
    is_text = bool(types.is_string(kind) or types.is_large_string(kind))
    # A path; what datasets stores of an image; pixels, as lists or as arrays of datasets (an extension type).
    is_stored = types.is_struct(kind) and kind.get_field_index("path") >= 0
    is_image = is_text or is_stored or is_list(kind) or isinstance(kind, pa.BaseExtensionType)
    fits = {
        **dict.fromkeys(LIST_ROLES, is_text or is_list(kind)),
        **dict.fromkeys(("text", "text_pair", "prompt", "response", "context"), is_text),
        "labels": is_list(kind),
        "messages": is_list(kind) and types.is_struct(kind.value_type),
        "number": types.is_floating(kind) or types.is_integer(kind),
        "image": is_image,
    }
    return bool(fits.get(role, not types.is_nested(kind) and not types.is_floating(kind)))


def is_list(kind: pa.DataType) -> bool:
    """Say whether a column's type is a list.

    Parameters
    ----------
    kind : pyarrow.DataType
        The type.

    Returns
    -------
    bool
        True for lists of any values.

    Examples
    --------
    >>> is_list(pa.list_(pa.string())), is_list(pa.string())
    (True, False)
    """
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
