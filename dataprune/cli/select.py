"""``dataprune select``: keep a part of a file's rows."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataprune.cli.errors import UsageError, say, wrong_usage
from dataprune.cli.options import (
    AsJson,
    DryRun,
    Model,
    ScorerArgs,
    SelectorArgs,
    Split,
    TextColumn,
    scorer_arguments,
    to_arguments,
)
from dataprune.cli.printing import count_of, print_json

if TYPE_CHECKING:
    import datasets

    from dataprune.scoring.base import DatasetScorer
    from dataprune.selection.base import Selector


def select(  # numpydoc ignore=PR01
    data: Annotated[str, typer.Argument(metavar="DATA", help="File or folder of data, or a hub name.")],
    *,
    keep_fraction: Annotated[float, typer.Option(metavar="SHARE", help="Rows kept, in (0, 1].")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where the kept rows go: .jsonl, .jsonl.gz, .json, .csv, .parquet, or a new folder.",
        ),
    ],
    scores: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="What `dataprune score` wrote, or the kept.parquet of a run on this file; repeatable, for the mean "
            "over runs.",
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Score here and now: tfidf-distance, near-duplicate, prototype-distance, perplexity or column.",
        ),
    ] = None,
    scorer_arg: ScorerArgs = None,
    selector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Which rows to keep: top-k (the default), stratified-k, clustered-k and others."
        ),
    ] = None,
    selector_arg: SelectorArgs = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A published method in place of scorer and selector; see dataprune methods."),
    ] = None,
    recipe_arg: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the recipe: band=low; repeatable.")
    ] = None,
    text_column: TextColumn = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Class of each row, for class-balanced and class-floor.")
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Group of each row, or for class-floor a list of them; for keep-together, submodular-mixture and "
            "--selector-arg by=groups.",
        ),
    ] = None,
    model: Model = None,
    split: Split = "train",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of selectors that draw.")] = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Keep a part of the rows, by their scores or by where they lie.

    Needs no training. The rows are written as they are, in their order, in any of the formats. Scores come from a file
    (--scores) or are made here (--scorer).

    For example: dataprune select tickets.csv --scorer tfidf-distance --selector stratified-k --keep-fraction 0.3
    --output small.csv, or: dataprune select tickets.csv --recipe scdp --keep-fraction 0.3 --output small.csv
    """
    import numpy as np

    from dataprune.cli.progress import showing_progress
    from dataprune.data.counting import count_to_keep
    from dataprune.data.streaming import open_rows, texts_of
    from dataprune.data.writing import check_writable, write_rows
    from dataprune.errors import check_count, check_fraction
    from dataprune.runs.scoring import check_first_row, check_model, score_rows
    from dataprune.runs.selecting import (
        WEIGHT_COLUMN,
        check_needs,
        parts_of_recipe,
        scores_of_rows,
        select_rows,
        with_weights,
    )

    if recipe_arg and recipe is None:
        raise UsageError(f"--recipe-arg must be left out without a recipe, got {', '.join(recipe_arg)}.")
    settings = {"keep_fraction": keep_fraction, "random_state": seed}
    words: dict[str, Any] = {
        "scorer": scorer,
        "scorer_arg": scorer_arg,
        "selector": selector,
        "selector_arg": selector_arg,
    }
    with wrong_usage():
        check_writable(output, data, *(scores or []))
        check_fraction("select", "keep_fraction", keep_fraction)
        check_count("select", "seed", seed)
        part, chooser = (
            parts_by_name(**words, settings=settings, has_scores=bool(scores))
            if recipe is None
            else parts_of_recipe(
                check_alone(recipe, **words),
                to_arguments("--recipe-arg", recipe_arg, example="band=low"),
                keep_fraction=keep_fraction,
                seed=seed,
                scores=scores or [],
            )
        )
        check_needs(
            chooser,
            scores=bool(scores) or part is not None,
            labels=label_column is not None,
            groups=group_column is not None,
            model=model,
        )
        columns_typed = {"text_column": text_column, "label_column": label_column, "group_column": group_column}
        check_read(part, chooser, **columns_typed, model=model, by_recipe=recipe is not None)
    if part is not None:
        with wrong_usage() if model is None else nullcontext():
            check_model(part, model)
    with showing_progress() as tell, open_rows(data, split=split, progress=tell) as (all_rows, place):
        rows, values = all_rows, None
        if scores:
            listed, values = scores_of_rows(scores, rows)
            if len(listed) < len(rows):
                which = f"{' and '.join(scores)} {'has' if len(scores) == 1 else 'have'}"
                say(f"{which} no score of {len(rows) - len(listed):,} rows; these are left out.", style="yellow")
                rows = rows.select(listed)
        columns = {
            name: None if column is None else values_of(rows, column, place=place)
            for name, column in (("labels", label_column), ("groups", group_column))
        }
        needs_texts = reads_texts(part, chooser)
        texts = texts_of(rows, text_column, place=place, progress=tell) if needs_texts else None
        told: dict[str, Any] = {
            "data": data,
            "recipe": recipe,
            "scorer": None if part is None else repr(part),
            "selector": repr(chooser),
            "n_rows": len(rows),
        }
        if dry_run:
            n_kept = count_to_keep(len(rows), keep_fraction)
            check_first_row(rows, part, texts)
            print_kept({**told, "n_kept": n_kept, "output": output}, dry_run=True, as_json=as_json)
            return
        if part is not None:
            values = score_rows(rows, part, texts=texts, model=model)
        with wrong_usage():
            kept = select_rows(rows, chooser, values, texts=texts, model=model, **columns)
        chosen = rows.select(kept)
        if np.any(chooser.weights_ != 1):
            chosen = with_weights(chosen, chooser.weights_)
            say(f"Column {WEIGHT_COLUMN!r} of {output} holds the loss weights that undo the choice.", style="yellow")
        write_rows(output, chosen, progress=tell)
    print_kept({**told, "n_kept": len(kept), "output": output}, dry_run=False, as_json=as_json)


def print_kept(told: Mapping[str, Any], *, dry_run: bool, as_json: bool) -> None:
    """Tell how many rows are kept.

    Parameters
    ----------
    told : mapping of str to object
        What is printed for machines.
    dry_run : bool
        Whether nothing was written.
    as_json : bool
        For machines.
    """
    if as_json:
        print_json({**told, "dry_run": True} if dry_run else told)
        return
    holds = "would hold" if dry_run else "holds"
    typer.echo(f"{told['output']} {holds} {told['n_kept']:,} of {count_of(told['n_rows'], 'row')}.")


def values_of(rows: datasets.Dataset, column: str, *, place: str) -> list[Any]:
    """Return a column that the user named.

    Parameters
    ----------
    rows : datasets.Dataset
        The rows.
    column : str
        Its name.
    place : str
        What messages call the rows.

    Returns
    -------
    list
        A value for each row.

    Raises
    ------
    UsageError
        If there is no such column.
    """
    if column not in rows.column_names:
        raise UsageError(f"{place} has no column {column!r}, but {', '.join(rows.column_names)}.")
    return list(rows[column][:])


def reads_texts(scorer: DatasetScorer | None, selector: Selector) -> bool:
    """Tell whether a choice looks at the texts of the rows.

    Parameters
    ----------
    scorer : DatasetScorer or None
        Makes the scores, if they are made here.
    selector : Selector
        Chooses.

    Returns
    -------
    bool
        For scores or embeddings of them, or their lengths.
    """
    from dataprune.scoring.metadata import ColumnScore

    scores_texts = scorer is not None and not isinstance(scorer, ColumnScore)
    return scores_texts or bool(selector.needs & {"features", "cost"})


def check_read(
    scorer: DatasetScorer | None, selector: Selector, *, by_recipe: bool = False, **given: str | None
) -> None:
    """Raise if an option was given that neither scorer nor selector reads.

    Parameters
    ----------
    scorer : DatasetScorer or None
        Makes the scores, if they are made here.
    selector : Selector
        Chooses.
    by_recipe : bool, default=False
        Whether a recipe made them, so that no option of theirs is a remedy.
    **given : str or None
        ``text_column``, ``label_column``, ``group_column`` and ``model``.

    Raises
    ------
    UsageError
        If one was given in vain.

    Examples
    --------
    >>> from dataprune import ClassFloor
    >>> check_read(None, ClassFloor(), label_column="queue", group_column=None)
    """
    from dataprune.runs.scoring import WITH_MODEL

    is_read = {
        "text_column": reads_texts(scorer, selector),
        "label_column": "labels" in selector.needs,
        "group_column": "groups" in selector.needs,
        "model": "features" in selector.needs or isinstance(scorer, WITH_MODEL),
    }
    parts = [type(part).__name__ for part in (scorer, selector) if part is not None]
    they_do_not = f"{' and '.join(parts)} {'do' if scorer is not None else 'does'} not"
    for name, value in given.items():
        if value is not None and not is_read[name]:
            remedy = name == "group_column" and hasattr(selector, "by") and not by_recipe
            raise UsageError(
                f"--{name.replace('_', '-')} must be left out, for {they_do_not} read it, "
                f"got {value!r}.{' Pass --selector-arg by=groups.' if remedy else ''}"
            )


def check_alone(recipe: str, **given: str | list[str] | None) -> str:
    """Return a recipe, or raise if an option was given that it decides.

    Parameters
    ----------
    recipe : str
        Its name.
    **given : str, list of str or None
        What the user typed, by the option's name.

    Returns
    -------
    str
        The recipe.

    Raises
    ------
    UsageError
        If one is not empty.

    Examples
    --------
    >>> check_alone("scdp", scorer=None)
    'scdp'
    """
    for name, value in given.items():
        if value:
            shown = repr(value) if isinstance(value, str) else ", ".join(value)
            option = name.replace("_", "-")
            raise UsageError(f"--{option} must be left out with the recipe {recipe!r}, got {shown}.")
    return recipe


def parts_by_name(
    scorer: str | None,
    scorer_arg: list[str] | None,
    selector: str | None,
    selector_arg: list[str] | None,
    *,
    settings: dict[str, Any],
    has_scores: bool,
) -> tuple[DatasetScorer | None, Selector]:
    """Make the scorer and the selector that were named.

    Parameters
    ----------
    scorer : str or None
        One of those that read a file's rows.
    scorer_arg : list of str or None
        Its parameters.
    selector : str or None
        `TopK` if there is none.
    selector_arg : list of str or None
        Its parameters.
    settings : dict of str to object
        What other options say of the selector.
    has_scores : bool
        Whether scores were given too.

    Returns
    -------
    scorer : DatasetScorer or None
        The scorer, if one was named.
    selector : Selector
        The selector.

    Raises
    ------
    UsageError
        If options exclude each other.
    """
    from dataprune.runs.compose import make_part
    from dataprune.runs.scoring import DATASET_SCORERS
    from dataprune.runs.selecting import FILE_SELECTORS

    if has_scores and scorer is not None:
        raise UsageError("--scores and --scorer were both given. Leave one out.")
    arguments = to_arguments("--selector-arg", selector_arg, example="n_strata=20")
    for name, option in (("keep_fraction", "--keep-fraction"), ("random_state", "--seed")):
        if name in arguments:
            raise UsageError(f"--selector-arg must not set {name!r}. Pass {option}.")
    of_scorer = scorer_arguments(scorer, scorer_arg)
    part = None if scorer is None else make_part("scorer", DATASET_SCORERS, scorer, of_scorer)
    return part, make_part("selector", FILE_SELECTORS, selector or "top-k", {**arguments, **settings})
