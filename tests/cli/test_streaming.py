"""`dataprune score` and `select` on files that are read block by block: the same results, progress, and the errors."""

import gzip
import io
import json
import os
import pty
import subprocess
import sys

import datasets
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from cli_parts import run_cli, write_rows
from rich.console import Console

from dataprune import TfidfDistance, TopK
from dataprune.cli.progress import showing_progress
from dataprune.data.reading import map_file, read_file
from dataprune.data.streaming import ColumnTexts
from dataprune.data.writing import write_rows as write_any
from dataprune.errors import DataError

ROWS = [
    {"text": f"{verb} the {noun} {place} é", "queue": verb, "n": i, "tags": [noun] * (i % 3)}
    for i, (verb, noun, place) in enumerate(
        (verb, noun, place) for verb in ("play", "stop") for noun in ("song", "film") for place in "abcdefg"
    )
]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Map every file, five rows at a time."""
    monkeypatch.setattr("dataprune.data.streaming.MAPPED_FROM_BYTES", 0)
    monkeypatch.setattr("dataprune.data.reading.ROWS_PER_BLOCK", 5)
    monkeypatch.setattr("dataprune.data.reading.BYTES_PER_BLOCK", 200)
    monkeypatch.setattr("dataprune.data.writing.ROWS_PER_CHUNK", 4)
    monkeypatch.setattr("dataprune.data.streaming.TEXTS_PER_PART", 6)


def make_file(folder, ending):
    rows = [{k: v for k, v in row.items() if k != "tags"} for row in ROWS] if ending == ".csv" else ROWS
    write_any(folder / f"rows{ending}", datasets.Dataset.from_list(rows))
    return folder / f"rows{ending}"


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet", ""])
def test_every_format_is_scored_and_selected_as_if_read_at_once(tmp_path, ending):
    data = make_file(tmp_path, ending)
    done = run_cli("score", data, "--scorer", "tfidf-distance", "--output", tmp_path / "s.parquet", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    scores = TfidfDistance(column=None).fit(TEXTS).scores_
    np.testing.assert_array_equal(pyarrow.parquet.read_table(tmp_path / "s.parquet")["score"].to_numpy(), scores)
    out = tmp_path / f"small{ending}"
    words = ["--scores", tmp_path / "s.parquet", "--keep-fraction", 0.5, "--output", out]
    done = run_cli("select", data, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "holds 14 of 28 rows" in done.stdout
    kept = read_file(out) if ending else datasets.load_from_disk(str(out))
    expected = TopK(keep_fraction=0.5).fit(scores).indices_
    assert kept["n"][:] == expected.tolist()
    assert kept["text"][:] == [TEXTS[i] for i in expected]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def test_a_mapped_file_has_the_rows_of_a_read_one(tmp_path, ending):
    data = make_file(tmp_path, ending)
    told = []
    mapped = map_file(data, tmp_path, progress=lambda *what: told.append(what))
    whole = read_file(data)
    assert mapped.to_list() == whole.to_list()
    assert mapped.features == whole.features
    assert list(tmp_path.glob("part-*.arrow"))
    assert [rows for _, rows, _ in told] == sorted(rows for _, rows, _ in told)
    assert len(told) > 3
    assert told[-1][1] == 28
    assert all(0 < share <= 1 for _, _, share in told)


def test_columns_that_come_and_go_or_widen_are_put_together(tmp_path):
    rows = [{"text": "a", "n": 1}] * 6 + [{"text": "b", "n": 0.5, "late": "x"}] * 6 + [{"text": "c"}] * 6
    write_rows(tmp_path / "rows.jsonl", rows)
    mapped = map_file(tmp_path / "rows.jsonl", tmp_path)
    assert mapped.to_list() == read_file(tmp_path / "rows.jsonl").to_list()
    assert len(list(tmp_path.glob("part-*.arrow"))) > 1


def test_a_column_whose_type_changes_late_in_a_table_is_read_as_a_whole(tmp_path):
    lines = ["text,n"] + [f"word number {i},{i}" for i in range(40)] + ["last,none"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    assert map_file(tmp_path / "rows.csv", tmp_path)["n"][-1] == "none"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", '{"text": "a"}\n' * 7 + '{"text": \n', "Line 8 of .* is not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n' * 7 + "[1]\n", "Line 8 of .* must be a JSON object"),
        ("a.jsonl", '{"n": 1}\n' * 7 + '{"n": "x"}\n', "Column 'n' of .* must hold values of one type"),
        ("a.csv", "text,n\n" + "a,1\n" * 90 + "a,1,2\n", "a.csv cannot be read"),
        ("a.csv", "text,text\n" + "a,1\n" * 9, "more than one column 'text'"),
        ("a.parquet", "PAR1 not really", "a.parquet cannot be read"),
        ("a.xlsx", "", "must end in one of"),
    ],
)
def test_a_broken_file_is_told_as_if_read_at_once(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        map_file(tmp_path / name, tmp_path)


def test_a_truncated_archive_is_told(tmp_path):
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS * 50).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz cannot be read"):
        map_file(tmp_path / "a.jsonl.gz", tmp_path)


def test_no_scratch_file_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    data = make_file(tmp_path, ".jsonl")
    run_cli("score", data, "--scorer", "tfidf-distance", "--output", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_texts_are_read_when_they_are_asked_for():
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "other": [1, 2]})
    texts = ColumnTexts(rows, "tokens")
    assert (len(texts), texts[0], texts[-1], texts[:2], list(texts)) == (2, "a b", "c", ["a b", "c"], ["a b", "c"])


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_rows_are_written_in_chunks_and_told(tmp_path, ending):
    told = []
    rows = datasets.Dataset.from_list(ROWS)
    write_any(tmp_path / f"a{ending}", rows, progress=lambda *what: told.append(what))
    assert told[0] == ("Writing", 4, pytest.approx(4 / 28))
    assert told[-1] == ("Writing", 28, 1.0)
    assert read_file(tmp_path / f"a{ending}")["text"][:] == TEXTS


def test_progress_tells_rows_and_the_time_that_remains_on_a_terminal():
    file = io.StringIO()
    with showing_progress(Console(file=file, force_terminal=True, width=120)) as tell:
        tell("Reading", 500, 0.5)
        tell("Reading", 1000, 1.0)
        tell("Writing", 10, None)
    shown = file.getvalue()
    assert "Reading" in shown
    assert "1,000 rows" in shown
    assert "left" in shown
    assert "Writing" in shown


def test_progress_says_nothing_where_there_is_no_terminal():
    file = io.StringIO()
    with showing_progress(Console(file=file)) as tell:
        tell("Reading", 500, 0.5)
    assert file.getvalue() == ""


def test_the_command_shows_progress_on_a_terminal_only_on_standard_error(tmp_path):
    data = make_file(tmp_path, ".jsonl")
    words = ["score", str(data), "--scorer", "tfidf-distance", "--output", str(tmp_path / "s.csv"), "--json"]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "dataprune", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "28 rows" in shown
    assert json.loads(done.stdout)["n_rows"] == 28
