"""The groups of a run's examples, from a column of values, of lists or of tags."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.data.tasks import JointNLUTask, TokenClassificationTask
from dataprune.runs.groups import groups_of, slot_types

BIO, WORD_CLASSES = ["B-city", "B-day", "I-city", "O"], ["ADJ", "NOUN", "O", "VERB"]


@settings(max_examples=50)
@given(labels=st.lists(st.lists(st.sampled_from([-101, -100, 0, 1, 2, 3]), max_size=6), max_size=8))
def test_types_are_those_of_the_tags_read_one_by_one(labels):
    for tags, types in ((BIO, ["city", "day"]), (WORD_CLASSES, WORD_CLASSES)):
        is_bio = tags is BIO
        names = [{tags[i] for i in row if i >= 0} - ({"O"} if is_bio else set()) for row in labels]
        names = [{tag[2:] if is_bio else tag for tag in row} for row in names]
        found = slot_types(labels, tags)
        assert found.shape == (len(labels), len(types))
        assert [{types[k] for k in np.flatnonzero(row)} for row in found] == names


def test_spans_without_a_type_are_one_type_and_no_span_is_none():
    assert slot_types([[0, 1], [2]], ["B", "I", "O"]).tolist() == [[True], [False]]
    assert slot_types([[0], []], ["O"]).shape == (2, 0)


@pytest.mark.parametrize(("kind", "head"), [(JointNLUTask, "slot_labels"), (TokenClassificationTask, "labels")])
def test_tags_are_found_by_the_column_that_the_user_named(kind, head, joint_dataset, tokenizer):
    raw = joint_dataset.rename_column("slots", "tags")
    task = kind(columns={"slots": "tags"}).fit(raw)
    encoded = task.encode(raw, tokenizer)
    assert head in encoded.column_names
    expected = [[any(tag.endswith(name) for tag in row) for name in ("city", "day")] for row in raw["tags"]]
    assert groups_of(raw, encoded, "tags", task=task).tolist() == expected
    assert groups_of(raw, encoded, "intent", task=task).tolist() == raw["intent"][:]
    assert groups_of(raw, encoded, "tokens", task=task).tolist() == raw["tokens"][:]


def test_a_column_of_class_labels_gives_its_numbers():
    raw = Dataset.from_dict({"n": [1, 0], "x": ["a", "b"]}, Features(n=ClassLabel(names=["u", "v"]), x=Value("string")))
    assert groups_of(raw, raw, "n", task=JointNLUTask()).tolist() == [1, 0]
