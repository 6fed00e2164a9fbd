"""Full data, its cheap baselines and pruned runs against each other, over seeds: what ``dataprune compare`` does."""

from __future__ import annotations

import inspect
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

from dataprune.data.files import naming_what_failed, read_json, write_json
from dataprune.data.fingerprint import content_hash
from dataprune.data.loading import load_data
from dataprune.errors import DataError, InvalidValueError, StateError, check_choice, check_count
from dataprune.recipes import RECIPES
from dataprune.runs.config import COMPOSITION, RunConfig
from dataprune.runs.run import RUN, check_config, check_same_settings, plan
from dataprune.runs.run_file import write_run_file

FULL, FEWER, RANDOM, PRUNED = "full data", "fewer epochs", "random", "pruned"
"""All examples in every epoch; the same for as many updates as the pruned run makes; chance; the settings given."""

BASELINES = (FULL, FEWER, RANDOM)
"""What a method is held against."""

COMPARISON = "compare.json"
"""The file of a finished comparison, in its folder."""


@dataclass(frozen=True)
class Row:
    """One method of a comparison.

    Parameters
    ----------
    method : str
        `FULL`, `FEWER`, `RANDOM`, `PRUNED` or the name of a recipe.
    values : list of float
        The metric on the test split (the valid split, where there is no other), one per seed.
    differences : list of float
        To full data of the same seed.
    time : float
        Wall-clock as a share of full data's; the mean over the seeds.
    seconds : dict of str to float
        Where it went, the mean over the seeds.
    n_updates : float
        Optimizer updates, the mean over the seeds.
    tokens_trained : float
        The mean over the seeds.
    tokens_scored : float
        The mean over the seeds.
    """

    method: str
    values: list[float]
    differences: list[float]
    time: float
    seconds: dict[str, float]
    n_updates: float
    tokens_trained: float
    tokens_scored: float


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Parameters
    ----------
    metric : str
        What is compared.
    split : str
        Where.
    rows : list of Row
        By method.
    verdict : str
        In a sentence or two whether pruning pays here.
    """

    metric: str
    split: str
    rows: list[Row]
    verdict: str


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the mean of paired differences and half of its 95 % interval, by Student's t.

    Parameters
    ----------
    differences : sequence of float
        At least two, one per seed.

    Returns
    -------
    tuple of float
        Mean and half-width.

    Examples
    --------
    >>> middle, half = paired_interval([0.01, 0.02, 0.03])
    >>> round(middle, 3), round(half, 3)
    (0.02, 0.025)
    """
    n = len(differences)
    return mean(differences), float(t.ppf(0.975, n - 1)) * stdev(differences) / n**0.5


def methods_to_compare(config: RunConfig, recipes: Sequence[str] = ()) -> dict[str, RunConfig]:
    """Return the runs that belong beside a pruned one.

    Parameters
    ----------
    config : RunConfig
        The pruned run.
    recipes : sequence of str, default=()
        Further methods, by name.

    Returns
    -------
    dict of str to RunConfig
        By method, baselines first.

    Raises
    ------
    DataPruneError
        If a setting is out of range, or the data cannot be used.
    """
    check_count("compare", "n_epochs", config.n_epochs, minimum=2)
    bare: dict[str, Any] = {
        "recipe": None,
        "recipe_args": {},
        "scorer": None,
        "scorer_args": {},
        "selector_args": {},
        "budget": {},
        "group_column": None,
        **dict.fromkeys(COMPOSITION),  # the defaults
    }
    laid_out, _ = plan(config)
    if not laid_out.exact:
        name = "budget" if config.budget else "recipe" if config.recipe else "scheduler"
        raise InvalidValueError(
            f"compare.{name} must tell the updates before the start, for the baselines make as many, got "
            f"{getattr(config, name)!r}. Compare a keep_fraction or a budget of n_updates; name recipes with --recipe."
        )
    n_updates_full = laid_out.n_updates_full / config.n_epochs
    # Never all of them: full data would be compared with itself.
    n_fewer = min(config.n_epochs - 1, max(1, round(laid_out.n_updates / n_updates_full)))
    n_warmup_epochs = next(
        (epoch for epoch, n in enumerate(laid_out.n_kept) if n < laid_out.n_examples), config.n_epochs
    )
    if n_warmup_epochs == config.n_epochs:
        raise InvalidValueError("compare.keep_fraction must prune some epoch, got a run that trains on everything.")
    pruned = laid_out.n_kept[n_warmup_epochs:]
    whole = replace(config, **{**bare, "keep_fraction": 1.0}, scores=None)
    chance = replace(
        whole,
        selector="random-k",
        keep_fraction=sum(pruned) / len(pruned) / laid_out.n_examples,
        n_warmup_epochs=n_warmup_epochs,
    )
    share = chance.keep_fraction if config.keep_fraction is None else config.keep_fraction
    same = {**bare, "keep_fraction": share}
    if "rho_loss" in recipes:
        raise InvalidValueError(
            "compare.recipe must not be 'rho_loss', which needs the losses of a model of other data. "
            "Run it with `dataprune train --recipe rho_loss --scores FILE`."
        )
    named = {check_choice("compare", "recipe", name, RECIPES): _of_recipe(config, name, same) for name in recipes}
    return {FULL: whole, FEWER: replace(whole, n_epochs=n_fewer), RANDOM: chance, PRUNED: config, **named}


def _of_recipe(config: RunConfig, name: str, settings: Mapping[str, Any]) -> RunConfig:
    """Leave to a recipe all but how many it keeps, which is to be the same."""
    takes_share = "keep_fraction" in inspect.signature(RECIPES[name].make).parameters
    chosen = {**settings, "recipe": name} | ({} if takes_share else {"keep_fraction": None})
    return replace(config, **chosen)


def method_folder(method: str) -> str:
    """Return the name of the folder that holds the runs of a method.

    Parameters
    ----------
    method : str
        Its name in a comparison.

    Returns
    -------
    str
        Without spaces.

    Examples
    --------
    >>> method_folder("full data"), method_folder("data_diet")
    ('full-data', 'data-diet')
    """
    return method.replace(" ", "-").replace("_", "-")


def compare(
    config: RunConfig,
    *,
    recipes: Sequence[str] = (),
    n_seeds: int = 3,
    n_processes: int = 1,
    on_cell: Callable[[], object] = lambda: None,
) -> Comparison:
    """Run every method with every seed, each in a process of its own; go on where an earlier call stopped.

    Each run is a folder ``<output_dir>/<method>/seed-<n>`` without its model; ``compare.json`` holds the result.

    Parameters
    ----------
    config : RunConfig
        The pruned run; its folder is the comparison's, its seed the first.
    recipes : sequence of str, default=()
        Further methods, by name.
    n_seeds : int, default=3
        Runs of each method.
    n_processes : int, default=1
        Runs side by side; they share the cores, so compare their times with those of the same call only.
    on_cell : callable, optional
        Called after each finished run.

    Returns
    -------
    Comparison
        Rows and verdict.

    Raises
    ------
    DataPruneError
        If a setting is out of range, or the data cannot be used.
    DataError
        If a run fails; what is finished stays.
    StateError
        If the folder holds runs with other settings.
    """
    check_count("compare", "n_seeds", n_seeds, minimum=1)
    check_count("compare", "n_processes", n_processes, minimum=1)
    methods = methods_to_compare(config, recipes)
    for method in methods.values():
        check_config(method)
    folder = Path(config.output_dir)
    cells = {
        (name, seed): replace(method, seed=seed, output_dir=str(folder / method_folder(name) / f"seed-{seed}"))
        for seed in range(config.seed, config.seed + n_seeds)
        for name, method in methods.items()
    }
    _check_same_data(cells.values())
    n_threads = max(1, (os.cpu_count() or 1) // n_processes)

    def run_cell(cell: tuple[str, int]) -> dict[str, Any]:
        result = _run_cell(cells[cell], name=f"{cell[0]}, seed {cell[1]}", n_threads=n_threads)
        on_cell()
        return result

    pool = ThreadPoolExecutor(n_processes)
    try:
        results = dict(zip(cells, pool.map(run_cell, cells), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)
    comparison = summarise(results)
    write_json(folder / COMPARISON, asdict(comparison))
    return comparison


def _check_same_data(cells: Iterable[RunConfig]) -> None:
    """Raise if a finished run was trained on other data than there are now."""
    now: dict[int, str] = {}  # by seed, which may cut off the valid split
    for config in cells:
        path = Path(config.output_dir, RUN)
        if not path.exists():
            continue
        if config.seed not in now:
            data = load_data(config.data, columns=config.columns or None, random_state=config.seed)
            now[config.seed] = content_hash(data.splits["train"])
        if read_json(path).get("train_hash", now[config.seed]) != now[config.seed]:
            raise StateError(f"The run in {path.parent} was trained on other data. Choose another --output-dir.")


def _run_cell(config: RunConfig, *, name: str, n_threads: int) -> dict[str, Any]:
    folder = Path(config.output_dir)
    with naming_what_failed(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (folder / RUN).exists():
        check_same_settings(folder, config)
    else:
        settings = folder.parent / f"{folder.name}.toml"
        write_run_file(settings, config)
        done = subprocess.run(  # noqa: S603 - ourselves
            [sys.executable, "-m", "dataprune", "train", str(settings), "--resume", "--json"],
            env={**os.environ, "OMP_NUM_THREADS": str(n_threads)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        settings.unlink()  # the run has its own
        if done.returncode:
            last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise DataError(f"The run {name!r} failed: {last.removeprefix('Error: ')}")
        shutil.rmtree(folder / "model")  # what is compared are the figures
    result: dict[str, Any] = read_json(folder / RUN)
    return result


def summarise(results: Mapping[tuple[str, int], Mapping[str, Any]]) -> Comparison:
    """Return the rows and the verdict of finished runs.

    Parameters
    ----------
    results : mapping of (str, int) to mapping
        Method and seed to what ``run.json`` holds.

    Returns
    -------
    Comparison
        By method, in their order.
    """
    some = next(iter(results.values()))["metrics"]
    split = "test" if "test" in some else "valid"
    metric = next(iter(some[split]))
    rows = []
    for method in dict.fromkeys(name for name, _ in results):
        mine = {seed: result for (name, seed), result in results.items() if name == method}
        values = [result["metrics"][split][metric] for result in mine.values()]
        full = [results[FULL, seed] for seed in mine]
        rows.append(
            Row(
                method=method,
                values=values,
                differences=[a - b["metrics"][split][metric] for a, b in zip(values, full, strict=True)],
                time=mean(
                    a["seconds"]["total"] / b["seconds"]["total"] for a, b in zip(mine.values(), full, strict=True)
                ),
                seconds={
                    what: mean(result["seconds"][what] for result in mine.values())
                    for what in next(iter(mine.values()))["seconds"]
                },
                **{
                    what: mean(result[what] for result in mine.values())
                    for what in ("n_updates", "tokens_trained", "tokens_scored")
                },
            )
        )
    return Comparison(metric, split, rows, conclude(rows))


def conclude(rows: Sequence[Row]) -> str:
    """Return whether pruning pays, against full data and against the baselines of as many updates.

    Parameters
    ----------
    rows : sequence of Row
        With `FULL`, `FEWER` and `RANDOM`.

    Returns
    -------
    str
        One sentence or two, for the pruned method with the best mean.
    """
    baselines = [row for row in rows if row.method in (FEWER, RANDOM)]
    best = max((row for row in rows if row.method not in BASELINES), key=lambda row: mean(row.values))
    rival = max(baselines, key=lambda row: mean(row.values))
    of_time = f"{best.time:.0%} of the time"
    if len(best.values) < 2:
        return (
            f"{_capital(best.method)} differs from full data by {100 * best.differences[0]:+.2f} points in {of_time}; "
            "one seed cannot tell that from chance. Run at least three."
        )
    lost, half = paired_interval(best.differences)
    against_full = f"{100 * lost:+.2f} ± {100 * half:.2f} points against full data in {of_time}"
    lead, lead_half = paired_interval([a - b for a, b in zip(best.values, rival.values, strict=True)])
    as_many = math.isclose(best.n_updates, rival.n_updates, rel_tol=0.1)  # recipes have schedules of their own
    updates = "as many updates" if as_many else f"{rival.n_updates:,.0f} updates where this makes {best.n_updates:,.0f}"
    against_rival = f"{100 * lead:+.2f} ± {100 * lead_half:.2f} against {rival.method!r}, which makes {updates}"
    if lost + half < 0:
        return f"Pruning costs accuracy here: {best.method}, {against_full}."
    if best.time >= 1:
        return f"Pruning does not pay here: it saves no time. {_capital(best.method)}: {against_full}."
    if lead <= 0:
        return (
            f"Pruning does not pay here: {rival.method!r} is as good without any scores. {_capital(best.method)}: "
            f"{against_full}, {against_rival}."
        )
    if lead - lead_half <= 0:
        return (
            f"Pruning keeps the accuracy here, but so may the baseline: {best.method}, {against_full}; {against_rival}."
            " More seeds would tell."
        )
    return f"Pruning pays here: {best.method}, {against_full}; {against_rival}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
