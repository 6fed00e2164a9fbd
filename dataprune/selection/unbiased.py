"""Selectors whose loss weights undo the choice: the mean weighted gradient is, on average, that of all examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidValueError, check_positive, check_share
from dataprune.selection._drawing import draw_systematically, draw_within
from dataprune.selection._threshold import SHORT, chunks, finite_range, kth_largest, rows_of
from dataprune.selection.base import Candidates, Seed, Selection, Selector


class SoftPrune(Selector):
    """Drops some of the easy examples at random, and weighs those that are left of them for all (InfoBatch).

    For a mild cut (a half is kept, or more) that leaves the expected gradient as it is. O(n).

    Parameters
    ----------
    max_weight : float or None, default=2.0
        Above 1. Where a weight would pass it, the group that is drawn from grows by the next scores; with None it does
        so only where nothing of it would be left, as in InfoBatch.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        ``n_kept / n_examples``, times size / kept for the group that was drawn from; at most `max_weight`, unless
        never-seen examples take most of the budget.

    Notes
    -----
    The group is what scores below the mean (of the finite scores); of it, as many rows as the budget asks are dropped,
    by a uniform draw. InfoBatch drops a share r of the group and weighs the rest of it 1 / (1 - r) and others 1; those
    weights times ``n_kept / n_examples`` are these, so that their mean over a batch, and not their sum over an epoch,
    is right: ``E[mean(w g)]`` over the kept is the mean gradient over all. Where the group is so small that a weight
    would pass `max_weight`, it grows by the next scores above, ties whole, up to all rows: then it is a uniform draw
    with weights 1. An example that was never seen (NaN) is never dropped, so that where these leave little of the
    budget the few others weigh more; only where there are more of them than the budget holds is the draw among them,
    with weights 1, and stands for them alone.

    References
    ----------
    Qin et al. 2024, *InfoBatch*, arXiv 2303.04947. There the count is what r gives; here r is what the count gives. In
    their code rounding decides whether equal scores lie below their own mean.

    Examples
    --------
    >>> selector = SoftPrune(random_state=0).fit([0.0, 0.0, 0.0, 0.0, 1.0, 1.0], n_keep=4)
    >>> selector.weights_
    array([1.3333334, 1.3333334, 0.6666667, 0.6666667], dtype=float32)
    """

    def __init__(
        self, *, max_weight: float | None = 2.0, keep_fraction: float = 1.0, random_state: Seed = None
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.max_weight = max_weight

    @property
    def reweighs(self) -> bool:
        """Whether the loss weights undo the choice: they do."""
        return True

    def _check_parameters(self) -> None:
        if self.max_weight is not None and check_positive("SoftPrune", "max_weight", self.max_weight) <= 1:
            raise InvalidValueError(f"SoftPrune.max_weight must be above 1, got {self.max_weight!r}.")

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        return self._choose_some(candidates, n_keep, rng)  # NaN is never in the group, see below

    def _choose_weighted(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        scores = candidates.scores
        n_examples, n_unseen = len(scores), int(np.count_nonzero(np.isnan(scores)))
        if n_keep <= n_unseen:
            return _draw_of_certain(scores, n_keep, rng)
        is_in_group = self._group(scores, n_keep, n_unseen)
        n_group = int(np.count_nonzero(is_in_group))
        n_left = n_keep - (n_examples - n_group)

        def share_out(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.array([sizes[0], n_left])

        kept = rows_of(draw_within(n_examples, is_in_group.view(np.int8).__getitem__, 2, share_out, rng))
        others = n_keep / n_examples
        weights = np.full(n_keep, others, np.float32)
        weights[is_in_group[kept]] = others * n_group / n_left
        return kept, weights

    def _group(self, scores: NDArray[np.floating[Any]], n_keep: int, n_unseen: int) -> NDArray[np.bool_]:
        """Return the rows below the mean, or as many more as a weight of at most `max_weight` takes."""
        n_examples = len(scores)
        lowest, highest, n_finite = finite_range(scores)
        # What lies on the mean must not fall below it by rounding.
        is_in_group = scores < _finite_mean(scores, n_finite) - 1e-12 * max(abs(lowest), abs(highest))
        n_dropped = n_examples - n_keep
        n_least = n_dropped + 1
        if self.max_weight is not None:
            n_least = math.ceil(n_dropped / (1 - n_keep / (self.max_weight * n_examples)))
        if np.count_nonzero(is_in_group) >= n_least:
            return is_in_group
        seen = scores if n_unseen == 0 else scores[~np.isnan(scores)]
        n_least = min(n_least, len(seen))
        return scores <= kth_largest(seen, len(seen) - n_least + 1)[0].value


class ImportanceSample(Selector):
    """A draw in which hard examples are likelier, with loss weights that undo it.

    With the gradient's norm as the score (`GraNd`) no other draw of that size has less variance. Other scores are right
    on average as well, with more variance. O(n).

    Parameters
    ----------
    weight_power : float, default=1.0
        Exponent of the weights, in [0, 1]: 1 undoes the draw, 0 gives weights 1.
    max_weight : float or None, default=None
        Weights are clipped here, which is no longer unbiased; by default they are not.
    uniform_fraction : float, default=0.1
        Share of the odds that all examples get alike, in [0, 1]. It keeps weights below its inverse (10), as long as
        no infinite or never-seen scores take up the budget, and gives a chance to examples of score 0; with 0 these are
        drawn only when there is nothing else.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the draw; None draws anew each time.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        ``n_kept / (n_examples * p)``, p being the probability of that row to be kept; then power and clipping.

    Notes
    -----
    p is proportional to ``(1 - uniform_fraction) * score / mean(score) + uniform_fraction``, capped at 1, where the cap
    is shared out among the others until the p add up to the budget. The draw is systematic, from a random start in a
    random order (of blocks, and inside each): each row has exactly its p, and the count is exact. With weights ``n_kept
    / (n_examples * p)``, and not 1 / p, the mean over a batch is on the scale of an ordinary one: ``E[mean(w g)]`` over
    the kept is the mean gradient over all. If there are negative scores, all are counted from the lowest. Infinite and
    never-seen (NaN) scores have p = 1; where these alone fill the budget, NaN before infinity, the draw among them is
    uniform, has weights 1, and stands for them alone. Without `uniform_fraction` an example of score 0 is lost to the
    average, which is right only if its gradient is 0 too.

    References
    ----------
    Katharopoulos and Fleuret 2018, *Not All Samples Are Created Equal*, arXiv 1803.00942 (from general knowledge, not
    read; they draw with replacement). Madow 1949 for the systematic draw.

    Examples
    --------
    >>> selector = ImportanceSample(uniform_fraction=0.0, random_state=0).fit([2.0, 1.0, 1.0, 0.0], n_keep=2)
    >>> selector.weights_  # p = 1, 1/2, 1/2, 0
    array([0.5, 1. ], dtype=float32)
    """

    def __init__(
        self,
        *,
        weight_power: float = 1.0,
        max_weight: float | None = None,
        uniform_fraction: float = 0.1,
        keep_fraction: float = 1.0,
        random_state: Seed = None,
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.weight_power = weight_power
        self.max_weight = max_weight
        self.uniform_fraction = uniform_fraction

    @property
    def reweighs(self) -> bool:
        """Whether the weights undo the draw: not with another power than 1, and not when they are clipped."""
        return self.weight_power == 1 and self.max_weight is None

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        check_share(owner, "weight_power", self.weight_power)
        if self.max_weight is not None:
            check_positive(owner, "max_weight", self.max_weight)
        check_share(owner, "uniform_fraction", self.uniform_fraction)

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        return self._choose_some(candidates, n_keep, rng)  # NaN has p = 1

    def _choose_weighted(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        scores, power, uniform = candidates.scores, float(self.weight_power), float(self.uniform_fraction)
        largest = np.inf if self.max_weight is None else float(self.max_weight)
        n_certain = int(np.count_nonzero(np.isnan(scores)) + np.count_nonzero(scores == np.inf))
        if n_keep <= n_certain:
            return _draw_of_certain(scores, n_keep, rng)
        odds = _odds(scores, n_keep - n_certain, uniform)
        mask, certain_from = draw_systematically(scores, odds, n_keep, rng)
        kept = rows_of(mask)
        weights = np.empty(n_keep, np.float32)
        for rows in chunks(n_keep, SHORT):
            here = np.fmax(certain_from / odds(scores[kept[rows]]), 1.0)  # 1 / p; of NaN and infinity it is 1
            here *= n_keep / len(scores)
            weights[rows] = np.minimum(here**power if power != 1 else here, largest)
        return kept, weights


def _draw_of_certain(scores: NDArray[np.floating[Any]], n_keep: int, rng: np.random.Generator) -> Selection:
    """Draw among what is never dropped, where it is more than the budget: unseen rows first, then infinite ones."""

    def stratum_of(rows: slice) -> NDArray[np.intp]:
        return np.where(np.isnan(scores[rows]), 2, scores[rows] == np.inf)

    def share_out(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        n_unseen = min(n_keep, int(sizes[2]))
        return np.array([0, n_keep - n_unseen, n_unseen])

    return rows_of(draw_within(len(scores), stratum_of, 3, share_out, rng)), np.ones(n_keep, np.float32)


def _odds(
    scores: NDArray[np.floating[Any]], n_open: int, uniform: float
) -> Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]]:
    """Return what gives scores their odds: at least 0, infinite or NaN if certain."""
    lowest, highest, _ = finite_range(scores)
    scale = max(abs(lowest), abs(highest), np.finfo(np.float64).tiny)  # a difference of extremes would overflow
    bottom = min(lowest, np.float64(0)) / scale

    def above_bottom(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        above: NDArray[np.float64] = values / scale
        above -= bottom
        return np.maximum(above, 0.0, out=above)  # NaN stays NaN

    total, n_positive, n_drawn_from = 0.0, 0, 0
    for rows in chunks(len(scores), SHORT):
        above = above_bottom(scores[rows])
        if not np.isfinite(here := above.sum()):
            above = above[np.isfinite(above)]
            here = above.sum()
        total += float(here)
        n_positive += int(np.count_nonzero(above))
        n_drawn_from += len(above)

    if n_positive == 0 or uniform == 1 or (uniform == 0 and n_positive <= n_open):
        # All alike; or what is above 0 is certain, and all others are alike.
        alike_up_to = np.finfo(np.float64).max if uniform == 1 else 0.0
        return lambda values: np.where(above_bottom(values) <= alike_up_to, 1.0, np.inf)
    floor = uniform / (1 - uniform) * total / n_drawn_from

    def odds(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        above: NDArray[np.float64] = values / scale
        above += floor - bottom
        return np.maximum(above, floor, out=above)

    return odds


def _finite_mean(scores: NDArray[np.floating[Any]], n_finite: int) -> float:
    total = 0.0
    for rows in chunks(len(scores)):
        here = scores[rows]
        # Divided first: a sum of extremes would overflow.
        total += float((here[np.isfinite(here)] / np.float64(max(n_finite, 1))).sum())
    return total
