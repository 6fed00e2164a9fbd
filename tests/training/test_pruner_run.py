"""A run in one's own loop: epochs, progress, history, export."""

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader
from training_parts import N, Rows, classifier, index_forward, loader, pruner, train_plainly

from dataprune import CyclicScheduler, DynamicPruner, Indexed, Loss, RandomK


def run(n_epochs=6, n_accumulation=1, **changes):
    ours, model = pruner(**changes), classifier()
    batches = ours.attach(loader(), n_epochs=n_epochs, n_accumulation=n_accumulation)
    visited = train_plainly(ours, batches, model, torch.optim.SGD(model.parameters(), 0.1), n_epochs)
    return ours, visited


def test_the_loader_yields_indexed_batches_of_the_selection():
    ours = pruner()
    batches = ours.attach(loader(), n_epochs=3)
    ours.set_epoch(0)
    batch = next(iter(batches))
    assert isinstance(batch, Indexed)
    data = batches.dataset.dataset
    assert all(torch.equal(x, data[i][0]) for i, x in zip(batch.index.tolist(), batch.batch[0], strict=True))


def test_each_epoch_visits_its_selection_once_in_a_new_order():
    ours, visited = run()
    by_epoch = {epoch: [i for e, rows in visited if e == epoch for i in rows] for epoch in range(6)}
    assert [len(rows) for rows in by_epoch.values()] == [60, 24, 24, 24, 24, 24]
    assert all(len(set(rows)) == len(rows) for rows in by_epoch.values())
    assert set(by_epoch[1]) == set(by_epoch[2])  # one cycle
    assert by_epoch[1] != by_epoch[2]
    assert set(by_epoch[5]) == set(ours.indices_)
    assert ours.n_epochs_trained_.tolist() == [sum(i in rows for rows in by_epoch.values()) for i in range(N)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_score_of_example_i_is_found_at_i(shuffle):
    ours = DynamicPruner(Loss(), scheduler=CyclicScheduler(keep_fraction=0.5))
    batches = ours.attach(DataLoader(Rows(), 7, shuffle=shuffle), n_epochs=2)
    model = torch.nn.Linear(1, 1)
    for epoch in range(2):
        ours.set_epoch(epoch)
        for index, batch in batches:
            ours.observe(index, **index_forward(model, batch))
        assert ours.scorer_.scores_.tolist() == list(range(N))
    assert ours.indices_.tolist() == list(range(30, 60))


def test_the_loader_keeps_the_ways_of_the_one_it_was_made_from():
    def collate(examples):
        return len(examples)

    given = loader(collate_fn=collate, drop_last=True, num_workers=2, prefetch_factor=3, persistent_workers=True)
    batches = pruner().attach(given, n_epochs=2)
    for name in ("drop_last", "num_workers", "prefetch_factor", "persistent_workers", "timeout", "pin_memory"):
        assert getattr(batches, name) == getattr(given, name)
    assert [batch.batch for batch in batches] == [8] * 7
    assert len(batches) == 7


def test_the_same_epoch_again_changes_nothing():
    ours = pruner(selector=RandomK())
    batches = ours.attach(loader(), n_epochs=3)
    for epoch in range(3):
        ours.set_epoch(epoch)
        before = ours.indices_.copy(), list(batches.sampler), len(ours.history_)
        ours.observe(torch.tensor([0]), logits=torch.zeros(1, 3), labels=torch.tensor([0]))
        ours.set_epoch(epoch)
        batches.sampler.set_epoch(epoch)
        assert ours.n_observed_batches_ == 1
        assert (ours.indices_.tolist(), list(batches.sampler), len(ours.history_)) == (before[0].tolist(), *before[1:])


def test_a_late_epoch_is_an_error_for_the_pruner_and_ignored_by_the_sampler():
    ours, _ = run(n_epochs=3)
    before = ours.indices_.tolist()
    ours.sampler_.set_epoch(0)
    assert (ours.epoch_, ours.indices_.tolist()) == (2, before)
    with pytest.raises(ValueError, match="do not go back"):
        ours.set_epoch(0)


def test_a_loader_that_announces_the_epoch_makes_the_selection():
    ours = pruner()
    batches = ours.attach(loader(), n_epochs=3)
    batches.sampler.set_epoch(0)
    assert ours.epoch_ == 0


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_run_of_updates_trains_on_what_they_take_of_its_last_epoch(shuffle):
    ours, selections, visited = pruner(), [], []
    batches = ours.attach(loader(shuffle=shuffle), n_updates=13)
    for epoch in range(ours.n_epochs_):
        ours.set_epoch(epoch)
        selections.append(ours.indices_.tolist())
        visited.append([])
        for index, (x, y) in batches:
            ours.observe(index, logits=x[:, :3], labels=y)
            visited[-1] += index.tolist()
    assert ours.plan_.updates == tuple(record.n_updates for record in ours.history_) == (8, 3, 2)
    assert ours.plan_.n_kept == tuple(record.n_kept for record in ours.history_) == (60, 24, 16)
    assert [record.n_asked for record in ours.history_] == [60, 24, 24]
    assert ours.progress() == 1.0
    assert [sorted(rows) for rows in visited] == selections
    assert ours.n_epochs_trained_.sum() == 60 + 24 + 16
    whole = selections[1]  # two epochs on one selection
    assert set(selections[2]) < set(whole)
    assert (selections[2] == whole[:16]) == (not shuffle)
    with pytest.raises(ValueError, match=r"must be in \[2, 3\), got 3"):
        ours.set_epoch(3)


@pytest.mark.parametrize("n_accumulation", [1, 4])
def test_progress_grows_by_one_update_and_ends_at_one(n_accumulation):
    ours = pruner()
    batches = ours.attach(loader(), n_epochs=4, n_accumulation=n_accumulation)
    assert ours.progress() == 0.0
    n_updates = 0
    for epoch in range(4):
        ours.set_epoch(epoch)
        n_batches = len(batches)
        for done, (index, (_, y)) in enumerate(batches, start=1):
            ours.observe(index, logits=torch.zeros(len(index), 3), labels=y)
            n_updates += done % n_accumulation == 0 or done == n_batches
            assert ours.progress() == pytest.approx(n_updates / ours.plan_.n_updates)
        assert ours.history_[-1].n_updates == ours.plan_.updates[epoch]
    assert ours.progress() == 1.0
    assert n_updates == ours.plan_.n_updates


def test_history_tells_what_was_asked_and_kept():
    ours, visited = run()
    assert [record.n_asked for record in ours.history_] == [60, 24, 24, 24, 24, 24]
    assert [record.n_kept for record in ours.history_] == [60, 24, 24, 24, 24, 24] == list(ours.plan_.n_kept)
    assert sum(record.n_updates for record in ours.history_) == len(visited) == ours.plan_.n_updates
    assert all(seconds >= 0 for record in ours.history_ for seconds in record.seconds.values())


def test_whole_updates_keep_more_and_say_so():
    ours = pruner()
    batches = ours.attach(loader(), n_epochs=3, n_accumulation=2, whole_updates=True)
    model = classifier()
    train_plainly(ours, batches, model, torch.optim.SGD(model.parameters(), 0.1), 3)
    assert [(record.n_asked, record.n_kept) for record in ours.history_] == [(60, 60), (24, 25), (24, 25)]
    assert len(ours.indices_) == 25


def test_evaluations_are_noted_with_the_epoch():
    ours, _ = run(n_epochs=2)
    ours.log_evaluation({"accuracy": 0.5}, seconds=2.0)
    assert ours.history_[-1].metrics == {"accuracy": 0.5}
    assert ours.history_[-1].seconds["evaluate"] == 2.0
    assert "accuracy" in str(ours.history_)


def test_lengths_are_counted_where_they_are_known():
    data = datasets.Dataset.from_dict({"input_ids": [[1] * (i % 5 + 1) for i in range(60)], "y": [0] * 60})
    ours = pruner(selector=RandomK(), scheduler=CyclicScheduler(keep_fraction=0.5))
    ours.attach(DataLoader(data, 8, shuffle=True, collate_fn=list), n_epochs=2)
    for epoch in range(2):
        ours.set_epoch(epoch)
        ours.observe(torch.tensor([0]), logits=torch.zeros(1, 3), labels=torch.tensor([0]))
        assert ours.history_[-1].n_tokens == sum(len(data[int(i)]["input_ids"]) for i in ours.indices_)


def test_an_augmented_run_of_the_same_seed_chooses_the_same_and_another_seed_other():
    kept = [run(selector=RandomK(), random_state=seed)[0].indices_.tolist() for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]


def test_the_selection_can_be_exported_in_many_kinds():
    ours, _ = run()
    rows = ours.indices_.tolist()
    assert ours.export(list(range(60))) == rows
    assert ours.export(np.arange(60)).tolist() == rows
    assert ours.export(pd.DataFrame({"x": range(60)})).x.tolist() == rows
    assert ours.export(datasets.Dataset.from_dict({"x": range(60)}))["x"][:] == rows


class Augmented(Rows):
    """A row looks different each time; the draws are those of the loader's worker."""

    def __getitem__(self, row):
        return torch.rand(1), 0


def test_workers_draw_anew_in_each_epoch_and_alike_in_each_run():
    def draws():
        ours = pruner()
        batches = ours.attach(DataLoader(Augmented(), 30, num_workers=2), n_epochs=2)
        seen = []
        for epoch in range(2):
            ours.set_epoch(epoch)
            for index, (x, y) in batches:
                seen.append((epoch, x.flatten().tolist()))
                ours.observe(index, logits=torch.zeros(len(x), 3), labels=y)
        return seen

    first, second = draws(), draws()
    assert first == second
    values = [value for _, batch in first for value in batch]
    assert len(set(values)) == len(values)


def test_attaching_again_starts_a_new_run():
    ours, _ = run()
    ours.attach(loader(), n_epochs=2)
    assert ours.epoch_ == -1
    assert len(ours.history_) == 0
    assert (ours.scorer_.store_.counts == 0).all()
