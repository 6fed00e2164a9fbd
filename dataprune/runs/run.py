"""One whole run, from files to files: what ``dataprune train`` does."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from sklearn.base import clone
from torch.utils.data import DataLoader

from dataprune import __version__
from dataprune.data.files import naming_what_failed, write_atomically, write_json
from dataprune.data.fingerprint import content_hash, fingerprint
from dataprune.data.forward import PRECISIONS, default_forward, with_precision
from dataprune.data.loading import LoadedData, load_data
from dataprune.data.streaming import open_rows
from dataprune.data.tasks import TASKS, ClassificationTask, Task, TextTask, check_task, guess_task
from dataprune.data.writing import NOTE
from dataprune.errors import DataPruneError, InvalidValueError, StateError, check_choice, check_count, check_positive
from dataprune.models import build_model, load_tokenizer
from dataprune.models.images import save_model_of
from dataprune.runs.compose import SEARCH, make_pruner, prepare
from dataprune.runs.config import COMPOSITION, RunConfig
from dataprune.runs.irreducible import is_table, losses_of_rows
from dataprune.runs.run_file import read_run_file, write_run_file
from dataprune.runs.searching import ARCHITECTURE, found_network
from dataprune.scheduling.budget import Budget
from dataprune.scheduling.cyclic import CyclicScheduler
from dataprune.scheduling.plan import Plan
from dataprune.scoring.base import BatchScorer, DatasetScorer
from dataprune.scoring.information import ReducibleLoss
from dataprune.scoring.provenance import check_same_data
from dataprune.scoring.store import ExampleStore, read_provenance
from dataprune.selection.base import Selector
from dataprune.training.evaluation import evaluate
from dataprune.training.history import SECONDS
from dataprune.training.loop import LR_SCHEDULES
from dataprune.training.pruner import DynamicPruner

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger("dataprune")

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "scikit-learn", "numpy")
RUN_FILE, MODEL, CHECKPOINTS, RUN = "run.toml", "model", "checkpoints", "run.json"


def check_config(config: RunConfig) -> None:
    """Raise unless every setting is in range, before anything is read or written.

    Parameters
    ----------
    config : RunConfig
        The configuration.

    Raises
    ------
    InvalidTypeError
        If a setting is of the wrong kind.
    InvalidValueError
        If a setting is out of range, a name is unknown, or settings do not go together.

    Examples
    --------
    >>> check_config(RunConfig(data="", model="", output_dir="", batch_size=0))
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: train.batch_size must be at least 1, got 0.
    """
    if config.task is not None:
        check_task("train", config.task)
    check_choice("train", "lr_schedule", config.lr_schedule, LR_SCHEDULES)
    check_choice("train", "mixed_precision", config.mixed_precision, PRECISIONS)
    if config.max_grad_norm:
        check_positive("train", "max_grad_norm", config.max_grad_norm)
    check_count("train", "n_workers", config.n_workers)
    check_positive("train", "learning_rate", config.learning_rate)
    check_count("train", "batch_size", config.batch_size, minimum=1)
    check_count("train", "seed", config.seed)
    check_count("train", "max_length_tokens", config.max_length_tokens, minimum=3)
    if config.image_size is not None:
        check_count("train", "image_size", config.image_size, minimum=1)
    # A rehearsal on stand-ins: what the pruner refuses now, it would refuse after the data were read.
    pruner = make_pruner(config, ClassificationTask() if config.task is None else TASKS[config.task]())
    if config.group_column is not None and (pruner.selector is None or "groups" not in pruner.selector.needs):
        is_ours = config.recipe is None and hasattr(pruner.selector, "by")
        remedy = " Pass --selector-arg by=groups." if is_ours else ""
        raise InvalidValueError(
            f"train.group_column must be left out with {pruner.selector!r}, which reads no groups, got "
            f"{config.group_column!r}.{remedy}"
        )
    if config.budget:  # what it is enough for depends on the data
        Budget(**config.budget).check()
        pruner.set_params(scheduler__keep_fraction=COMPOSITION["keep_fraction"])
    scores = None if _saved_scores(config, pruner) is None else _empty_store(pruner, 1000)
    if not isinstance(pruner.scorer, DatasetScorer | ReducibleLoss):  # these know their number of examples
        _rehearse(config, pruner, scores)


def _rehearse(config: RunConfig, pruner: DynamicPruner, scores: ExampleStore | None) -> None:
    rehearsal: DataLoader[Any] = DataLoader([0] * 1000, config.batch_size)  # type: ignore[arg-type]
    known: dict[str, Any] = {
        "labels": np.zeros(1000, np.int64),
        "groups": np.zeros(1000, np.int64),
        "features": np.zeros((1000, 1), np.float32),
        "cost": np.ones(1000),
    }
    try:
        pruner.attach(
            rehearsal,
            n_epochs=config.n_epochs,
            n_accumulation=config.n_accumulation,
            model=torch.nn.Identity(),
            scores=scores,
            **known,
        )
        selector: Selector = clone(pruner.selector_)
        selector.fit(np.zeros(1000, np.float32), n_keep=500, **known)
    except InvalidValueError as error:
        if ".n_keep must" not in str(error):  # whether floors fit in depends on the data
            raise


def _saved_scores(config: RunConfig, pruner: DynamicPruner) -> ExampleStore | None:
    if config.scores is None or config.recipe is not None:  # a recipe takes them as its own argument
        return None
    return type(_empty_store(pruner, 1)).load(config.scores)


def _empty_store(pruner: DynamicPruner, n_examples: int) -> ExampleStore:
    assert isinstance(pruner.scorer, BatchScorer)  # noqa: S101 - `make_pruner` makes no others
    return pruner.scorer.make_store(n_examples)


def plan(config: RunConfig) -> tuple[Plan, list[str]]:
    """Read the data and lay out the run, without training.

    Parameters
    ----------
    config : RunConfig
        The configuration.

    Returns
    -------
    plan : Plan
        Examples and updates of each epoch.
    notes : list of str
        What there is to say of the data.

    Raises
    ------
    DataError
        If the data cannot be used.
    InvalidTypeError
        If a setting is of the wrong kind.
    InvalidValueError
        If a setting is out of range.
    """
    check_config(config)
    data, task = _load(config)
    pruner = _make_pruner(config, data, task)
    scheduler = pruner.scheduler or CyclicScheduler()
    laid_out = scheduler.plan(
        len(data.splits["train"]),
        config.n_epochs,
        config.batch_size,
        n_accumulation=config.n_accumulation,
        refresh=pruner.refresh if pruner.makes_passes else "observed",  # a recipe has its own
    )
    return laid_out, [*data.notes, *task.unseen_report(), *_plan_report(pruner, laid_out)]


def _make_pruner(config: RunConfig, data: LoadedData, task: Task) -> DynamicPruner:
    pruner = make_pruner(config, task)
    if config.recipe is not None and config.scores is not None and not is_table(config.scores):
        losses = losses_of_rows(config.scores, config.data, data.splits["train"])
        pruner.set_params(scorer__irreducible_loss=losses)  # those of the train split, in its order
    return pruner


def _plan_report(pruner: DynamicPruner, laid_out: Plan) -> list[str]:
    """Say what the figures of a plan do not."""
    if pruner.batch_policy is not None and pruner.batch_policy.leaves_out:
        policy = type(pruner.batch_policy).__name__
        return [f"{policy} chooses inside each batch what is trained on: that saving is not in the plan."]
    scheduler = pruner.scheduler or CyclicScheduler()
    if laid_out.exact and scheduler.keep_fraction != 1.0 and min(laid_out.n_kept) == laid_out.n_examples:
        n_epochs, n_warmup = len(laid_out.n_kept), scheduler.n_warmup_epochs
        return [f"No epoch is pruned: all {n_epochs} are on all examples (n_warmup_epochs is {n_warmup})."]
    return []


def _load(config: RunConfig) -> tuple[LoadedData, Task]:
    data = load_data(config.data, columns=config.columns or None, random_state=config.seed)
    names = data.splits["train"].column_names
    if config.group_column is not None:
        check_choice("train", "group_column", config.group_column, names)
    kind = TASKS[guess_task(data.columns, names=names) if config.task is None else config.task]
    settings = {name: getattr(config, name) for name in kind.settings()} | {"columns": data.columns}
    return data, kind(**settings).fit(data.splits["train"])


def run(config: RunConfig, *, resume: bool = False, progress: bool = False) -> dict[str, Any]:
    """Load data and model, train with pruning, evaluate, and write everything to ``config.output_dir``.

    Writes ``run.toml`` (the settings), ``model/`` (weights, tokenizer and the task's label maps), ``history.csv``,
    ``scores.safetensors``, ``kept.parquet`` (index, source_row, score, epochs trained on, kept at the end) and, last,
    ``run.json``.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    resume : bool, default=False
        Go on from the newest checkpoint of an unfinished run in the same folder.
    progress : bool, default=False
        Show a progress bar on standard error.

    Returns
    -------
    dict
        What ``run.json`` holds: metrics, seconds, counts, configuration, versions, notes.

    Raises
    ------
    DataError
        If the data cannot be used.
    InvalidTypeError
        If a setting is of the wrong kind, or the model is no encoder.
    InvalidValueError
        If a setting is out of range, the model is missing, or a loss is not finite.
    OutputError
        If the folder cannot be written to.
    StateError
        If the folder holds a finished run, an unfinished one of another configuration, or one that is at work.
    TrainingInterrupted
        At Ctrl-C, after the state was saved.
    """
    check_config(config)
    with _alone_in(Path(config.output_dir)):
        return _run(config, resume=resume, progress=progress)


def _run(config: RunConfig, *, resume: bool, progress: bool) -> dict[str, Any]:
    started = time.perf_counter()
    output_dir = Path(config.output_dir)
    _claim(output_dir, config, resume=resume)
    data, task = _load(config)
    on_disk = Path(config.data).expanduser()
    data_path = str(on_disk.resolve()) if on_disk.exists() else None  # None: from the hub
    pruner = _make_pruner(config, data, task)
    tokenizer = None
    if isinstance(task, TextTask):
        tokenizer = load_tokenizer(config.model, add_prefix_space=task.add_prefix_space)
    splits = {name: task.encode(split, tokenizer) for name, split in data.splits.items()}
    notes = [*data.notes, *task.unseen_report(), *task.cut_report()]
    train_hash = content_hash(data.splits["train"])
    with open_rows(config.data) as (source, _):  # before anything was set aside or left out: what `select` reads
        source_fingerprint = fingerprint(source)
    torch.manual_seed(config.seed)  # weights of new heads, dropout
    model = build_model(task, config.model)
    if config.recipe == SEARCH:
        model, found = found_network(config, model, splits["train"], task=task, output_dir=output_dir)
        notes.append(found)
    collator = task.collator(tokenizer)
    checkpoint_dir = output_dir / CHECKPOINTS
    known, prepared_seconds = prepare(
        pruner,
        data.splits["train"],
        splits["train"],
        task=task,
        model=config.model,
        group_column=config.group_column,
    )
    if config.scores is not None and config.recipe is not None and is_table(config.scores):  # `fit` sees to the others
        check_same_data(read_provenance(config.scores), fingerprint(splits["train"]))
    pruner.fit(
        splits["train"],
        model=model,
        n_epochs=config.n_epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_schedule=config.lr_schedule,
        n_accumulation=config.n_accumulation,
        max_grad_norm=config.max_grad_norm or None,
        mixed_precision=config.mixed_precision,
        collate_fn=collator,
        n_workers=config.n_workers,
        scores=_saved_scores(config, pruner),
        **known,
        eval_dataset=splits["valid"],
        metrics=task.metrics,
        best_metric=task.main_metric,
        checkpoint_dir=checkpoint_dir,
        resume=resume,
        progress=progress,
    )
    best = pruner.history_[pruner.best_epoch_]
    metrics = {"valid": best.metrics}
    seconds = {what: sum(record.seconds[what] for record in pruner.history_) for what in SECONDS}
    seconds["score"] += prepared_seconds
    if "test" in splits:
        start = time.perf_counter()
        metrics["test"] = evaluate(
            splits["test"],
            model,
            forward=with_precision(default_forward, config.mixed_precision),
            metrics=task.metrics,
            collate_fn=collator,
            batch_size=config.batch_size,
        )
        seconds["evaluate"] += time.perf_counter() - start
    _write_results(
        output_dir,
        pruner,
        splits["train"],
        source_fingerprint,
        task=task,
        model=model,
        tokenizer=tokenizer,
        name_or_path=config.model,
    )
    summary = _summary(
        config,
        pruner,
        metrics,
        seconds,
        [*notes, *_plan_report(pruner, pruner.plan_)],
        started=started,
        best_epoch=best.epoch,
        data_path=data_path,
        train_hash=train_hash,
    )
    write_json(output_dir / RUN, summary)
    shutil.rmtree(checkpoint_dir)
    return summary


def data_of_run(summary: Mapping[str, Any]) -> Path | None:
    """Return where the data of a finished run lie.

    Parameters
    ----------
    summary : mapping of str to object
        What ``run.json`` holds.

    Returns
    -------
    Path or None
        Where they lay then, or, if both were moved, where the run's settings say, as seen from here; they may be gone.
        None for data from the hub, and where an older version did not note it.

    Examples
    --------
    >>> data_of_run({"config": {"data": "intents/"}, "data_path": "/moved/intents"}).as_posix()
    'intents'
    """
    if summary.get("data_path") is None:
        return None
    path = Path(summary["data_path"])
    return path if path.exists() else Path(summary["config"]["data"]).expanduser()


def load_data_of_run(summary: Mapping[str, Any]) -> LoadedData:
    """Load the data of a finished run again, from any working directory; never from the hub if they were on disk.

    Parameters
    ----------
    summary : mapping of str to object
        What ``run.json`` holds.

    Returns
    -------
    LoadedData
        The data as they are now.

    Raises
    ------
    DataError
        If they are gone, or cannot be used any more.

    Examples
    --------
    >>> load_data_of_run({"config": {"data": "gone/", "columns": {}, "seed": 0}, "data_path": "gone"})
    Traceback (most recent call last):
    dataprune.errors.DataError: gone does not exist. Pass a folder, a file, or the name of a data set on the ...
    """
    config = summary["config"]
    return load_data(
        data_of_run(summary) or config["data"], columns=config["columns"] or None, random_state=config["seed"]
    )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder; a lock goes with the process that holds it, even by a kill."""
    lock = FileLock(folder / ".lock", timeout=0)
    with naming_what_failed(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise StateError(
                f"A run is at work in {folder}. Wait for its end, or choose another --output-dir."
            ) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
                raise
            logger.warning("%s is on a file system without locks: keep other processes out of it.", folder)
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no file that is open
                Path(lock.lock_file).unlink()
            lock.release()


def _claim(output_dir: Path, config: RunConfig, *, resume: bool) -> None:
    """Make the folder this run's own, before any work is done."""
    if (output_dir / RUN).exists():
        raise StateError(f"The folder {output_dir} already holds a finished run. Choose another --output-dir.")
    if (output_dir / RUN_FILE).exists():
        has_checkpoint = any((output_dir / CHECKPOINTS).glob("checkpoint-*"))
        if has_checkpoint and not resume:
            raise StateError(
                f"The folder {output_dir} holds an unfinished run. Go on with --resume, or choose another --output-dir."
            )
        try:
            check_same_settings(output_dir, config)
        except (DataPruneError, TypeError):
            if has_checkpoint:
                raise
            (output_dir / ARCHITECTURE).unlink(missing_ok=True)  # found by an attempt with other settings
    else:
        for name in (MODEL, CHECKPOINTS):  # what a run replaces or removes there: never what is the user's
            if (output_dir / name).exists():
                raise StateError(
                    f"The folder {output_dir} holds {name}/, which no run made. Choose another --output-dir."
                )
    write_run_file(output_dir / RUN_FILE, config)


def check_same_settings(folder: Path, config: RunConfig) -> None:
    """Raise if the run in a folder was started with other settings.

    Parameters
    ----------
    folder : Path
        Of a run, finished or not; it may have been moved.
    config : RunConfig
        The settings now.

    Raises
    ------
    StateError
        If they differ, or the folder has no run file.
    """
    ours, saved = asdict(config), read_run_file(folder / RUN_FILE).settings
    theirs = asdict(RunConfig(**{**saved, "output_dir": config.output_dir}))
    for name, value in ours.items():
        if theirs[name] != value:
            raise StateError(
                f"The run in {folder} was started with {name}={theirs[name]!r}, now it is {value!r}. "
                "Go on with the same settings, or choose another --output-dir."
            )


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing bars on standard error while it saves.

    Yields
    ------
    None
        Control, while the model is saved.
    """
    from transformers.utils import logging as transformers_logging

    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _write_results(
    output_dir: Path,
    pruner: DynamicPruner,
    train: datasets.Dataset,
    source_fingerprint: str,
    *,
    task: Task,
    model: Any,
    tokenizer: Any,
    name_or_path: str,
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The model's folder is written whole beside its place: half a model would load without a word.
    part = output_dir / ".model.part"
    with naming_what_failed(output_dir / MODEL), no_progress_bars():
        shutil.rmtree(part, ignore_errors=True)
        save_model_of(model, part, name_or_path=name_or_path)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        write_json(part / "task.json", task.to_dict())
        shutil.rmtree(output_dir / MODEL, ignore_errors=True)
        part.rename(output_dir / MODEL)
    write_atomically(output_dir / "history.csv", lambda path: pruner.history_.to_pandas().to_csv(path, index=False))
    scores, note = np.full(pruner.n_examples_, np.nan, np.float32), {"data_fingerprint": source_fingerprint}
    if pruner.scorer_ is not None:
        pruner.scorer_.store_.save(output_dir / "scores.safetensors")
        scores = pruner.scorer_.scores_
        # The table's fingerprint is of the tokens; readers of this file have the rows.
        note = {**pruner.scorer_.store_.provenance, "data_fingerprint": source_fingerprint}
    kept = np.zeros(pruner.n_examples_, bool)
    kept[pruner.indices_] = True
    table = pa.table(
        {
            "index": np.arange(pruner.n_examples_),
            "source_row": np.asarray(train["source_row"][:], np.int64),
            "score": scores,
            "n_epochs_trained": pruner.n_epochs_trained_,
            "kept": kept,
        }
    ).replace_schema_metadata({NOTE: json.dumps(note)})
    write_atomically(output_dir / "kept.parquet", lambda path: pq.write_table(table, path))


def _summary(
    config: RunConfig,
    pruner: DynamicPruner,
    metrics: Mapping[str, Mapping[str, float]],
    seconds: dict[str, float],
    notes: list[str],
    *,
    started: float,
    best_epoch: int,
    data_path: str | None,
    train_hash: str,
) -> dict[str, Any]:
    history = list(pruner.history_)
    assert pruner.lengths_ is not None  # noqa: S101 - every task encodes lengths
    trained = sum(record.n_tokens_trained or 0 for record in history)
    scored = sum(record.n_tokens_scored or 0 for record in history)
    full = int(pruner.lengths_.sum()) * config.n_epochs
    # A resumed run counts the epochs of its earlier sessions, but only its own loading and saving.
    elapsed = max(sum(seconds.values()), time.perf_counter() - started)
    return {
        "metrics": {split: dict(values) for split, values in metrics.items()},
        "best_epoch": best_epoch,
        "seconds": {**seconds, "other": elapsed - sum(seconds.values()), "total": elapsed},
        "n_examples": pruner.n_examples_,
        "n_updates": sum(record.n_updates for record in history),
        "n_updates_planned": pruner.plan_.n_updates,
        "examples_trained": sum(record.n_trained for record in history),
        "tokens_trained": trained,
        "tokens_scored": scored,
        "compute_fraction": (trained + scored / 3) / full,  # a scoring pass has no backward pass
        "config": asdict(config),
        "data_path": data_path,
        "train_hash": train_hash,
        "pruner": repr(pruner),
        "versions": {
            "dataprune": __version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "seed": config.seed,
        "notes": notes,
    }
