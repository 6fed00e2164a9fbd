"""The rows of a file as a model sees them that `dataprune train` has saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataprune.data.files import read_json
from dataprune.data.loading import load_split
from dataprune.data.reading import Progress
from dataprune.data.tasks import load_task
from dataprune.data.text_task import TextTask
from dataprune.errors import DataError, InvalidValueError, check_choice
from dataprune.models import build_model, load_tokenizer
from dataprune.runs.compose import ERROR_NORM_ARGS, ERROR_NORMS, SCORERS, make_part
from dataprune.scoring.base import BatchScorer

MODEL_SCORERS: dict[str, type[BatchScorer]] = {
    name: SCORERS[name]
    for name in (
        *("el2n", "joint-el2n", "multilabel-el2n", "regression-error"),
        *("loss", "margin", "entropy", "grand"),
    )
}
"""Names of the scores that a trained model gives."""

ROWS_PER_PART = 4096


class ModelScores(NamedTuple):
    """What `score_by_model` returns.

    Parameters
    ----------
    scores : ndarray of float32, shape (n_rows,)
        Higher = harder.
    texts : list of str
        Each row as one text; empty where the task has none.
    scorer : BatchScorer
        What scored, fit for the model's task.
    """

    scores: NDArray[np.float32]
    texts: list[str]
    scorer: BatchScorer


def score_by_model(
    source: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    model: str | None,
    split: str = "train",
    text_column: str | None = None,
    progress: Progress | None = None,
) -> ModelScores:
    """Score the rows of a file by one pass of a trained model.

    Parameters
    ----------
    source : str
        File or folder of data, or a hub name, with the columns that the model was trained on.
    name : str
        A key of `MODEL_SCORERS`; of ``el2n`` the form for the model's task is taken.
    arguments : mapping of str to object
        Parameters of the scorer.
    model : str or None
        Folder of a run, or its ``model`` folder.
    split : str, default="train"
        Where the source has several.
    text_column : str, optional
        Column of the text; by default the one that the model was trained on.
    progress : callable, optional
        Told after some thousand rows.

    Returns
    -------
    ModelScores
        The scores, the texts, the scorer.

    Raises
    ------
    InvalidValueError
        If there is no such score, no model, or one that no run has saved.
    DataError
        If the data cannot be read, or has labels that the model does not know.

    Examples
    --------
    >>> score_by_model("tickets.csv", "el2n", {}, model=None)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The score 'el2n' needs a trained model. Pass --model with the folder of ...
    """
    check_choice("score", "scorer", name, MODEL_SCORERS)
    if model is None:
        raise InvalidValueError(
            f"The score {name!r} needs a trained model. Pass --model with the folder of a run of `dataprune train`."
        )
    folder = next((path for path in (Path(model) / "model", Path(model)) if (path / "task.json").is_file()), None)
    if folder is None:
        raise InvalidValueError(
            f"The model {model!r} must be the folder of a run of `dataprune train`, or the folder model/ in it, "
            "got one without task.json."
        )
    task = load_task(read_json(folder / "task.json"))
    if name == "el2n":
        name, arguments = ERROR_NORMS.get(task.name, name), {**ERROR_NORM_ARGS.get(task.name, {}), **arguments}
    scorer: BatchScorer = make_part("scorer", MODEL_SCORERS, name, arguments)
    named = {} if text_column is None else {"text": text_column}
    rows, task.columns = load_split(source, split=split, columns={**(task.columns or {}), **named})
    task.unseen_labels_ = {head: [] for head in task.heads}
    tokenizer = load_tokenizer(folder, add_prefix_space=task.add_prefix_space) if isinstance(task, TextTask) else None
    encoded = task.encode(rows, tokenizer)
    for head, names in task.unseen_labels_.items():
        if names and name not in {"margin", "entropy"}:
            raise DataError(
                f"{source}: column {task.column(task.heads[head])!r} has labels that the model does not know "
                f"({', '.join(sorted(names))}). Correct or drop these rows."
            )
    network, collate = build_model(task, folder), task.collator(tokenizer)
    scores = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), ROWS_PER_PART):
        part = slice(start, min(start + ROWS_PER_PART, len(rows)))
        chosen = encoded.select(range(part.start, part.stop))
        scores[part] = scorer.fit(chosen, model=network, collate_fn=collate).scores_
        if progress is not None:
            progress("Scoring", part.stop, part.stop / len(rows))
    return ModelScores(scores, task.texts(rows) if isinstance(task, TextTask) else [], scorer)
