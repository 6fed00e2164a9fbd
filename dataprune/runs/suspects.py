"""Find the labels of a data set that are probably wrong: what ``dataprune suspects`` does."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dataprune.data.counting import count_updates
from dataprune.data.files import read_json, read_tensors
from dataprune.data.fingerprint import fingerprint
from dataprune.data.forward import IGNORED_LABEL, PRECISIONS, default_forward, with_precision
from dataprune.data.label_units import LabelUnits, label_units, signal_prefix
from dataprune.data.review import ReviewLine
from dataprune.data.tasks import ClassificationTask, JointNLUTask, Task, TextTask, TokenClassificationTask, load_task
from dataprune.errors import InvalidValueError, StateError, check_choice, check_count, check_positive
from dataprune.models import build_model, load_tokenizer
from dataprune.runs.reviewing import review_lines
from dataprune.runs.run import load_data_of_run
from dataprune.runs.unfinished import Unfinished
from dataprune.scheduling.cyclic import ConstantScheduler
from dataprune.scoring.dynamics_store import DynamicsStore
from dataprune.scoring.label_errors import (
    LabelErrors,
    LabelWatch,
    check_cleanlab,
    confident_learning,
    judge_by_margins,
    labels_of_batch,
    likeliest_other,
)
from dataprune.scoring.provenance import check_same_data
from dataprune.scoring.scoring_pass import scoring_pass
from dataprune.scoring.threshold_examples import make_threshold_examples
from dataprune.selection.random import RandomK
from dataprune.selection.ranked import TopK
from dataprune.training.pruner import DynamicPruner

if TYPE_CHECKING:
    import datasets

METHODS = ("aum", "confident-learning")
"""Ways to find wrong labels."""

JUDGED_TASKS = (ClassificationTask, JointNLUTask, TokenClassificationTask)
"""Tasks whose labels are classes, one per row or one per word."""

FEW_THRESHOLD_EXAMPLES = 100  # below, one of them that was learned decides about the 99th percentile


@dataclass(frozen=True, eq=False)
class Suspects:
    """Labels that are probably wrong.

    Parameters
    ----------
    labels : dict of str to LabelUnits
        Head of the task -> all its labels that were judged.
    errors : dict of str to LabelErrors
        Head -> what was found out about each of them.
    lines : list of ReviewLine
        The suspects for a person to look at, the worst first.
    notes : list of str
        What there is to say beyond.

    Examples
    --------
    >>> units = LabelUnits("label", ["no", "yes"], np.array([0, 1]), np.arange(2))
    >>> found = LabelErrors(np.array([0.1, 0.9]), np.array([False, True]), np.array([1, 0]), np.eye(2), 0.5)
    >>> Suspects({"": units}, {"": found}, [], []).count_by_column()
    {'label': {'n_labels': 2, 'n_suspects': 1, 'cutoff': 0.5}}
    """

    labels: dict[str, LabelUnits]
    errors: dict[str, LabelErrors]
    lines: list[ReviewLine]
    notes: list[str]

    def count_by_column(self) -> dict[str, dict[str, Any]]:
        """Return how many labels were judged, and how many are suspects.

        Returns
        -------
        dict of str to dict
            Column -> ``n_labels``, ``n_suspects`` (words, where each word has a label) and ``cutoff``.
        """
        return {
            units.column: {
                "n_labels": len(units.labels),
                "n_suspects": int(self.errors[head].is_suspect.sum()),
                "cutoff": self.errors[head].cutoff,
            }
            for head, units in self.labels.items()
        }


def check_suspects(
    *,
    method: str,
    n_epochs: int,
    batch_size: int,
    learning_rate: float,
    mixed_precision: str,
    percentile: float,
    n_folds: int,
    n_suspects: int | None,
    seed: int,
) -> None:
    """Raise unless suspects can be looked for like that, before anything is read.

    Parameters
    ----------
    method : str
        As in `find_suspects`, and so are the others.
    n_epochs : int
        Epochs.
    batch_size : int
        Examples in a batch.
    learning_rate : float
        Peak learning rate.
    mixed_precision : str
        ``no`` or ``bf16``.
    percentile : float
        Of the threshold examples.
    n_folds : int
        Parts of the data.
    n_suspects : int or None
        How many to list.
    seed : int
        Seed.

    Raises
    ------
    InvalidTypeError
        If a value is of another kind.
    InvalidValueError
        If a value is out of range.
    """
    check_choice("suspects", "method", method, METHODS)
    check_count("suspects", "n_epochs", n_epochs, minimum=1)
    check_count("suspects", "batch_size", batch_size, minimum=1)
    check_positive("suspects", "learning_rate", learning_rate)
    check_choice("suspects", "mixed_precision", mixed_precision, PRECISIONS)
    check_count("suspects", "n_folds", n_folds, minimum=2)
    check_count("suspects", "seed", seed)
    if n_suspects is not None:
        check_count("suspects", "n_suspects", n_suspects, minimum=1)
    if not 0 <= percentile <= 100:
        raise InvalidValueError(f"suspects.percentile must be in [0, 100], got {percentile!r}.")


def count_training(n_rows: int, *, method: str, n_epochs: int, batch_size: int, n_folds: int) -> dict[str, int]:
    """Return what `find_suspects` would train.

    Parameters
    ----------
    n_rows : int
        Rows of the data.
    method : {"aum", "confident-learning"}
        As in `find_suspects`, and so are the others.
    n_epochs : int
        Epochs of each run.
    batch_size : int
        Examples in a batch.
    n_folds : int
        Parts of the data.

    Returns
    -------
    dict of str to int
        ``n_rows``, ``n_runs``, ``n_epochs`` (of each) and ``n_updates`` (of all).

    Examples
    --------
    >>> count_training(90, method="confident-learning", n_epochs=2, batch_size=10, n_folds=3)
    {'n_rows': 90, 'n_runs': 3, 'n_epochs': 2, 'n_updates': 36}
    """
    sizes = [n_rows] if method == "aum" else [n_rows - len(range(fold, n_rows, n_folds)) for fold in range(n_folds)]
    n_updates = n_epochs * sum(count_updates(size, batch_size) for size in sizes)
    return {"n_rows": n_rows, "n_runs": len(sizes), "n_epochs": n_epochs, "n_updates": n_updates}


def find_suspects(
    dataset: datasets.Dataset,
    task: Task,
    *,
    model: str | Path,
    method: str = "aum",
    n_epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    mixed_precision: str = "no",
    percentile: float = 99.0,
    n_folds: int = 5,
    n_suspects: int | None = None,
    seed: int = 0,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Suspects:
    """Train on a data set and find the labels in it that are probably wrong.

    Parameters
    ----------
    dataset : datasets.Dataset
        All rows, such as `load_split` returns them; with ``source_row``, the review names these rows.
    task : Task
        `ClassificationTask` (with pairs), `TokenClassificationTask` or `JointNLUTask`; it is fitted on `dataset`.
    model : str or Path
        Folder or hub name of an encoder.
    method : {"aum", "confident-learning"}, default="aum"
        The margins of one training run with threshold examples, or cleanlab on the probabilities of `n_folds` runs,
        each of which leaves out a part of the data.
    n_epochs : int, default=10
        Epochs of each run.
    batch_size : int, default=32
        Examples in a batch.
    learning_rate : float, default=5e-5
        Peak learning rate.
    mixed_precision : {"no", "bf16"}, default="no"
        Precision of training.
    percentile : float, default=99.0
        Of the threshold examples' AUM: lower finds fewer suspects, of which more are wrong.
    n_folds : int, default=5
        Parts of the data for ``"confident-learning"``.
    n_suspects : int or None, default=None
        The most suspicious labels of each column, in the place of a cut-off: as many as a person has time for.
    seed : int, default=0
        Seed of weights, orders, threshold examples and folds.
    checkpoint_dir : str or Path, optional
        What was trained is kept here after each epoch and at Ctrl-C.
    resume : bool, default=False
        Go on with what is in `checkpoint_dir`, if there is anything; `percentile` and `n_suspects` may be others, also
        where all was trained.
    progress : bool, default=False
        Show a progress bar on standard error.

    Returns
    -------
    Suspects
        The judgement of every label, and the lines of a review.

    Raises
    ------
    DataError
        If the rows cannot be used.
    InvalidTypeError
        If a value is of another kind, or the model is no encoder.
    InvalidValueError
        If a value is out of range, the task has no classes, or the data have too few rows.
    MissingPackageError
        If the method needs cleanlab, and it is not installed.
    StateError
        If `checkpoint_dir` holds something else, or work that is not to be resumed or is of other data or settings.
    TrainingInterrupted
        At Ctrl-C.

    Examples
    --------
    >>> from dataprune import make_classification
    >>> find_suspects(make_classification(50).dataset, ClassificationTask(), model="encoder/", method="guess")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: suspects.method must be one of 'aum', 'confident-learning', got 'guess'.
    """
    check_suspects(
        method=method,
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mixed_precision=mixed_precision,
        percentile=percentile,
        n_folds=n_folds,
        n_suspects=n_suspects,
        seed=seed,
    )
    if method == "confident-learning":
        check_cleanlab()
    if resume and checkpoint_dir is None:
        raise InvalidValueError("find_suspects() needs checkpoint_dir=... to resume, got None.")
    work = None
    if checkpoint_dir is not None:
        decisive = {
            "data": fingerprint(dataset),
            "task": task.name,
            **{name: getattr(task, name) for name in task.settings()},
            "model": str(model),
            "method": method,
            "n_epochs": n_epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "mixed_precision": mixed_precision,
            "n_folds": n_folds if method == "confident-learning" else None,
            "seed": seed,
        }
        work = Unfinished(checkpoint_dir, decisive, resume=resume)
    task = check_judged(task).fit(dataset)
    tokenizer = load_tokenizer(model)
    encoded = task.encode(dataset, tokenizer)
    units = {head: u for head, u in label_units(task, dataset, encoded, tokenizer).items() if len(u.names) > 1}
    training = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "mixed_precision": mixed_precision,
        "collate_fn": task.collator(tokenizer),
        "progress": progress,
    }
    notes = task.cut_report()
    if method == "aum":
        errors, more = _by_margins(
            task, encoded, units, model=model, percentile=percentile, seed=seed, work=work, training=training
        )
        notes += more
        why = f"mean margin over {n_epochs} epochs"
    else:
        errors = _by_confident_learning(
            task, encoded, units, model=model, n_folds=n_folds, seed=seed, work=work, training=training
        )
        why = "models that did not train on the row"
    if n_suspects is not None:
        errors = {head: _most_suspicious(found, n_suspects) for head, found in errors.items()}
    return Suspects(units, errors, review_lines(task, dataset, units, errors, why=why), notes)


def _most_suspicious(found: LabelErrors, n_suspects: int) -> LabelErrors:
    is_suspect = np.zeros(len(found.scores), bool)
    is_suspect[found.worst(n_suspects)] = True
    return replace(found, is_suspect=is_suspect, cutoff=None)


def _by_margins(
    task: Task,
    encoded: datasets.Dataset,
    units: Mapping[str, LabelUnits],
    *,
    model: str | Path,
    percentile: float,
    seed: int,
    work: Unfinished | None,
    training: Mapping[str, Any],
) -> tuple[dict[str, LabelErrors], list[str]]:
    wider, thresholds, notes = copy.deepcopy(task), {}, []
    for head, unit in units.items():
        trained, thresholds[head] = make_threshold_examples(unit.labels, n_classes=len(unit.names), random_state=seed)
        encoded = _with_labels(encoded, f"{signal_prefix(head)}labels", trained)
        wider.labels_[head] = [*unit.names, "a class that does not exist"]
        if len(thresholds[head]) < FEW_THRESHOLD_EXAMPLES:
            notes.append(
                f"Only {len(thresholds[head])} threshold examples tell where the suspects of {unit.column!r} begin: "
                "that may be too early or too late. Ask for a number of suspects to see the worst so many."
            )
    torch.manual_seed(seed)
    network = build_model(wider, model)
    watch = LabelWatch({signal_prefix(head): unit for head, unit in units.items()})
    pruner = DynamicPruner(watch, TopK(), ConstantScheduler(keep_fraction=1.0), random_state=seed)
    pruner.fit(encoded, model=network, **training, **({} if work is None else work.of_run(0)))
    watch = pruner.scorer_  # type: ignore[assignment]  # the pruner's own copy
    return {
        head: judge_by_margins(
            unit.labels, watch.margins_[signal_prefix(head)], thresholds[head], percentile=percentile
        )
        for head, unit in units.items()
    }, notes


def _with_labels(encoded: datasets.Dataset, column: str, labels: NDArray[np.int64]) -> datasets.Dataset:
    """Return encoded rows with other labels, in the places of those that count."""
    fresh, values = iter(labels.tolist()), []
    for old in encoded[column][:]:
        if isinstance(old, list):
            values.append([one if one == IGNORED_LABEL else next(fresh) for one in old])
        else:
            values.append(next(fresh))
    feature = encoded.features[column]
    return encoded.remove_columns(column).add_column(column, values, feature=feature)


def _by_confident_learning(
    task: Task,
    encoded: datasets.Dataset,
    units: Mapping[str, LabelUnits],
    *,
    model: str | Path,
    n_folds: int,
    seed: int,
    work: Unfinished | None,
    training: Mapping[str, Any],
) -> dict[str, LabelErrors]:
    n_rows = len(encoded)
    if n_rows < n_folds:
        raise InvalidValueError(f"suspects.n_folds must be at most the number of rows, {n_rows}, got {n_folds}.")
    classes = np.zeros(n_rows, np.int64) if task.class_column is None else np.asarray(encoded[task.class_column][:])
    folds = _folds(classes, n_folds, seed=seed)
    probabilities = {head: np.full((len(u.labels), len(u.names)), np.nan, np.float32) for head, u in units.items()}
    first = {head: unit.first_of_row(n_rows) for head, unit in units.items()}
    forward = with_precision(default_forward, training["mixed_precision"])
    n_done = 0 if work is None else work.load_into(probabilities)
    for fold in range(n_done, n_folds):
        kept = {} if work is None else work.of_run(fold)
        torch.manual_seed(seed)
        network = build_model(task, model)
        pruner = DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=seed)
        pruner.fit(encoded.select(np.flatnonzero(folds != fold)), model=network, **training, **kept)
        held_out = np.flatnonzero(folds == fold)
        passes = scoring_pass(encoded, network, forward=forward, indices=held_out, collate_fn=training["collate_fn"])
        for index, signals in passes:
            for head in units:
                places, logits, _ = labels_of_batch(index, signals, signal_prefix(head), first[head])
                probabilities[head][places] = logits.float().softmax(-1).cpu().numpy()
        if work is not None:
            work.save(probabilities, n_done=fold + 1)
    return {head: confident_learning(unit.labels, probabilities[head]) for head, unit in units.items()}


def _folds(classes: NDArray[Any], n_folds: int, *, seed: int) -> NDArray[np.int64]:
    """Return the part that each row is in: of each class, as many rows in each part, give or take one."""
    order = np.random.default_rng([seed, 47]).permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(len(classes), np.int64)
    folds[by_class] = np.arange(len(classes)) % n_folds
    return folds


def suspects_of_run(folder: str | Path) -> Suspects:
    """Find probably wrong labels from the training dynamics that a run has left, without training.

    A label is a suspect where another class was ahead of it on average over the run, for there are no threshold
    examples. The run's model suggests what it may be instead.

    Parameters
    ----------
    folder : str or Path
        Of a finished ``dataprune train`` whose scorer was one of aum, confidence, variability, correctness or
        forgetting.

    Returns
    -------
    Suspects
        The judgement of every train example that the run has seen.

    Raises
    ------
    StateError
        If the folder holds no finished run, or one without training dynamics, or the data have changed since.
    DataError
        If the data of the run cannot be read.
    InvalidValueError
        If the run's task has no classes of texts or words.

    Examples
    --------
    >>> suspects_of_run("missing")
    Traceback (most recent call last):
    dataprune.errors.StateError: The file missing/run.json does not exist.
    """
    folder = Path(folder)
    summary = read_json(folder / "run.json")
    config = summary["config"]
    store = _read_dynamics(folder)
    task = check_judged(load_task(read_json(folder / "model" / "task.json")))
    data = load_data_of_run(summary)
    train, tokenizer = data.splits["train"], load_tokenizer(folder / "model")
    encoded = task.encode(train, tokenizer)
    if len(encoded) != store.n_examples:
        raise StateError(
            f"The run in {folder} was trained on {store.n_examples} rows, but {config['data']} has {len(encoded)} now."
        )
    check_same_data(store.provenance, fingerprint(encoded))
    [(head, unit)] = label_units(task, train, encoded, tokenizer).items()
    probabilities = np.zeros((len(encoded), len(unit.names)), np.float32)
    network = build_model(task, folder / "model")
    for index, signals in scoring_pass(encoded, network, collate_fn=task.collator(tokenizer)):
        probabilities[index.numpy()] = signals["logits"].float().softmax(-1).numpy()
    aum = store.aum
    errors = {head: LabelErrors(-aum, aum <= 0, likeliest_other(unit.labels, probabilities), probabilities, 0.0)}
    notes = []
    if summary["examples_trained"] < summary["n_examples"] * config["n_epochs"]:
        notes.append("The run left examples out in some epochs: their margins are means over the others.")
    lines = review_lines(task, train, {head: unit}, errors, why="mean margin over the run")
    return Suspects({head: unit}, errors, lines, notes)


def check_judged(task: Task) -> TextTask:
    """Return a task, or raise where its labels are no classes.

    Parameters
    ----------
    task : Task
        Any.

    Returns
    -------
    TextTask
        One of `JUDGED_TASKS`.

    Raises
    ------
    InvalidValueError
        If it is another.

    Examples
    --------
    >>> check_judged(ClassificationTask()).name
    'classification'
    """
    if not isinstance(task, JUDGED_TASKS):
        raise InvalidValueError(
            f"Suspects are looked for among classes, one per text or one per word, got the task {task.name!r}."
        )
    return task


def _read_dynamics(folder: Path) -> DynamicsStore:
    path = folder / "scores.safetensors"
    what = read_tensors(path)[1].get("format") if path.exists() else None
    if what != "dataprune.DynamicsStore/1":
        raise StateError(
            f"The run in {folder} kept no training dynamics. Repeat it with --scorer aum, or look for suspects in its "
            "data with --model."
        )
    return DynamicsStore.load(path)
