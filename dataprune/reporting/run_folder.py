"""A finished run, read back from its folder."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataprune.data.counting import count_updates
from dataprune.data.files import read_json, read_tensors
from dataprune.errors import StateError
from dataprune.runs.compare import BASELINES, COMPARISON, method_folder
from dataprune.runs.run import RUN_FILE
from dataprune.scoring.dynamics_store import DynamicsStore

if TYPE_CHECKING:
    import pandas as pd

KEPT_COLUMNS = ("index", "source_row", "score", "n_epochs_trained", "kept")
HISTORY_COLUMNS = ("epoch", "asked", "kept", "updates", "train_s", "score_s", "select_s", "evaluate_s")


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What a run left in its folder.

    Parameters
    ----------
    path : Path
        The folder.
    summary : dict
        What ``run.json`` holds.
    history : pandas.DataFrame
        One row per epoch, from ``history.csv``.
    kept : pandas.DataFrame
        One row per train example, from ``kept.parquet``.
    dynamics : DynamicsStore or None
        The training dynamics, where the run's scorer kept them.

    See Also
    --------
    read_run : Makes one.

    Examples
    --------
    >>> import pandas as pd
    >>> history, kept = pd.DataFrame({"kept": [2, 1]}), pd.DataFrame({"n_epochs_trained": [2, 1]})
    >>> FinishedRun(Path("run"), {}, history, kept).kept_share  # of the second epoch, the one that was pruned
    array([1., 0.])
    """

    path: Path
    summary: dict[str, Any]
    history: pd.DataFrame
    kept: pd.DataFrame
    dynamics: DynamicsStore | None = None

    @property
    def name(self) -> str:
        """Name of the folder; of a run of `dataprune compare`, the method and the seed."""
        path = self.path.resolve()
        return f"{path.parent.name}, {path.name}" if (path.parent.parent / COMPARISON).is_file() else path.name

    @property
    def config(self) -> dict[str, Any]:
        """The settings, in the words of `RunConfig`."""
        return dict(self.summary["config"])

    @property
    def n_examples(self) -> int:
        """Rows of the full train set."""
        return len(self.kept)

    @property
    def split(self) -> str:
        """The split that results are told of: ``test`` where there is one, else ``valid``."""
        return "test" if "test" in self.summary["metrics"] else "valid"

    @property
    def metric(self) -> str:
        """The task's main metric, the first of those measured."""
        return str(next(iter(self.summary["metrics"][self.split])))

    @property
    def result(self) -> float:
        """The main metric of the best epoch."""
        return float(self.summary["metrics"][self.split][self.metric])

    @property
    def is_share(self) -> bool:
        """Whether the main metric is told in per cent: any but ``loss``, the one that is better when lower."""
        return self.metric != "loss"

    @property
    def seconds(self) -> float:
        """The whole run by the clock."""
        return float(self.summary["seconds"]["total"])

    @property
    def is_pruned_epoch(self) -> NDArray[np.bool_]:
        """Of each epoch, whether examples were left out."""
        trained = self.history["kept"] - self.history.get("left_out", 0)
        return np.asarray(trained < self.n_examples)

    @property
    def prunes(self) -> bool:
        """Whether any epoch left examples out."""
        return bool(self.is_pruned_epoch.any())

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """Of each example, the share of the pruned epochs that trained on it; NaN where no epoch was pruned."""
        n_pruned = int(self.is_pruned_epoch.sum())
        if n_pruned == 0:
            return np.full(self.n_examples, np.nan)
        n_full = len(self.history) - n_pruned
        return np.clip((self.kept["n_epochs_trained"].to_numpy() - n_full) / n_pruned, 0.0, 1.0)

    @property
    def n_updates_full(self) -> int:
        """Updates of as many epochs on the full data."""
        config = self.config
        per_epoch = count_updates(self.n_examples, config["batch_size"], n_accumulation=config["n_accumulation"])
        return per_epoch * int(config["n_epochs"])

    @property
    def seconds_full(self) -> float:
        """Estimate of the same run on full data: this run's seconds per token, without scoring and selecting."""
        seconds, summary = self.summary["seconds"], self.summary
        computed = summary["tokens_trained"] + summary["tokens_scored"] / 3
        n_tokens_full = computed / summary["compute_fraction"]
        rest = seconds["total"] - seconds["train"] - seconds["score"] - seconds["select"]
        return float(rest + seconds["train"] * n_tokens_full / summary["tokens_trained"])

    def command(self) -> str:
        """Return the command that repeats the run, into a folder of another name.

        Returns
        -------
        str
            For a shell.
        """
        again = f"{self.config['output_dir'].rstrip('/')}-again"
        return shlex.join(["dataprune", "train", str(self.path / RUN_FILE), "--output-dir", again])


def find_runs(folder: str | Path) -> tuple[list[Path], str | None]:
    """Return the runs that a folder stands for: itself, or those of a comparison, pruned ones first.

    Parameters
    ----------
    folder : str or Path
        Folder that ``dataprune train`` or ``dataprune compare`` wrote.

    Returns
    -------
    runs : list of Path
        Their folders; `folder` itself where it holds no comparison, so that `read_run` can say what is wrong.
    verdict : str or None
        Of the comparison.

    Raises
    ------
    StateError
        If the file of the comparison is damaged.

    Examples
    --------
    >>> find_runs("run")
    ([PosixPath('run')], None)
    """
    folder = Path(folder)
    if (folder / "run.json").is_file() or not (folder / COMPARISON).is_file():
        return [folder], None
    comparison = read_json(folder / COMPARISON)
    try:
        methods, verdict = [str(row["method"]) for row in comparison["rows"]], str(comparison["verdict"])
    except (KeyError, TypeError):
        raise StateError(f"The file {folder / COMPARISON} was not written by dataprune compare.") from None
    methods.sort(key=lambda method: method in BASELINES)  # else chance were the first that prunes
    found = [path for method in methods for path in sorted((folder / method_folder(method)).glob("seed-*/run.json"))]
    return [path.parent for path in found], verdict


def read_run(path: str | Path) -> FinishedRun:
    """Read what ``dataprune train`` wrote.

    Parameters
    ----------
    path : str or Path
        The folder.

    Returns
    -------
    FinishedRun
        The run.

    Raises
    ------
    StateError
        If the folder holds no finished run, or one of its files is missing or damaged.

    Examples
    --------
    >>> read_run("missing")
    Traceback (most recent call last):
    dataprune.errors.StateError: missing holds no finished run: it has no run.json. Pass a folder ...
    """
    path = Path(path)
    if not (path / "run.json").is_file():
        raise StateError(
            f"{path} holds no finished run: it has no run.json. Pass a folder that `dataprune train` wrote to the end."
        )
    summary = read_json(path / "run.json")
    wanted = {"metrics", "seconds", "config", "n_examples", "n_updates", "tokens_trained", "compute_fraction"}
    if not isinstance(summary, dict) or not wanted <= set(summary):
        raise StateError(f"The file {path / 'run.json'} was not written by dataprune train.")
    kept = _read_kept(path / "kept.parquet", n_examples=summary["n_examples"])
    history = _read_history(path / "history.csv", n_updates=summary["n_updates"])
    return FinishedRun(path, summary, history, kept, _read_dynamics(path / "scores.safetensors", len(kept)))


def _read_kept(path: Path, *, n_examples: int) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        kept: pd.DataFrame = pq.read_table(path).to_pandas()
    except FileNotFoundError:
        raise StateError(f"The file {path} does not exist.") from None
    except (pa.ArrowException, OSError) as error:
        raise StateError(f"The file {path} is damaged: {' '.join(str(error).split())}.") from None
    if not {*KEPT_COLUMNS} <= {*kept.columns} or len(kept) != n_examples:
        raise StateError(f"The file {path} is damaged: run.json tells of {n_examples} examples, it of others.")
    return kept


def _read_history(path: Path, *, n_updates: int) -> pd.DataFrame:
    import pandas as pd

    try:
        text = path.read_text(encoding="utf-8")
        history = pd.read_csv(path)
    except FileNotFoundError:
        raise StateError(f"The file {path} does not exist.") from None
    except ValueError as error:  # pandas' own parser errors are ValueErrors too
        raise StateError(f"The file {path} is damaged: {error}.") from None
    whole = text.endswith("\n") and {*HISTORY_COLUMNS} <= {*history.columns} and len(history) > 0
    if not whole or int(history["updates"].sum()) != n_updates:
        raise StateError(f"The file {path} is damaged: its epochs do not make the {n_updates} updates of run.json.")
    return history


def _read_dynamics(path: Path, n_examples: int) -> DynamicsStore | None:
    if not path.exists():  # a run without a scorer
        return None
    arrays, settings = read_tensors(path)
    if settings.get("format") != "dataprune.DynamicsStore/1":
        return None
    if any(len(array) != n_examples for array in arrays.values()):
        raise StateError(f"The file {path} is of another run: it holds other than {n_examples} examples.")
    return DynamicsStore.load(path)
