"""The command line: each command parses its options, calls the library, and prints.

Results go to standard output, progress and messages to standard error; ``--json`` prints for machines. Exit code 0
means done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

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

app = typer.Typer(
    cls=OneSentenceGroup,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, train, compare, report, score, select, suspects, plan, methods):
    app.command()(command)


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


@app.callback()
def options(  # numpydoc ignore=PR01
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Prune the train set while a model is fine-tuned: same accuracy, less training."""


def main() -> None:
    """Run the command line and exit."""
    app()
