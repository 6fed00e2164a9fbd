"""Batches of like length hold the same examples, in an order that the seed alone decides."""

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.data.batching import BATCHES_PER_POOL, example_lengths, length_sorted_batches, shuffled_order


def test_lengths_come_from_their_column_or_from_the_tokens():
    rows = {"input_ids": [[1, 2], [3], []], "length": [7, 8, 9]}
    assert example_lengths(datasets.Dataset.from_dict(rows)).tolist() == [7, 8, 9]
    assert example_lengths(datasets.Dataset.from_dict({"input_ids": rows["input_ids"]})).tolist() == [2, 1, 0]
    assert example_lengths(datasets.Dataset.from_dict(rows).with_format("torch")).tolist() == [7, 8, 9]
    assert example_lengths(datasets.Dataset.from_dict(rows).select([2, 0])).tolist() == [9, 7]


@pytest.mark.parametrize("data", [[1, 2], datasets.Dataset.from_dict({"text": ["a"]}), {"length": [1]}])
def test_other_data_do_not_know_their_lengths(data):
    assert example_lengths(data) is None


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 50), max_size=60),
    batch_size=st.integers(1, 10),
    seed=st.integers(0, 99),
    grouped=st.booleans(),
)
def test_every_example_comes_once(lengths, batch_size, seed, grouped):
    lengths = np.array(lengths, dtype=np.int64)
    indices = np.flatnonzero(np.random.default_rng(seed).random(len(lengths)) < 0.7)
    known = lengths if grouped else None
    batches = list(length_sorted_batches(indices, known, batch_size))
    assert sorted(np.concatenate([*batches, []]).tolist()) == indices.tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    before = indices.copy()
    order = shuffled_order(indices, np.random.default_rng(seed), lengths=known, batch_size=batch_size)
    assert sorted(order.tolist()) == indices.tolist()
    assert order.dtype == np.int64
    assert indices.tolist() == before.tolist()
    again = shuffled_order(indices, np.random.default_rng(seed), lengths=known, batch_size=batch_size)
    assert order.tolist() == again.tolist()


def test_scoring_starts_with_the_longest():
    lengths = np.random.default_rng(0).integers(1, 99, size=100)
    order = np.concatenate(list(length_sorted_batches(np.arange(100), lengths, 7)))
    assert (np.diff(lengths[order]) <= 0).all()


def test_grouped_batches_pad_less_and_come_in_random_order():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 99, size=1000)

    def padding(order):
        return sum(int((batch.max() - batch).sum()) for batch in np.split(lengths[order], 100))

    plain = shuffled_order(np.arange(1000), np.random.default_rng(1), batch_size=10)
    grouped = shuffled_order(np.arange(1000), np.random.default_rng(1), lengths=lengths, batch_size=10)
    assert padding(grouped) < padding(plain) / 10
    first = lengths[grouped].reshape(100, 10).max(1)
    assert 20 < (np.diff(first) > 0).sum() < 80  # neither rising nor falling


def test_examples_meet_others_in_each_epoch():
    lengths = np.repeat(10, 10 * BATCHES_PER_POOL * 2)
    orders = [
        shuffled_order(np.arange(len(lengths)), np.random.default_rng(epoch), lengths=lengths, batch_size=10)
        for epoch in range(2)
    ]
    batches = [{frozenset(batch.tolist()) for batch in np.split(order, len(order) // 10)} for order in orders]
    assert not batches[0] & batches[1]


def test_full_batches_hold_like_lengths_and_the_rest_stays_last():
    lengths = np.arange(25)
    order = shuffled_order(np.arange(25), np.random.default_rng(0), lengths=lengths, batch_size=10)
    short, long = sorted([order[:10], order[10:20]], key=min)
    assert max(short) < min(long)
    assert sorted(order.tolist()) == list(range(25))


def test_the_rest_is_not_always_the_shortest():
    # drop_last drops the rest: it must not be the same examples in each epoch.
    lengths = np.arange(25)
    rests = [
        frozenset(
            shuffled_order(np.arange(25), np.random.default_rng(seed), lengths=lengths, batch_size=10)[20:].tolist()
        )
        for seed in range(5)
    ]
    assert len(set(rests)) == 5
