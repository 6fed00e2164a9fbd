"""What each epoch did: how much it kept, by which scores, and where its time went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidValueError
from dataprune.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    new_axes,
    set_share_axis,
    tell,
    whole_numbers,
)
from dataprune.training.history import QUANTILES, SECONDS, PruningHistory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_kept_share(history: PruningHistory | pd.DataFrame, n_examples: int, *, ax: Axes | None = None) -> Axes:
    """Draw the share of the examples that each epoch kept: a bar per epoch, grey where it kept all.

    Parameters
    ----------
    history : PruningHistory or pandas.DataFrame
        ``pruner.history_``, or a run's ``history.csv``.
    n_examples : int
        Rows of the full train set.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.

    Examples
    --------
    >>> from dataprune import EpochRecord
    >>> history = PruningHistory([EpochRecord(epoch=0, n_asked=50, n_kept=50), EpochRecord(1, n_asked=20, n_kept=20)])
    >>> ax = plot_kept_share(history, 50)
    >>> [float(bar.get_height()) for bar in ax.patches]
    [1.0, 0.4]
    """
    ax = new_axes("plot_kept_share", ax)
    columns = _columns(history)
    for epoch, kept, n_updates in zip(columns["epoch"] + 1, columns["kept"], columns["updates"], strict=True):
        share = kept / n_examples
        (bar,) = ax.bar(epoch, share, width=0.8, color=GREY if kept == n_examples else BLUE)
        tell(bar, [f"Epoch {epoch}: {kept:,} of {n_examples:,} examples ({share:.0%}), {n_updates:,} updates"])
    ax.set(xlabel="epoch", ylabel="examples kept", ylim=(0, 1.02))
    ax.xaxis.set_major_locator(whole_numbers())
    set_share_axis(ax.yaxis)
    return ax


def plot_time(history: PruningHistory | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the seconds of each epoch, stacked by where they went: training, scoring, selecting, evaluating.

    Parameters
    ----------
    history : PruningHistory or pandas.DataFrame
        ``pruner.history_``, or a run's ``history.csv``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.

    Examples
    --------
    >>> from dataprune import EpochRecord
    >>> seconds = {"train": 3.0, "score": 1.0, "select": 0.0, "evaluate": 0.5}
    >>> ax = plot_time(PruningHistory([EpochRecord(epoch=0, n_asked=9, n_kept=9, seconds=seconds)]))
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['train', 'score', 'select', 'evaluate']
    """
    ax = new_axes("plot_time", ax)
    columns = _columns(history)
    epochs = columns["epoch"] + 1
    below = np.zeros(len(epochs))
    for what, color in zip(SECONDS, (BLUE, ORANGE, PURPLE, GREEN), strict=True):
        spent = columns[f"{what}_s"]
        bars = ax.bar(epochs, spent, bottom=below, width=0.8, color=color, label=what)
        for bar, epoch, seconds in zip(bars, epochs, spent, strict=True):
            tell(bar, [f"Epoch {epoch}: {seconds:,.2f} s to {what}"])
        below += spent
    ax.set(xlabel="epoch", ylabel="seconds")
    ax.xaxis.set_major_locator(whole_numbers())
    ax.legend(ncols=len(SECONDS), loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.0, columnspacing=1.2)
    return ax


def plot_score_quantiles(history: PruningHistory | pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the scores that each epoch was selected by: their median, and the band from 10 to 90 % of the examples.

    Parameters
    ----------
    history : PruningHistory or pandas.DataFrame
        ``pruner.history_``, or a run's ``history.csv``; epochs without scores are left out.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    InvalidValueError
        If no epoch has scores.
    MissingPackageError
        If matplotlib is not installed.

    Examples
    --------
    >>> from dataprune import EpochRecord
    >>> records = [EpochRecord(epoch, n_asked=9, n_kept=9, score_quantiles=[0.1, 0.4, 0.9]) for epoch in (1, 2)]
    >>> ax = plot_score_quantiles(PruningHistory(records))
    >>> ax.lines[0].get_ydata().tolist()
    [0.4, 0.4]
    """
    ax = new_axes("plot_score_quantiles", ax)
    columns = _columns(history)
    if not {*QUANTILES} <= {*columns}:
        raise InvalidValueError("plot_score_quantiles.history must have scores of some epoch, got none.")
    low, middle, high = (columns[name].astype(np.float64) for name in QUANTILES)
    there = np.isfinite(middle)
    epochs, low, middle, high = ((values[there]) for values in (columns["epoch"] + 1, low, middle, high))
    ax.fill_between(epochs, low, high, color=BLUE, alpha=0.25, linewidth=0, label="10 to 90 % of the examples")
    ax.plot(epochs, middle, color=BLUE, label="median")
    points = ax.scatter(epochs, middle, s=16, color=BLUE)
    tell(
        points,
        [
            f"Epoch {epoch}: median {m:.3g}, 10 % of the examples below {a:.3g}, 10 % above {b:.3g}"
            for epoch, a, m, b in zip(epochs, low, middle, high, strict=True)
        ],
    )
    ax.set(xlabel="epoch", ylabel="score")
    ax.xaxis.set_major_locator(whole_numbers())
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.0)
    return ax


def _columns(history: PruningHistory | pd.DataFrame) -> dict[str, NDArray[Any]]:
    frame = history.to_pandas() if isinstance(history, PruningHistory) else history
    return {str(name): frame[name].to_numpy() for name in frame.columns}
