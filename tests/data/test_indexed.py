"""The index travels in the batch: whatever the example, the worker count or the start method."""

import copy
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate
from torch.utils.data._utils.pin_memory import pin_memory

from dataprune.data.indexed import Indexed, IndexedCollate, IndexedDataset
from dataprune.errors import DataPruneError


class Squares:
    """The smallest map-style data set: row i is i squared."""

    def __len__(self):
        return 11

    def __getitem__(self, row):
        return torch.tensor(row * row)


class Stream(IterableDataset):
    """Iterable only, although it claims a length."""

    def __iter__(self):
        return iter(range(3))

    def __len__(self):
        return 3


def keep_examples(examples):
    """Collate nothing (module level, so that spawned workers can unpickle it)."""
    return examples


def rows_as(kind, n=11):
    """`n` examples whose value is their row number, in one of the forms people have."""
    if kind == "tuple":
        return TensorDataset(torch.arange(n), torch.zeros(n))
    if kind == "mapping":
        return [{"value": row} for row in range(n)]
    return datasets.Dataset.from_dict({"value": list(range(n))})


def values_of(batch):
    return (batch["value"] if isinstance(batch, dict) else batch[0]).tolist()


@pytest.mark.parametrize("kind", ["tuple", "mapping", "datasets"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_each_example_arrives_with_its_own_index(kind, n_workers):
    loader = DataLoader(
        IndexedDataset(rows_as(kind)),
        batch_size=4,
        shuffle=True,
        num_workers=n_workers,
        collate_fn=IndexedCollate(),
    )
    batches = list(loader)
    assert [len(batch.index) for batch in batches] == [4, 4, 3]
    for index, batch in batches:
        assert index.dtype == torch.int64
        assert index.tolist() == values_of(batch)
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(11))


def test_spawned_workers_get_the_same_pairs():
    loader = DataLoader(
        IndexedDataset(Squares()),
        batch_size=4,
        num_workers=2,
        multiprocessing_context="spawn",
        collate_fn=IndexedCollate(keep_examples),
    )
    for index, examples in loader:
        assert [row * row for row in index.tolist()] == [int(example) for example in examples]


def test_accelerate_keeps_the_pairs_although_it_looks_ahead():
    loader = DataLoader(IndexedDataset(rows_as("mapping")), batch_size=4, shuffle=True, collate_fn=IndexedCollate())
    prepared = Accelerator(cpu=True).prepare(loader)
    batches = list(prepared)
    assert len(batches) == 3
    for batch in batches:
        assert isinstance(batch, Indexed)
        assert batch.index.tolist() == values_of(batch.batch)


def test_a_pinned_batch_is_still_indexed():
    class Pinnable:
        """Stands in for a tensor: pinning real ones needs an accelerator."""

        pinned = False

        def pin_memory(self):
            self.pinned = True
            return self

    batch = pin_memory(Indexed(Pinnable(), {"input_ids": Pinnable()}))
    assert isinstance(batch, Indexed)
    assert batch.index.pinned
    assert batch.batch["input_ids"].pinned


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 20), data=st.data())
def test_getitems_equals_one_by_one(n, data):
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
    for kind in ["tuple", "mapping", "datasets"]:
        dataset = IndexedDataset(rows_as(kind, n))
        assert dataset.__getitems__(rows) == [dataset[row] for row in rows]


def test_the_inner_getitems_is_used_where_there_is_one():
    asked = []

    class Fast(Squares):
        def __getitems__(self, rows):
            asked.append(rows)
            return [self[row] for row in rows]

    assert IndexedDataset(Fast()).__getitems__([2, 5]) == [(2, 4), (5, 25)]
    assert asked == [[2, 5]]


@pytest.mark.parametrize("index", [3, np.int64(3), torch.tensor(3), -8])
def test_any_kind_of_index_becomes_a_plain_non_negative_int(index):
    row, example = IndexedDataset(Squares())[index]
    assert (type(row), row, int(example)) == (int, 3, 9)


@pytest.mark.parametrize("index", [11, -12])
def test_an_index_out_of_range_is_an_index_error(index):
    dataset = IndexedDataset(Squares())
    with pytest.raises(IndexError, match="out of range for a data set of 11"):
        dataset[index]
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])


def test_plain_iteration_ends():
    assert [row for row, _ in IndexedDataset(Squares())] == list(range(11))


def test_it_survives_pickle_and_deepcopy():
    for kind in ["tuple", "mapping", "datasets"]:
        dataset = IndexedDataset(rows_as(kind))
        collate = IndexedCollate()
        for copied in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):  # noqa: S301
            index, batch = copy.deepcopy(collate)([copied[3], copied[1]])
            assert index.tolist() == values_of(batch) == [3, 1]
        assert pickle.loads(pickle.dumps(collate)).collate_fn is default_collate  # noqa: S301


def test_a_subset_is_indexed_by_its_own_rows():
    dataset = IndexedDataset(Subset(rows_as("mapping"), [9, 4]))
    assert dataset[1] == (1, {"value": 4})


def test_attributes_of_the_inner_data_set_do_not_shine_through():
    assert not hasattr(IndexedDataset(rows_as("datasets")), "column_names")


def test_indices_stay_exact_where_float32_would_not():
    index, _ = IndexedCollate()([(16_777_217, 0.0), (2**53 + 1, 0.0)])
    assert index.tolist() == [16_777_217, 2**53 + 1]


def a_generator():
    yield 1


@pytest.mark.parametrize(
    "dataset",
    [Stream(), datasets.Dataset.from_dict({"x": [1]}).to_iterable_dataset(), a_generator(), {1, 2}],
    ids=["torch", "datasets", "generator", "set"],
)
def test_streams_are_refused(dataset):
    with pytest.raises(TypeError, match=r"IndexedDataset\.dataset must have a length .* got \w+\. Pass") as caught:
        IndexedDataset(dataset)
    assert isinstance(caught.value, DataPruneError)


def test_several_splits_are_refused_by_name():
    splits = datasets.DatasetDict({"train": rows_as("datasets"), "test": rows_as("datasets")})
    with pytest.raises(TypeError, match="must be one data set, got DatasetDict with the keys 'train', 'test'"):
        IndexedDataset(splits)


def test_importing_it_loads_torch_and_nothing_heavy():
    code = (
        "import sys, torch, torch.utils.data; before = set(sys.modules); import dataprune.data.indexed; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["dataprune"]


def test_the_package_resolves_every_public_name():
    import dataprune.data

    for name in dataprune.data.__all__:
        assert getattr(dataprune.data, name) is not None
        assert name in dir(dataprune.data)
    assert set(dataprune.data._MODULE_OF) == set(dataprune.data.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        dataprune.data.nonsense  # noqa: B018
