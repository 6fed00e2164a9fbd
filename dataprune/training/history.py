"""What happened, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

SECONDS = ("train", "score", "select", "evaluate")
"""Where the time of an epoch goes; scoring includes the cost of observing."""

QUANTILES = {"score_p10": 0.1, "score_p50": 0.5, "score_p90": 0.9}
"""Columns of a history, and which quantile of the scores each is."""

N_FOR_QUANTILES = 1_000_000


def score_quantiles(scores: NDArray[np.float32]) -> list[float] | None:
    """Return the `QUANTILES` of the finite scores; beyond a million those of every k-th.

    Parameters
    ----------
    scores : ndarray of float32, shape (n_examples,)
        Scores; not finite for examples that have none.

    Returns
    -------
    list of float or None
        None if no score is finite.

    Examples
    --------
    >>> score_quantiles(np.array([0, 5, 10, np.inf], np.float32))
    [1.0, 5.0, 9.0]
    """
    some = scores[:: -(-len(scores) // N_FOR_QUANTILES) or 1]
    some = some[np.isfinite(some)]
    return np.quantile(some, list(QUANTILES.values())).tolist() if len(some) else None


@dataclass
class EpochRecord:
    """One epoch of a run.

    Parameters
    ----------
    epoch : int
        From 0.
    n_asked : int
        Examples that the scheduler asked for.
    n_kept : int
        Examples trained on; more than asked where accumulation needs whole updates.
    n_updates : int
        Optimizer updates made so far in the epoch.
    n_tokens : int or None
        Tokens of the kept examples; None where lengths are unknown.
    n_scored : int
        Examples that went through a scoring pass.
    n_tokens_scored : int or None
        Their tokens.
    n_left_out : int
        Kept examples that a batch policy left out of their batches, before any gradient: `DynamicPruner.fit` does. In a
        loop of your own, in Trainer and in Lightning they go through the model with weight 0, and are not among these.
    n_tokens_left_out : int or None
        Their tokens.
    score_quantiles : list of float or None
        Of the finite scores that it was selected by: 10, 50 and 90 %.
    seconds : dict of str to float
        Wall-clock by ``train``, ``score``, ``select``, ``evaluate``.
    metrics : dict of str to float
        From the evaluation at the epoch's end.

    Examples
    --------
    >>> EpochRecord(epoch=0, n_asked=50, n_kept=50).n_updates
    0
    """

    epoch: int
    n_asked: int
    n_kept: int
    n_updates: int = 0
    n_tokens: int | None = None
    n_scored: int = 0
    n_tokens_scored: int | None = None
    n_left_out: int = 0
    n_tokens_left_out: int | None = None
    score_quantiles: list[float] | None = None
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SECONDS, 0.0))
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def n_trained(self) -> int:
        """Examples that gave a gradient."""
        return self.n_kept - self.n_left_out

    @property
    def n_tokens_trained(self) -> int | None:
        """Their tokens; None where lengths are unknown."""
        return None if self.n_tokens is None else self.n_tokens - (self.n_tokens_left_out or 0)


class PruningHistory:
    """The records of a run, printable as a table.

    Parameters
    ----------
    records : list of EpochRecord, optional
        Records to start from.

    Attributes
    ----------
    records : list of EpochRecord
        One per epoch started.

    Examples
    --------
    >>> history = PruningHistory([EpochRecord(epoch=0, n_asked=50, n_kept=50, n_updates=5)])
    >>> print(history)
    epoch  asked  kept  updates  train_s  score_s  select_s  evaluate_s
        0     50    50        5     0.00     0.00      0.00        0.00
    """

    def __init__(self, records: list[EpochRecord] | None = None) -> None:
        self.records = [] if records is None else records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, position: int) -> EpochRecord:
        return self.records[position]

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the records as plain dictionaries.

        Returns
        -------
        list of dict
            What `from_list` takes.
        """
        return [asdict(record) for record in self.records]

    @classmethod
    def from_list(cls, rows: list[dict[str, Any]]) -> PruningHistory:
        """Rebuild a history.

        Parameters
        ----------
        rows : list of dict
            From `to_list`.

        Returns
        -------
        PruningHistory
            An equal history.
        """
        return cls([EpochRecord(**row) for row in rows])

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one flat dictionary per epoch: counts, ``<what>_s`` seconds, metrics.

        Returns
        -------
        list of dict
            Column name to value.
        """
        metrics = list(dict.fromkeys(name for record in self.records for name in record.metrics))
        has_tokens = any(record.n_tokens is not None for record in self.records)
        has_passes = any(record.n_scored for record in self.records)
        has_policy = any(record.n_left_out for record in self.records)
        has_scores = any(record.score_quantiles is not None for record in self.records)
        nothing = [None] * len(QUANTILES)
        return [
            {
                "epoch": record.epoch,
                "asked": record.n_asked,
                "kept": record.n_kept,
                "updates": record.n_updates,
                **({"tokens": record.n_tokens} if has_tokens else {}),
                **({"scored": record.n_scored} if has_passes else {}),
                **({"left_out": record.n_left_out} if has_policy else {}),
                **(dict(zip(QUANTILES, record.score_quantiles or nothing, strict=True)) if has_scores else {}),
                **{f"{what}_s": record.seconds[what] for what in SECONDS},
                **{name: record.metrics.get(name) for name in metrics},
            }
            for record in self.records
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a data frame.

        Returns
        -------
        pandas.DataFrame
            One row per epoch, the columns of `to_rows`.
        """
        import pandas as pd

        return pd.DataFrame(self.to_rows())

    def __str__(self) -> str:
        rows = [{name: cell for name, cell in row.items() if name not in QUANTILES} for row in self.to_rows()]
        if not rows:
            return "no epoch yet"
        table = [list(rows[0]), *([_text(name, value) for name, value in row.items()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in table)

    def _repr_html_(self) -> str:
        """Show the table in a notebook, with a bar for what each epoch kept and a line of sums."""
        rows = self.to_rows()
        if not rows:
            return "<p>no epoch yet</p>"
        most = max(record.n_kept for record in self.records) or 1
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
        lines = []
        for row in rows:
            end = f"{100 * row['kept'] / most:.0f}%"
            bar = f' style="background: linear-gradient(90deg, #3d7fc055 {end}, transparent {end})"'
            cells = [f"<td{bar if name == 'kept' else ''}>{_text(name, value)}</td>" for name, value in row.items()]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        summed = {"kept", "updates", "tokens", "scored", "left_out", *(f"{what}_s" for what in SECONDS)}
        sums = [
            _text(name, sum(row[name] for row in rows if row[name] is not None)) if name in summed else ""
            for name in rows[0]
        ]
        foot = "".join(f"<th>{one}</th>" for one in ("sum", *sums[1:]))
        return (
            f"<table><caption>PruningHistory of {len(self)} epochs</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(lines)}</tbody><tfoot><tr>{foot}</tr></tfoot></table>"
        )

    def __repr__(self) -> str:
        return f"<PruningHistory of {len(self)} epochs>"


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if name.endswith("_s") else f"{value:.4f}"
    return f"{value}"
