"""Every integration keeps the same contracts; two processes are in `test_two_ranks.py` and `test_distributed.py`."""

import copy
import gc
import pickle
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from loops import LOOPS, MATRIX, PAIRWISE

from dataprune import DynamicPruner
from dataprune.testing import check_integration
from dataprune.testing.common import _random_states
from dataprune.testing.integrations import Trace, check_trace, make_run

pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),  # Lightning: the callbacks are the same
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


@pytest.fixture(autouse=True)
def _any_precision():
    """Accelerate keeps the precision of its first Accelerator for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def check(name, n_workers, n_accumulation, bf16, *, n_interruptions):
    loop = partial(LOOPS[name], bf16=bf16)
    check_integration(loop, n_accumulation=n_accumulation, n_workers=n_workers, n_interruptions=n_interruptions)


@pytest.mark.parametrize(("name", "n_workers", "n_accumulation", "bf16"), PAIRWISE)
def test_indices_counts_updates_rates_and_resume_are_right(name, n_workers, n_accumulation, bf16):
    check(name, n_workers, n_accumulation, bf16, n_interruptions=2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_workers", "n_accumulation", "bf16"), MATRIX)
def test_the_whole_matrix_resumes_at_any_batch(name, n_workers, n_accumulation, bf16):
    check(name, n_workers, n_accumulation, bf16, n_interruptions=100)  # more than there are batches


def test_any_two_values_meet_in_the_pairwise_cover():
    for first in range(4):
        for second in range(first + 1, 4):
            assert {(c[first], c[second]) for c in PAIRWISE} == {(c[first], c[second]) for c in MATRIX}


every_cell = pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, marks=[] if cell[1:] == (0, 1, False) else pytest.mark.slow) for cell in MATRIX],
    ids=str,
)


def parts_of(cell):
    """The loop of a cell, and its settings for `make_run`."""
    name, n_workers, n_accumulation, bf16 = cell
    return partial(LOOPS[name], saving=False, bf16=bf16), {"n_workers": n_workers, "n_accumulation": n_accumulation}


def with_hook(loop, hook):
    """A loop that calls `hook` before each forward pass."""

    def train_fn(run):
        run.model.register_forward_pre_hook(lambda model, inputs: hook())
        loop(run)

    return train_fn


@every_cell
def test_the_global_random_states_stay_as_they_were(cell, tmp_path):
    (loop, settings), states = parts_of(cell), []
    trace = Trace.of(with_hook(loop, lambda: states.append(_random_states())), make_run(tmp_path, **settings))
    assert len(states) == len(trace.batches) >= 30
    assert all(state == states[0] for state in states)


@every_cell
def test_two_runs_in_one_process_leave_each_other_alone(cell, tmp_path):
    """The second one runs as a whole in the middle of the first."""
    loop, settings = parts_of(cell)
    inner = make_run(tmp_path, n_epochs=2, **settings)
    calls = []

    def start_the_other():
        calls.append(None)
        if len(calls) == 14:  # in the second epoch, at an update: Accelerate has one state of accumulation per process
            loop(inner)

    alone, outer = make_run(tmp_path, **settings), make_run(tmp_path, **settings)
    Trace.of(loop, alone)
    trace = Trace.of(with_hook(loop, start_the_other), outer)
    check_trace(trace, outer.pruner, final_learning_rate=0.0)
    assert [record.n_updates for record in inner.pruner.history_] == [-(-10 // settings["n_accumulation"])] * 2
    for key, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, outer.model.state_dict()[key])


def same_state(ours, theirs):
    """Whether two states of pruners are equal, to the bit."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same_state(ours[key], theirs[key]) for key in ours)
    return np.array_equal(ours, theirs, equal_nan=True) if isinstance(ours, np.ndarray) else ours == theirs


@pytest.mark.parametrize("refresh", ["observed", "full"])
@every_cell
def test_a_pruner_is_copied_and_pickled_after_its_run(cell, refresh, tmp_path):
    loop, settings = parts_of(cell)
    run = make_run(tmp_path, n_epochs=2, **settings)
    run.pruner.set_params(refresh=refresh)
    loop(run)
    for twin in (copy.deepcopy(run.pruner), pickle.loads(pickle.dumps(run.pruner))):  # noqa: S301 - our own bytes
        assert isinstance(twin, DynamicPruner)
        assert same_state(twin.state_dict(), run.pruner.state_dict())
        assert list(twin.sampler_) == list(run.pruner.sampler_)


@every_cell
def test_memory_stays_flat_over_50_epochs(cell, tmp_path):
    loop, settings = parts_of(cell)
    run, at_start = make_run(tmp_path, n_epochs=50, batch_size=19, **settings), {}

    def note():
        epoch = run.pruner.epoch_
        if epoch in (10, 48) and epoch not in at_start:
            gc.collect()
            n_tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
            at_start[epoch] = n_tensors, tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        with_hook(loop, note)(run)
    finally:
        tracemalloc.stop()
    (tensors, size), (later_tensors, later_size) = at_start[10], at_start[48]
    assert later_tensors <= tensors
    assert (later_size - size) / 38 < 10_000  # bytes an epoch: a record of the history, the probe's and Trainer's logs
