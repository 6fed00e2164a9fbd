"""Recipes that choose from the data itself, before any training; each returns a `StaticPruner`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataprune.data.columns import read_column
from dataprune.errors import DataError, check_choice, check_fraction
from dataprune.recipes._registry import recipe
from dataprune.scoring.metadata import ColumnScore, FunctionScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.text import TfidfDistance
from dataprune.selection.base import Selector
from dataprune.selection.clustered import ClusteredK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import TopOrStratified
from dataprune.selection.submodular import SubmodularMixture
from dataprune.training.static import StaticPruner


@recipe("static", cost="TF-IDF of the texts", source="Nguyen & He 2025, arXiv 2501.02432")
def scdp(*, column: str = "text", keep_fraction: float = 0.3, random_state: int = 0) -> StaticPruner:
    """Keep what is far from the texts' median; spread over strata where much is kept.

    Parameters
    ----------
    column : str, default="text"
        The text.
    keep_fraction : float, default=0.3
        Share kept.
    random_state : int, default=0
        Seed of the draw inside the strata.

    Returns
    -------
    StaticPruner
        Not fitted yet.

    Examples
    --------
    >>> scdp().scorer
    TfidfDistance()
    """
    return StaticPruner(
        TfidfDistance(column=column),
        TopOrStratified(n_ranked=1500, n_strata=100, keep_fraction=keep_fraction, random_state=random_state),
    )


@recipe("static", cost="embeddings", source="Das & Khetan 2023, arXiv 2310.16776 (secondary source)")
def deft_ucs(
    *, n_clusters: int = 7, hard_fraction: float = 0.5, keep_fraction: float = 0.325, random_state: int = 0
) -> StaticPruner:
    """Keep of each cluster of the embeddings a share nearest to and a share farthest from the centre.

    Parameters
    ----------
    n_clusters : int, default=7
        The paper's K.
    hard_fraction : float, default=0.5
        Share of the kept that is far from the centres; our own constant.
    keep_fraction : float, default=0.325
        Share kept; the paper's.
    random_state : int, default=0
        Seed of the clusters.

    Returns
    -------
    StaticPruner
        Not fitted yet; it needs ``features=...``, for instance of `embed_texts`.

    Examples
    --------
    >>> deft_ucs().selector
    ClusteredK(keep_fraction=0.325, random_state=0)
    """
    return StaticPruner(
        None,
        ClusteredK(
            n_clusters=n_clusters, hard_fraction=hard_fraction, keep_fraction=keep_fraction, random_state=random_state
        ),
    )


@recipe(
    "static",
    cost="embeddings; quadratic in the largest of the tasks",
    source="Renduchintala et al. 2024, arXiv 2403.08370",
)
def smart(*, redundancy_weight: float = 0.4, keep_fraction: float = 0.1, random_state: int = 0) -> StaticPruner:
    """Share the budget among tasks by graph cut, then keep the most representative examples of each.

    Parameters
    ----------
    redundancy_weight : float, default=0.4
        The paper's lambda of the graph cut.
    keep_fraction : float, default=0.1
        Share kept.
    random_state : int, default=0
        Seed of the stochastic greedy search.

    Returns
    -------
    StaticPruner
        Not fitted yet; it needs ``groups=...`` (the task of each row) and ``features=...``.

    Examples
    --------
    >>> smart().selector
    SubmodularMixture(keep_fraction=0.1, random_state=0)
    """
    return StaticPruner(
        None,
        SubmodularMixture(redundancy_weight=redundancy_weight, keep_fraction=keep_fraction, random_state=random_state),
    )


@recipe("static", cost="a forward pass of a small language model", source="Ankner et al. 2024, arXiv 2405.20541")
def perplexity_pruning(*, band: str = "medium", column: str = "text", keep_fraction: float = 0.5) -> StaticPruner:
    """Keep the texts of low, medium or high perplexity under a reference language model.

    Parameters
    ----------
    band : {"low", "medium", "high"}, default="medium"
        Which part of the range; the best one depends on the data (high or medium in the paper).
    column : str, default="text"
        The text.
    keep_fraction : float, default=0.5
        Share kept, as in the paper.

    Returns
    -------
    StaticPruner
        Fit its ``scorer`` first, with the language model and its tokenizer.

    Examples
    --------
    >>> perplexity_pruning(band="high").selector
    TopK(keep_fraction=0.5)
    """
    return StaticPruner(Perplexity(column=column), _band(band, keep_fraction, owner="perplexity_pruning"))


@recipe("static", cost="none", source="Lai-king & Paroubek 2024")
def metadata_pruning(column: str, *, band: str = "high", keep_fraction: float = 0.5) -> StaticPruner:
    """Keep the rows of low, medium or high value in a column: a journal's impact, a date, a length.

    Parameters
    ----------
    column : str
        A column of numbers.
    band : {"low", "medium", "high"}, default="high"
        Which part of the range.
    keep_fraction : float, default=0.5
        Share kept.

    Returns
    -------
    StaticPruner
        Not fitted yet.

    Examples
    --------
    >>> rows = [{"impact": 1.2}, {"impact": 8.1}]
    >>> metadata_pruning("impact").fit_transform(rows)
    [{'impact': 8.1}]
    """
    return StaticPruner(ColumnScore(column), _band(band, keep_fraction, owner="metadata_pruning"))


@recipe("static", cost="the metric over all rows", source="Shimabucoro et al. 2024 (abstract read)")
def active_inheritance(
    metric: str | Callable[[Any], Any] = "lexical-diversity",
    *,
    column: str = "text",
    band: str = "high",
    keep_fraction: float = 0.5,
) -> StaticPruner:
    """Keep the texts that are high in a property to be inherited; it need not be differentiable.

    Parameters
    ----------
    metric : {"length", "lexical-diversity"} or callable, default="lexical-diversity"
        Words of the text; distinct words by its words; or a function of a batch of rows, as for
        `FunctionScore`: toxicity, for instance.
    column : str, default="text"
        The text, for the named metrics.
    band : {"low", "medium", "high"}, default="high"
        Which part of the range.
    keep_fraction : float, default=0.5
        Share kept.

    Returns
    -------
    StaticPruner
        Not fitted yet.

    Examples
    --------
    >>> rows = [{"text": "no no no"}, {"text": "one two three"}]
    >>> active_inheritance("lexical-diversity").fit_transform(rows)
    [{'text': 'one two three'}]
    """
    if isinstance(metric, str):
        metric = METRICS[check_choice("active_inheritance", "metric", metric, METRICS)](column)
    return StaticPruner(FunctionScore(metric), _band(band, keep_fraction, owner="active_inheritance"))


class _TextMetric:
    """A metric of each text of a column; a class, so that recipes can be pickled."""

    def __init__(self, column: str) -> None:
        self.column = column

    def __call__(self, rows: Any) -> list[float]:
        if not hasattr(rows, "keys"):
            texts = read_column(rows, self.column)
        elif self.column in rows:  # a batch of a `datasets.Dataset`
            texts = rows[self.column]
        else:
            raise DataError(f"There is no column {self.column!r}, only {', '.join(map(repr, rows))}.")
        return [self.of(text.lower().split()) for text in texts]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.column!r})"

    def of(self, words: list[str]) -> float:
        raise NotImplementedError


class _Length(_TextMetric):
    def of(self, words: list[str]) -> float:
        return float(len(words))


class _LexicalDiversity(_TextMetric):
    def of(self, words: list[str]) -> float:
        return len(set(words)) / max(1, len(words))


METRICS: dict[str, type[_TextMetric]] = {"length": _Length, "lexical-diversity": _LexicalDiversity}
"""Named metrics of `active_inheritance`."""


def _band(band: str, keep_fraction: float, *, owner: str) -> Selector:
    check_fraction(owner, "keep_fraction", keep_fraction)
    selectors: dict[str, Selector] = {
        "low": BothEnds(hard_fraction=0.0, keep_fraction=keep_fraction),
        "medium": ScoreWindow(offset_fraction=max(0.0, (1 - keep_fraction) / 2), keep_fraction=keep_fraction),
        "high": TopK(keep_fraction=keep_fraction),
    }
    return selectors[check_choice(owner, "band", band, selectors)]
