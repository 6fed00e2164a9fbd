"""What `prepare` hands out in one process, and what it refuses; several are in `test_distributed.py`."""

import pytest
import torch
from accelerate import Accelerator, ParallelismConfig
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader

from dataprune import CyclicScheduler, DynamicPruner, RandomK
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.integrations.accelerate import prepare

LOADER = DataLoader(torch.zeros(8, 2), 4, shuffle=True)


def pruner():
    return DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5))


def loader_of(pruner, *, batch_size=4, **batches):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**batches))
    return prepare(accelerator, pruner, DataLoader(torch.zeros(8, 2), batch_size, shuffle=True), n_epochs=3)


def pass_over(loader, pruner, n_batches=None):
    """Train on an epoch, or on its first batches, and return its rows."""
    rows = []
    for number, (index, _) in enumerate(loader, start=1):
        pruner.observe(index)
        rows += index.tolist()
        if number == n_batches:
            break
    return rows


@pytest.mark.parametrize(
    "batches", [{}, {"split_batches": True}, {"even_batches": False}, {"dispatch_batches": True}], ids=str
)
def test_in_one_process_all_ways_to_make_batches_are_one(batches):
    expected, found = pruner(), pruner()
    plain, loader = expected.attach(LOADER, n_epochs=3), loader_of(found, **batches)
    for epoch in range(3):
        expected.set_epoch(epoch)
        assert pass_over(loader, found) == pass_over(plain, expected)
        assert found.epoch_ == epoch


def test_each_pass_over_the_loader_is_an_epoch_and_the_last_one_stays():
    ours = pruner()
    loader = loader_of(ours)
    passes = [pass_over(loader, ours) for _ in range(3)]
    assert [len(rows) for rows in passes] == [8, 4, 4]
    assert [record.n_updates for record in ours.history_] == [2, 1, 1]
    assert [index.tolist() for index, _ in loader] == [passes[-1]]
    assert ours.epoch_ == 2


def test_a_pass_without_training_begins_no_epoch():
    ours = pruner()
    loader = loader_of(ours)
    looked_at = [row for index, _ in loader for row in index.tolist()]
    next(iter(loader))
    assert pass_over(loader, ours) == looked_at
    assert ours.epoch_ == 0


def test_an_epoch_that_was_left_early_is_no_reason_to_go_on_in_silence():
    ours = pruner()
    loader = loader_of(ours)
    pass_over(loader, ours, n_batches=1)
    with pytest.raises(StateError, match=r"Epoch 0 was left after 1 of its 2 batches\. Call pruner\.set_epoch"):
        next(iter(loader))
    loader.set_epoch(1)  # as Accelerate's own loaders have it
    assert len(loader) == 1
    assert len(pass_over(loader, ours)) == 4


def test_a_loop_that_begins_its_epochs_itself_may_leave_them_and_look_at_batches():
    ours = pruner()
    loader = loader_of(ours, batch_size=2)
    for epoch in range(3):
        ours.set_epoch(epoch)
        pass_over(loader, ours, n_batches=1)
        next(iter(loader))
        assert ours.epoch_ == epoch


@pytest.mark.parametrize("n_done", [1, 2, 3])
def test_a_resumed_loop_goes_on_with_the_rest_of_its_epoch(n_done, tmp_path):
    whole, stopped, resumed = pruner(), pruner(), pruner()
    loader = loader_of(whole)
    expected = [pass_over(loader, whole) for _ in range(3)]
    loader = loader_of(stopped)
    for n_batches in {1: [1], 2: [2], 3: [2, 1]}[n_done]:
        pass_over(loader, stopped, n_batches)
    stopped.save(tmp_path / "pruner.safetensors")
    loader = loader_of(resumed)
    resumed.load(tmp_path / "pruner.safetensors")
    passes = [pass_over(loader, resumed) for _ in range(resumed.epoch_, 3)]
    assert [row for rows in passes for row in rows] == [row for rows in expected for row in rows][n_done * 4 :]
    assert resumed.epoch_ == 2


def test_accelerate_does_not_shard_the_loader_again():
    accelerator = Accelerator(cpu=True)
    loader = prepare(accelerator, pruner(), LOADER, n_epochs=2)
    assert accelerator.prepare(loader) is loader


def test_processes_that_share_a_batch_are_refused(monkeypatch):
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    monkeypatch.setattr(Accelerator, "parallelism_config", ParallelismConfig(tp_size=2))
    with pytest.raises(InvalidValueError, match=r"each of the 2 processes, got tensor, .* in which 2 share one"):
        prepare(accelerator, pruner(), LOADER, n_epochs=2)


def test_arguments_of_the_wrong_kind_are_named():
    with pytest.raises(InvalidTypeError, match=r"needs an accelerate\.Accelerator, got DynamicPruner"):
        prepare(pruner(), pruner(), LOADER, n_epochs=2)
    with pytest.raises(InvalidTypeError, match="needs a DynamicPruner, got DataLoader"):
        prepare(Accelerator(cpu=True), LOADER, pruner(), n_epochs=2)


def test_what_attach_refuses_is_refused_here_too():
    with pytest.raises(InvalidValueError, match="n_epochs must be at least 1"):
        prepare(Accelerator(cpu=True), pruner(), LOADER, n_epochs=0)
