"""NearDuplicate: copies lowest, the first of a group stays."""

import numpy as np
import pytest
import torch
from dataset_scorer_laws import check_dataset_scorer
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.cluster import MiniBatchKMeans

from dataprune import TopK, make_joint_nlu
from dataprune.errors import DataError, InvalidValueError
from dataprune.scoring.duplicates import NearDuplicate, earlier_similarity_in_clusters

TEXTS = ["play some jazz", "book a table", "play some jazz", "play some jazzz", "rain", "book a table"]


def test_the_contract_holds():
    check_dataset_scorer(NearDuplicate(column=None), TEXTS, row_by_row=False, permutes=False)
    rows = [{"x": row} for row in np.random.default_rng(0).normal(size=(8, 3)).tolist()]
    check_dataset_scorer(NearDuplicate(column="x"), rows, row_by_row=False, permutes=False)
    check_dataset_scorer(NearDuplicate(column=None, n_clusters=2), TEXTS, row_by_row=False, permutes=False)


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
        ([None, "play"], "Rows must hold texts or lists of tokens, got None in row 0"),
        ([{"text": "play"}, {"text": [0.5]}], "Column 'text' must hold texts or lists of tokens"),
    ],
)
def test_rows_of_another_kind_are_refused(rows, words):
    with pytest.raises(DataError, match=words):
        NearDuplicate(column=None if "play" in rows else "text").fit(rows)


def earlier_in_cluster(X, clusters):
    """The slow reference: each row against every row before it that is in its cluster."""
    best = np.zeros(len(X))
    for row in range(len(X)):
        for earlier in range(row):
            if clusters is None or clusters[row] == clusters[earlier]:
                best[row] = max(best[row], X[row] @ X[earlier])
    return best


def unit_rows(n, *, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, 4))
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 60), n_clusters=st.integers(1, 9), seed=st.integers(0, 99), sparse=st.booleans())
def test_in_clusters_a_row_is_compared_with_those_of_its_own(monkeypatch, n, n_clusters, seed, sparse):
    X = unit_rows(n, seed=seed)
    monkeypatch.setattr("dataprune.scoring.duplicates.BLOCK", 7)
    clusters = (
        MiniBatchKMeans(min(n_clusters, n), n_init=1, random_state=seed).fit(csr_array(X) if sparse else X).labels_
    )
    found = earlier_similarity_in_clusters(csr_array(X) if sparse else X, n_clusters, random_state=seed)
    np.testing.assert_allclose(found, earlier_in_cluster(X, clusters), atol=1e-12)


def test_one_cluster_is_exact_and_more_never_call_a_row_more_alike():
    X = unit_rows(80)
    exact = earlier_in_cluster(X, None)
    np.testing.assert_allclose(-NearDuplicate(column=None, n_clusters=1).fit(X).scores_, exact, atol=1e-6)
    for n_clusters in (3, 80, 500):  # no more clusters than rows
        found = -NearDuplicate(column=None, n_clusters=n_clusters).fit(X).scores_
        assert np.all(found <= exact + 1e-6)


def test_in_clusters_all_copies_and_most_near_copies_are_found():
    texts = [" ".join(tokens) for tokens in make_joint_nlu(600, random_state=1).dataset["tokens"]]
    exact = NearDuplicate(column=None).fit(texts).scores_
    found = NearDuplicate(column=None, n_clusters=10).fit(texts).scores_
    assert np.array_equal(found == -1, exact == -1)
    near = exact < -0.9
    assert near.sum() > 100
    assert (found[near] < -0.9).mean() > 0.9


def test_a_number_of_clusters_out_of_range_is_refused():
    with pytest.raises(InvalidValueError, match=r"NearDuplicate\.n_clusters must be at least 1, got 0"):
        NearDuplicate(column=None, n_clusters=0).fit(TEXTS)
