"""``dataprune train --group-column``: floors on slot types, and on the values of any column."""

import json

import pyarrow.parquet as pq
import pytest
from cli_parts import run_cli, train_words, write_rows

from dataprune.runs.run_file import read_run_file

RARE = ("airline", "meal", "class")


def row(number):
    """Eight long sentences with a city; then two short ones, with a rare type beside a day."""
    kind, place = number % 10, number // 10
    if kind < 8:
        tokens = ["fly", "to", "new", "york", "and", "then", "on", "to", "san", "francisco"]
        slots = ["O", "O", "B-city", "I-city", "O", "O", "O", "O", "B-city", "I-city"]
    else:
        tokens, slots = ["taxi", "monday"], [f"B-{RARE[place % 3]}", "B-day"]
    return {
        "tokens": tokens,
        "intent": ["flight", "fare"][number % 2],
        "slots": slots,
        "topics": ["travel", "phone"] if number % 30 == 8 else ["travel"] if kind < 8 else [],
    }


def write_data(folder):
    for split, size in {"train": 120, "valid": 20}.items():
        write_rows(folder / f"{split}.jsonl", [row(number) for number in range(size)])
    return folder


def kept_rows(folder):
    table = pq.read_table(folder / "kept.parquet").to_pandas()
    return [row(number) for number in table["source_row"][table["kept"]]]


def of_type(rows, name):
    return sum(f"B-{name}" in row["slots"] for row in rows)


# So slow that the scores stay those of a new model: the long sentences are the hardest.
SLOW = ["--n-epochs", 2, "--keep-fraction", 0.25, "--learning-rate", 1e-9, "--selector", "class-floor"]
BY_GROUPS = ["--selector-arg", "by=groups", "--selector-arg", "n_min=4"]


def test_each_slot_type_keeps_its_floor(tmp_path, tiny_encoder_dir):
    data = write_data(tmp_path / "data")
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "intents", *SLOW))
    assert done.exit_code == 0, done.stderr
    lost = kept_rows(tmp_path / "intents")
    assert [of_type(lost, name) for name in (*RARE, "day")] == [0, 0, 0, 0]

    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", *SLOW, *BY_GROUPS, "--group-column", "slots"))
    assert done.exit_code == 0, done.stderr
    kept = kept_rows(tmp_path / "run")
    assert len(kept) == 30
    assert [of_type(kept, name) for name in RARE] == [4, 4, 4]
    assert of_type(kept, "day") == 12  # came along: no row is spent on the tag B-day, I-city or O itself
    assert read_run_file(tmp_path / "run" / "run.toml").settings["group_column"] == "slots"


def test_a_column_of_lists_has_floors_too(tmp_path, tiny_encoder_dir):
    words = [*SLOW, *BY_GROUPS, "--group-column", "topics"]
    done = run_cli(*train_words(write_data(tmp_path / "data"), tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 0, done.stderr
    kept = kept_rows(tmp_path / "run")
    assert len(kept) == 30
    assert sum("phone" in row["topics"] for row in kept) == 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--group-column", "slot"], 1, "--group-column must be one of 'tokens', 'intent', 'slots', 'topics',"),
        (
            ["--group-column", "slots", "--selector", "class-balanced"],
            1,
            "ClassBalanced.fit() needs groups with one value per example",
        ),
        (["--group-column", "slots", "--selector-arg", "n_min=50"], 1, "ClassFloor.n_keep must be at least"),
        (["--task", "token-classification"], 1, "--group-column must be given for ClassFloor"),
    ],
)
def test_groups_that_cannot_be_had_are_told_in_a_sentence(words, code, message, tmp_path, tiny_encoder_dir):
    data = write_data(tmp_path / "data")
    more = [*SLOW, "--selector-arg", "by=groups", *words]
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "run", *more))
    assert (done.exit_code, message in " ".join(done.stderr.split())) == (code, True), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("selector", "told"),
    [
        ("class-floor", "ClassFloor(), which reads no groups, got 'slots'. Pass --selector-arg by=groups."),
        ("top-k", "TopK(), which reads no groups, got 'slots'."),
    ],
)
def test_a_column_that_the_selector_would_not_read_is_wrong_usage(selector, told, tmp_path):
    words = ["--selector", selector, "--group-column", "slots"]
    done = run_cli("train", "--data", tmp_path, "--model", tmp_path, "--output-dir", tmp_path / "run", *words)
    assert done.exit_code == 2
    assert f"--group-column must be left out with {told}" in " ".join(done.stderr.split())


def test_select_keeps_a_floor_of_each_value_of_a_list(tmp_path):
    rows = [
        {"text": f"row {n}", "score": n, "tags": [["rare", "b"], ["b"], []][n % 3] if n < 9 else []} for n in range(30)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    words = ["--scorer", "column", "--scorer-arg", "column=score", "--selector", "class-floor", "--keep-fraction", 0.3]
    words += [*BY_GROUPS, "--group-column", "tags", "--output", tmp_path / "kept.jsonl"]
    done = run_cli("select", tmp_path / "rows.jsonl", *words)
    assert done.exit_code == 0, done.stderr
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [row["score"] for row in kept] == [0, 3, 6, 7, 25, 26, 27, 28, 29]
