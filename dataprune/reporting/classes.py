"""Which classes pruning kept, and which it left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dataprune.errors import InvalidValueError
from dataprune.reporting.figures import BLUE, ORANGE, new_axes, one_line, set_share_axis, tell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LONGEST_NAME = 28


def keep_rates(classes: Sequence[str] | Sequence[Sequence[str]], kept_share: ArrayLike) -> pd.DataFrame:
    """Tell how much of each class was kept, against the class's share of the data.

    Parameters
    ----------
    classes : sequence of str or of sequence of str
        The class of each example, or all that it belongs to, such as the slot types of a sentence.
    kept_share : array-like, shape (n_examples,)
        How much of each example was kept: share of the pruned epochs that trained on it, or True and False.

    Returns
    -------
    pandas.DataFrame
        Index: the class. Columns: ``n_examples``, ``share`` (of all examples) and ``keep_rate`` (mean of `kept_share`).
        Lowest rate first.

    Raises
    ------
    InvalidValueError
        If the two have different lengths.

    Examples
    --------
    >>> keep_rates(["flight", "flight", "fare", "flight"], [1, 0, 1, 1]).round(2)
            n_examples  share  keep_rate
    class
    flight           3   0.75       0.67
    fare             1   0.25       1.00
    """
    import pandas as pd

    kept = np.asarray(kept_share, np.float64)
    if len(classes) != len(kept):
        raise InvalidValueError(f"keep_rates.kept_share must have {len(classes)} values, got {len(kept)}.")
    pairs = [(name, n) for n, one in enumerate(classes) for name in ([one] if isinstance(one, str) else {*one})]
    names = pd.Series([name for name, _ in pairs], dtype=object, name="class")
    grouped = pd.Series(kept[[n for _, n in pairs]], dtype=float).groupby(names)
    rates = pd.DataFrame({"n_examples": grouped.size(), "keep_rate": grouped.mean()})
    rates.insert(1, "share", rates["n_examples"] / len(kept))
    return rates.sort_values(["keep_rate", "n_examples"], kind="stable")


def plot_keep_rates(
    rates: pd.DataFrame, *, overall: float | None = None, n_shown: int = 24, ax: Axes | None = None
) -> Axes:
    """Draw the keep rate of each class as a bar, orange where it is below the rate of all examples.

    Parameters
    ----------
    rates : pandas.DataFrame
        From `keep_rates`.
    overall : float, optional
        Keep rate of all examples, drawn as a line.
    n_shown : int, default=24
        Of more classes than that, those with the lowest and the highest rates are drawn, and the title says so.
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
    >>> ax = plot_keep_rates(keep_rates(["a", "a", "b"], [1, 0, 1]), overall=2 / 3)
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['a (66.7%)', 'b (33.3%)']
    """
    ax = new_axes("plot_keep_rates", ax)
    rows = np.argsort(rates["keep_rate"].to_numpy(), kind="stable")
    if len(rows) > n_shown:
        ax.set_title(
            f"the {n_shown} of {len(rows):,} with the lowest and the highest rates", fontsize="medium", loc="right"
        )
        rows = np.r_[rows[: n_shown // 2], rows[len(rows) - (n_shown - n_shown // 2) :]]
    names = [str(rates.index[row]) for row in rows]
    keep, n_examples, shares = (rates[name].to_numpy()[rows] for name in ("keep_rate", "n_examples", "share"))
    bars = ax.barh(
        np.arange(len(rows)),
        keep,
        color=[BLUE if overall is None or rate >= overall else ORANGE for rate in keep],
        height=0.75,
    )
    for bar, name, rate, n, share in zip(bars, names, keep, n_examples, shares, strict=True):
        tell(bar, [f"{name}: {rate:.0%} kept, {n:,} examples ({share:.1%} of all)"])
    labels = [f"{one_line(name[:LONGEST_NAME])} ({share:.1%})" for name, share in zip(names, shares, strict=True)]
    ax.set_yticks(np.arange(len(rows)), labels, parse_math=False)  # a name may hold a dollar
    ax.invert_yaxis()
    ax.margins(y=0.02)
    ax.set(xlabel="keep rate", ylabel="share of all examples in brackets", xlim=(0, 1.02))
    set_share_axis(ax.xaxis)
    if overall is not None:
        ax.axvline(overall, color=ax.xaxis.label.get_color(), linestyle="--", linewidth=1)
    return ax
