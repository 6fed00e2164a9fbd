"""Several runs side by side: which belong together, which is the baseline, accuracy against time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.errors import InvalidValueError
from dataprune.reporting.figures import BLUE, GREY, label_points, new_axes, tell
from dataprune.reporting.run_folder import FinishedRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_LABEL = 30
"""Letters at a point of the plot; of a longer name, such as a path, the last ones."""

# Settings that may differ between two runs of one method.
_OF_ONE_RUN = {"seed", "output_dir", "n_workers"}


def plot_pareto(
    names: Sequence[str],
    seconds: ArrayLike,
    results: ArrayLike,
    *,
    metric: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Draw results against time, with the Pareto front: the methods that none beats in both.

    Parameters
    ----------
    names : sequence of str
        The method of each run; runs of one name are its seeds: small points around their mean.
    seconds : array-like, shape (n_runs,)
        Time of each run.
    results : array-like, shape (n_runs,)
        Result of each run.
    metric : str, default="accuracy"
        What the results are; ``loss`` is better when lower, any other when higher.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    InvalidValueError
        If the three have different lengths.
    MissingPackageError
        If matplotlib or adjustText is not installed.

    Examples
    --------
    >>> ax = plot_pareto(["full", "half", "random"], [100, 60, 60], [0.95, 0.94, 0.90])
    >>> ax.lines[0].get_xdata().tolist()  # the front: random half is beaten by half
    [60.0, 100.0]
    """
    ax = new_axes("plot_pareto", ax)
    x, y = np.asarray(seconds, np.float64), np.asarray(results, np.float64)
    if not len(names) == len(x) == len(y):
        raise InvalidValueError(
            f"plot_pareto.seconds and results must have {len(names)} values each, got {len(x)} and {len(y)}."
        )
    methods = list(dict.fromkeys(names))
    members = [np.array([name == method for name in names]) for method in methods]
    means = np.array([[x[mine].mean(), y[mine].mean()] for mine in members]).reshape(-1, 2)  # (n_methods, 2)
    front = pareto_front(means[:, 0], -means[:, 1] if metric == "loss" else means[:, 1])
    order = np.flatnonzero(front)[np.argsort(means[front, 0], kind="stable")]
    ax.plot(means[order, 0], means[order, 1], color=BLUE, linewidth=1, linestyle="--", zorder=1)
    for method, mine, mean, best in zip(methods, members, means, front, strict=True):
        color = BLUE if best else GREY
        if mine.sum() > 1:
            seeds = ax.scatter(x[mine], y[mine], s=12, color=color, alpha=0.6, linewidths=0)
            tell(seeds, [f"{method}, one run: {b:.4g} in {a:,.1f} s" for a, b in zip(x[mine], y[mine], strict=True)])
        point = ax.scatter(mean[0], mean[1], s=55, color=color, marker="o" if best else "X", linewidths=0)
        what = "mean of its runs" if mine.sum() > 1 else "one run"
        tell(point, [f"{method}, {what}: {metric} {mean[1]:.4g} in {mean[0]:,.1f} s{'; on the front' if best else ''}"])
    ax.margins(0.2)
    ax.set(xlabel="seconds (dashed: Pareto front)", ylabel=metric)
    shown = [name if len(name) <= LONGEST_LABEL else f"…{name[1 - LONGEST_LABEL :]}" for name in methods]
    label_points(ax, means, shown)
    return ax


def pareto_front(costs: NDArray[np.float64], results: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which points no other point beats: none is as cheap and better, or cheaper and as good.

    Parameters
    ----------
    costs : ndarray, shape (n,)
        Lower = better.
    results : ndarray, shape (n,)
        Higher = better.

    Returns
    -------
    ndarray of bool, shape (n,)
        The front; equal points are on it together.

    Examples
    --------
    >>> pareto_front(np.array([1.0, 2.0, 2.0]), np.array([0.8, 0.9, 0.7]))
    array([ True,  True, False])
    """
    front = [
        not np.any((costs <= cost) & (results >= result) & ((costs < cost) | (results > result)))
        for cost, result in zip(costs, results, strict=True)
    ]
    return np.array(front, dtype=np.bool_)


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seed.

    Parameters
    ----------
    name : str
        What the names of their folders have in common.
    runs : tuple of FinishedRun
        At least one.
    """

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def result(self) -> float:
        """Mean of the main metric."""
        return fmean(run.result for run in self.runs)

    @property
    def spread(self) -> float | None:
        """Its standard deviation over the runs; None for a single one."""
        return stdev(run.result for run in self.runs) if len(self.runs) > 1 else None

    @property
    def seconds(self) -> float:
        """Mean of the seconds."""
        return fmean(run.seconds for run in self.runs)

    @property
    def n_updates(self) -> float:
        """Mean of the updates."""
        return fmean(run.summary["n_updates"] for run in self.runs)


def group_runs(runs: Sequence[FinishedRun]) -> list[Method]:
    """Put runs together that differ in nothing but their seed.

    Parameters
    ----------
    runs : sequence of FinishedRun
        At least one.

    Returns
    -------
    list of Method
        In the order of their first runs, each with a name of its own.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        settings = {name: value for name, value in run.config.items() if name not in _OF_ONE_RUN}
        groups.setdefault(repr(sorted(settings.items())), []).append(run)
    names: list[str] = []
    for group in groups.values():
        common = os.path.commonprefix([run.name for run in group])  # noqa: RUF071 - of names, letter by letter
        if len(group) > 1:  # pruned-seed-0, pruned-seed-1
            common = common.rstrip("-_. 0123456789").removesuffix("seed").rstrip("-_., ")
        names.append(common if common and common not in names else str(group[0].path))
    return [Method(name, tuple(group)) for name, group in zip(names, groups.values(), strict=True)]


def find_baseline(run: FinishedRun, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """Return the run on full data to hold a run against, if there is one.

    Parameters
    ----------
    run : FinishedRun
        The run in question.
    runs : sequence of FinishedRun
        Those to choose from.

    Returns
    -------
    FinishedRun or None
        Of the runs of as many examples and the same metric that left none out: the longest, of these one with the same
        seed. None if there is none, or if `run` itself is on full data.
    """
    if not run.prunes:
        return None
    full = [other for other in runs if not other.prunes and comparable(run, other)]
    longest = max((other.summary["n_updates"] for other in full), default=0)
    full = [other for other in full if other.summary["n_updates"] == longest]
    return next((other for other in full if other.config["seed"] == run.config["seed"]), full[0] if full else None)


def comparable(run: FinishedRun, other: FinishedRun) -> bool:
    """Tell whether two runs were measured on the same thing, as far as their folders show.

    Parameters
    ----------
    run : FinishedRun
        One.
    other : FinishedRun
        Another.

    Returns
    -------
    bool
        Whether data, number of examples, split and metric agree.
    """
    same = [(r.config["data"], r.n_examples, r.split, r.metric) for r in (run, other)]
    return same[0] == same[1]


def chance_remark(methods: Sequence[Method]) -> str:
    """Say how far the runs can tell a difference from chance.

    Parameters
    ----------
    methods : sequence of Method
        Those compared.

    Returns
    -------
    str
        A sentence.
    """
    fewest = min(len(method.runs) for method in methods)
    if fewest == 1:
        return (
            "Some methods have one run only: a difference between two of them may be chance. Train with several "
            "--seed values and name all folders."
        )
    return f"Each method has at least {fewest} runs, which differ in their seed; ± is their standard deviation."
