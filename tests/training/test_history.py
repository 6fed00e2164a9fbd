"""The history as a table, as rows, as a data frame."""

import re

import pytest

from dataprune import EpochRecord, PruningHistory

SECONDS = {"train": 1.25, "score": 0.0, "select": 0.0, "evaluate": 0.5}


def history(**last):
    first = EpochRecord(epoch=0, n_asked=60, n_kept=60, n_updates=8, seconds=dict(SECONDS), metrics={"accuracy": 0.5})
    second = EpochRecord(epoch=1, n_asked=24, n_kept=25, n_updates=4, seconds=dict(SECONDS), **last)
    return PruningHistory([first, second])


def test_it_prints_as_a_table():
    assert str(history()).splitlines() == [
        "epoch  asked  kept  updates  train_s  score_s  select_s  evaluate_s  accuracy",
        "    0     60    60        8     1.25     0.00      0.00        0.50    0.5000",
        "    1     24    25        4     1.25     0.00      0.00        0.50         -",
    ]
    assert str(PruningHistory()) == "no epoch yet"
    assert repr(history()) == "<PruningHistory of 2 epochs>"


def test_in_a_notebook_it_is_a_table_with_bars_and_sums():
    html = history(metrics={"<b>": 0.25})._repr_html_()
    assert re.findall(r"<tr>(.*?)</tr>", html)[-1] == "".join(
        f"<th>{cell}</th>" for cell in ("sum", "", "85", "12", "2.50", "0.00", "0.00", "1.00", "", "")
    )
    assert re.findall(r"transparent (\d+%)", html) == ["100%", "42%"]
    assert '<th scope="col">&lt;b&gt;</th>' in html
    assert html.count("<td>-</td>") == 2
    assert PruningHistory()._repr_html_() == "<p>no epoch yet</p>"


def test_columns_that_are_known_appear():
    columns = list(history(n_scored=60, n_tokens=100, metrics={"loss": 0.1}).to_rows()[0])
    assert columns == [
        *("epoch", "asked", "kept", "updates", "tokens", "scored"),
        *("train_s", "score_s", "select_s", "evaluate_s", "accuracy", "loss"),
    ]


def test_it_is_a_sequence_of_records():
    records = history()
    assert len(records) == 2
    assert records[-1].n_kept == 25
    assert [record.epoch for record in records] == [0, 1]


def test_it_comes_back_from_plain_data():
    again = PruningHistory.from_list(history(metrics={"loss": 0.25}).to_list())
    assert again.to_rows() == history(metrics={"loss": 0.25}).to_rows()


def test_it_becomes_a_data_frame():
    frame = history().to_pandas()
    assert frame.kept.tolist() == [60, 25]
    assert frame.accuracy[0] == pytest.approx(0.5)
    assert frame.accuracy.isna().tolist() == [False, True]
