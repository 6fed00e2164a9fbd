"""The contract of a `Selector`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from dataprune.errors import InvalidValueError
from dataprune.selection.base import Selector
from dataprune.testing.common import check_estimator, must_raise, require, unchanged_random_state

INF, NAN = float("inf"), float("nan")
HARD_SCORES: dict[str, list[float]] = {
    "ties": [1.0, 1.0, 2.0, 2.0, 2.0, 0.0],
    "constants": [0.1] * 7,
    "zeros": [0.0] * 5,
    "negatives": [-3.0, -1.0, -2.0, -1.0],
    "huge": [1.7e308, -1.7e308, 0.0, 5e-324],
    "one inf": [1.0, INF, 0.0, 2.0],
    "all inf": [INF] * 4,
    "both infs": [-INF, INF, -INF, 0.0, INF],
    "all -inf": [-INF] * 3,
    "one NaN": [0.5, NAN, 0.7, 0.1],
    "all NaN": [NAN] * 5,
    "NaN and infs": [NAN, INF, NAN, -INF, 1.0, NAN],
    "one": [0.5],
    "none": [],
}
"""Score vectors that have broken selections elsewhere."""


def check_selector(selector: Selector, *, ranked: bool = False) -> None:
    """Raise unless `selector` keeps the contract of a `Selector`.

    Checked: `clone` and ``repr``; asked n, got n, for every n and scores with ties, constants,
    infinities and NaN, float32 and float64, one class or several; indices sorted, unique, in range, with one finite
    weight each; inputs and the global random state stay as they are; the seed alone decides; never-seen examples first,
    where scores are used and no class or group stands before them; weights that claim to undo the choice do. A budget
    that breaks a promise of the selector may be refused with the number it must have at least, and that one is kept.

    Parameters
    ----------
    selector : Selector
        With the parameters to check; it is cloned, never changed.
    ranked : bool, default=False
        Whether it keeps the examples of the highest rank; then also: a smaller budget keeps a subset, a constant added
        to all scores changes nothing, and permuted examples give the permuted selection.

    Raises
    ------
    AssertionError
        If a rule is broken.

    Examples
    --------
    >>> from dataprune import TopK, WeightedK
    >>> check_selector(TopK(), ranked=True)
    >>> check_selector(WeightedK())
    """
    name = check_estimator(selector, Selector)
    for what, values in HARD_SCORES.items():
        with np.errstate(over="ignore"):
            kinds = {"": np.array(values), " in float32": np.array(values).astype(np.float32)}
        for kind, array in kinds.items():
            for columns in (alike(len(values)), known(len(values))):
                for n_keep in range(len(values) + 1):
                    _check_selection(
                        selector, array, columns, n_keep, f"{name}.fit() on {what}{kind} with n_keep={n_keep}"
                    )
    scores = np.random.default_rng(0).normal(size=40)
    some = clone(selector).set_params(keep_fraction=0.25, random_state=3).fit(scores, **known(40))
    require(len(some.indices_) == 10, f"{name}.fit() must keep 10 of 40 at 0.25, got {len(some.indices_)}")
    again = clone(selector).set_params(keep_fraction=0.25, random_state=3).fit(scores, **known(40))
    require(
        np.array_equal(some.indices_, again.indices_) and np.array_equal(some.weights_, again.weights_),
        f"{name}.fit() must choose the same with the same random_state",
    )
    must_raise(
        "at most 40", f"{name}.fit() with a budget above the data", clone(selector).fit, scores, n_keep=41, **known(40)
    )
    for value in (0.0, 1.5, "half"):
        broken = clone(selector).set_params(keep_fraction=value)
        must_raise("(0, 1]", f"{name}.fit() with keep_fraction={value!r}", broken.fit, scores, **known(40))
    if ranked:
        _check_ranked(selector, scores, name)
    if selector.reweighs:
        _check_weights(selector, name)


def alike(n_examples: int) -> dict[str, NDArray[Any]]:
    """Return columns that give no example a privilege: one class, one cost, each example a group of its own."""
    return {
        "labels": np.zeros(n_examples, np.int64),
        "groups": np.arange(n_examples),
        "features": np.random.default_rng(n_examples).normal(size=(n_examples, 5)),
        "cost": np.ones(n_examples),
    }


def known(n_examples: int) -> dict[str, NDArray[Any]]:
    """Return made-up labels, groups, features and costs, for selectors that look at them."""
    rng = np.random.default_rng(n_examples)
    return {
        "labels": rng.integers(3, size=n_examples),
        "groups": rng.integers(4, size=n_examples),
        "features": rng.normal(size=(n_examples, 5)),
        "cost": rng.integers(1, 9, size=n_examples),
    }


def _check_selection(
    selector: Selector, scores: NDArray[np.floating[Any]], columns: dict[str, NDArray[Any]], n_keep: int, what: str
) -> None:
    fresh = clone(selector).set_params(random_state=0)
    given, given_columns = scores.copy(), {key: column.copy() for key, column in columns.items()}
    with unchanged_random_state(what):
        try:
            returned = fresh.fit(given, n_keep=n_keep, **given_columns)
        except InvalidValueError as error:
            n_least = re.search(r"n_keep must be at least (\d+)", str(error))
            if n_least is None or not n_keep < int(n_least[1]) <= len(scores):
                raise AssertionError(f"{what} was refused: {error}") from None
            clone(fresh).fit(given, n_keep=int(n_least[1]), **given_columns)
            return
    require(returned is fresh, f"{what} must return the selector itself")
    require(given.tobytes() == scores.tobytes(), f"{what} must not change its scores")
    for key, column in columns.items():
        require(np.array_equal(given_columns[key], column), f"{what} must not change its {key}")
    indices, weights = fresh.indices_, fresh.weights_
    require(len(indices) == n_keep, f"{what} must keep {n_keep}, got {len(indices)}")
    require(indices.dtype == np.int64, f"{what} must give int64 indices, got {indices.dtype}")
    require(bool((np.diff(indices) > 0).all()), f"{what} must give sorted, unique indices, got {indices}")
    in_range = n_keep == 0 or (indices[0] >= 0 and indices[-1] < len(scores))
    require(bool(in_range), f"{what} must give indices of its scores, got {indices}")
    require(
        weights.shape == indices.shape and weights.dtype == np.float32 and bool(np.isfinite(weights).all()),
        f"{what} must give one finite float32 weight per index, got {weights}",
    )
    require(np.array_equal(np.flatnonzero(fresh.get_support()), indices), f"{what} must agree with get_support()")
    if n_keep == len(scores) // 2:
        again = clone(fresh).fit(given, n_keep=n_keep, **given_columns)
        require(
            np.array_equal(again.indices_, indices) and np.array_equal(again.weights_, weights),
            f"{what} must choose the same with the same random_state",
        )
    no_privilege = len(set(columns["labels"].tolist())) <= 1 and len(set(columns["groups"].tolist())) == len(scores)
    if fresh.uses_scores and no_privilege:
        unseen = np.isnan(scores)
        require(
            int(unseen[indices].sum()) == min(n_keep, int(unseen.sum())),
            f"{what} must keep never-seen examples first, got {indices}",
        )


def _check_ranked(selector: Selector, scores: NDArray[np.float64], name: str) -> None:
    def kept(values: NDArray[np.float64], n_keep: int, order: NDArray[np.int64] | None = None) -> set[int]:
        order = np.arange(40) if order is None else order
        columns = {key: column[order] for key, column in known(40).items()}
        return set(clone(selector).set_params(random_state=0).fit(values, n_keep=n_keep, **columns).indices_.tolist())

    tied = np.round(scores, 1)
    for values in (scores, tied, np.where(np.arange(40) % 7 == 0, NAN, tied)):
        for n_keep in range(40):
            require(
                kept(values, n_keep) <= kept(values, n_keep + 1),
                f"{name}.fit() must keep a subset when the budget shrinks from {n_keep + 1} to {n_keep}",
            )
    exact = np.round(scores * 1024)  # whole numbers: adding one loses nothing
    order = np.random.default_rng(1).permutation(40)
    for n_keep in (1, 13, 39):
        require(
            kept(exact, n_keep) == kept(exact + 4096, n_keep),
            f"{name}.fit() must not change when a constant is added to all scores",
        )
        require(
            {int(order[i]) for i in kept(scores[order], n_keep, order)} == kept(scores, n_keep),
            f"{name}.fit() must permute its selection with the examples",
        )


def _check_weights(selector: Selector, name: str) -> None:
    rng = np.random.default_rng(0)
    gradients, scores = rng.normal(size=(20, 4)), rng.gamma(1.0, size=20)
    means = np.empty((2000, 4))
    fresh = clone(selector)
    for draw in range(len(means)):
        fresh.set_params(random_state=[1, draw]).fit(scores, n_keep=8, **known(20))
        means[draw] = fresh.weights_.astype(np.float64) @ gradients[fresh.indices_] / 8
    off = np.linalg.norm(means.mean(0) - gradients.mean(0))
    allowed = 3 * np.sqrt(means.var(0).sum() / len(means))
    require(off <= allowed, f"{name}'s weights must undo its choice: the mean gradient is off by {off}, not {allowed}")
