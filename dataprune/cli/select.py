"""``dataprune select``: keep a part of a file's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dataprune.cli.errors import UsageError, say, wrong_usage
from dataprune.cli.options import (
    AsJson,
    Model,
    ScorerArgs,
    SelectorArgs,
    Split,
    TextColumn,
    scorer_arguments,
    to_arguments,
)
from dataprune.cli.printing import print_json

if TYPE_CHECKING:
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
        str | None, typer.Option(metavar="NAME", help="Score here and now, as `dataprune score` does.")
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
        str | None, typer.Option(metavar="NAME", help="Group of each row, for keep-together and submodular-mixture.")
    ] = None,
    model: Model = None,
    split: Split = "train",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of selectors that draw.")] = 0,
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
    from dataprune.data.writing import check_writable, write_rows
    from dataprune.errors import check_count, check_fraction
    from dataprune.runs.selecting import (
        WEIGHT_COLUMN,
        mean_scores,
        open_rows,
        parts_of_recipe,
        score_rows,
        select_rows,
        texts_of,
        with_weights,
    )
    from dataprune.scoring.metadata import ColumnScore

    if recipe_arg and recipe is None:
        raise UsageError(f"--recipe-arg must be left out without a recipe, got {', '.join(recipe_arg)}.")
    with wrong_usage():
        check_writable(output)
        check_fraction("select", "keep_fraction", keep_fraction)
        check_count("select", "seed", seed)
        settings = {"keep_fraction": keep_fraction, "random_state": seed}
        if recipe is None:
            part, chooser = parts_by_name(scorer, scorer_arg, selector, selector_arg, settings, has_scores=bool(scores))
        else:
            check_left_out(recipe, scorer=scorer, scorer_arg=scorer_arg, selector=selector, selector_arg=selector_arg)
            arguments = to_arguments("--recipe-arg", recipe_arg, example="band=low")
            part, chooser = parts_of_recipe(
                recipe, arguments, keep_fraction=keep_fraction, seed=seed, has_scores=bool(scores)
            )
    with showing_progress() as tell, open_rows(data, split=split, progress=tell) as (all_rows, place):
        rows, values = all_rows, None
        if scores:
            listed, values = mean_scores(scores, len(rows))
            if len(listed) < len(rows):
                which = f"{' and '.join(scores)} {'has' if len(scores) == 1 else 'have'}"
                say(f"{which} no score of {len(rows) - len(listed):,} rows; these are left out.", style="yellow")
                rows = rows.select(listed)
        needs_texts = (part is not None and not isinstance(part, ColumnScore)) or chooser.needs & {"features", "cost"}
        texts = texts_of(rows, text_column, place=place, progress=tell) if needs_texts else None
        if part is not None:
            values = score_rows(rows, part, texts=texts, model=model)
        columns = {}
        for name, column in (("labels", label_column), ("groups", group_column)):
            if column is not None and column not in rows.column_names:
                raise UsageError(f"{place} has no column {column!r}, but {', '.join(rows.column_names)}.")
            columns[name] = None if column is None else rows[column][:]
        with wrong_usage():
            kept = select_rows(rows, chooser, values, texts=texts, model=model, **columns)
        chosen = rows.select(kept)
        if np.any(chooser.weights_ != 1):
            chosen = with_weights(chosen, chooser.weights_)
            say(f"Column {WEIGHT_COLUMN!r} of {output} holds the loss weights that undo the choice.", style="yellow")
        write_rows(output, chosen, progress=tell)
        n_rows = len(rows)
    if as_json:
        print_json(
            {
                "data": data,
                "recipe": recipe,
                "scorer": None if part is None else repr(part),
                "selector": repr(chooser),
                "n_rows": n_rows,
                "n_kept": len(kept),
                "output": output,
            }
        )
        return
    typer.echo(f"{output} holds {len(kept):,} of {n_rows:,} rows.")


def check_left_out(recipe: str, **given: str | list[str] | None) -> None:
    """Raise if an option was given that a recipe decides.

    Parameters
    ----------
    recipe : str
        Its name.
    **given : str, list of str or None
        What the user typed, by the option's name.

    Raises
    ------
    UsageError
        If one is not empty.

    Examples
    --------
    >>> check_left_out("scdp", scorer=None)
    """
    for name, value in given.items():
        if value:
            shown = repr(value) if isinstance(value, str) else ", ".join(value)
            option = name.replace("_", "-")
            raise UsageError(f"--{option} must be left out with the recipe {recipe!r}, got {shown}.")


def parts_by_name(
    scorer: str | None,
    scorer_arg: list[str] | None,
    selector: str | None,
    selector_arg: list[str] | None,
    settings: dict[str, Any],
    *,
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
    from dataprune.runs.selecting import DATASET_SCORERS, FILE_SELECTORS

    if has_scores and scorer is not None:
        raise UsageError("--scores and --scorer were both given. Leave one out.")
    arguments = to_arguments("--selector-arg", selector_arg, example="n_strata=20")
    for name, option in (("keep_fraction", "--keep-fraction"), ("random_state", "--seed")):
        if name in arguments:
            raise UsageError(f"--selector-arg must not set {name!r}. Pass {option}.")
    of_scorer = scorer_arguments(scorer, scorer_arg)
    part = None if scorer is None else make_part("scorer", DATASET_SCORERS, scorer, of_scorer)
    return part, make_part("selector", FILE_SELECTORS, selector or "top-k", {**arguments, **settings})
