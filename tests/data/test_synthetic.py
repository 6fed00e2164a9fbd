"""Made-up data hold what they promise: shares, seeds, BIO tags, a head that repeats itself and a tail that does not."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.data.sentences import TEMPLATES, VALUES
from dataprune.data.synthetic import N_HEAD_VALUES, make_classification, make_joint_nlu
from dataprune.data.tasks import guess_task
from dataprune.errors import DataPruneError

MAKERS = [make_joint_nlu, make_classification]


def texts_of(data):
    rows = data.dataset
    return rows["text"][:] if "text" in rows.column_names else [" ".join(tokens) for tokens in rows["tokens"]]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 120), redundant=st.floats(0, 1), noise_of_rest=st.floats(0, 1), maker=st.sampled_from(MAKERS))
def test_the_shares_are_met_exactly_and_do_not_overlap(n, redundant, noise_of_rest, maker):
    noise = noise_of_rest * (1 - redundant) * 0.999
    data = maker(n, redundant_fraction=redundant, noise_fraction=noise)
    n_redundant = int(redundant * n + 0.5)
    assert len(data.dataset) == n
    assert data.is_redundant.shape == data.is_mislabelled.shape == (n,)
    assert data.is_redundant.dtype == data.is_mislabelled.dtype == bool
    assert data.is_redundant.sum() == n_redundant
    assert data.is_mislabelled.sum() == min(int(noise * n + 0.5), n - n_redundant)
    assert not (data.is_redundant & data.is_mislabelled).any()


@pytest.mark.parametrize("maker", MAKERS)
def test_the_seed_makes_the_rows_and_leaves_the_global_random_state_alone(maker):
    np.random.seed(3)  # noqa: NPY002 - the global state is what is watched
    random.seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = maker(60), maker(60), maker(60, random_state=1)
    assert first.dataset.to_list() == again.dataset.to_list()
    assert np.array_equal(first.is_redundant, again.is_redundant)
    assert np.array_equal(first.is_mislabelled, again.is_mislabelled)
    assert first.dataset.to_list() != other.dataset.to_list()
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


def test_the_tags_are_well_formed_bio_of_known_values():
    for row in make_joint_nlu(1500).dataset:
        assert len(row["tokens"]) == len(row["slots"]) > 0
        spans = []
        for token, tag in zip(row["tokens"], row["slots"], strict=True):
            if tag.startswith("B-"):
                spans.append((tag[2:], [token]))
            elif tag.startswith("I-"):
                assert spans[-1][0] == tag[2:]
                spans[-1][1].append(token)
        assert all(" ".join(words) in VALUES[slot] for slot, words in spans)


def test_both_makers_make_the_same_sentences():
    joint, flat = make_joint_nlu(80, random_state=5), make_classification(80, random_state=5)
    assert texts_of(joint) == texts_of(flat)
    assert joint.dataset["intent"][:] == flat.dataset["label"][:]
    assert guess_task(joint.dataset.column_names) == "joint-nlu"
    assert guess_task(flat.dataset.column_names) == "classification"


def test_classes_are_equally_frequent_without_noise():
    counts = Counter(make_classification(1000, noise_fraction=0).dataset["label"])
    assert sorted(counts) == sorted(TEMPLATES)
    assert {*counts.values()} == {125}


def test_noise_changes_the_intent_of_the_marked_rows_and_of_no_others():
    intents = defaultdict(set)
    for maker_seed in range(3):
        clean = make_joint_nlu(2000, noise_fraction=0, random_state=maker_seed)
        for text, intent in zip(texts_of(clean), clean.dataset["intent"], strict=True):
            intents[text].add(intent)
    assert all(len(found) == 1 for found in intents.values())  # no sentence is ambiguous by itself
    noisy = make_joint_nlu(2000, noise_fraction=0.1, random_state=9)
    n_checked = 0
    for text, intent, wrong in zip(texts_of(noisy), noisy.dataset["intent"], noisy.is_mislabelled, strict=True):
        if text in intents:
            n_checked += wrong
            assert ({intent} != intents[text]) == wrong
    assert n_checked > 50


def test_redundant_rows_repeat_each_other_and_the_others_never_repeat_them():
    data = make_joint_nlu(2000, noise_fraction=0)
    redundant, rest = Counter(), Counter()
    for text, flag in zip(texts_of(data), data.is_redundant, strict=True):
        (redundant if flag else rest)[text] += 1
    assert redundant.total() == 1200
    assert len(redundant) < 100
    assert len(rest) > 500
    assert not {*redundant} & {*rest}


def test_noise_cannot_be_told_by_its_form():
    data = make_joint_nlu(4000, noise_fraction=0.25)
    head = {text for text, flag in zip(texts_of(data), data.is_redundant, strict=True) if flag}
    wrong = [text in head for text, flag in zip(texts_of(data), data.is_mislabelled, strict=True) if flag]
    assert abs(np.mean(wrong) - 0.6 / 0.75) < 0.05


def test_train_and_test_sets_of_different_seeds_share_their_words():
    train, test = make_joint_nlu(2000), make_joint_nlu(500, noise_fraction=0, random_state=1)
    known = {word for tokens in train.dataset["tokens"] for word in tokens}
    assert {word for tokens in test.dataset["tokens"] for word in tokens} <= known
    tags = {tag for slots in train.dataset["slots"] for tag in slots}
    assert {tag for slots in test.dataset["slots"] for tag in slots} <= tags


def test_the_tables_are_whole():
    assert all(len(values) == len({*values}) > N_HEAD_VALUES for values in VALUES.values())
    used = {w.strip("{}") for forms in TEMPLATES.values() for form in forms for w in form.split() if "{" in w}
    assert used == {*VALUES}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_examples": 0}, ValueError, r"n_examples must be at least 1, got 0\."),
        ({"n_examples": 2.5}, TypeError, r"n_examples must be a whole number"),
        ({"redundant_fraction": 1.5}, ValueError, r"redundant_fraction must be in \[0, 1\], got 1\.5\."),
        ({"noise_fraction": -0.1}, ValueError, r"noise_fraction must be in \[0, 1\], got -0\.1\."),
        ({"noise_fraction": float("nan")}, ValueError, r"noise_fraction must be in \[0, 1\], got nan\."),
        ({"noise_fraction": "half"}, TypeError, r"noise_fraction must be a number in \[0, 1\], got 'half'\."),
        ({"redundant_fraction": 0.8, "noise_fraction": 0.3}, ValueError, r"must be at most 1 - redundant_fraction"),
        ({"random_state": -1}, ValueError, r"random_state must be at least 0, got -1\."),
    ],
)
def test_bad_numbers_are_refused_by_name(maker, options, error, message):
    with pytest.raises(error, match=rf"^{maker.__name__}\..*{message}") as caught:
        maker(**options)
    assert isinstance(caught.value, DataPruneError)
