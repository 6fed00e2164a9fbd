"""``dataprune score``: a number for each row of a file, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from typing import Annotated, Any

import typer

from dataprune.cli.errors import wrong_usage
from dataprune.cli.options import AsJson, DryRun, ScorerArgs, Split, TextColumn, scorer_arguments
from dataprune.cli.printing import count_of, print_json, print_table, print_text

N_SHOWN = 5
LONGEST_TEXT = 70


def score(  # numpydoc ignore=PR01
    data: Annotated[str, typer.Argument(metavar="DATA", help="File or folder of data, or a hub name.")],
    *,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of the rows alone: tfidf-distance, near-duplicate, prototype-distance, perplexity or column. Of a "
            "model that `dataprune train` has saved: el2n, loss, margin, entropy or grand.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where the scores go: .parquet, .csv, .jsonl or .jsonl.gz."
        ),
    ],
    scorer_arg: ScorerArgs = None,
    text_column: TextColumn = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="An encoder for embeddings or a language model for perplexity, by folder or hub name; for scores of a "
            "trained model the folder of a run.",
        ),
    ] = None,
    split: Split = "train",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score each row: how rare, how surprising, how redundant, or how hard for a model that you have trained.

    Higher = harder or more informative. Without a model, large files are read block by block.

    For example, to find copies, which score lowest: dataprune score tickets.csv --scorer near-duplicate --output
    scores.parquet

    And what a trained model finds hard: dataprune score new.csv --scorer el2n --model run/ --output scores.parquet
    """
    import numpy as np

    from dataprune.cli.progress import showing_progress
    from dataprune.data.fingerprint import fingerprint
    from dataprune.data.score_files import scores_table
    from dataprune.data.streaming import open_rows, texts_of
    from dataprune.data.writing import check_writable, write_rows
    from dataprune.runs.compose import make_part
    from dataprune.runs.scoring import (
        DATASET_SCORERS,
        MODEL_SCORERS,
        check_first_row,
        check_model,
        folder_of_model,
        read_for_model,
        score_by_model,
        score_rows,
    )
    from dataprune.scoring.provenance import provenance

    with wrong_usage():
        check_writable(output, data)
        arguments = scorer_arguments(scorer, scorer_arg)
        part = make_part("scorer", {**DATASET_SCORERS, **MODEL_SCORERS}, scorer, arguments)
    by_model = scorer in MODEL_SCORERS
    with wrong_usage() if model is None else nullcontext():
        if by_model:
            folder_of_model(scorer, model)
        else:
            check_model(part, model)
    texts: Sequence[str] | None
    with showing_progress() as tell, ExitStack() as opened:
        if by_model and dry_run:
            read = read_for_model(data, scorer, arguments, model=model, split=split, text_column=text_column)
            columns = read.task.columns or {}
            column = columns.get("text", columns.get("tokens"))
            print_intent(data, repr(read.scorer), len(read.rows), output, column=column, as_json=as_json)
            return
        rows, place = opened.enter_context(open_rows(data, split=split, progress=tell))
        if by_model:
            scores, texts, part = score_by_model(
                data, scorer, arguments, model=model, split=split, text_column=text_column, progress=tell
            )
        else:
            texts = None if scorer == "column" else texts_of(rows, text_column, place=place, progress=tell)
            if dry_run:
                check_first_row(rows, part, texts)
                column = None if texts is None else texts.column
                print_intent(data, repr(part), len(rows), output, column=column, as_json=as_json)
                return
            scores = score_rows(rows, part, texts=texts, model=model)
        note = provenance(part, data_fingerprint=fingerprint(rows))
        if by_model:
            note["model_hash"] = part.store_.provenance["model_hash"]
        write_rows(output, scores_table(scores), note=note, progress=tell)
        order = np.argsort(-scores, kind="stable")
        ends = [*order[:N_SHOWN].tolist(), *order[::-1][:N_SHOWN].tolist()]
        shown = {row: texts[row] if texts else str(rows[row]) for row in ends}
    result: dict[str, Any] = {
        "data": data,
        "scorer": repr(part),
        "n_rows": len(scores),
        "quantiles": {str(q): float(np.quantile(scores, q)) for q in (0.0, 0.25, 0.5, 0.75, 1.0)},
        "output": output,
    }
    if as_json:
        print_json(result)
        return
    for title, some in (("Highest", order[:N_SHOWN]), ("Lowest", order[::-1][:N_SHOWN])):
        lines = [[f"{row:,}", f"{scores[row]:.4g}", _short(shown[row])] for row in some]
        print_table(f"{title} scores", ["row", "score", "text"], lines)
    typer.echo(f"{output} holds the scores of {count_of(len(scores), 'row')}.")


def print_intent(data: str, scorer: str, n_rows: int, output: str, *, column: str | None, as_json: bool) -> None:
    """Tell what would be scored.

    Parameters
    ----------
    data : str
        File or folder of data, or a hub name.
    scorer : str
        With its parameters.
    n_rows : int
        Rows of the data.
    output : str
        Where the scores would go.
    column : str or None
        Where the texts are, if the scorer reads texts of one column.
    as_json : bool
        For machines.
    """
    if as_json:
        told = {"data": data, "scorer": scorer, "text_column": column, "n_rows": n_rows, "output": output}
        print_json({**told, "dry_run": True})
        return
    texts = "" if column is None else f" with texts in column {column!r}"
    print_text(f"{data}: {count_of(n_rows, 'row')}{texts}. {scorer} would write their scores to {output}.")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
