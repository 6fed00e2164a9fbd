"""Score the rows of a file, by what they are or by a trained model: what ``dataprune score`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from dataprune.data.files import read_json
from dataprune.data.loading import load_split
from dataprune.data.reading import Progress
from dataprune.data.streaming import ColumnTexts
from dataprune.data.tasks import Task, load_task
from dataprune.data.text_task import TextTask
from dataprune.errors import DataError, InvalidValueError, check_choice
from dataprune.models import build_model, load_tokenizer
from dataprune.models.loading import load_decoder_config, load_encoder, load_encoder_config, loading_quietly
from dataprune.runs.compose import ERROR_NORM_ARGS, ERROR_NORMS, SCORERS, make_part
from dataprune.scoring.base import BatchScorer, DatasetScorer
from dataprune.scoring.duplicates import NearDuplicate
from dataprune.scoring.embedding import PrototypeDistance, embed_texts
from dataprune.scoring.metadata import ColumnScore, FunctionScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.text import TfidfDistance

DATASET_SCORERS: dict[str, type[DatasetScorer]] = {
    "tfidf-distance": TfidfDistance,
    "near-duplicate": NearDuplicate,
    "prototype-distance": PrototypeDistance,
    "perplexity": Perplexity,
    "column": ColumnScore,
}
"""Names of the scores that need no training."""

WITH_MODEL = (PrototypeDistance, Perplexity)
"""Those of them that look through a model."""

MODEL_SCORERS: dict[str, type[BatchScorer]] = {
    name: SCORERS[name]
    for name in (
        *("el2n", "joint-el2n", "multilabel-el2n", "regression-error"),
        *("loss", "margin", "entropy", "grand"),
    )
}
"""Names of the scores that a trained model gives."""

UNCERTAINTY = ("margin", "entropy")
"""Those of them that read no labels."""


def check_model(scorer: DatasetScorer, model: str | None) -> None:
    """Raise if a scorer needs a model and has none, or one of another kind; nothing but its configuration is loaded.

    Parameters
    ----------
    scorer : DatasetScorer
        Of `DATASET_SCORERS`, or of a recipe.
    model : str or None
        Folder or hub name.

    Raises
    ------
    InvalidTypeError
        If it is of another kind.
    InvalidValueError
        If there is none.

    Examples
    --------
    >>> check_model(ColumnScore("length"), None)
    """
    if not isinstance(scorer, WITH_MODEL):
        return
    kind, load = (
        ("an encoder", load_encoder_config)
        if isinstance(scorer, PrototypeDistance)
        else ("a causal language model", load_decoder_config)
    )
    if model is None:
        raise InvalidValueError(f"{type(scorer).__name__} needs {kind}. Pass --model with its folder or hub name.")
    load(model)


def check_first_row(dataset: datasets.Dataset, scorer: DatasetScorer | None, texts: ColumnTexts | None) -> None:
    """Raise if the first row cannot be scored: so would the others not, most likely.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    scorer : DatasetScorer or None
        Of `DATASET_SCORERS`, or of a recipe.
    texts : ColumnTexts or None
        The text of each row, where they are needed.

    Raises
    ------
    DataError
        If it has no text where one should be.
    InvalidValueError
        If it lacks the column that is its score, or that is no number.

    Examples
    --------
    >>> check_first_row(datasets.Dataset.from_dict({"length": [3]}), ColumnScore("length"), None)
    """
    if isinstance(scorer, ColumnScore):
        clone(scorer).fit(dataset.select(range(1)))
    if texts is not None:
        texts[0]


def score_rows(
    dataset: datasets.Dataset,
    scorer: DatasetScorer,
    *,
    texts: ColumnTexts | None = None,
    model: str | None = None,
) -> NDArray[np.float32]:
    """Score rows by what they are.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    scorer : DatasetScorer
        Of `DATASET_SCORERS`, or of a recipe.
    texts : ColumnTexts, optional
        The text of each row; not needed by `ColumnScore`.
    model : str, optional
        Folder or hub name: an encoder for `PrototypeDistance`, a causal language model for `Perplexity`.

    Returns
    -------
    ndarray of float32, shape (n_rows,)
        Scores, higher = harder or more informative.

    Raises
    ------
    InvalidValueError
        If a model is needed and none is given.
    DataError
        If a row cannot be scored.

    Examples
    --------
    >>> rows = datasets.Dataset.from_dict({"length": [3, 5]})
    >>> score_rows(rows, ColumnScore("length"))
    array([3., 5.], dtype=float32)
    """
    if isinstance(scorer, ColumnScore):
        return scorer.fit(dataset).scores_
    if isinstance(scorer, FunctionScore):
        return scorer.fit(datasets.Dataset.from_dict({"text": texts})).scores_
    check_model(scorer, model)
    if model is not None and isinstance(scorer, WITH_MODEL):
        from transformers import AutoModelForCausalLM

        tokenizer = load_tokenizer(model)
        if isinstance(scorer, PrototypeDistance):
            return scorer.fit(embedded(texts, model)).scores_
        scorer.set_params(column=None)
        with loading_quietly(model):
            decoder = AutoModelForCausalLM.from_pretrained(model)
        # A text's perplexity depends on no other text: some thousand at a time, which are batched by length.
        parts = texts.parts("Scoring") if texts is not None else []
        return np.concatenate([scorer.fit(part, model=decoder, tokenizer=tokenizer).scores_ for part in parts])
    scorer.set_params(column=None)
    return scorer.fit(texts if isinstance(scorer, TfidfDistance) else list(texts or [])).scores_


def embedded(texts: ColumnTexts | None, model: str) -> NDArray[np.float32]:
    """Embed texts, some thousand at a time.

    Parameters
    ----------
    texts : ColumnTexts or None
        Texts.
    model : str
        Folder or hub name of an encoder.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_features)
        Mean over the tokens of each text.
    """
    encoder, tokenizer = load_encoder(model), load_tokenizer(model)
    parts = texts.parts("Embedding") if texts is not None else []
    return np.concatenate([embed_texts(part, encoder, tokenizer) for part in parts])


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


def folder_of_model(name: str, model: str | None) -> Path:
    """Return where the model lies that `score_by_model` needs.

    Parameters
    ----------
    name : str
        A key of `MODEL_SCORERS`.
    model : str or None
        Folder of a run, or its ``model`` folder.

    Returns
    -------
    Path
        The ``model`` folder.

    Raises
    ------
    InvalidValueError
        If there is no model, or one that no run has saved.

    Examples
    --------
    >>> folder_of_model("el2n", None)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The score 'el2n' needs a trained model. Pass --model with the folder of ...
    """
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
    return folder


class ModelRows(NamedTuple):
    """Rows as a trained model reads them, and what scores them.

    Parameters
    ----------
    rows : datasets.Dataset
        All rows.
    encoded : datasets.Dataset
        The same for the model.
    task : Task
        Of the model, with the columns of these rows.
    scorer : BatchScorer
        The form for the task.
    folder : Path
        Of the model.
    collate : callable
        Makes a batch of a list of encoded rows.
    """

    rows: datasets.Dataset
    encoded: datasets.Dataset
    task: Task
    scorer: BatchScorer
    folder: Path
    collate: Callable[[list[Any]], Any]


def read_for_model(
    source: str,
    name: str,
    arguments: Mapping[str, Any],
    *,
    model: str | None,
    split: str = "train",
    text_column: str | None = None,
) -> ModelRows:
    """Read the rows of a file for a trained model, and check that it can score them.

    Parameters
    ----------
    source : str
        As in `score_by_model`, and so are the others.
    name : str
        A key of `MODEL_SCORERS`.
    arguments : mapping of str to object
        Parameters of the scorer.
    model : str or None
        Folder of a run, or its ``model`` folder.
    split : str, default="train"
        Where the source has several.
    text_column : str, optional
        Column of the text.

    Returns
    -------
    ModelRows
        Rows, task, scorer.

    Raises
    ------
    InvalidValueError
        If there is no such score, no model, or one that no run has saved.
    DataError
        If the data cannot be read, or has labels that the model does not know.

    Examples
    --------
    >>> read_for_model("tickets.csv", "el2n", {}, model="missing/")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model 'missing/' must be the folder of a run of `dataprune train`, ...
    """
    check_choice("score", "scorer", name, MODEL_SCORERS)
    folder = folder_of_model(name, model)
    task = load_task(read_json(folder / "task.json"))
    if name in UNCERTAINTY and task.name in {"joint-nlu", "multi-label", "regression"}:
        raise InvalidValueError(
            f"The score {name!r} is of one class among several, but {folder} is a model for {task.name}. "
            "Use el2n or loss."
        )
    if name == "el2n":
        name, arguments = ERROR_NORMS.get(task.name, name), {**ERROR_NORM_ARGS.get(task.name, {}), **arguments}
    scorer: BatchScorer = make_part("scorer", MODEL_SCORERS, name, arguments)
    named = {} if text_column is None else {"text": text_column}
    rows, task.columns = load_split(source, split=split, columns={**(task.columns or {}), **named})
    task.unseen_labels_ = {head: [] for head in task.heads}
    tokenizer = load_tokenizer(folder, add_prefix_space=task.add_prefix_space) if isinstance(task, TextTask) else None
    encoded = task.encode(rows, tokenizer)
    for head, names in task.unseen_labels_.items():
        if names and name not in UNCERTAINTY:
            raise DataError(
                f"{source}: column {task.column(task.heads[head])!r} has labels that the model does not know "
                f"({', '.join(sorted(names))}). Correct or drop these rows."
            )
    return ModelRows(rows, encoded, task, scorer, folder, task.collator(tokenizer))


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
        Told after each batch.

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
    read = read_for_model(source, name, arguments, model=model, split=split, text_column=text_column)
    rows, encoded, task, scorer, folder, collate = read
    n_seen = 0

    def collate_and_tell(examples: list[Any]) -> Any:
        nonlocal n_seen
        n_seen += len(examples)
        if progress is not None:
            progress("Scoring", n_seen, n_seen / len(rows))
        return collate(examples)

    scores = scorer.fit(encoded, model=build_model(task, folder), collate_fn=collate_and_tell).scores_
    return ModelScores(scores, task.texts(rows) if isinstance(task, TextTask) else [], scorer)
