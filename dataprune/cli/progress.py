"""How far a long command is: bars on standard error, where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from dataprune.data.reading import Progress as Tell


@contextmanager
def transient_bar(*columns: ProgressColumn) -> Iterator[Progress]:
    """Show bars on standard error while something runs, and nothing where that is no terminal.

    Parameters
    ----------
    *columns : ProgressColumn
        Of each bar; rich's own by default.

    Yields
    ------
    Progress
        Takes tasks.
    """
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    if sys.stderr.isatty():
        with progress:
            yield progress
    else:  # one that was started would end with an empty line before rich 15, even if it is disabled
        yield progress


@contextmanager
def showing_progress(console: Console | None = None) -> Iterator[Tell]:
    """Show what is being done: rows so far, rows per second, and the time that remains.

    Parameters
    ----------
    console : Console, optional
        Where to; by default standard error.

    Yields
    ------
    callable
        ``tell(what, n_rows, share)``: a new ``what`` begins a new line; nothing is printed where the console is no
        terminal.
    """
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:  # a Progress that is disabled still ended with an empty line before rich 15
        yield lambda what, n_rows, share: None  # noqa: ARG005
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f}/s,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        started: dict[str, tuple[float, int]] = {}

        def tell(what: str, n_rows: int, share: float | None) -> None:
            if what not in started:
                task = progress.add_task(what, total=None if share is None else 1.0, rows=0, rate=0.0)
                started[what] = (time.perf_counter(), int(task))
                first = True
            else:
                first = False
            begun, number = started[what]
            seconds = time.perf_counter() - begun
            rate = 0.0 if first or not seconds else n_rows / seconds
            progress.update(progress.task_ids[number], completed=share or 0.0, rows=n_rows, rate=rate)

        yield tell
