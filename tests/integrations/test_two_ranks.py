"""The contract of every integration in two real processes (gloo), held against one with batches twice as large."""

import json
from pathlib import Path

import numpy as np
import pytest
from loops import MATRIX, PAIRWISE
from test_distributed import start_ranks

WORKER = Path(__file__).with_name("two_ranks.py")


def names_of(cells):
    """Cells but those of `fit`, which runs in one process, as words."""
    return [f"{name}-{w}-{a}-{'bf16' if bf16 else 'float32'}" for name, w, a, bf16 in cells if name != "fit"]


def run_cells(cells, folder, *, n_interruptions):
    """Return what one process saw, and what each of two did, by cell."""
    found = []
    for n_ranks in (1, 2):
        start_ranks([WORKER, folder, n_interruptions, *cells], n_ranks, timeout=60 + 60 * len(cells))
        found.append(
            {
                cell: [json.loads((folder / f"{cell}-{n_ranks}-{rank}.json").read_text()) for rank in range(n_ranks)]
                for cell in cells
            }
        )
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return run_cells(names_of(PAIRWISE), tmp_path_factory.mktemp("ranks"), n_interruptions=1)


def check(alone, together, *, bf16):
    assert [rank["fault"] for rank in together] == [None, None]
    for rank in together:
        assert rank["scores"] == alone["scores"] == list(range(36))  # each row's is its number
        for key in ("kept", "updates", "recorded", "rates", "counts"):
            assert rank[key] == alone[key], key
    assert together[0]["weights"] == together[1]["weights"]
    for n_kept, rows, *parts in zip(alone["kept"], alone["rows"], *(rank["rows"] for rank in together), strict=True):
        assert set(rows) == {*parts[0], *parts[1]}
        assert len(parts[0]) == len(parts[1]) == (n_kept + 1) // 2
    if all(n_kept % 2 == 0 for n_kept in alone["kept"]):  # nothing is padded: Trainer may fill updates by an odd number
        # Gradients of half a batch are rounded to bfloat16 before they are averaged.
        tolerance = {"rtol": 0.05, "atol": 0.01} if bf16 else {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose(together[0]["weights"], alone["weights"], **tolerance)


@pytest.mark.parametrize("cell", names_of(PAIRWISE))
def test_two_ranks_keep_the_contract_and_do_what_one_process_does(cell, found):
    one, two = found
    check(one[cell][0], two[cell], bf16=cell.endswith("bf16"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name for name, *_ in MATRIX} - {"fit"}))
def test_the_whole_matrix_keeps_the_contract_in_two_ranks(name, tmp_path):
    cells = [cell for cell in names_of(MATRIX) if cell.startswith(name)]
    one, two = run_cells(cells, tmp_path, n_interruptions=6)
    for cell in cells:
        check(one[cell][0], two[cell], bf16=cell.endswith("bf16"))
