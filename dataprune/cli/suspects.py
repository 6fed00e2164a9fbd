"""``dataprune suspects``: labels that are probably wrong, for a person to go through, and the corrected data."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataprune.cli.errors import UsageError, say, wrong_usage
from dataprune.cli.options import TRAINING, AsJson, BatchSize, Split, is_typed, to_pairs
from dataprune.cli.printing import count_of, print_json, print_table, print_text
from dataprune.errors import TrainingInterrupted
from dataprune.runs.config import RunConfig

if TYPE_CHECKING:
    from dataprune.data.tasks import Task
    from dataprune.runs.suspects import Suspects

RUN_FILE = "run.json"
OF_TRAINING = (
    *("model", "method", "percentile", "n_suspects", "n_folds", "task", "n_epochs", "batch_size", "learning_rate"),
    *("mixed_precision", "max_length_tokens", "seed", "resume"),
)
"""Options of looking for suspects in data."""

N_SHOWN = 10
LONGEST_TEXT = 60


def suspects(  # numpydoc ignore=PR01
    ctx: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="File or folder of data, or a hub name; or the folder of a run that kept dynamics: --scorer aum.",
        ),
    ],
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The review file: .csv or .jsonl. With --apply the corrected data: these, .parquet and others.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder or hub name of an encoder; a run has its own.")
    ] = None,
    apply: Annotated[
        str | None,
        typer.Option(metavar="REVIEW", help="Write DATA with the decisions of this edited review file."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="aum (one training run) or confident-learning (--n-folds runs; needs the package cleanlab).",
        ),
    ] = "aum",
    percentile: Annotated[
        float,
        typer.Option(metavar="P", help="Cut-off of aum: lower finds fewer suspects, of which more are wrong."),
    ] = 99.0,
    n_suspects: Annotated[
        int | None,
        typer.Option(metavar="N", help="List the N most suspicious labels of each column, without a cut-off."),
    ] = None,
    n_folds: Annotated[int, typer.Option(metavar="N", help="Parts of the data for confident-learning.")] = 5,
    split: Split = "train",
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="classification, joint-nlu or token-classification; else guessed."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="A column's name where the guess is wrong: text=utterance; repeatable."),
    ] = None,
    n_epochs: Annotated[
        int, typer.Option(metavar="N", help="Epochs of each training run.", rich_help_panel=TRAINING)
    ] = RunConfig.n_epochs,
    batch_size: BatchSize = RunConfig.batch_size,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=TRAINING)
    ] = RunConfig.learning_rate,
    mixed_precision: Annotated[
        str, typer.Option(metavar="NAME", help="no or bf16.", rich_help_panel=TRAINING)
    ] = RunConfig.mixed_precision,
    max_length_tokens: Annotated[
        int, typer.Option(metavar="N", help="Longer inputs are cut.", rich_help_panel=TRAINING)
    ] = RunConfig.max_length_tokens,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of weights and orders.", rich_help_panel=TRAINING)
    ] = RunConfig.seed,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar="",
            help="Read the data, say what would be trained (with --apply: changed) and stop.",
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", metavar="", help="Go on with the unfinished search beside the review file."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find labels that are probably wrong, and correct them.

    For example, first: dataprune suspects tickets.csv --model encoder/ --output suspects.csv
    writes the doubtful labels, the worst first. Open the file and write into its column "decision": accept (take the
    suggested label), keep, or drop (the whole row); or write the right label into "own_label". What you leave empty
    stays. Then: dataprune suspects tickets.csv --apply suspects.csv --output corrected.csv
    """
    columns = to_pairs("--column", column or [], example="text=utterance")
    if apply is not None:
        check_left_out(ctx, OF_TRAINING, "with --apply: nothing is trained.")
        print_applied(data, apply, output, split=split, columns=columns, dry_run=dry_run, as_json=as_json)
        return

    from dataprune.data.files import read_json
    from dataprune.data.loading import load_split
    from dataprune.data.review import check_review_path, check_undecided, write_review
    from dataprune.data.tasks import TASKS, guess_task
    from dataprune.errors import check_choice
    from dataprune.models.loading import load_encoder_config
    from dataprune.runs.run import data_of_run
    from dataprune.runs.suspects import check_suspects, count_training, find_suspects, suspects_of_run

    settings: dict[str, Any] = {
        "method": method,
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "mixed_precision": mixed_precision,
        "percentile": percentile,
        "n_folds": n_folds,
        "n_suspects": n_suspects,
        "seed": seed,
    }
    with wrong_usage():
        check_review_path(output)
        check_undecided(output)
        check_suspects(**settings)
        check_left_out(ctx, ["n_folds" if method == "aum" else "percentile"], f"with --method {method}.")
        if task is not None:
            check_choice("suspects", "task", task, TASKS)
    is_run = (Path(data) / RUN_FILE).is_file()
    if is_run:
        check_run_options(ctx, method)
        found = suspects_of_run(data)
    elif model is None:
        raise UsageError("Missing option '--model': an encoder to train, unless DATA is the folder of a run.")
    else:
        unfinished = Path(f"{output}.unfinished")
        load_encoder_config(model)  # before the data are read
        rows, roles = load_split(data, split=split, columns=columns or None)
        kind = TASKS[guess_task(roles, names=rows.column_names) if task is None else task]
        known: dict[str, Any] = {"columns": roles, "max_length_tokens": max_length_tokens}
        kind_settings = {name: value for name, value in known.items() if name in kind.settings()}
        if dry_run:
            planned = count_training(
                len(rows), method=method, n_epochs=n_epochs, batch_size=batch_size, n_folds=n_folds
            )
            print_training(data, kind(**kind_settings), planned, method=method, as_json=as_json)
            return
        try:
            found = find_suspects(
                rows,
                kind(**kind_settings),
                model=model,
                checkpoint_dir=unfinished,
                resume=resume,
                progress=sys.stderr.isatty(),
                **settings,
            )
        except TrainingInterrupted:
            raise TrainingInterrupted(
                f"Interrupted; no review was written, the state is saved in {unfinished}. "
                "Go on with the same command and --resume."
            ) from None
    write_review(output, found.lines)
    if not is_run:
        shutil.rmtree(unfinished)
    for note in found.notes:
        say(note, style="yellow")
    whole = data
    if is_run:
        summary = read_json(Path(data) / RUN_FILE)
        whole = str(data_of_run(summary) or summary["config"]["data"])
    print_found(found, data, whole, output, method=method, split=split, as_json=as_json)


def check_run_options(ctx: typer.Context, method: str) -> None:
    """Raise unless the options make sense for a run, where nothing is trained.

    Parameters
    ----------
    ctx : Context
        Of the command.
    method : str
        Must be ``aum``.

    Raises
    ------
    UsageError
        If one does not.
    """
    instead = "Pass the data and --model instead."
    if method != "aum":
        raise UsageError(f"A run has what --method aum looks at, not {method!r}. {instead}")
    options = {*OF_TRAINING, "split", "column", "dry_run"} - {"method"}
    check_left_out(ctx, sorted(options), f"for a run: nothing is trained. {instead}")


def check_left_out(ctx: typer.Context, options: Iterable[str], why: str) -> None:
    """Raise if the user typed an option that would do nothing.

    Parameters
    ----------
    ctx : Context
        Of the command.
    options : iterable of str
        Names of parameters.
    why : str
        Rest of the sentence.

    Raises
    ------
    UsageError
        If one was typed.
    """
    for name in options:
        if is_typed(ctx, name):
            raise UsageError(f"--{name.replace('_', '-')} must be left out {why}")


def print_found(found: Suspects, data: str, whole: str, output: str, *, method: str, split: str, as_json: bool) -> None:
    """Tell what was found, and how to go on.

    Parameters
    ----------
    found : Suspects
        Of the data.
    data : str
        What the user named: data, or a run.
    whole : str
        The data themselves.
    output : str
        The review file.
    method : str
        ``aum`` or ``confident-learning``.
    split : str
        Of the data.
    as_json : bool
        For machines.
    """
    counts, n_lines = found.count_by_column(), Counter(line.column for line in found.lines)
    for name, values in counts.items():
        values["n_lines"] = n_lines[name]
    if as_json:
        print_json({"data": data, "method": method, "columns": counts, "output": output})
        return
    print_table(
        "Suspects",
        ["column", "labels", "suspects", "share", "lines to review"],
        [
            [
                name,
                f"{values['n_labels']:,}",
                f"{values['n_suspects']:,}",
                f"{values['n_suspects'] / values['n_labels']:.1%}",
                f"{values['n_lines']:,}",
            ]
            for name, values in counts.items()
        ],
        right=True,
    )
    if found.lines:
        print_table(
            "The worst",
            ["row", "given", "suggested", "score", "text"],
            [
                [
                    f"{line.source_row:,}",
                    _short(line.given_label, 24),
                    _short(line.suggested_label, 24),
                    f"{line.score:.3g}",
                    _short(line.words or line.text, LONGEST_TEXT),
                ]
                for line in found.lines[:N_SHOWN]
            ],
        )
    more = "" if split == "train" else f" --split {split}"
    lines = count_of(len(found.lines), "line")
    typer.echo(f"{output} holds {lines}. Write accept, keep or drop into decision, or a label into")
    typer.echo(
        f"own_label; then: dataprune suspects {shlex.quote(whole)} --apply {shlex.quote(output)}{more} -o CORRECTED"
    )


def print_training(data: str, task: Task, counts: Mapping[str, int], *, method: str, as_json: bool) -> None:
    """Tell what looking for suspects would train.

    Parameters
    ----------
    data : str
        File or folder of data, or a hub name.
    task : Task
        Made of its columns.
    counts : mapping of str to int
        Of `count_training`.
    method : str
        ``aum`` or ``confident-learning``.
    as_json : bool
        For machines.
    """
    from dataprune.runs.suspects import check_judged

    check_judged(task)
    if as_json:
        print_json({"data": data, "task": task.name, "method": method, **counts})
        return
    print_text(
        f"{data}: {count_of(counts['n_rows'], 'row')} of the task {task.name}. {method} trains "
        f"{count_of(counts['n_runs'], 'run')} of {count_of(counts['n_epochs'], 'epoch')}, "
        f"{count_of(counts['n_updates'], 'update')} in all."
    )


def print_applied(
    data: str, review: str, output: str, *, split: str, columns: dict[str, str], dry_run: bool, as_json: bool
) -> None:
    """Write the corrected data set and tell what changed.

    Parameters
    ----------
    data : str
        File or folder of data, or a hub name.
    review : str
        The edited review file.
    output : str
        Where the corrected rows go.
    split : str
        Of the data.
    columns : dict of str to str
        Role -> column, where the guess is wrong.
    dry_run : bool
        Whether nothing is to be written.
    as_json : bool
        For machines.
    """
    from dataprune.data.review import apply_review, read_review
    from dataprune.data.streaming import open_rows
    from dataprune.data.writing import check_writable, write_rows

    with wrong_usage():
        check_writable(output, data, review)
    lines = read_review(review)
    with open_rows(data, split=split) as (rows, place):
        corrected, counts = apply_review(rows, lines, columns=columns or None, place=place)
        if not dry_run:
            write_rows(output, corrected)
    if as_json:
        print_json({"data": data, "review": review, "n_rows": len(corrected), **counts, "output": output})
        return
    holds = "would hold" if dry_run else "holds"
    typer.echo(
        f"{output} {holds} {count_of(len(corrected), 'row')}: {count_of(counts['corrected'], 'label')} corrected, "
        f"{count_of(counts['dropped'], 'row')} dropped, {count_of(counts['kept'], 'suspect')} left as before."
    )


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
