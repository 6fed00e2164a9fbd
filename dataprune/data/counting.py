"""The two counts that everything must agree on: examples kept, and optimizer updates."""

from __future__ import annotations

import math


def count_to_keep(n_examples: int, keep_fraction: float) -> int:
    """Return how many examples a share of `n_examples` is: to the nearest, half up, at least 1.

    Parameters
    ----------
    n_examples : int
        Rows of the full data set.
    keep_fraction : float
        Share kept, in (0, 1].

    Returns
    -------
    int
        In [1, n_examples]; 0 only for an empty data set.

    Examples
    --------
    >>> count_to_keep(5, 0.5), count_to_keep(10, 0.01)
    (3, 1)
    """
    # Rounded to 6 decimals first: 0.145 * 100 is 14.5 on paper but 14.499999999999998 in binary, and half goes up.
    return min(n_examples, max(1, math.floor(round(n_examples * keep_fraction, 6) + 0.5)))


def count_updates(n_examples: int, batch_size: int, *, n_accumulation: int = 1, drop_last: bool = False) -> int:
    """Return how many optimizer updates one epoch makes.

    Parameters
    ----------
    n_examples : int
        Examples of the epoch.
    batch_size : int
        Examples in a batch.
    n_accumulation : int, default=1
        Batches per update; the rest of an epoch makes an update of its own.
    drop_last : bool, default=False
        Whether a last batch that is not full is dropped.

    Returns
    -------
    int
        Updates.

    Examples
    --------
    >>> count_updates(100, 32), count_updates(100, 32, n_accumulation=3)
    (4, 2)
    """
    n_batches = n_examples // batch_size if drop_last else math.ceil(n_examples / batch_size)
    return math.ceil(n_batches / n_accumulation)


def round_up_to_updates(n_keep: int, n_examples: int, batch_size: int, n_accumulation: int) -> int:
    """Return the smallest count of at least `n_keep` whose batches fill whole updates, at most `n_examples`.

    Parameters
    ----------
    n_keep : int
        Examples asked for.
    n_examples : int
        Rows of the full data set.
    batch_size : int
        Examples in a batch, over all ranks.
    n_accumulation : int
        Batches per update.

    Returns
    -------
    int
        `n_keep` itself where nothing is accumulated or its batches already fill whole updates.

    Examples
    --------
    >>> round_up_to_updates(20, 100, 8, 2), round_up_to_updates(30, 100, 8, 2), round_up_to_updates(90, 100, 8, 10)
    (25, 30, 100)
    """
    n_batches = math.ceil(n_keep / batch_size)
    n_whole = math.ceil(n_batches / n_accumulation) * n_accumulation
    return n_keep if n_whole == n_batches else min(n_examples, (n_whole - 1) * batch_size + 1)
