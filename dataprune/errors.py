"""The errors of dataprune, and the checks that raise them.

Every message follows one form: ``"{owner}.{name} must be {rule}, got {value!r}. {What to do.}"``.
All errors derive from `DataPruneError` and from the built-in error a caller would expect.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray


class DataPruneError(Exception):
    """Base of every error that dataprune raises on purpose.

    Examples
    --------
    >>> try:
    ...     check_fraction("TopK", "keep_fraction", 1.5)
    ... except DataPruneError as error:
    ...     print(error)
    TopK.keep_fraction must be in (0, 1], got 1.5.
    """


class InvalidValueError(DataPruneError, ValueError):
    """A value of the right kind that breaks a rule."""


class InvalidTypeError(DataPruneError, TypeError):
    """A value of the wrong kind."""


class NotFittedError(DataPruneError, ValueError, AttributeError):
    """A result was asked for before it was computed."""


class DataError(DataPruneError, ValueError):
    """A data file or data set that cannot be used; the message names the file and the row."""


class StateError(DataPruneError, ValueError):
    """A saved state that is damaged or belongs to other data."""


class OutputError(DataPruneError, OSError):
    """A file or folder that could not be written: a full disk, no permission."""


class MissingPackageError(DataPruneError, ImportError):
    """An optional package is not installed; the message holds the pip command."""


class TrainingInterrupted(DataPruneError, KeyboardInterrupt):  # noqa: N818 - an interruption, as KeyboardInterrupt
    """Training was stopped by the user; the message says how to resume."""


def check_fraction(owner: str, name: str, value: object) -> float:
    """Return `value` as a float in (0, 1] or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InvalidTypeError
        If `value` is no number.
    InvalidValueError
        If `value` is outside (0, 1].

    Examples
    --------
    >>> check_fraction("TopK", "keep_fraction", 0.5)
    0.5
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{owner}.{name} must be a number in (0, 1], got {value!r}.")
    if not 0.0 < float(value) <= 1.0:
        raise InvalidValueError(f"{owner}.{name} must be in (0, 1], got {value!r}.")
    return float(value)


def check_share(owner: str, name: str, value: object) -> float:
    """Return `value` as a float in [0, 1] or raise.

    Parameters
    ----------
    owner : str
        Class that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InvalidTypeError
        If `value` is no number.
    InvalidValueError
        If `value` is outside [0, 1].

    Examples
    --------
    >>> check_share("ScoreWindow", "offset_fraction", 0)
    0.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{owner}.{name} must be a number in [0, 1], got {value!r}.")
    if not 0.0 <= float(value) <= 1.0:
        raise InvalidValueError(f"{owner}.{name} must be in [0, 1], got {value!r}.")
    return float(value)


def check_count(owner: str, name: str, value: object, *, minimum: int = 0) -> int:
    """Return `value` as an int of at least `minimum` or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.
    minimum : int, default=0
        The smallest value allowed.

    Returns
    -------
    int
        The value.

    Raises
    ------
    InvalidTypeError
        If `value` is no whole number.
    InvalidValueError
        If `value` is below `minimum`.

    Examples
    --------
    >>> check_count("CyclicScheduler", "n_cycle_epochs", 2, minimum=1)
    2
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidTypeError(f"{owner}.{name} must be a whole number of at least {minimum}, got {value!r}.")
    if value < minimum:
        raise InvalidValueError(f"{owner}.{name} must be at least {minimum}, got {value!r}.")
    return int(value)


def check_positive(owner: str, name: str, value: object) -> float:
    """Return `value` as a finite float above 0 or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InvalidTypeError
        If `value` is no number.
    InvalidValueError
        If `value` is not finite or not above 0.

    Examples
    --------
    >>> check_positive("DynamicPruner.fit", "learning_rate", 1e-3)
    0.001
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{owner}.{name} must be a number above 0, got {value!r}.")
    if not (math.isfinite(value) and float(value) > 0):
        raise InvalidValueError(f"{owner}.{name} must be a finite number above 0, got {value!r}.")
    return float(value)


def check_finite(owner: str, name: str, value: object) -> float:
    """Return `value` as a finite float or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.

    Returns
    -------
    float
        The value.

    Raises
    ------
    InvalidTypeError
        If `value` is no number.
    InvalidValueError
        If `value` is infinite or NaN.

    Examples
    --------
    >>> check_finite("ScoreStore", "std_bonus", -1)
    -1.0
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"{owner}.{name} must be a finite number, got {value!r}.")
    if not math.isfinite(value):
        raise InvalidValueError(f"{owner}.{name} must be a finite number, got {value!r}.")
    return float(value)


def check_choice(owner: str, name: str, value: object, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices` or raise, printing them.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    value : object
        What the user passed.
    choices : collection of str
        The values allowed.

    Returns
    -------
    str
        The value.

    Raises
    ------
    InvalidValueError
        If `value` is not among `choices`.

    Examples
    --------
    >>> check_choice("JointEL2N", "reduction", "norm", ["norm", "sum", "mean"])
    'norm'
    """
    if not isinstance(value, str) or value not in choices:
        raise InvalidValueError(f"{owner}.{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
    return value


def check_numbers(owner: str, name: str, values: ArrayLike, dtype: DTypeLike | None = "float64") -> NDArray[Any]:
    """Return `values` as an array of numbers or raise.

    Parameters
    ----------
    owner : str
        Class or function that the message names.
    name : str
        Parameter that the message names.
    values : array-like
        What the user passed.
    dtype : dtype or None, default=float64
        Of the result; None leaves it as it is.

    Returns
    -------
    ndarray
        The values; the given array itself if it is one of that dtype.

    Raises
    ------
    InvalidTypeError
        If a value is no number, or rows differ in length.

    Examples
    --------
    >>> check_numbers("agreement()", "scores", [1, 2])
    array([1., 2.])
    """
    import numpy as np  # checks alone do not need it

    try:
        return np.asarray(values, dtype=dtype)
    except (TypeError, ValueError):
        raise InvalidTypeError(f"{owner}.{name} must be an array of numbers, got {reprlib.repr(values)}.") from None
