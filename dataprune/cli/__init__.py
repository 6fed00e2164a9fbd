"""The command line: each command parses its options, calls the library, and prints.

Results go to standard output, progress and messages to standard error; ``--json`` prints for machines. Exit code 0
means done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

import dataprune
from dataprune.cli.compare import compare
from dataprune.cli.demo import demo
from dataprune.cli.errors import OneSentenceGroup
from dataprune.cli.methods import methods
from dataprune.cli.plan import plan
from dataprune.cli.report import report
from dataprune.cli.score import score
from dataprune.cli.select import select
from dataprune.cli.suspects import suspects
from dataprune.cli.train import train

__all__ = ["app", "main"]


def unwrapped(docstring: str) -> str:
    r"""Return a docstring as paragraphs of one line each: the terminal wraps them at its own width.

    Parameters
    ----------
    docstring : str
        Of a command.

    Returns
    -------
    str
        For ``--help``.

    Examples
    --------
    >>> unwrapped("Do it.\n\n    First this,\n    then that.\n    ")
    'Do it.\n\nFirst this, then that.'
    """
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


WELCOME = """Prune the train set while a model is fine-tuned: same accuracy, less training.

`dataprune demo` needs nothing. On your own data: `train` a model, `compare` to see whether pruning pays, `report`
to look at what a run kept, `suspects` to find wrong labels; `score` and `select` work on a file without any training.
`plan` and --dry-run tell the price first. `dataprune COMMAND --help` has an example of each.
"""
"""What `dataprune --help` begins with."""

app = typer.Typer(
    cls=OneSentenceGroup,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, train, compare, report, score, select, suspects, plan, methods):
    app.command(help=unwrapped(command.__doc__ or ""))(command)


def print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature
    """Print the version and stop.

    Parameters
    ----------
    wanted : bool
        Whether ``--version`` was given.
    """
    if wanted:
        typer.echo(dataprune.__version__)
        raise typer.Exit


@app.callback(help=unwrapped(WELCOME))
def options(  # numpydoc ignore=PR01
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line and exit."""
    app()
