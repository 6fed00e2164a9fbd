"""The shape of every message, and the built-in errors a caller would expect."""

import math

import numpy as np
import pytest

from dataprune import errors
from dataprune.errors import (
    DataPruneError,
    InvalidTypeError,
    InvalidValueError,
    check_choice,
    check_count,
    check_fraction,
    check_numbers,
    check_positive,
)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InvalidValueError", ValueError),
        ("InvalidTypeError", TypeError),
        ("NotFittedError", AttributeError),
        ("DataError", ValueError),
        ("StateError", ValueError),
        ("TrainingInterrupted", KeyboardInterrupt),
    ],
)
def test_our_errors_are_also_the_built_in_ones(name, builtin):
    error = getattr(errors, name)
    assert issubclass(error, DataPruneError)
    assert issubclass(error, builtin)


@pytest.mark.parametrize("value", [1, 1.0, 1e-9, np.float32(0.5), np.int64(1)])
def test_fractions_above_zero_up_to_one_are_taken(value):
    assert check_fraction("A", "b", value) == float(value)


@pytest.mark.parametrize("value", [0, -0.1, 1.0000001, math.nan, math.inf])
def test_numbers_that_are_no_fraction_are_refused(value):
    with pytest.raises(InvalidValueError, match=r"^A.b must be in \(0, 1\], got "):
        check_fraction("A", "b", value)


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5]])
def test_kinds_that_are_no_fraction_are_refused(value):
    with pytest.raises(InvalidTypeError, match=r"^A.b must be a number in \(0, 1\], got "):
        check_fraction("A", "b", value)


def test_counts_are_whole_numbers_from_their_minimum():
    assert check_count("A", "b", np.int32(2), minimum=2) == 2
    assert type(check_count("A", "b", np.int64(2))) is int  # so that it can be written as JSON
    with pytest.raises(InvalidValueError, match=r"^A.b must be at least 2, got 1.$"):
        check_count("A", "b", 1, minimum=2)
    for value in (1.0, "1", None, True):
        with pytest.raises(InvalidTypeError, match=r"^A.b must be a whole number of at least 0, got "):
            check_count("A", "b", value)


def test_positive_numbers_are_finite():
    assert check_positive("A", "b", 1e-9) == 1e-9
    for value in (0, -1.0, math.inf, math.nan):
        with pytest.raises(InvalidValueError, match=r"^A.b must be a finite number above 0, got "):
            check_positive("A", "b", value)
    for value in ("1", None, True):
        with pytest.raises(InvalidTypeError, match=r"^A.b must be a number above 0, got "):
            check_positive("A", "b", value)


def test_choices_are_printed_from_what_checks_them():
    assert check_choice("A", "b", "x", {"x": 1, "y": 2}) == "x"
    for value in ("z", None, 1, ["x"]):
        with pytest.raises(InvalidValueError, match=r"^A.b must be one of 'x', 'y', got "):
            check_choice("A", "b", value, ["x", "y"])


@pytest.mark.parametrize("values", [["a"], [[1], [1, 2]], [None, object()], {"a": 1}])
def test_what_is_no_array_of_numbers_is_refused(values):
    with pytest.raises(InvalidTypeError, match=r"^A.b must be an array of numbers, got "):
        check_numbers("A", "b", values)


def test_numbers_become_an_array_and_an_array_of_that_kind_stays_itself():
    given = np.arange(3.0)
    assert check_numbers("A", "b", given) is given
    assert check_numbers("A", "b", [1, 2], np.float32).dtype == np.float32
