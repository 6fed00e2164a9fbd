"""What is written is read back the same, in every format."""

from datetime import UTC, date, datetime
from decimal import Decimal

import datasets
import pytest

from dataprune.data.reading import read_file
from dataprune.data.writing import write_rows
from dataprune.errors import DataError, InvalidValueError

ROWS = [{"text": f'row {i}, «é»\n"q"', "label": ["a", "b"][i % 2], "weight": i / 8} for i in range(25)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet"])
def test_rows_come_back_as_they_were(name, tmp_path):
    write_rows(tmp_path / name, datasets.Dataset.from_list(ROWS))
    assert list(read_file(tmp_path / name)) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_selection_is_written_as_it_is_and_not_as_the_table_behind_it(tmp_path):
    some = datasets.Dataset.from_list(ROWS).select([3, 1, 20])
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        write_rows(tmp_path / name, some)
        assert list(read_file(tmp_path / name)) == [ROWS[3], ROWS[1], ROWS[20]]


def test_without_an_ending_it_is_a_folder_of_the_datasets_library(tmp_path):
    write_rows(tmp_path / "rows", datasets.Dataset.from_list(ROWS))
    assert list(datasets.load_from_disk(tmp_path / "rows")) == ROWS
    with pytest.raises(InvalidValueError, match="exists already"):
        write_rows(tmp_path / "rows", datasets.Dataset.from_list(ROWS))


def test_lists_of_words_are_joined_in_csv_files_and_other_lists_refused(tmp_path):
    write_rows(tmp_path / "a.csv", datasets.Dataset.from_dict({"tokens": [["play", "jazz"], ["stop"]]}))
    assert read_file(tmp_path / "a.csv")["tokens"][:] == ["play jazz", "stop"]
    with pytest.raises(DataError, match=r"b.csv cannot hold the column 'ids' of .* Write .jsonl or .parquet"):
        write_rows(tmp_path / "b.csv", datasets.Dataset.from_dict({"ids": [[1, 2]]}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_format_that_the_data_came_with_changes_nothing(tmp_path):
    tensors = datasets.Dataset.from_list(ROWS).with_format("torch", columns=["weight"])
    write_rows(tmp_path / "a.jsonl", tensors)
    assert list(read_file(tmp_path / "a.jsonl")) == ROWS


def test_times_and_decimals_are_texts_in_json_and_bytes_are_refused(tmp_path):
    rows = {"when": [datetime(2026, 1, 31, 12, 30, tzinfo=UTC)], "day": [date(2026, 1, 31)], "price": [Decimal("1.50")]}
    write_rows(tmp_path / "a.jsonl", datasets.Dataset.from_dict(rows))
    assert read_file(tmp_path / "a.jsonl")[0] == {
        "when": "2026-01-31 12:30:00+00:00",
        "day": "2026-01-31",
        "price": "1.50",
    }
    for name in ("b.jsonl", "b.json", "b.csv"):
        with pytest.raises(DataError, match=rf"{name} cannot hold .* (bytes|binary)\. Write \.parquet"):
            write_rows(tmp_path / name, datasets.Dataset.from_dict({"raw": [b"\xff"]}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(("name", "words"), [("a.xlsx", "must end in .jsonl"), ("no/a.csv", "does not exist")])
def test_a_name_that_cannot_be_written_is_refused(name, words, tmp_path):
    with pytest.raises(InvalidValueError, match=words):
        write_rows(tmp_path / name, datasets.Dataset.from_list(ROWS))
