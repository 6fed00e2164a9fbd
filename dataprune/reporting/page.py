"""One HTML page of a run, or of several: everything is in the file, and nothing leaves it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dataprune import __version__
from dataprune.data.files import write_atomically
from dataprune.errors import InvalidValueError, MissingPackageError
from dataprune.reporting.comparing import find_baseline
from dataprune.reporting.examples import example_tables, read_examples, suspects_table
from dataprune.reporting.figures import check_matplotlib
from dataprune.reporting.headline import headline
from dataprune.reporting.run_folder import find_runs, read_run
from dataprune.reporting.sections import (
    Section,
    classes_section,
    compare_section,
    kept_section,
    scores_section,
    time_section,
)


def write_report(folders: Sequence[str | Path], output: str | Path) -> dict[str, Any]:
    """Write the page of one run, or of one and those that it is held against.

    The details are those of the first run that left examples out. Texts come from the data that the run names; where
    these are gone, the page goes without.

    Parameters
    ----------
    folders : sequence of str or Path
        Folders that ``dataprune train`` wrote, or ``dataprune compare``, which stand for all of their runs.
    output : str or Path
        The HTML file, made or replaced.

    Returns
    -------
    dict
        The headline: ``run``, ``baseline`` (or None), ``facts`` (title -> value), ``remarks``, ``runs`` and ``output``.

    Raises
    ------
    InvalidValueError
        If no folder is given, or one twice.
    StateError
        If a folder holds no finished run, or a file of it is missing or damaged.
    MissingPackageError
        If matplotlib or jinja2 is not installed.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> write_report([], "report.html")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: write_report needs the folder of at least one run, got none.
    """
    check_report(folders, output)
    check_matplotlib("write_report")
    template = _template()
    found = [find_runs(folder) for folder in folders]
    paths = [path for some, _ in found for path in some]
    check_report(paths, output)
    runs = [read_run(path) for path in paths]
    run = next((run for run in runs if run.prunes), runs[0])
    baseline = find_baseline(run, runs)
    facts, remarks = headline(run, baseline)
    remarks += [verdict for _, verdict in found if verdict is not None]
    examples = read_examples(run)
    suspects = suspects_table(run)
    tables = [*example_tables(run, examples), *([] if suspects is None else [suspects])]
    sections = [
        *([compare_section(run, runs)] if len(runs) > 1 else []),
        time_section(run),
        kept_section(run),
        scores_section(run, examples),
        *([classes_section(run, examples)] if run.prunes and examples.classes else []),
        Section("examples", "Examples", [examples.note], [], tables),
    ]
    script = _part("page.js")
    page = template.render(
        run=run,
        baseline=baseline,
        facts=facts,
        remarks=remarks,
        sections=sections,
        notes=run.summary["notes"],
        settings={name: value for name, value in run.config.items() if value not in (None, {}, [])},
        style=_part("page.css"),
        script=script,
        # No script runs but this one, and nothing is fetched, whatever a text of the data holds.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
    )
    write_atomically(output, lambda part: part.write_text(page, encoding="utf-8"))
    return {
        "run": str(run.path),
        "baseline": None if baseline is None else str(baseline.path),
        "facts": {fact.title: fact.value for fact in facts},
        "remarks": remarks,
        "runs": [str(run.path) for run in runs],
        "output": str(output),
    }


def check_report(folders: Sequence[str | Path], output: str | Path) -> None:
    """Raise unless a report can be asked for like that, before anything is read.

    Parameters
    ----------
    folders : sequence of str or Path
        As in `write_report`.
    output : str or Path
        As in `write_report`.

    Raises
    ------
    InvalidValueError
        If no folder is given or one twice, or the folder of `output` does not exist.

    Examples
    --------
    >>> check_report(["full", "./full"], "report.html")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The run full was given twice. Name each run once.
    """
    if not folders:
        raise InvalidValueError("write_report needs the folder of at least one run, got none.")
    resolved = [Path(folder).resolve() for folder in folders]
    twice = next((folder for folder, path in zip(folders, resolved, strict=True) if resolved.count(path) > 1), None)
    if twice is not None:
        raise InvalidValueError(f"The run {twice} was given twice. Name each run once.")
    output = Path(output)
    if not output.parent.is_dir() or output.is_dir():
        raise InvalidValueError(f"write_report.output must be a file in a folder that exists, got {str(output)!r}.")


def _part(name: str) -> str:
    return resources.files("dataprune.reporting").joinpath(name).read_text("utf-8")


def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingPackageError("write_report needs jinja2>=3.1. Run: pip install 'dataprune[report]'") from None
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("page.html.jinja"))
