"""``dataprune report``: one page that shows a finished run, or several against each other."""

from __future__ import annotations

from typing import Annotated

import typer

from dataprune.cli.errors import wrong_usage
from dataprune.cli.options import AsJson
from dataprune.cli.printing import print_json, print_table, print_text


def report(  # numpydoc ignore=PR01
    run_dirs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR", help="Folders that `dataprune train` or `compare` wrote.", show_default=False
        ),
    ],
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The HTML file; one of that name is replaced.")
    ] = "report.html",
    as_json: AsJson = False,
) -> None:
    """Write one HTML page of a run: what it kept and saved, its scores, classes and examples.

    The page needs no network and opens from disk. Name a run on full data as well, and the first run that pruned is
    held against it; name several, and accuracy stands against time. The folder of a comparison stands for all of its
    runs.

    For example: dataprune report run/ full/ -o report.html, or: dataprune report comparison/
    """
    from dataprune.reporting.page import check_report, write_report

    with wrong_usage():
        check_report(run_dirs, output)
    result = write_report(run_dirs, output)
    if as_json:
        print_json(result)
        return
    against = f" against {result['baseline']}" if result["baseline"] else ""
    print_table(f"{result['run']}{against}", ["", ""], [list(fact) for fact in result["facts"].items()])
    for remark in result["remarks"]:
        print_text(remark)
    typer.echo(f"{output} holds the report.")
