"""NearDuplicate: copies lowest, the first of a group stays."""

import numpy as np
import pytest
import torch
from dataset_scorer_laws import check_dataset_scorer
from datasets import Dataset

from dataprune import TopK
from dataprune.errors import DataError
from dataprune.scoring.duplicates import NearDuplicate

TEXTS = ["play some jazz", "book a table", "play some jazz", "play some jazzz", "rain", "book a table"]


def test_the_contract_holds():
    check_dataset_scorer(NearDuplicate(column=None), TEXTS, row_by_row=False, permutes=False)
    rows = [{"x": row} for row in np.random.default_rng(0).normal(size=(8, 3)).tolist()]
    check_dataset_scorer(NearDuplicate(column="x"), rows, row_by_row=False, permutes=False)


def test_copies_score_lowest_then_near_copies_and_the_first_of_each_stays_high():
    scores = NearDuplicate(column=None).fit(TEXTS).scores_
    assert scores[[2, 5]].tolist() == [-1.0, -1.0]
    assert -1.0 < scores[3] < -0.7
    assert scores[0] == 0.0
    assert scores[[1, 4]].min() > -0.3
    assert TopK().fit(scores, n_keep=3).indices_.tolist() == [0, 1, 4]


def test_a_typo_and_other_case_are_near_copies_and_other_words_are_none():
    scores = (
        NearDuplicate(column=None).fit(["weather in boston", "Weather in Boston", "wether in boston", "xyz"]).scores_
    )
    assert scores[1] == pytest.approx(-1.0)
    assert scores[2] < -0.6
    assert scores[3] == 0.0


def test_empty_texts_are_like_nothing_but_each_other():
    assert NearDuplicate(column=None).fit(["", "play", "", " "]).scores_.tolist() == [0.0, 0.0, -1.0, 0.0]
    assert NearDuplicate(column=None).fit(["", " ", ""]).scores_.tolist() == [0.0, 0.0, -1.0]
    assert NearDuplicate(column=None).fit([]).scores_.shape == (0,)


def test_embeddings_are_compared_by_their_cosine():
    X = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.6, 0.8]])
    expected = [0.0, 0.0, -1.0, 0.0, 0.0, -0.8]
    rows = [{"x": row} for row in X.tolist()]
    np.testing.assert_allclose(NearDuplicate(column="x").fit(rows).scores_, expected, atol=1e-6)
    np.testing.assert_allclose(NearDuplicate(column="x").fit(Dataset.from_list(rows)).scores_, expected, atol=1e-6)
    for kind in (X, torch.from_numpy(X)):
        np.testing.assert_allclose(NearDuplicate(column=None).fit(kind).scores_, expected, atol=1e-6)


def test_copies_of_an_embedding_score_lowest_to_the_last_bit_zero_vectors_too():
    X = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    X[5] = [0.0, -0.0, *[0.0] * 5]
    scores = NearDuplicate(column=None).fit(X[[0, 1, 2, 3, 5, 0, 1, 2, 3, 5]]).scores_
    assert scores[5:].tolist() == [-1.0] * 5  # their cosines differ from 1 by rounding
    assert scores[:5].min() > -1.0


def test_texts_of_tokens_are_texts():
    rows = [{"text": text.split()} for text in TEXTS]
    np.testing.assert_array_equal(NearDuplicate().fit(rows).scores_, NearDuplicate(column=None).fit(TEXTS).scores_)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["play", None], "got None in row 1"),
        ([None, "play"], "Rows must hold embeddings"),
        ([{"text": "play"}, {"text": [0.5]}], "Column 'text' must hold texts or lists of tokens"),
    ],
)
def test_rows_of_another_kind_are_refused(rows, words):
    with pytest.raises(DataError, match=words):
        NearDuplicate(column=None if "play" in rows else "text").fit(rows)
