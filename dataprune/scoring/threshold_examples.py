"""Threshold examples: mislabelled on purpose, they show which AUM a mislabelled example has."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataprune.errors import InvalidValueError, check_count, check_numbers


class ThresholdExamples(NamedTuple):
    """Labels with an extra, made-up class, and the examples that got it.

    Attributes
    ----------
    labels : ndarray of int64, shape (n_examples,)
        The labels to train on; the extra class is `n_classes`, so the model needs ``n_classes + 1`` outputs.
    indices : ndarray of int64, shape (n_threshold,)
        The threshold examples, sorted.
    """

    labels: NDArray[np.int64]
    indices: NDArray[np.int64]


class AUMCutoff(NamedTuple):
    """Where the AUM of mislabelled examples ends, and which examples lie below.

    Attributes
    ----------
    cutoff : float
        Percentile of the threshold examples' AUM.
    suspects : ndarray of int64, shape (n_suspects,)
        Examples at or below the cut-off, the most suspicious first; no threshold examples.
    """

    cutoff: float
    suspects: NDArray[np.int64]


def make_threshold_examples(
    labels: ArrayLike, *, n_classes: int, part: int = 0, random_state: int = 0
) -> ThresholdExamples:
    """Give a random n_examples / (n_classes + 1) of the examples to a class that does not exist.

    Train on the new labels with `AUM`: no image or text supports the extra class, so its examples behave as mislabelled
    ones do. A threshold example cannot be judged itself; a second run with ``part=1``, whose threshold examples are
    others, judges it.

    Parameters
    ----------
    labels : array-like of int, shape (n_examples,)
        Class ids in [0, n_classes); stays as it is.
    n_classes : int
        Classes of the data, without the extra one.
    part : int, default=0
        Which of the ``n_classes + 1`` disjoint sets of threshold examples.
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    ThresholdExamples
        New labels, and the indices of the threshold examples.

    Raises
    ------
    InvalidTypeError
        If `n_classes` or `part` is no whole number.
    InvalidValueError
        If a label is no class, `part` is out of range, or there are fewer examples than classes.

    References
    ----------
    Pleiss et al. 2020, *Identifying Mislabeled Data using the Area Under the Margin Ranking*, section 3.2, arXiv
    2001.10528. The authors' code divides by `n_classes` and also uses two disjoint sets in two runs.

    Examples
    --------
    >>> labels, indices = make_threshold_examples([0, 1, 0, 1, 0, 1, 0, 1, 0], n_classes=2)
    >>> labels[indices], len(indices)
    (array([2, 2, 2]), 3)
    """
    owner = "make_threshold_examples()"
    given = np.asarray(labels)
    n_classes = check_count(owner, "n_classes", n_classes, minimum=2)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not ((given >= 0) & (given < n_classes)).all():
        raise InvalidValueError(f"{owner} needs integer labels of shape (n_examples,) in [0, {n_classes}).")
    part = check_count(owner, "part", part)
    check_count(owner, "random_state", random_state)
    if part > n_classes:
        raise InvalidValueError(f"{owner}.part must be in [0, {n_classes}], got {part}.")
    n_threshold = len(given) // (n_classes + 1)
    if n_threshold == 0:
        raise InvalidValueError(f"{owner} needs at least {n_classes + 1} examples, got {len(given)}.")
    # [random_state] alone would repeat the draw of whoever planted noise or split the data with the same seed.
    order = np.random.default_rng([random_state, n_classes, 31]).permutation(len(given))
    indices = np.sort(order[part * n_threshold : (part + 1) * n_threshold])
    new = given.astype(np.int64)
    new[indices] = n_classes
    return ThresholdExamples(new, indices)


def aum_cutoff(aum: ArrayLike, threshold_indices: ArrayLike, *, percentile: float = 99.0) -> AUMCutoff:
    """Say which examples are probably mislabelled: those whose AUM is that of a threshold example or lower.

    Parameters
    ----------
    aum : array-like of float, shape (n_examples,)
        ``AUM().aum_`` of a run on the labels of `make_threshold_examples`; NaN (never seen) is no suspect.
    threshold_indices : array-like of int
        Their `indices`.
    percentile : float, default=99.0
        Percentile of the threshold examples' AUM that is the cut-off, in [0, 100]; the paper's is 99.

    Returns
    -------
    AUMCutoff
        The cut-off and the suspects.

    Raises
    ------
    InvalidValueError
        If there are no threshold examples, one was never seen, or `percentile` is out of range.

    References
    ----------
    Pleiss et al. 2020, section 3.2, arXiv 2001.10528.

    Examples
    --------
    >>> aum_cutoff([3.0, -1.0, 2.0, -0.5, -0.7], [1, 3])
    AUMCutoff(cutoff=-0.505, suspects=array([4]))
    """
    values = check_numbers("aum_cutoff()", "aum", aum)
    rows = check_numbers("aum_cutoff()", "threshold_indices", threshold_indices, np.int64)
    if not isinstance(percentile, Real) or not 0.0 <= percentile <= 100.0:
        raise InvalidValueError(f"aum_cutoff().percentile must be in [0, 100], got {percentile!r}.")
    if len(rows) and not (rows.min() >= 0 and rows.max() < len(values)):
        raise InvalidValueError(
            f"aum_cutoff().threshold_indices must be in [0, {len(values)}), got {rows.min()} to {rows.max()}."
        )
    if not len(rows) or np.isnan(values[rows]).any():
        raise InvalidValueError("aum_cutoff() needs threshold examples that were all seen. Train on all examples.")
    cutoff = float(np.percentile(values[rows], percentile))
    below = values <= cutoff  # NaN is not
    below[rows] = False
    suspects = np.flatnonzero(below)
    return AUMCutoff(cutoff, suspects[np.argsort(values[suspects], kind="stable")])
