"""Draws without replacement among very many rows: exact counts, in passes over chunks, without a sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.selection._threshold import SHORT, chunks

_N_KEYS = 256  # of a random byte per row
_N_SAMPLE = 1 << 18
_BAND = 0.01  # how far a guess of the level may be off; farther costs another pass
_CERTAIN = 1 - 1e-10  # a probability so near to 1 counts as 1, or rounding could put two points into it


def draw_within(
    n_rows: int,
    stratum_of: Callable[[slice], NDArray[Any]],
    n_strata: int,
    share_out: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw uniformly inside each stratum, with as many from each as `share_out` says.

    Each row gets a random byte. In each stratum the rows below a threshold are in, and a fresh draw decides among those
    on it: exactly uniform, whatever the byte's resolution. Two passes; memory of a byte per row.

    Parameters
    ----------
    n_rows : int
        Rows.
    stratum_of : callable
        ``stratum_of(rows)`` gives the stratum, in [0, n_strata), of each row of a slice; called twice in the same
        order.
    n_strata : int
        Strata; some may be empty.
    share_out : callable
        ``share_out(sizes)`` gives how many rows of each stratum to draw.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        Drawn rows.

    Examples
    --------
    >>> mask = draw_within(6, lambda rows: np.arange(6)[rows] % 2, 2, lambda sizes: sizes - 2, np.random.default_rng(0))
    >>> mask[::2].sum(), mask[1::2].sum()
    (np.int64(1), np.int64(1))
    """
    state = rng.bit_generator.state
    counts = np.zeros(n_strata * _N_KEYS, np.int64)
    for rows in chunks(n_rows):
        cells = stratum_of(rows).astype(np.int64) * _N_KEYS
        cells += _random_bytes(rows, rng)
        counts += np.bincount(cells, minlength=len(counts))
    per_key = counts.reshape(n_strata, _N_KEYS)
    n_draw = share_out(per_key.sum(1))
    n_up_to = np.cumsum(per_key, 1)
    threshold = (n_up_to < n_draw[:, None]).sum(1)  # all bytes below it are in, and some of those on it
    n_below = np.where(threshold > 0, np.take_along_axis(n_up_to, np.maximum(threshold - 1, 0)[:, None], 1)[:, 0], 0)
    n_on_it = n_draw - n_below
    limit_of = threshold.astype(np.uint8)
    rng.bit_generator.state = state  # the same bytes again
    mask = np.empty(n_rows, bool)
    on_it: list[NDArray[np.int64]] = []
    strata_on_it: list[NDArray[Any]] = []
    for rows in chunks(n_rows):
        strata, keys = stratum_of(rows), _random_bytes(rows, rng)
        limits = limit_of[strata]
        np.less(keys, limits, out=mask[rows])
        here = np.flatnonzero(keys == limits)
        on_it.append(here + rows.start)
        strata_on_it.append(strata[here])
    if on_it:
        mask[_draw_some(np.concatenate(on_it), np.concatenate(strata_on_it), n_on_it, rng)] = True
    return mask


def draw_by_odds(
    n_rows: int,
    odds_of: Callable[[slice], NDArray[np.float64]],
    n_draw: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw without replacement, one after the other, with the odds of each row among those that are left.

    The exponential keys of Efraimidis and Spirakis: the rows with the smallest ``-log(u) / odds`` are in. The threshold
    is found by a histogram over the keys' bits, and the keys are drawn twice rather than kept.

    Parameters
    ----------
    n_rows : int
        Rows.
    odds_of : callable
        ``odds_of(rows)`` gives the odds of each row of a slice: inf is certain, 0 is out, others lie in [1e-300, 1].
        Called twice in the same order.
    n_draw : int
        At most the number of rows whose odds are above 0, and at least that of rows whose odds are infinite.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        Drawn rows.

    Examples
    --------
    >>> draw_by_odds(3, lambda rows: np.array([0.0, 1.0, np.inf])[rows], 2, np.random.default_rng(0))
    array([False,  True,  True])
    """
    if n_draw == 0:
        return np.zeros(n_rows, bool)
    # The bits of a positive float64 are in its own order; the upper 16 tell a key to 1/16 of itself. No key of an
    # exponential draw has more than a fortieth of its mass in so narrow a bin, so few rows are left on the threshold.
    state = rng.bit_generator.state
    counts = np.zeros(1 << 15, np.int64)
    for rows in chunks(n_rows):
        counts += np.bincount(_keys(odds_of(rows), rng).view(np.int64) >> 48, minlength=len(counts))
    up_to = np.cumsum(counts)
    threshold = int(np.searchsorted(up_to, n_draw))
    n_on_it = n_draw - int(up_to[threshold] - counts[threshold])
    rng.bit_generator.state = state  # the same keys again
    mask = np.empty(n_rows, bool)
    on_it: list[NDArray[np.int64]] = []
    keys_on_it: list[NDArray[np.float64]] = []
    for rows in chunks(n_rows):
        keys = _keys(odds_of(rows), rng)
        bins = keys.view(np.int64) >> 48
        np.less(bins, threshold, out=mask[rows])
        here = np.flatnonzero(bins == threshold)
        on_it.append(here + rows.start)
        keys_on_it.append(keys[here])
    smallest = np.argpartition(np.concatenate(keys_on_it), n_on_it - 1)[:n_on_it]
    mask[np.concatenate(on_it)[smallest]] = True
    return mask


def draw_systematically(
    scores: NDArray[np.floating[Any]],
    odds: Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]],
    n_draw: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], float]:
    """Draw so that each row is in with exactly the probability ``min(1, odds / certain_from)``.

    The probabilities are laid end to end, in a random order, and the rows on which one of the points start, start + 1,
    start + 2, ... lies are in. The order is one of the chunks, and one inside each chunk.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Scores.
    odds : callable
        ``odds(scores)`` gives a new array of at least 0 for some of the scores; inf or NaN is certain.
    n_draw : int
        At least the rows that are certain, and at most those whose odds are not 0.
    rng : numpy.random.Generator
        Source of the draw.

    Returns
    -------
    mask : ndarray of bool, shape (n,)
        Drawn rows.
    certain_from : float
        Odds from which on a row is certain.

    Examples
    --------
    >>> mask, certain_from = draw_systematically(np.array([3.0, 1.0, 1.0]), np.copy, 2, np.random.default_rng(0))
    >>> mask.sum(), certain_from
    (np.int64(2), 2.0)
    """
    certain_from, totals, n_certain = _water_level(scores, odds, n_draw)
    counts, offsets = _points_per_chunk(totals, n_draw - n_certain, rng)
    mask = np.empty(len(scores), bool)
    for rows, n_points, offset in zip(chunks(len(scores), SHORT), counts.tolist(), offsets.tolist(), strict=True):
        here = odds(scores[rows])
        is_open = here < certain_from * _CERTAIN
        np.logical_not(is_open, out=mask[rows])
        if n_points > 0:
            shuffled = np.flatnonzero(is_open)[_random_order(int(np.count_nonzero(is_open)), rng)]
            reached = np.cumsum(here[shuffled])
            reached /= certain_from
            reached += offset
            np.floor(reached, out=reached)
            np.minimum(reached, n_points, out=reached)
            reached[-1] = n_points  # rounding may not lose a point, nor add one
            mask[rows][shuffled[1:][reached[1:] > reached[:-1]]] = True
            mask[rows][shuffled[0]] = reached[0] > 0
    return mask, certain_from


def _water_level(
    scores: NDArray[np.floating[Any]],
    odds: Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]],
    n_draw: int,
) -> tuple[float, NDArray[np.float64], int]:
    """Return the odds from which on a row is certain, the odds of the others in each chunk, and how many are certain.

    ``sum(min(1, odds / level)) = n_draw``. A sample tells roughly where the level is. A pass over all rows sums up what
    is below a band around it, counts what is above, and leaves only the rows of the band in question. If the level is
    not in the band it is the next guess: a step of Newton's method, which converges from wherever it starts.
    """
    lowest, highest, stride = 0.0, np.inf, len(scores) // _N_SAMPLE
    if stride > 1:
        sample = scores[::stride]
        level, _, _ = _water_level(sample, odds, max(1, n_draw * len(sample) // len(scores)))
        lowest, highest = level * (1 - _BAND), level * (1 + _BAND)
    while True:
        totals, n_above, bands = [], 0, []
        for rows in chunks(len(scores), SHORT):
            here = odds(scores[rows])
            is_below, is_not_above = here < lowest, here < highest  # NaN is above
            totals.append(np.where(is_below, here, 0.0).sum())
            n_above += len(here) - int(np.count_nonzero(is_not_above))
            bands.append(here[is_not_above & ~is_below])
        level, n_certain = _level_in_band(np.concatenate(bands), float(sum(totals)), n_draw - n_above)
        if lowest <= level * _CERTAIN and level <= highest:
            break
        lowest, highest = level * (1 - _BAND), level * (1 + _BAND)
    in_bands = [band[band < level * _CERTAIN].sum() for band in bands]
    is_rest = n_above + n_certain < n_draw  # or the odds of all others are nothing beside the certain ones
    return level, (np.array(totals) + in_bands) * is_rest, n_above + n_certain


def _level_in_band(band: NDArray[np.float64], below: float, n_draw: int) -> tuple[float, int]:
    """Descend to the level by Newton's method, which ends there: the sum is piecewise linear in the level's inverse.

    Returns the level, outside of the band if it is not in it, and how many of the band lie above.
    """
    level, n_certain = np.inf, 0
    while n_certain < n_draw:
        level = (below + float(band[band < level * _CERTAIN].sum())) / (n_draw - n_certain)
        n_now = int(np.count_nonzero(band >= level * _CERTAIN))
        if n_now == n_certain:
            return level, n_certain
        n_certain = n_now
    return min(level, float(np.finfo(np.float64).max)), n_certain


def _points_per_chunk(
    totals: NDArray[np.float64], n_points: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lay the chunks end to end in a random order; return the points in each, and what the one before left over."""
    order = rng.permutation(len(totals))
    ends = np.cumsum(totals[order])
    ends *= n_points / ends[-1] if ends[-1] > 0 else 0.0
    ends[-1] = n_points
    begins = np.concatenate([[0.0], ends[:-1]])
    start = rng.random()
    counts, offsets = np.empty(len(totals), np.int64), np.empty(len(totals))
    counts[order] = np.floor(ends + start) - np.floor(begins + start)
    offsets[order] = (begins + start) % 1
    return counts, offsets


def _random_order(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    # By 16 random bits each, which numpy sorts by radix: half the time of a shuffle. That rows with the same bits stay
    # in their order changes no probability, for the points start at random.
    return np.argsort(rng.integers(1 << 16, size=n, dtype=np.uint16), kind="stable")


def _random_bytes(rows: slice, rng: np.random.Generator) -> NDArray[np.uint8]:
    drawn: NDArray[np.uint8] = rng.integers(_N_KEYS, size=rows.stop - rows.start, dtype=np.uint8)
    return drawn


def _keys(odds: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    keys = rng.standard_exponential(len(odds))
    np.maximum(keys, np.finfo(np.float64).tiny, out=keys)  # 0 / 0 would be no number
    with np.errstate(divide="ignore"):
        keys /= odds
    return keys


def _draw_some(
    rows: NDArray[np.int64], strata: NDArray[Any], n_draw: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `n_draw` of the rows of each stratum, uniformly."""
    shuffled = rng.permutation(len(rows))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    sizes = np.bincount(strata, minlength=len(n_draw))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn: NDArray[np.int64] = rows[order[place < np.repeat(n_draw, sizes)]]
    return drawn
