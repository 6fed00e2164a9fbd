"""``dataprune demo``: full against pruned training, with nothing to prepare."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dataprune.cli.errors import wrong_usage
from dataprune.cli.options import AsJson
from dataprune.cli.printing import print_json, print_table, print_text
from dataprune.cli.progress import transient_bar


def demo(  # numpydoc ignore=PR01
    *,
    n_seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each method, at least 2.")] = 3,
    n_examples: Annotated[int, typer.Option(metavar="N", help="Train examples, at least 100.")] = 1500,
    n_epochs: Annotated[int, typer.Option(metavar="N", help="Epochs of the full run, at least 3.")] = 12,
    output_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for demo.json; by default nothing is written.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare full with pruned training of a small transformer on made-up data.

    Needs no data, no model and no network; takes a minute or two.

    For example: dataprune demo --n-seeds 5
    """
    from dataprune.data.files import naming_what_failed, write_json
    from dataprune.runs.demo import METHODS, check_demo, conclude, describe_selection, run_demo, summarise

    with wrong_usage():
        check_demo(n_seeds=n_seeds, n_examples=n_examples, n_epochs=n_epochs)
    if output_dir is not None:
        with naming_what_failed(output_dir):
            output_dir.mkdir(parents=True, exist_ok=True)
    if not as_json:
        print_text(
            f"A small transformer learns the intent and the slots of {n_examples:,} made-up sentences, {n_epochs} "
            f"epochs, {n_seeds} seeds. "
            "The pruned runs see all of them for two epochs, then half, chosen anew each epoch.\n"
        )
    with transient_bar() as progress:
        bar = progress.add_task("training", total=n_seeds * len(METHODS))
        runs = run_demo(
            n_seeds=n_seeds,
            n_examples=n_examples,
            n_epochs=n_epochs,
            n_processes=min(os.cpu_count() or 1, n_seeds),
            on_run=lambda _: progress.advance(bar),
        )
    summaries, conclusion, selection = summarise(runs), conclude(runs), describe_selection(runs)
    result = {
        "runs": [asdict(run) for run in runs],
        "summary": [asdict(summary) for summary in summaries],
        "conclusion": conclusion,
        "selection": selection,
    }
    if output_dir is not None:
        write_json(output_dir / "demo.json", result)
    if as_json:
        print_json(result)
        return
    print_table(
        f"Frame accuracy (intent and all slots right), mean ± deviation of {n_seeds} seeds",
        ["trained on", "accuracy, %", "vs. full", "seconds", "examples", "saved"],
        [
            [
                s.method,
                f"{100 * s.frame_accuracy:.1f} ± {100 * s.spread:.1f}",
                "" if s.method == METHODS[0] else f"{100 * s.difference:+.1f} ± {100 * s.difference_spread:.1f}",
                f"{s.seconds:.1f}",
                f"{s.examples_trained:,}",
                f"{s.saved:.0%}",
            ]
            for s in summaries
        ],
        right=True,
    )
    print_text(conclusion)
    print_text(selection)
