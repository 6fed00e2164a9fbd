"""``dataprune compare``: whether pruning pays on this data, with this model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from dataprune.cli.errors import say, wrong_usage
from dataprune.cli.options import AsJson, to_arguments
from dataprune.cli.printing import print_json, print_table, print_text
from dataprune.cli.progress import transient_bar
from dataprune.cli.settings import RunFileArgument, Settings, to_config
from dataprune.errors import check_count
from dataprune.runs.config import COMPOSITION, RunConfig

if TYPE_CHECKING:
    from dataprune.runs.compare import Comparison


def compare(  # numpydoc ignore=PR01
    run_file: RunFileArgument = None,
    *,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of data, or a hub name.")] = None,
    model: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or hub name of an encoder.")] = None,
    output_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder for the runs; the same command goes on in it.")
    ] = None,
    keep_fraction: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help=f"Kept in pruned epochs. [default: {COMPOSITION['keep_fraction']}]"),
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Read the data, show what would be run and stop.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train on full data, fewer epochs, chance and pruned, over seeds, and say whether pruning pays.

    "Fewer epochs" and "random" make about as many updates as the pruned run: what pruning has to beat.

    For example: dataprune compare --data atis/ --model encoder/ --output-dir comparison/ --keep-fraction 0.3
    --n-processes 2
    """
    options = {
        "data": data,
        "model": model,
        "output_dir": output_dir,
        "keep_fraction": keep_fraction,
        "n_epochs": n_epochs,
    }
    with wrong_usage():
        check_count("compare", "n_seeds", n_seeds, minimum=1)
        check_count("compare", "n_processes", n_processes, minimum=1)
    typed = {name: value for name, value in options.items() if value is not None}
    config = to_config(run_file, typed | to_arguments("--set", setting, example="n_epochs=3"))

    from dataprune.runs.compare import COMPARISON, methods_to_compare
    from dataprune.runs.compare import compare as run_all

    with wrong_usage():
        methods = methods_to_compare(config, recipe or [])
    if dry_run:
        print_plans(methods, n_seeds=n_seeds, as_json=as_json)
        return
    n_cells = len(methods) * n_seeds
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with transient_bar(*columns) as progress:
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
    print_comparison(found)
    folder = shlex.quote(config.output_dir)
    typer.echo(f"{config.output_dir} holds the runs and {COMPARISON}. For one page: dataprune report {folder}")


def print_plans(methods: Mapping[str, RunConfig], *, n_seeds: int, as_json: bool) -> None:
    """Print what a comparison would run.

    Parameters
    ----------
    methods : mapping of str to RunConfig
        By name.
    n_seeds : int
        Runs of each.
    as_json : bool
        For machines.
    """
    from dataprune.runs.compare import FULL
    from dataprune.runs.run import plan

    plans = {}
    for name, method in methods.items():
        plans[name], notes = plan(method)
    for note in notes:  # on the data: the same for all
        say(note, style="yellow")
    n_runs, n_updates = n_seeds * len(plans), n_seeds * sum(p.n_updates for p in plans.values())
    if as_json:
        rows = [{"method": name, "n_epochs": len(p.n_kept), "n_updates": p.n_updates} for name, p in plans.items()]
        print_json({"rows": rows, "n_runs": n_runs, "n_updates": n_updates})
        return
    n_full = plans[FULL].n_updates
    lines = [[name, f"{len(p.n_kept)}", f"{p.n_updates:,}", f"{p.n_updates / n_full:.0%}"] for name, p in plans.items()]
    print_table("Each method with each seed", ["method", "epochs", "updates", "of full data"], lines, right=True)
    typer.echo(f"{n_runs} runs, {n_updates:,} updates in all.")


def print_comparison(found: Comparison) -> None:
    """Print the table and the verdict.

    Parameters
    ----------
    found : Comparison
        What came out.
    """
    from dataprune.runs.compare import FULL, paired_interval

    metric, n_seeds = found.metric.replace("_", " "), len(found.rows[0].values)
    several = f", mean ± deviation of {n_seeds} seeds; vs. full: paired, with its 95 % interval" if n_seeds > 1 else ""

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
        f"{metric.capitalize()} on the {found.split} split, %{several}; seconds by where they went",
        ["method", metric, "vs. full", "time", "updates", "tokens", *parts],
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
