"""ColumnScore and FunctionScore."""

import numpy as np
import pytest
from dataset_scorer_laws import check_dataset_scorer
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from dataprune.errors import DataError, DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.scoring.metadata import ColumnScore, FunctionScore

ROWS = [{"text": "play jazz", "votes": 3, "share": 0.5}, {"text": "stop", "votes": 40, "share": float("inf")}] * 4


def n_letters(rows):
    return [len(row["text"]) for row in rows]


def n_letters_of_columns(rows):
    return np.array([len(text) for text in rows["text"]])


def test_the_contract_holds():
    check_dataset_scorer(ColumnScore("votes"), ROWS)
    check_dataset_scorer(ColumnScore("share", negate=True), ROWS)
    check_dataset_scorer(FunctionScore(n_letters, batch_size=3), ROWS)


def test_a_column_is_the_score_in_every_kind_of_data_set():
    dataset = Dataset.from_list(ROWS)
    for kind in (ROWS, dataset, dataset.to_pandas(), dataset.with_format("numpy")):
        assert ColumnScore("votes").fit(kind).scores_.tolist() == [3.0, 40.0] * 4
    assert ColumnScore("votes", negate=True).fit(dataset).scores_.tolist() == [-3.0, -40.0] * 4
    assert ColumnScore("b").fit([{"b": True}, {"b": np.bool_(False)}]).scores_.tolist() == [1.0, 0.0]
    assert ColumnScore("votes").fit(dataset.select([])).scores_.shape == (0,)


@pytest.mark.parametrize("value", [None, float("nan"), "3", [3], 1j])
def test_a_value_that_is_no_number_is_refused_with_its_row(value):
    rows = [{"votes": 3}, {"votes": value}]
    with pytest.raises(DataError, match=r"Column 'votes' must be numbers, got .* in row 1. Correct or drop that row."):
        ColumnScore("votes").fit(rows)


def test_a_column_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="There is no column 'likes'"):
        ColumnScore("likes").fit(ROWS)
    with pytest.raises(InvalidTypeError, match=r"ColumnScore.column must be a column's name, got None"):
        ColumnScore(None).fit(ROWS)


def test_a_function_gets_columns_slices_or_rows():
    dataset = Dataset.from_list(ROWS)
    expected = [9.0, 4.0] * 4
    assert FunctionScore(n_letters, batch_size=5).fit(ROWS).scores_.tolist() == expected
    for kind in (dataset, dataset.to_pandas()):
        assert FunctionScore(n_letters_of_columns, batch_size=5).fit(kind).scores_.tolist() == expected
    images = np.arange(24.0).reshape(6, 2, 2)
    means = FunctionScore(lambda x: x.mean(axis=(1, 2)), batch_size=4).fit(images).scores_
    np.testing.assert_allclose(means, images.mean(axis=(1, 2)))


@given(n=st.integers(0, 20), batch_size=st.integers(1, 25))
def test_every_row_is_asked_for_once_and_in_order(n, batch_size):
    batches = []

    def note(rows):
        batches.append(list(rows))
        return rows

    assert FunctionScore(note, batch_size=batch_size).fit(list(range(n))).scores_.tolist() == list(range(n))
    assert [row for batch in batches for row in batch] == list(range(n))
    assert all(1 <= len(batch) <= batch_size for batch in batches)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda rows: [1.0], InvalidValueError, r"got shape \(1,\) for the 3 rows from row 0 on"),
        (lambda rows: 1.0, InvalidValueError, r"got shape \(\) for the 3 rows"),
        (lambda rows: np.ones((len(rows), 1)), InvalidValueError, r"got shape \(3, 1\)"),
        (lambda rows: [row["votes"] if row["votes"] < 40 else float("nan") for row in rows], DataError, "nan in row 1"),
        (lambda rows: ["long"] * len(rows), DataError, "got 'long' in row 0"),
        (lambda rows: [1.0 if row is not ROWS[7] else None for row in rows], DataError, "got None in row 1"),
        ("len", InvalidTypeError, "FunctionScore.function must be callable, got 'len'"),
    ],
)
def test_what_a_function_must_not_return(function, error, words):
    with pytest.raises(error, match=words):
        FunctionScore(function, batch_size=3).fit(ROWS)


def test_a_row_is_named_in_the_whole_data_set_and_not_in_its_batch():
    with pytest.raises(DataError, match="got nan in row 7"):
        FunctionScore(lambda rows: [float("nan") if row == 7 else row for row in rows], batch_size=3).fit(range(8))


def test_a_batch_size_out_of_range_is_refused():
    with pytest.raises(DataPruneError, match=r"FunctionScore.batch_size must be at least 1, got 0"):
        FunctionScore(n_letters, batch_size=0).fit(ROWS)


def test_what_is_beyond_float32_is_infinite():
    assert ColumnScore("x").fit([{"x": 1e300}, {"x": -1e300}, {"x": 1}]).scores_.tolist() == [
        float("inf"),
        -float("inf"),
        1.0,
    ]
