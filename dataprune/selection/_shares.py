"""How a number is shared out: rounding to whole rows, by size or evenly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def count_of_share(n_rows: int, share: float) -> int:
    """Return how many rows a share is: to the nearest, half up; 0 is possible.

    Parameters
    ----------
    n_rows : int
        All rows.
    share : float
        In [0, 1].

    Returns
    -------
    int
        In [0, n_rows].

    Examples
    --------
    >>> count_of_share(5, 0.5), count_of_share(10, 0.01)
    (3, 0)
    """
    # Rounded to 6 decimals first, as `count_to_keep` does: 0.145 * 100 is 14.499999999999998 in binary.
    return min(n_rows, math.floor(round(n_rows * float(share), 6) + 0.5))


def proportional_counts(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Share out `n` by size: whole parts first, then one each by the largest remainder, ties to the lower class.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n_classes,)
        Rows of each class.
    n : int
        At most their sum.

    Returns
    -------
    ndarray of int64, shape (n_classes,)
        Adds up to `n`; each within 1 of ``n * size / sum(sizes)``, and at most its size.

    Examples
    --------
    >>> proportional_counts(np.array([90, 5, 5]), 10)
    array([9, 1, 0])
    """
    total = int(sizes.sum())
    if total == 0:
        return np.zeros_like(sizes)
    counts, remainders = sizes * n // total, sizes * n % total  # whole numbers: exact
    by_remainder = np.argsort(-remainders, kind="stable")
    counts[by_remainder[: n - int(counts.sum())]] += 1
    return counts


def equal_counts(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Share out `n` evenly: a class that is too small for its share gives the rest to the others.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n_classes,)
        Rows of each class.
    n : int
        At most their sum.

    Returns
    -------
    ndarray of int64, shape (n_classes,)
        Adds up to `n`; the classes that are not used up differ by at most 1, the lower ones getting more.

    Examples
    --------
    >>> equal_counts(np.array([90, 2, 90]), 11)
    array([5, 2, 4])
    """
    ascending = np.sort(sizes)
    n_classes = len(sizes)
    # Share of each class that is left once the smaller ones are used up.
    used_up = np.concatenate([[0], np.cumsum(ascending)[:-1]]) if n_classes else ascending
    shares = (n - used_up) // np.arange(n_classes, 0, -1)
    larger = np.flatnonzero(ascending > shares)
    if len(larger) == 0:
        return sizes.copy()
    counts: NDArray[np.int64] = np.minimum(sizes, shares[larger[0]])
    counts[np.flatnonzero(sizes > counts)[: n - int(counts.sum())]] += 1
    return counts
