"""PruningSampler: iterating changes nothing, epochs never go back."""

import copy
import pickle

import numpy as np
import pytest
from torch.utils.data import DataLoader

from dataprune import PruningSampler

KEPT = np.arange(3, 50, 2)


def selected(epoch=0, **keywords):
    sampler = PruningSampler(50, **keywords)
    sampler.select(epoch, KEPT)
    return sampler


def test_an_iterator_of_an_iterator_ends():
    sampler = selected()
    order = list(iter(iter(sampler)))
    assert sorted(order) == KEPT.tolist()
    assert list(sampler) == order


def test_interleaved_and_abandoned_iterators_give_the_same_order():
    sampler = selected()
    expected = list(sampler)
    first, abandoned = iter(sampler), iter(sampler)
    found = [next(first)]
    next(abandoned)
    second = iter(sampler)
    found_too = []
    for _ in range(len(expected) - 1):
        found_too.append(next(second))
        found.append(next(first))
    found_too.append(next(second))
    assert found == found_too == expected


def test_the_length_is_known_before_and_after_a_selection_and_a_pass():
    sampler = PruningSampler(50)
    assert len(sampler) == 50
    assert sorted(sampler) == list(range(50))
    sampler.select(0, KEPT)
    assert len(sampler) == len(KEPT)
    list(sampler)
    assert len(sampler) == len(KEPT)
    assert len(DataLoader(list(range(50)), 10, sampler=sampler)) == 3


def test_the_order_follows_from_the_seed_and_the_epoch_alone():
    assert list(selected(epoch=1)) == list(selected(epoch=1))
    orders = {tuple(selected(epoch=epoch, random_state=seed)) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_without_shuffling_rows_come_in_their_own_order():
    assert list(selected(shuffle=False)) == KEPT.tolist()


def test_indices_are_python_ints():
    assert {type(row) for row in selected()} == {int}


def test_batches_done_before_a_resume_are_left_out():
    whole = list(selected(batch_size=4))
    sampler = PruningSampler(50, batch_size=4)
    sampler.select(0, KEPT, n_skipped_batches=2)
    assert list(sampler) == whole[8:]
    assert len(sampler) == len(whole) - 8
    sampler.select(0, KEPT, n_skipped_batches=100)
    assert list(sampler) == []
    assert len(sampler) == 0


def test_grouped_batches_have_like_lengths():
    lengths = np.random.default_rng(0).integers(1, 100, size=50)
    order = np.array(list(selected(lengths=lengths, batch_size=6)))
    assert sorted(order.tolist()) == KEPT.tolist()
    spreads = [np.ptp(lengths[batch]) for batch in np.split(order, 4)]
    assert max(spreads) < 50


@pytest.mark.parametrize("late", [0, 1, 2])
def test_an_epoch_at_or_below_the_current_one_is_ignored(late):
    calls = []
    sampler = PruningSampler(50, on_epoch=calls.append)
    sampler.select(2, KEPT)
    before = list(sampler)
    sampler.set_epoch(late)
    assert calls == []
    assert list(sampler) == before


def test_a_later_epoch_is_passed_on_once():
    sampler = PruningSampler(50)

    def choose(epoch):
        calls.append(epoch)
        sampler.select(epoch, KEPT)

    calls = []
    sampler.on_epoch = choose
    sampler.set_epoch(0)
    sampler.set_epoch(0)
    sampler.set_epoch(1)
    assert calls == [0, 1]


def test_a_sampler_without_a_pruner_ignores_epochs():
    sampler = selected()
    sampler.set_epoch(5)
    assert sampler.epoch == 0


def test_a_sampler_is_copied_and_pickled():
    sampler = selected()
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):  # noqa: S301
        assert list(other) == list(sampler)
