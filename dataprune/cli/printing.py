"""Results on standard output: tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from dataprune.scheduling.plan import Plan


def print_json(value: object) -> None:
    """Print `value` as JSON and nothing else.

    Parameters
    ----------
    value : object
        Anything that `json` can write; numbers that are not finite, which JSON lacks, are null.
    """
    typer.echo(json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False))


def _without_nan(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metric_text(name: str, value: float) -> str:
    """Return the value of a metric as people read it.

    Parameters
    ----------
    name : str
        Its name.
    value : float
        Its value.

    Returns
    -------
    str
        In per cent, but for a perplexity or a loss.

    Examples
    --------
    >>> metric_text("accuracy", 0.5), metric_text("perplexity", 12.3456)
    ('50.00%', '12.35')
    """
    return f"{value:,.2f}" if name in {"perplexity", "loss"} else f"{value:.2%}"


def count_of(n: int, noun: str) -> str:
    """Return a number and what it counts.

    Parameters
    ----------
    n : int
        How many.
    noun : str
        In the singular; a plural that ends in s.

    Returns
    -------
    str
        Both.

    Examples
    --------
    >>> count_of(1, "row"), count_of(4500, "row")
    ('1 row', '4,500 rows')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print what a run will do.

    Parameters
    ----------
    plan : Plan
        Of a scheduler.
    as_json : bool
        For machines.
    """
    if as_json:
        print_json({**asdict(plan), "n_updates": plan.n_updates, "compute_fraction": plan.compute_fraction})
    else:
        typer.echo(str(plan))


def print_text(text: str, *, style: str = "") -> None:
    """Print a paragraph, wrapped between words at the terminal's width.

    Parameters
    ----------
    text : str
        Taken literally.
    style : str, default=""
        Colour or weight, where the terminal has any.
    """
    Console().print(Text(text, style=style))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> None:
    """Print a table.

    Parameters
    ----------
    title : str
        Line above it.
    columns : sequence of str
        Headings.
    rows : iterable of sequence of str
        One text per column, taken literally.
    right : bool, default=False
        Align all columns but the first to the right, for numbers.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, name in enumerate(columns):
        is_last = position == len(columns) - 1  # the one that may wrap, where it holds text
        table.add_column(name, justify="right" if right and position else "left", no_wrap=right or not is_last)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    print_text(title, style="bold")
    console = Console()
    if right:  # a terminal wraps a line that is too long; cut numbers would be lost
        console.width = max(
            console.width, console.measure(table, options=console.options.update(max_width=1000)).maximum
        )
    console.print(table)
    print_text("")
