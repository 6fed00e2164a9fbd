"""Two real processes (gloo) against one: the same selection, the same scores, each example once per epoch."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).with_name("ranks.py")
N = 48


def start_ranks(command, n_ranks, timeout=240):
    """Run a script in several processes, or in one, and wait for its end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(n_ranks)}
    ranks = (
        [{**address, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(n_ranks)] if n_ranks > 1 else [{}]
    )
    command = [sys.executable, *map(str, command)]
    processes = [
        subprocess.Popen(command, env={**shared, **rank}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in ranks
    ]
    try:
        outs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:  # a rank that died leaves the others waiting
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outs)


def run_ranks(modes, folder, n_ranks):
    """Start the ranks, wait, and return what each of them wrote, by mode."""
    start_ranks([WORKER, ",".join(modes), folder], n_ranks)
    return {
        mode: [json.loads((folder / f"{mode}-{n_ranks}-{rank}.json").read_text()) for rank in range(n_ranks)]
        for mode in modes
    }


MODES = [
    *("plain", "full", "share", "weighted", "resumed", "odd"),
    *("fsdp", "fsdp1", "fsdp-full-odd"),
    *("trainer", "lightning", "lightning-full", "lightning-odd"),
    *("accelerate", "accelerate-odd", "accelerate-split", "accelerate-dispatch", "accelerate-dispatch-split-odd"),
    *("accelerate-uneven-odd", "accelerate-uneven-49"),
]
ONLY_TWO = ["lightning-resumed", "accelerate-odd-resumed", "accelerate-dispatch-odd-resumed", "refused"]
EVEN = [mode for mode in MODES if "odd" not in mode and "49" not in mode]
ACCELERATE = [mode for mode in MODES if mode.startswith("accelerate")]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return run_ranks(MODES, tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return run_ranks([*MODES, *ONLY_TWO], tmp_path_factory.mktemp("two"), 2)


@pytest.mark.parametrize("mode", MODES)
def test_both_ranks_hold_the_same(mode, two):
    first, second = two[mode]
    for key in ("kept", "updates", "indices", "scores", "counts", "trained", "weights"):
        assert first[key] == second[key], key


@pytest.mark.parametrize("mode", MODES)
def test_each_example_is_trained_once_per_epoch_up_to_the_padding(mode, two):
    for epoch, n_kept in enumerate(two[mode][0]["kept"]):
        seen = Counter(row for rank in two[mode] for row in rank["visited"][epoch])
        assert len(seen) == n_kept
        padding = sum(seen.values()) - n_kept
        assert padding == (0 if mode == "accelerate-uneven-odd" else n_kept % 2)


@pytest.mark.parametrize("mode", EVEN)
def test_two_ranks_select_and_score_as_one_process_does(mode, one, two):
    alone, together = one[mode][0], two[mode][0]
    for key in ("kept", "updates", "indices", "counts", "trained"):
        assert together[key] == alone[key], key
    for epoch, rows in enumerate(alone["visited"]):
        assert sorted(rows) == sorted(row for rank in two[mode] for row in rank["visited"][epoch])
    np.testing.assert_allclose(together["scores"], alone["scores"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together["weights"], alone["weights"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_updates_are_those_planned(mode, two):
    assert two[mode][0]["updates"] == two[mode][0]["planned"]


def test_a_resume_in_mid_epoch_goes_on_as_if_nothing_had_happened(two):
    for rank in range(2):
        assert two["resumed"][rank]["visited"] == two["plain"][rank]["visited"]
        assert two["resumed"][rank]["scores"] == two["plain"][rank]["scores"]
        assert two["resumed"][rank]["weights"] == two["plain"][rank]["weights"]


def test_trainer_makes_the_planned_steps_and_ends_at_its_learning_rate(one, two):
    assert two["trainer"][0]["steps"] == sum(two["trainer"][0]["planned"]) == one["trainer"][0]["steps"]
    assert two["trainer"][0]["rate"] == pytest.approx(0.0, abs=1e-8)
    assert two["trainer"][0]["kept"] == one["trainer"][0]["kept"] == [N, N // 2, N // 2, N // 2]


@pytest.mark.parametrize("mode", ACCELERATE)
def test_accelerate_makes_the_planned_steps(mode, one, two):
    for ranks in (one, two):
        for rank in ranks[mode]:
            assert rank["steps"] == sum(rank["updates"]) == sum(rank["planned"])


@pytest.mark.parametrize("mode", ["accelerate-odd", "accelerate-dispatch-split-odd"])
def test_accelerate_resumes_before_a_padded_batch_as_if_nothing_had_happened(mode, two):
    resumed = two[mode.replace("-split", "") + "-resumed"]
    for ours, whole in zip(resumed, two[mode], strict=True):
        assert ours == whole


def test_uneven_batches_leave_no_rank_without_one(two):
    first, second = (rank["sizes"] for rank in two["accelerate-uneven-odd"])
    assert first == [*[4] * 5, 3, *[4] * 9]
    assert second == [*[4] * 5, 2, *[4, 4, 3] * 3]
    for rank in two["accelerate-uneven-49"]:  # one example is left for two ranks
        assert rank["sizes"] == [*[4] * 6, 1, *[4, 4, 4, 1] * 3]


@pytest.mark.parametrize("mode", ["lightning", "lightning-odd"])
def test_lightning_makes_the_planned_steps(mode, one, two):
    for ranks in (one, two):
        for rank in ranks[mode]:
            assert rank["steps"] == sum(rank["updates"]) == sum(rank["planned"])


def test_lightning_resumes_in_mid_epoch_as_if_nothing_had_happened(two):
    for resumed, whole in zip(two["lightning-resumed"], two["lightning"], strict=True):
        batches = [row for rows in whole["visited"] for row in rows]
        assert [row for rows in resumed["visited"] for row in rows] == batches[
            9 * 4 :
        ]  # 9 updates of 4 examples a rank
        for key in ("scores", "weights", "updates", "trained"):
            assert resumed[key] == whole[key], key


def test_what_several_processes_cannot_do_is_refused(two):
    for rank in two["refused"]:
        clock, fit, other, split = rank["sentences"]
        assert "goes by the clock of one process, got 2" in clock
        assert "runs in one process, got 2" in fit
        assert "The ranks selected different examples" in other
        assert "must be a multiple of the 2 processes with split_batches=True, got 5" in split
