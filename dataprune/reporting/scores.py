"""What the scores look like: their distribution, and the data map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dataprune.errors import InvalidValueError
from dataprune.reporting.figures import BLUE, GREY, ORANGE, new_axes, tell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_BINS = 40
N_SHOWN = 2000
LONGEST_TIP = 120


def plot_scores(scores: ArrayLike, *, kept: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Draw how the scores are distributed, and which part of each bin the last selection kept.

    Parameters
    ----------
    scores : array-like, shape (n_examples,)
        Scores, higher = harder; those that are no finite number (never seen) are left out, and the axis says how many.
    kept : array-like of bool, shape (n_examples,), optional
        Which examples the last selection kept.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    InvalidValueError
        If the two have different lengths.
    MissingPackageError
        If matplotlib is not installed.

    Examples
    --------
    >>> ax = plot_scores([0.1, 0.2, 0.9, float("nan")], kept=[False, False, True, True])
    >>> ax.get_xlabel()
    'score (higher = harder; without 1 that has none)'
    """
    ax = new_axes("plot_scores", ax)
    values = np.asarray(scores, np.float64)
    chosen = np.zeros(len(values), bool) if kept is None else np.asarray(kept, bool)
    if len(chosen) != len(values):
        raise InvalidValueError(f"plot_scores.kept must have {len(values)} values, got {len(chosen)}.")
    finite = np.isfinite(values)
    edges = np.histogram_bin_edges(values[finite], bins=N_BINS)
    below = np.zeros(N_BINS, np.int64)
    parts = [("examples", ~chosen, BLUE)] if kept is None else [("left out", ~chosen, GREY), ("kept", chosen, BLUE)]
    for label, part, color in parts:
        counts, _ = np.histogram(values[finite & part], bins=edges)
        bars = ax.bar(edges[:-1], counts, np.diff(edges), bottom=below, align="edge", color=color, label=label)
        for bar, count, low, high in zip(bars, counts, edges[:-1], edges[1:], strict=True):
            tell(bar, [f"{count:,} {label} with scores from {low:.3g} to {high:.3g}"])
        below += counts
    n_missing = int((~finite).sum())
    missing = f"; without {n_missing:,} that ha{'s' if n_missing == 1 else 've'} none" if n_missing else ""
    ax.set(xlabel=f"score (higher = harder{missing})", ylabel="examples")
    if kept is not None:
        ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.0)
    return ax


def plot_cartography(
    variability: ArrayLike,
    confidence: ArrayLike,
    *,
    correctness: ArrayLike | None = None,
    texts: Sequence[str] | None = None,
    n_shown: int = N_SHOWN,
    random_state: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the data map: easy examples top left, ambiguous ones right, hard ones bottom left.

    Parameters
    ----------
    variability : array-like, shape (n_examples,)
        Standard deviation of the label's probability over the visits; NaN = never seen, not drawn.
    confidence : array-like, shape (n_examples,)
        Its mean.
    correctness : array-like, shape (n_examples,), optional
        Share of visits with a right prediction: the colour.
    texts : sequence of str, optional
        What each example says when it is pointed at, in the pages of `write_report`.
    n_shown : int, default=2000
        Of more examples than that, as many are drawn at random, and the title says so.
    random_state : int, default=0
        Seed of that draw.
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

    References
    ----------
    Swayamdipta et al. 2020, arXiv 2009.10795.

    Examples
    --------
    >>> ax = plot_cartography([0.05, 0.4, 0.1], [0.95, 0.5, 0.1], correctness=[1.0, 0.5, 0.0])
    >>> len(ax.collections[0].get_offsets())
    3
    """
    ax = new_axes("plot_cartography", ax)
    x, y = np.asarray(variability, np.float64), np.asarray(confidence, np.float64)
    right = None if correctness is None else np.asarray(correctness, np.float64)
    seen = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    rows = seen
    if len(seen) > n_shown:
        rows = np.sort(np.random.default_rng(random_state).choice(seen, n_shown, replace=False))
        ax.set_title(f"{n_shown:,} of {len(seen):,} examples, drawn at random", fontsize="medium")
    colors: dict[str, Any] = {"color": BLUE} if right is None else {"c": right[rows], **_correctness_colors()}
    points = ax.scatter(x[rows], y[rows], s=12, alpha=0.75, linewidths=0, **colors)
    if right is not None:
        bar = ax.figure.colorbar(points, ax=ax, label="share of visits predicted right", aspect=30, pad=0.02)
        bar.outline.set_visible(False)
    tips = [f"Example {row}: confidence {y[row]:.2f}, variability {x[row]:.2f}" for row in rows]
    if texts is not None:
        tips = [f"{tip}. {texts[row][:LONGEST_TIP]}" for tip, row in zip(tips, rows.tolist(), strict=True)]
    tell(points, tips)
    ax.set(xlabel="variability", ylabel="confidence", xlim=(-0.01, 0.51), ylim=(-0.02, 1.02))
    # No mean and deviation of a probability can lie where these words stand.
    ax.annotate("← easy", (0.19, 0.99), va="center", weight="bold")
    ax.annotate("← hard", (0.19, 0.0), va="center", weight="bold")
    ax.annotate("ambiguous ↓", (0.5, 0.88), ha="right", va="center", weight="bold")
    return ax


def _correctness_colors() -> dict[str, Any]:
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("correctness", [ORANGE, GREY, BLUE])
    return {"cmap": shades, "norm": BoundaryNorm(np.linspace(0, 1, 6), shades.N)}
