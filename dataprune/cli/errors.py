"""What every command does with a mistake: one red sentence on standard error, and the right exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from dataprune.errors import DataPruneError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# Newer releases of typer carry their own copy of click: this is the base of "no such option" and the like in either.
UsageError: type[Exception] = typer.BadParameter.__base__  # type: ignore[assignment]


def say(message: str, *, style: str = "") -> None:
    """Print one message to standard error, on one line however long.

    Parameters
    ----------
    message : str
        Taken literally.
    style : str, default=""
        Colour, where the terminal has any.
    """
    Console(stderr=True).print(Text(message, style=style), soft_wrap=True)


def to_options(message: str, options: Collection[str]) -> str:
    """Put a library message into the words of the command line.

    Parameters
    ----------
    message : str
        Names parameters as Python does.
    options : collection of str
        Parameters that are options; others stay as they are.

    Returns
    -------
    str
        Names them as options.

    Examples
    --------
    >>> to_options("CyclicScheduler.keep_fraction must be in (0, 1], got 1.5.", {"keep_fraction"})
    '--keep-fraction must be in (0, 1], got 1.5.'
    """
    found = re.match(r"[\w.()]+\.(\w+) must", message)
    if found and found[1] in options:
        message = f"--{found[1].replace('_', '-')} must{message[found.end() :]}"
    return re.sub(r"columns=\{'(\w+)': '?([^'}]+)'?\}", r"--column \1=\2", message)


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Turn what the library says about a setting into a usage error: exit code 2.

    Raises
    ------
    UsageError
        If the block refuses a value.
    """
    try:
        yield
    except DataPruneError as error:
        raise UsageError(str(error)) from error


class OneSentenceGroup(TyperGroup):
    """Commands whose errors are one sentence each; without a command, the help."""

    def _options(self) -> set[str]:
        words = [word for command in self.commands.values() for option in command.params for word in option.opts]
        return {word.removeprefix("--").replace("-", "_") for word in words}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102 - inherited
        return super().parse_args(ctx, args or ["--help"])

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: D102 - inherited
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})  # typer raises what it would print
        except UsageError as error:
            message = error.format_message() if hasattr(error, "format_message") else str(error)
            say(f"Error: {to_options(' '.join(message.split()), self._options())}", style="red")
            code = WRONG_USAGE
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:  # noqa: D102 - inherited
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output left, as in `| head`
            raise
        except KeyboardInterrupt as error:  # TrainingInterrupted too
            say(str(error) or "Interrupted.", style="red")
            raise typer.Exit(INTERRUPTED) from None
        except DataPruneError as error:
            say(f"Error: {to_options(str(error), self._options())}", style="red")
        except OSError as error:
            say(f"Error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.", style="red")
        raise typer.Exit(FAILED)
