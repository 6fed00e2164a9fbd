"""Options that several commands share; their names are the library's, their defaults those of `RunConfig`."""

from __future__ import annotations

import ast
from typing import Annotated, Any

from typer import Context, Option

from dataprune.cli.errors import UsageError

PRUNING, TRAINING = "Pruning", "Training"

KeepFraction = Annotated[
    float, Option(metavar="SHARE", help="Examples kept in pruned epochs; 1 trains on all.", rich_help_panel=PRUNING)
]
SchedulerName = Annotated[
    str,
    Option(
        metavar="NAME",
        help="constant, cyclic, linear, cosine, exponential, step, interleaved or soft-prune.",
        rich_help_panel=PRUNING,
    ),
]
InitialKeepFraction = Annotated[
    float,
    Option(metavar="SHARE", help="Where linear, cosine, exponential and step come from.", rich_help_panel=PRUNING),
]
NLevels = Annotated[int, Option(metavar="N", help="Levels of the scheduler step.", rich_help_panel=PRUNING)]
NEpochs = Annotated[int, Option(metavar="N", help="Epochs, warm-up included.", rich_help_panel=TRAINING)]
NWarmupEpochs = Annotated[int, Option(metavar="N", help="First epochs on all examples.", rich_help_panel=PRUNING)]
NCycleEpochs = Annotated[int, Option(metavar="N", help="Epochs on one selection.", rich_help_panel=PRUNING)]
NFullFinalEpochs = Annotated[int, Option(metavar="N", help="Last epochs on all examples.", rich_help_panel=PRUNING)]
Refresh = Annotated[
    str,
    Option(
        metavar="HOW",
        help="Scores come from the training pass (observed, free), a scoring pass over everything before each "
        "selection (full), or over this share of it (such as 0.3).",
        rich_help_panel=PRUNING,
    ),
]
BatchSize = Annotated[int, Option(metavar="N", help="Examples in a batch.", rich_help_panel=TRAINING)]
NAccumulation = Annotated[int, Option(metavar="N", help="Batches per optimizer update.", rich_help_panel=TRAINING)]
AsJson = Annotated[bool, Option("--json", metavar="", help="Print JSON to standard output, and nothing else there.")]
DryRun = Annotated[
    bool, Option("--dry-run", metavar="", help="Read the data, say what would be done with them, and stop.")
]

ScorerArgs = Annotated[
    list[str] | None, Option(metavar="NAME=VALUE", help="A parameter of the scorer: n_prototypes=20; repeatable.")
]
SelectorArgs = Annotated[
    list[str] | None, Option(metavar="NAME=VALUE", help="A parameter of the selector: n_strata=20; repeatable.")
]
TextColumn = Annotated[
    str | None, Option(metavar="NAME", help="Column of the text; by default one with a common name.")
]
Model = Annotated[
    str | None,
    Option(metavar="DIR", help="Folder or hub name: an encoder for embeddings, a language model for perplexity."),
]
Split = Annotated[str, Option(metavar="NAME", help="train, valid or test, where DATA has several.")]


def is_typed(ctx: Context, option: str) -> bool:
    """Say whether the user typed an option, as against its default.

    Parameters
    ----------
    ctx : Context
        Of the command.
    option : str
        Name of its parameter.

    Returns
    -------
    bool
        False also for an option that the command has not.
    """
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def to_refresh(text: str) -> str | float:
    """Return a share as a number, a word as it is.

    Parameters
    ----------
    text : str
        What the user typed.

    Returns
    -------
    str or float
        For `RunConfig`'s ``refresh``.

    Examples
    --------
    >>> to_refresh("full"), to_refresh("0.3")
    ('full', 0.3)
    """
    try:
        return float(text)
    except ValueError:
        return text


def to_pairs(option: str, words: list[str], *, example: str) -> dict[str, str]:
    """Return repeated ``NAME=VALUE`` words as a mapping.

    Parameters
    ----------
    option : str
        That the message names.
    words : list of str
        What the user typed.
    example : str
        For the message.

    Returns
    -------
    dict of str to str
        Name to value.

    Raises
    ------
    UsageError
        If a word is no pair.

    Examples
    --------
    >>> to_pairs("--column", ["text=utterance"], example="")
    {'text': 'utterance'}
    """
    for word in words:
        if not all(word.partition("=")):
            raise UsageError(f"{option} must be NAME=VALUE, such as {example}, got {word!r}.")
    return dict(word.split("=", 1) for word in words)


def to_value(text: str) -> Any:
    """Return a number, a list or a Python literal as what it is, any other word as a string.

    Parameters
    ----------
    text : str
        What the user typed.

    Returns
    -------
    object
        The value.

    Examples
    --------
    >>> to_value("0.3"), to_value("true"), to_value("hard")
    (0.3, True, 'hard')
    """
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text


def scorer_arguments(scorer: str | None, words: list[str] | None) -> dict[str, Any]:
    """Return what ``--scorer-arg`` sets, of a scorer that reads the rows of a file.

    Parameters
    ----------
    scorer : str or None
        Its name.
    words : list of str or None
        What the user typed.

    Returns
    -------
    dict of str to object
        Name to value.

    Raises
    ------
    UsageError
        If there is no scorer, or another option is for that.

    Examples
    --------
    >>> scorer_arguments("column", ["column=age"])
    {'column': 'age'}
    """
    if words and scorer is None:
        raise UsageError(f"--scorer-arg must be left out without --scorer, got {', '.join(words)}.")
    arguments = to_arguments("--scorer-arg", words, example="n_prototypes=20")
    if "column" in arguments and scorer != "column":
        raise UsageError(f"--scorer-arg must not set 'column' of {scorer}. Pass --text-column.")
    return arguments


def to_arguments(option: str, words: list[str] | None, *, example: str) -> dict[str, Any]:
    """Return repeated ``NAME=VALUE`` words as parameters.

    Parameters
    ----------
    option : str
        That the message names.
    words : list of str or None
        What the user typed.
    example : str
        For the message.

    Returns
    -------
    dict of str to object
        Name to value.

    Raises
    ------
    UsageError
        If a word is no pair.

    Examples
    --------
    >>> to_arguments("--selector-arg", ["n_strata=20"], example="n_strata=20")
    {'n_strata': 20}
    """
    pairs = to_pairs(option, words or [], example=example)
    return {name: to_value(text) for name, text in pairs.items()}
