"""``dataprune compare``: whether pruning pays on this data, with this model."""

from __future__ import annotations

import sys
from dataclasses import asdict
from statistics import mean, stdev
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from dataprune.cli.errors import wrong_usage
from dataprune.cli.options import AsJson, to_arguments
from dataprune.cli.printing import print_json, print_table, print_text
from dataprune.cli.settings import RunFileArgument, Settings, to_config
from dataprune.errors import check_count
from dataprune.runs.config import RunConfig


def compare(  # numpydoc ignore=PR01
    run_file: RunFileArgument = None,
    *,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of data, or a hub name.")] = None,
    model: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or hub name of an encoder.")] = None,
    output_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder for the runs; the same command goes on in it.")
    ] = None,
    keep_fraction: Annotated[
        float | None, typer.Option(metavar="SHARE", help=f"Kept in pruned epochs. [default: {RunConfig.keep_fraction}]")
    ] = None,
    n_epochs: Annotated[
        int | None, typer.Option(metavar="N", help=f"Epochs, warm-up included. [default: {RunConfig.n_epochs}]")
    ] = None,
    setting: Settings = None,
    recipe: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One more method, see `dataprune methods`; repeatable.")
    ] = None,
    n_seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each method.")] = 3,
    n_processes: Annotated[int, typer.Option(metavar="N", help="Runs side by side.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train on full data, fewer epochs, chance and pruned, over seeds, and say whether pruning pays.

    "Fewer epochs" and "random" make as many updates as the pruned run: what pruning has to beat.

    For example: dataprune compare --data atis/ --model encoder/ --output-dir comparison/ --keep-fraction 0.3
    --n-processes 2
    """
    options = {
        "data": data,
        "model": model,
        "output_dir": output_dir,
        "keep_fraction": keep_fraction,
        "n_epochs": n_epochs,
        **to_arguments("--set", setting, example="n_epochs=3"),
    }
    with wrong_usage():
        check_count("compare", "n_seeds", n_seeds, minimum=1)
        check_count("compare", "n_processes", n_processes, minimum=1)
    config = to_config(run_file, {name: value for name, value in options.items() if value is not None})

    from dataprune.runs.compare import FULL, methods_to_compare, paired_interval
    from dataprune.runs.compare import compare as run_all

    with wrong_usage():
        n_cells = len(methods_to_compare(config, recipe or [])) * n_seeds
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("runs", total=n_cells)
        found = run_all(
            config,
            recipes=recipe or [],
            n_seeds=n_seeds,
            n_processes=n_processes,
            on_cell=lambda: progress.advance(bar),
        )
    if as_json:
        print_json(asdict(found))
        return

    def with_spread(values: list[float]) -> str:
        return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")

    def against_full(method: str, differences: list[float]) -> str:
        if method == FULL:
            return ""
        if len(differences) == 1:
            return f"{100 * differences[0]:+.2f}"
        middle, half = paired_interval(differences)
        return f"{100 * middle:+.2f} ± {100 * half:.2f}"

    parts = ("train", "score", "select", "total")
    print_table(
        f"{found.metric.replace('_', ' ').capitalize()} on the {found.split} split, %, mean ± deviation of {n_seeds} "
        "seeds; vs. full: paired, with its 95 % interval; seconds by where they went",
        ["method", found.metric.replace("_", " "), "vs. full", "time", "updates", "tokens", *parts],
        [
            [
                row.method,
                with_spread(row.values),
                against_full(row.method, row.differences),
                f"{row.time:.0%}",
                f"{row.n_updates:,.0f}",
                f"{row.tokens_trained:,.0f}",
                *(f"{row.seconds[part]:,.1f}" for part in parts),
            ]
            for row in found.rows
        ],
        right=True,
    )
    print_text(found.verdict)
