"""What selectors that wrap another selector have in common."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.selection.base import Candidates, Seed, Selection, Selector
from dataprune.selection.columns import has_several
from dataprune.selection.ranked import TopK


class SelectorWrapper(Selector):
    """A selector that leaves the choice to another one and adds a rule of its own.

    The inner one is copied, seeded from the wrapper's own generator and given its share of the budget; what it says of
    never-seen examples, ties and weights holds. It has no budget and no seed of its own.

    Parameters
    ----------
    selector : Selector, optional
        Who chooses; by default `TopK`.
    keep_fraction : float, default=1.0
        Share of the examples kept, in (0, 1], when `fit` is not told ``n_keep``.
    random_state : int, sequence of int or None, default=None
        Seed of the inner selector; None draws anew each time.
    """

    names_rows: ClassVar[bool] = False
    """Whether a parameter holds row numbers of the full data set: such a wrapper cannot be inside another."""

    def __init__(
        self, selector: Selector | None = None, *, keep_fraction: float = 1.0, random_state: Seed = None
    ) -> None:
        super().__init__(keep_fraction=keep_fraction, random_state=random_state)
        self.selector = selector

    @property
    def uses_scores(self) -> bool:  # type: ignore[override]
        """Whether the inner selector looks at the scores."""
        return self._inner.uses_scores

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Keywords of `fit` that the wrapper or the inner selector cannot do without."""
        return self._own_needs() | self._inner.needs

    @property
    def takes_several(self) -> frozenset[str]:  # type: ignore[override]
        """Columns that may hold several values per example, for the wrapper or the inner selector."""
        return self._inner.takes_several

    @property
    def reweighs(self) -> bool:
        """Whether the weights undo the choice, as those of the inner selector do."""
        return self._inner.reweighs

    def _own_needs(self) -> frozenset[str]:
        return frozenset()

    @property
    def _inner(self) -> Selector:
        inner = TopK() if self.selector is None else self.selector
        if not isinstance(inner, Selector):
            raise InvalidTypeError(f"{type(self).__name__}.selector must be a Selector, got {inner!r}.")
        return inner

    def _check_parameters(self) -> None:
        owner, inner = type(self).__name__, self._inner
        for name, default in (("keep_fraction", 1.0), ("random_state", None)):
            if (value := getattr(inner, name)) != default:
                raise InvalidValueError(
                    f"{type(inner).__name__}.{name} must be left out inside {owner}, got {value!r}. Set it on {owner}."
                )
        if isinstance(inner, SelectorWrapper) and inner.names_rows:
            raise InvalidValueError(
                f"{owner}.selector must not be a {type(inner).__name__}, whose row numbers are those of the full "
                f"data set. Wrap the other way round: {type(inner).__name__}({owner}(...), ...)."
            )
        inner.check()

    def _choose_unseen_first(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        return self._choose_some(candidates, n_keep, rng)  # the rule first; inside it the inner one puts unseen first

    def _fit_inner(self, candidates: Candidates, n_keep: int, rng: np.random.Generator) -> Selection:
        """Let a copy of the inner selector choose."""
        inner = copy(self._inner)  # shallow: a fit changes no parameter, and `clone` takes longer than a small choice
        inner.random_state = int(rng.integers(2**63))
        inner.fit(
            candidates.scores,
            candidates.labels,
            n_keep=n_keep,
            groups=candidates.groups,
            features=candidates.features,
            cost=candidates.cost,
        )
        return inner.indices_, inner.weights_

    def _fill_up(
        self,
        candidates: Candidates,
        certain: NDArray[np.int64],
        weights: NDArray[np.float32],
        n_keep: int,
        rng: np.random.Generator,
    ) -> Selection:
        """Keep the certain rows, and let the inner selector choose the rest of the budget among the others."""
        is_free = np.ones(len(candidates), bool)
        is_free[certain] = False
        free = np.flatnonzero(is_free)
        n_fill = n_keep - len(certain)
        fill, fill_weights = np.zeros(0, np.int64), np.zeros(0, np.float32)
        if n_fill > 0:
            fill, fill_weights = self._fit_inner(candidates.take(free), n_fill, rng)
        if self.reweighs:
            # The certain rows stand for themselves, however they were chosen, and the others for all that are left.
            per_row = n_keep / len(candidates)
            weights = np.full(len(certain), per_row, np.float32)
            fill_weights = (fill_weights * (per_row * len(free) / max(n_fill, 1))).astype(np.float32)
        return np.concatenate([certain, free[fill]]), np.concatenate([weights, fill_weights])


def class_numbers(owner: str, by: str, column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the sorted distinct values of a column, and which of them each row has.

    Parameters
    ----------
    owner : str
        Class that a message names.
    by : str
        Column that a message names.
    column : ndarray, shape (n,)
        One value per row.

    Returns
    -------
    values : ndarray, shape (n_classes,)
        Sorted.
    number : ndarray of int64, shape (n,)
        In [0, n_classes).

    Raises
    ------
    InvalidValueError
        If there is not one value per row.
    InvalidTypeError
        If the values cannot be sorted.

    Examples
    --------
    >>> class_numbers("ClassBalanced", "labels", np.array(["b", "a", "b"]))
    (array(['a', 'b'], dtype='<U1'), array([1, 0, 1]))
    """
    if has_several(column):
        got = f"the shape {column.shape}" if column.ndim != 1 else "several"
        raise InvalidValueError(
            f"{owner}.fit() needs {by} with one value per example, got {got}. "
            "For examples with several values pass the one that matters, such as the rarest, or take ClassFloor."
        )
    try:
        values, numbers = np.unique(column, return_inverse=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in column})
        raise InvalidTypeError(f"{owner}.fit() needs {by} of one kind, got {' and '.join(kinds)}.") from None
    return values, numbers.astype(np.int64, copy=False)
