"""Selectors that keep the examples of the highest rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataprune.selection.base import Selector


class TopK(Selector):
    """The hardest examples.

    The plain choice of the seed paper. Drops easy examples only; keeps mislabelled ones, which look hard: with more
    than a few percent of label noise prefer a draw (`WeightedK`). O(n).

    Parameters
    ----------
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : None, default=None
        Not used: there is nothing to draw.

    Attributes
    ----------
    indices_ : ndarray of int64, shape (n_kept,)
        Kept rows, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        All 1.

    Notes
    -----
    Ties keep the lower index; never-seen examples (NaN) come first. A smaller budget keeps a subset.

    References
    ----------
    Paul, Ganguli and Dziugaite 2021, arXiv 2107.07075; Attendu and Corbeil 2023, arXiv 2306.03208.

    Examples
    --------
    >>> TopK(keep_fraction=0.5).fit([0.1, 0.9, 0.5, 0.9]).indices_
    array([1, 3])
    """

    def _choose(
        self,
        scores: NDArray[np.float64],
        n_keep: int,
        rng: np.random.Generator,  # noqa: ARG002
    ) -> NDArray[np.int64]:
        last_kept = np.partition(scores, -n_keep)[-n_keep]
        above = np.flatnonzero(scores > last_kept)
        ties = np.flatnonzero(scores == last_kept)
        return np.concatenate([above, ties[: n_keep - len(above)]])
