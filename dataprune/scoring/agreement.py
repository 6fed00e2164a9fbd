"""How far scores agree, and whether they would keep the same examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.data.counting import count_to_keep
from dataprune.errors import InvalidValueError, NotFittedError, check_count, check_fraction, check_numbers
from dataprune.scoring.base import Scorer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PairAgreement:
    """How two scores agree.

    Parameters
    ----------
    first, second : str
        Names of the scores.
    spearman : float
        Rank correlation in [-1, 1]; NaN if one of the scores is constant.
    low, high : float
        Its 95 % interval over resampled examples.
    kendall : float
        Kendall's tau-b in [-1, 1]; NaN if one of the scores is constant.
    overlap : float
        Share of the kept examples that both keep.
    kendall_low, kendall_high, overlap_low, overlap_high : float
        Their 95 % intervals, over the same resamples.

    Examples
    --------
    >>> PairAgreement("el2n", "aum", 0.8, 0.75, 0.84, 0.6, 0.9, 0.55, 0.65, 0.85, 0.94).overlap
    0.9
    """

    first: str
    second: str
    spearman: float
    low: float
    high: float
    kendall: float
    overlap: float
    kendall_low: float
    kendall_high: float
    overlap_low: float
    overlap_high: float


@dataclass(frozen=True)
class Agreement:
    """How several scores agree, pair by pair; prints as a table.

    Parameters
    ----------
    pairs : tuple of PairAgreement
        Every pair once.
    n_examples : int
        Examples that all scores have seen; only these were compared.
    n_unseen : int
        The others.
    n_keep : int
        Examples kept by each score.

    Examples
    --------
    >>> pair = PairAgreement("el2n", "aum", 0.8, 0.75, 0.84, 0.6, 0.9, 0.55, 0.65, 0.85, 0.94)
    >>> print(Agreement((pair,), n_examples=10, n_unseen=0, n_keep=5))
    10 examples, 5 kept by each score; by chance two share 0.50 of them.
    first  second  spearman  95% interval  kendall  95% interval  overlap  95% interval
    el2n   aum         0.80  0.75 to 0.84     0.60  0.55 to 0.65     0.90  0.85 to 0.94
    """

    pairs: tuple[PairAgreement, ...]
    n_examples: int
    n_unseen: int
    n_keep: int

    @property
    def chance_overlap(self) -> float:
        """Share of the kept examples that two draws at random have in common, on average."""
        return self.n_keep / self.n_examples

    def to_pandas(self) -> pd.DataFrame:
        """Return the pairs as a data frame.

        Returns
        -------
        pandas.DataFrame
            One row per pair, with the fields of `PairAgreement` and ``chance_overlap``.
        """
        import pandas as pd

        return pd.DataFrame([{**asdict(pair), "chance_overlap": self.chance_overlap} for pair in self.pairs])

    def __str__(self) -> str:
        unseen = f" ({self.n_unseen} that not every score has seen are left out)" if self.n_unseen else ""
        interval = "95% interval"
        rows = [("first", "second", "spearman", interval, "kendall", interval, "overlap", interval)] + [
            (
                p.first,
                p.second,
                f"{p.spearman:.2f}",
                f"{p.low:.2f} to {p.high:.2f}",
                f"{p.kendall:.2f}",
                f"{p.kendall_low:.2f} to {p.kendall_high:.2f}",
                f"{p.overlap:.2f}",
                f"{p.overlap_low:.2f} to {p.overlap_high:.2f}",
            )
            for p in self.pairs
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        head = (
            f"{self.n_examples:,} examples{unseen}, {self.n_keep:,} kept by each score; "
            f"by chance two share {self.chance_overlap:.2f} of them."
        )
        return "\n".join([head, *lines])


def agreement(
    scores: Mapping[Any, ArrayLike | Scorer], *, keep_fraction: float, n_bootstrap: int = 1000, random_state: int = 0
) -> Agreement:
    """Compare scores of the same examples: rank correlations, and the overlap of what they would keep.

    Of one scorer under several seeds (``{0: scores, 1: scores}``) it is the score's stability.

    Parameters
    ----------
    scores : mapping of name to array-like of shape (n_examples,) or fitted Scorer
        At least two; NaN = never seen.
    keep_fraction : float
        Share of the examples that each would keep, in (0, 1]: the highest scores, ties by the lower index, as `TopK`.
    n_bootstrap : int, default=1000
        Resamples of the examples behind each interval.
    random_state : int, default=0
        Seed of the resamples.

    Returns
    -------
    Agreement
        A table with one row per pair.

    Raises
    ------
    InvalidTypeError
        If a parameter is of the wrong kind.
    InvalidValueError
        If there are fewer than two scores or two examples, or the scores differ in shape.
    NotFittedError
        If a scorer has no scores yet.

    Notes
    -----
    Spearman's correlation with mean ranks of ties. An interval is the 2.5th to the 97.5th percentile over resamples, in
    each of which the examples are ranked and kept anew, as if an example drawn twice were two. Spearman's ranks and the
    kept examples need no sorting: how often an example was drawn gives them by one cumulative sum,
    O(n_bootstrap n_scores n_examples) in all. Kendall's tau sorts anew for each pair and resample and takes most of
    the time: with many examples, a smaller `n_bootstrap` will do for a look. Memory: O(n_scores n_examples).

    The intervals are about other examples from the same source, scored by the same models. For other seeds compare the
    scores of several. Where many scores tie at the cut, the kept sets agree through the lower index alone.

    Examples
    --------
    >>> scores = {"el2n": [0.1, 0.5, 0.9, 1.3], "loss": [0.2, 0.4, 3.0, 2.0]}
    >>> found = agreement(scores, keep_fraction=0.5, n_bootstrap=200)
    >>> round(found.pairs[0].spearman, 2), found.pairs[0].overlap
    (0.8, 1.0)
    """
    check_count("agreement()", "n_bootstrap", n_bootstrap, minimum=1)
    check_fraction("agreement()", "keep_fraction", keep_fraction)
    check_count("agreement()", "random_state", random_state)
    names = [str(name) for name in scores]
    table = _table(scores)
    seen = np.asarray(~np.isnan(table).any(axis=0))
    n_examples = int(seen.sum())
    if n_examples < 2:
        raise InvalidValueError(f"agreement() needs at least 2 examples that every score has seen, got {n_examples}.")
    table = table[:, seen]
    n_keep = count_to_keep(n_examples, keep_fraction)
    groups = [np.unique(column, return_inverse=True)[1] for column in table]
    orders = [np.argsort(-column, kind="stable") for column in table]
    once = np.ones(n_examples, dtype=np.int64)
    spearman, overlap = _rank_correlations(groups, once), _overlaps(orders, once, n_keep)
    couples = list(combinations(range(len(names)), 2))
    draws = np.empty((3, n_bootstrap, len(names), len(names)))
    rng = np.random.default_rng(random_state)
    for k in range(n_bootstrap):
        rows = rng.integers(n_examples, size=n_examples)
        counts = np.bincount(rows, minlength=n_examples)
        draws[0, k] = _rank_correlations(groups, counts)
        draws[1, k] = _overlaps(orders, counts, n_keep)
        for i, j in couples:
            draws[2, k, i, j] = _kendall(groups[i][rows], groups[j][rows])
    pairs = []
    for i, j in couples:
        (low, high), (overlap_low, overlap_high), (kendall_low, kendall_high) = map(_interval, draws[:, :, i, j])
        pairs.append(
            PairAgreement(
                names[i],
                names[j],
                spearman=float(spearman[i, j]),
                low=low,
                high=high,
                kendall=_kendall(groups[i], groups[j]),
                overlap=float(overlap[i, j]),
                kendall_low=kendall_low,
                kendall_high=kendall_high,
                overlap_low=overlap_low,
                overlap_high=overlap_high,
            )
        )
    return Agreement(tuple(pairs), n_examples=n_examples, n_unseen=len(seen) - n_examples, n_keep=n_keep)


def _table(scores: Mapping[Any, ArrayLike | Scorer]) -> NDArray[np.float64]:
    columns = []
    for name, given in scores.items():
        if isinstance(given, Scorer) and not hasattr(given, "scores_"):
            raise NotFittedError(f"agreement() needs fitted scorers, but {name!r} has no scores yet. Call fit() first.")
        columns.append(check_numbers("agreement()", f"scores[{name!r}]", getattr(given, "scores_", given)))
    shapes = sorted({column.shape for column in columns})
    if len(columns) < 2 or len(shapes) > 1 or len(shapes[0]) != 1:
        raise InvalidValueError(
            f"agreement() needs at least two scores of one shape (n_examples,), got {len(columns)} of {shapes}."
        )
    return np.stack(columns)


def _rank_correlations(groups: list[NDArray[np.intp]], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    # Each example is there `counts` times. Members of a group are equal, and groups are numbered from the lowest.
    centred = np.empty((len(groups), len(counts)))
    for row, group in zip(centred, groups, strict=True):
        sizes = np.bincount(group, weights=counts)
        row[:] = (np.cumsum(sizes) - sizes / 2 - counts.sum() / 2)[group]
    products = (centred * counts) @ centred.T  # (n_scores, n_scores)
    lengths = np.sqrt(np.diag(products))
    with np.errstate(invalid="ignore"):  # 0 / 0 of a constant score
        correlations: NDArray[np.float64] = np.clip(products / np.outer(lengths, lengths), -1.0, 1.0)
    return correlations


def _overlaps(orders: list[NDArray[np.intp]], counts: NDArray[np.int64], n_keep: int) -> NDArray[np.float64]:
    # Each example is there `counts` times; `orders` are from the highest score on. The lower copies are kept first.
    kept = np.empty((len(orders), len(counts)), dtype=np.int64)
    for row, order in zip(kept, orders, strict=True):
        drawn = counts[order]
        row[order] = np.clip(n_keep - (np.cumsum(drawn) - drawn), 0, drawn)
    shared = [[np.minimum(one, other).sum() for other in kept] for one in kept]  # (n_scores, n_scores)
    return np.asarray(shared) / n_keep


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    known: NDArray[np.float64] = draws[
        ~np.isnan(draws)
    ]  # in a resample of few distinct examples a score may be constant
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _kendall(first: NDArray[np.intp], second: NDArray[np.intp]) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)
