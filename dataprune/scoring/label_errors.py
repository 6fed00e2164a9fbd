"""Which labels are probably wrong: from the margins of a training run, or from probabilities out of sample."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dataprune.data.label_units import LabelUnits
from dataprune.errors import InvalidValueError, MissingPackageError, StateError
from dataprune.scoring.dynamics_functional import label_margin
from dataprune.scoring.store import ScoreStore
from dataprune.scoring.threshold_examples import aum_cutoff
from dataprune.scoring.uncertainty import Loss


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What was found out about each of some labels.

    Parameters
    ----------
    scores : ndarray of float32, shape (n_labels,)
        How much speaks against the label; higher = more suspicious.
    is_suspect : ndarray of bool, shape (n_labels,)
        Whether the label is probably wrong.
    suggested : ndarray of int64, shape (n_labels,)
        The likeliest other class.
    probabilities : ndarray of float32, shape (n_labels, C)
        What the models think of each class.
    cutoff : float or None
        Scores from here on are suspects; None where there is no single one.

    Examples
    --------
    >>> found = LabelErrors(np.array([0.1, 0.9]), np.array([False, True]), np.array([1, 0]), np.eye(2), None)
    >>> found.worst(1)
    array([1])
    """

    scores: NDArray[np.float32]
    is_suspect: NDArray[np.bool_]
    suggested: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    cutoff: float | None

    def worst(self, n: int) -> NDArray[np.int64]:
        """Return the most suspicious labels, the worst first.

        Parameters
        ----------
        n : int
            How many.

        Returns
        -------
        ndarray of int64, shape (n,)
            Their positions; ties keep the lower first.
        """
        return np.argsort(-self.scores, kind="stable")[:n]


class LabelMargins:
    """Margins and probabilities of many labels, averaged over the visits of a training run.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_labels,)
        The labels as they are in the data.
    n_classes : int
        Classes of the data; the model may have outputs beyond them, for threshold examples.

    Attributes
    ----------
    sums : dict of str to ndarray
        All that was taken in: ``visits`` (n_labels,), and sums over them of ``margins``, ``given_margins`` (n_labels,)
        and ``probabilities`` (n_labels, C).

    Notes
    -----
    Memory: 4 C + 20 bytes per label.

    Examples
    --------
    >>> table = LabelMargins(np.array([0, 1]), 2)
    >>> table.update(np.array([1]), torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([2]))
    >>> table.aum, table.given_aum  # the label that was trained on, and the one in the data
    (array([nan, -3.], dtype=float32), array([nan, -2.], dtype=float32))
    """

    def __init__(self, labels: NDArray[np.int64], n_classes: int) -> None:
        self._labels, self._n_classes = labels, n_classes
        n = len(labels)
        self.sums: dict[str, NDArray[Any]] = {
            "visits": np.zeros(n, np.int32),
            "margins": np.zeros(n),
            "given_margins": np.zeros(n),
            "probabilities": np.zeros((n, n_classes), np.float32),
        }

    def update(self, places: NDArray[np.int64], logits: Tensor, trained: Tensor) -> None:
        """Take in one visit of some labels.

        Parameters
        ----------
        places : ndarray of int64, shape (B,)
            Which labels; each once.
        logits : Tensor
            Shape (B, n_classes) or wider.
        trained : Tensor
            Shape (B,), the classes that the model is trained on.
        """
        z = logits.detach().float()
        real, given = z[:, : self._n_classes], torch.from_numpy(self._labels[places]).to(z.device)
        self.sums["visits"][places] += 1
        self.sums["margins"][places] += label_margin(z, trained).cpu().numpy()
        self.sums["given_margins"][places] += label_margin(real, given).cpu().numpy()
        self.sums["probabilities"][places] += real.softmax(-1).cpu().numpy()

    @property
    def aum(self) -> NDArray[np.float32]:
        """Mean margin of the class that the model was trained on; NaN = never seen."""
        return self._mean("margins")

    @property
    def given_aum(self) -> NDArray[np.float32]:
        """Mean margin of the label in the data among the classes of the data; NaN = never seen."""
        return self._mean("given_margins")

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Mean probability of each class of the data; NaN = never seen."""
        return self._mean("probabilities")

    def _mean(self, name: str) -> NDArray[np.float32]:
        sums = self.sums[name]
        visits = self.sums["visits"].reshape(-1, *[1] * (sums.ndim - 1))
        return np.where(visits > 0, sums / np.maximum(visits, 1), np.nan).astype(np.float32)


class _LabelStore(ScoreStore):
    """The losses of rows, and beside them the margins of their labels."""

    def __init__(self, n_examples: int, units: Mapping[str, LabelUnits]) -> None:
        super().__init__(n_examples)
        self.margins = {name: LabelMargins(unit.labels, len(unit.names)) for name, unit in units.items()}

    def _sums(self) -> dict[str, NDArray[Any]]:
        return {f"{name}{of}": sums for name, table in self.margins.items() for of, sums in table.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **{name: sums.copy() for name, sums in self._sums().items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = self._sums()
        super().load_state_dict({name: value for name, value in state.items() if name not in own})
        for name, sums in own.items():
            if name not in state or np.shape(state[name]) != sums.shape:
                raise StateError(f"This state holds no {name!r} of the shape {sums.shape}. Start anew.")
            sums[...] = state[name]


class LabelWatch(Loss):
    """The loss, and beside it the margins of every single label: of sentences, and of words.

    Parameters
    ----------
    units : mapping of str to LabelUnits
        What stands before ``logits`` and ``labels`` in the signals' names -> the labels in the data.

    Examples
    --------
    >>> units = LabelUnits("label", ["no", "yes"], np.array([0, 1]), np.arange(2))
    >>> watch = LabelWatch({"": units}).reset(2)
    >>> signals = {"logits": torch.tensor([[2.0, 0.0]]), "labels": torch.tensor([1]), "loss": torch.zeros(1)}
    >>> watch.update(torch.tensor([1]), **signals).margins_[""].aum
    array([nan, -2.], dtype=float32)
    """

    def __init__(self, units: Mapping[str, LabelUnits]) -> None:
        super().__init__()
        self.units = units

    def make_store(self, n_examples: int) -> ScoreStore:
        """Return empty tables, of the rows' losses and of the labels' margins.

        Parameters
        ----------
        n_examples : int
            Rows of the full data set.

        Returns
        -------
        ScoreStore
            With both in its state, so that an interrupted run loses neither.
        """
        self._first = {name: unit.first_of_row(n_examples) for name, unit in self.units.items()}
        return _LabelStore(n_examples, self.units)

    @property
    def margins_(self) -> dict[str, LabelMargins]:
        """One table for each of `units`."""
        store: Any = self._fitted_store()
        return store.margins  # type: ignore[no-any-return]

    def update(self, index: Tensor, **signals: Tensor) -> Self:
        """Take in one batch of the training pass.

        Parameters
        ----------
        index : Tensor
            Shape (B,), rows of the full data set.
        **signals : Tensor
            ``loss``, and logits and labels of each head.

        Returns
        -------
        self
            The scorer.
        """
        super().update(index, **signals)
        for name, table in self.margins_.items():
            places, logits, labels = labels_of_batch(index, signals, name, self._first[name])
            table.update(places, logits, labels)
        return self


def labels_of_batch(
    index: Tensor, signals: Mapping[str, Tensor], prefix: str, first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Return the labels of a batch that count, and which of all labels they are.

    Parameters
    ----------
    index : Tensor
        Shape (B,), rows of the full data set.
    signals : mapping of str to Tensor
        What a forward returned.
    prefix : str
        What stands before ``logits`` and ``labels``.
    first : ndarray of int64, shape (n_examples,)
        Where the labels of each row begin.

    Returns
    -------
    places : ndarray of int64, shape (n,)
        Positions among all labels.
    logits : Tensor
        Shape (n, C).
    labels : Tensor
        Shape (n,).

    Examples
    --------
    >>> signals = {"logits": torch.zeros(1, 3, 2), "labels": torch.tensor([[-100, 1, 0]])}
    >>> labels_of_batch(torch.tensor([1]), signals, "", np.array([0, 4]))[0]
    array([4, 5])
    """
    logits, labels = signals[f"{prefix}logits"], signals[f"{prefix}labels"]
    places = torch.from_numpy(first[index.cpu().numpy()]).to(labels.device)  # (B,)
    if labels.dim() == 1:
        return places.cpu().numpy(), logits, labels
    counted = labels >= 0  # (B, T)
    places = places[:, None] + counted.cumsum(1) - 1
    return places[counted].cpu().numpy(), logits[counted], labels[counted]


def judge_by_margins(
    labels: NDArray[np.int64], margins: LabelMargins, threshold: NDArray[np.int64], *, percentile: float = 99.0
) -> LabelErrors:
    """Judge labels by their AUM in a run with threshold examples (Pleiss et al.).

    A threshold example was trained on the class that does not exist, so its own label is judged by its margin among the
    classes that do: as if the example had not been trained on. One run judges all labels by that. A label whose AUM is
    above 0 is no suspect, whatever the cut-off: the model held it for right on average.

    Parameters
    ----------
    labels : ndarray of int64, shape (n_labels,)
        Class ids in the data.
    margins : LabelMargins
        Of the run.
    threshold : ndarray of int64
        Positions of the labels that were given to the extra class.
    percentile : float, default=99.0
        Percentile of the threshold examples' AUM that is the cut-off.

    Returns
    -------
    LabelErrors
        Scores are negated AUM.

    Raises
    ------
    InvalidValueError
        If `percentile` is out of range, or a threshold example was never seen.

    Examples
    --------
    >>> table = LabelMargins(np.array([0, 1, 0]), 2)
    >>> logits, trained = torch.tensor([[1.0, 3.0, 0.0], [0.0, 2.0, 0.0], [3.0, 0.0, 1.0]]), torch.tensor([0, 1, 2])
    >>> table.update(np.arange(3), logits, trained)
    >>> judge_by_margins(np.array([0, 1, 0]), table, np.array([2])).is_suspect
    array([ True, False, False])
    """
    cutoff = min(0.0, aum_cutoff(margins.aum, threshold, percentile=percentile).cutoff)
    aum = margins.aum.copy()
    aum[threshold] = margins.given_aum[threshold]
    probabilities = margins.probabilities
    return LabelErrors(-aum, aum <= cutoff, likeliest_other(labels, probabilities), probabilities, -cutoff)


def confident_learning(labels: ArrayLike, probabilities: ArrayLike) -> LabelErrors:
    """Judge labels by probabilities from models that were not trained on them (Northcutt et al.).

    Confident learning estimates how often each class is given to examples of each other class, and calls so many of
    them wrong, those with the largest margin first. Needs cleanlab.

    Parameters
    ----------
    labels : array-like of int, shape (n_labels,)
        Class ids in [0, C).
    probabilities : array-like of float, shape (n_labels, C)
        Out of sample: from cross-validation, or from a model of other data.

    Returns
    -------
    LabelErrors
        Scores are 1 minus the probability of the given label; ``cutoff`` is None, for each pair of classes has its own.

    Raises
    ------
    InvalidValueError
        If the shapes do not belong together, or a label is no class.
    MissingPackageError
        If cleanlab is not installed.

    Notes
    -----
    The last example of a class is never a suspect.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, *Confident Learning: Estimating Uncertainty in Dataset Labels*, arXiv 1911.00068.

    Examples
    --------
    >>> probabilities = [[0.9, 0.1]] * 4 + [[0.2, 0.8]] * 4 + [[0.1, 0.9]]
    >>> found = confident_learning([0, 0, 0, 0, 1, 1, 1, 1, 0], probabilities)
    >>> found.is_suspect.nonzero()[0], found.suggested[-1]
    (array([8]), np.int64(1))
    """
    check_cleanlab()
    from cleanlab.filter import find_label_issues

    given, p = np.asarray(labels), np.asarray(probabilities, np.float64)
    if p.ndim != 2 or given.shape != p.shape[:1] or given.dtype.kind not in "iu" or p.shape[1] < 2:
        raise InvalidValueError(
            "confident_learning() needs integer labels (n_labels,) and probabilities (n_labels, C) of at least 2 "
            f"classes, got {given.shape} and {p.shape}."
        )
    if len(given) and not (given.min() >= 0 and given.max() < p.shape[1]):
        raise InvalidValueError(
            f"confident_learning() needs labels in [0, {p.shape[1]}), got {given.min()} to {given.max()}."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues in class")  # it has one example: see Notes
        is_suspect = find_label_issues(given, p, n_jobs=1)  # other processes would cost more than the work
    scores = (1.0 - p[np.arange(len(given)), given]).astype(np.float32)
    return LabelErrors(scores, np.asarray(is_suspect, bool), likeliest_other(given, p), p.astype(np.float32), None)


def check_cleanlab() -> None:
    """Raise unless cleanlab is installed.

    Raises
    ------
    MissingPackageError
        If it is not.
    """
    if find_spec("cleanlab") is None:
        raise MissingPackageError("Confident learning needs cleanlab>=2.9. Run: pip install 'dataprune[suspects]'")


def likeliest_other(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Return the likeliest class but the given one.

    Parameters
    ----------
    labels : ndarray of int, shape (n_labels,)
        Class ids.
    probabilities : ndarray, shape (n_labels, C)
        Probabilities.

    Returns
    -------
    ndarray of int64, shape (n_labels,)
        Class ids.

    Examples
    --------
    >>> likeliest_other(np.array([1]), np.array([[0.1, 0.7, 0.2]]))
    array([2])
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(others.argmax(-1), np.int64)
