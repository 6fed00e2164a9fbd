"""The same data give the same fingerprint in every process; other data give another."""

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import dataprune
from dataprune.data.fingerprint import N_HASHED_EXAMPLES, fingerprint
from dataprune.testing import unchanged_random_state

ROWS = [{"text": f"play song {i}", "label": i % 3, "ids": [i, i + 1]} for i in range(10)]


def kinds(rows):
    return {
        "list": rows,
        "datasets": datasets.Dataset.from_list(rows),
        "tensors": TensorDataset(
            torch.tensor([row["ids"] for row in rows]), torch.tensor([row["label"] for row in rows])
        ),
        "array": np.array([row["ids"] for row in rows]),
        "bf16": TensorDataset(torch.tensor([row["label"] for row in rows], dtype=torch.bfloat16)),
        "pairs": [(row["text"], row["label"]) for row in rows],
        "bytes": [row["text"].encode() for row in rows],
    }


CHANGES = {
    "another label": [*ROWS[:4], {**ROWS[4], "label": 2}, *ROWS[5:]],
    "another order": [ROWS[1], ROWS[0], *ROWS[2:]],
    "one row less": ROWS[:-1],
}


@pytest.mark.parametrize("kind", list(kinds(ROWS)))
def test_equal_data_have_equal_fingerprints_and_changed_data_another(kind):
    first = fingerprint(kinds(ROWS)[kind])
    assert first == fingerprint(kinds([dict(row) for row in ROWS])[kind])
    for change in ("another order", "one row less"):
        assert fingerprint(kinds(CHANGES[change])[kind]) != first


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_kind_is_seen(change):
    assert fingerprint(CHANGES[change]) != fingerprint(ROWS)


@pytest.mark.parametrize(("one", "other"), [([["a", "bc"]], [["ab", "c"]]), ([1], [1.0]), ([{"a": 1}], [{"b": 1}])])
def test_like_looking_rows_are_told_apart(one, other):
    assert fingerprint(one) != fingerprint(other)


def test_large_data_are_looked_at_in_evenly_spaced_rows_only():
    class Counting:
        def __init__(self):
            self.seen = set()

        def __len__(self):
            return 100_000

        def __getitem__(self, row):
            self.seen.add(row)
            return row

    data = Counting()
    fingerprint(data)
    assert len(data.seen) == N_HASHED_EXAMPLES
    assert {0, 99_999} <= data.seen
    assert max(np.diff(sorted(data.seen))) < 1700


@pytest.mark.parametrize("draw", [lambda: torch.rand(2), np.random.random])
def test_data_that_change_at_each_look_count_by_their_size(draw):
    class Augmented:
        def __init__(self, n):
            self.n = n

        def __len__(self):
            return self.n

        def __getitem__(self, row):
            return draw()

    with unchanged_random_state("A fingerprint"):
        first = fingerprint(Augmented(5))
    draw()  # the next process would draw other numbers
    assert fingerprint(Augmented(5)) == first
    assert fingerprint(Augmented(5)) != fingerprint(Augmented(6))


def test_objects_count_by_their_type_and_empty_data_have_one_too():
    assert fingerprint([object(), object()]) == fingerprint([object(), object()])
    assert fingerprint([]) == fingerprint([])


def test_another_process_finds_the_same():
    code = "from dataprune.data.fingerprint import fingerprint; print(fingerprint([{'a': 'x', 'b': 1.5}, None, b'y']))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(dataprune.__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert found.stdout.strip() == fingerprint([{"a": "x", "b": 1.5}, None, b"y"])
