"""A progress bar over the planned updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataprune.training.pruner import DynamicPruner


@contextmanager
def progress_bar(enabled: bool, pruner: DynamicPruner) -> Iterator[Callable[[], None]]:  # noqa: FBT001
    """Yield a function that draws how far the run is.

    Parameters
    ----------
    enabled : bool
        False yields a function that does nothing.
    pruner : DynamicPruner
        An attached pruner.

    Yields
    ------
    callable
        Takes nothing; call it after each update.
    """
    if not enabled:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("updates"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=pruner.plan_.n_updates)

        def show() -> None:
            record = pruner.history_[-1]
            kept = f"{record.n_kept:,} of {pruner.n_examples_:,} examples"
            done = sum(r.n_updates for r in pruner.history_)
            bar.update(task, completed=done, description=f"epoch {record.epoch + 1}/{pruner.n_epochs_}, {kept}")

        yield show
