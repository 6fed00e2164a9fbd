"""PrototypeDistance and the embeddings of texts."""

import numpy as np
import pytest
import torch
from dataset_scorer_laws import check_dataset_scorer
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel, BertForSequenceClassification, GPT2Config, GPT2Model

from dataprune.errors import DataError, DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.embedding import PrototypeDistance, embed_texts, read_embeddings

TEXTS = ["fly to boston on monday", "hello", "how much is dallas", "fly to new york on friday", "hello there you"]


def points(n=30, n_features=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_features)).astype(np.float32)


@pytest.fixture
def encoder(tiny_encoder_dir):
    return AutoModel.from_pretrained(tiny_encoder_dir)


def test_the_contract_holds():
    rows = [row.tolist() for row in points()]
    check_dataset_scorer(PrototypeDistance(n_prototypes=3), rows, permutes=False)
    check_dataset_scorer(
        PrototypeDistance(n_prototypes=2, column="x", random_state=4), [{"x": row} for row in rows], permutes=False
    )


def test_the_contract_holds_for_texts(encoder, tokenizer):
    scorer = PrototypeDistance(n_prototypes=2)
    check_dataset_scorer(scorer, TEXTS, permutes=False, model=encoder, tokenizer=tokenizer, batch_size=2)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 40), n_features=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_score_is_the_distance_to_the_nearest_centroid(n, n_features, seed):
    X = points(n, n_features, seed)
    scorer = PrototypeDistance(n_prototypes=3, random_state=seed).fit(X)
    slow = [min(np.linalg.norm(x.astype(float) - c.astype(float)) for c in scorer.prototypes_) for x in X]
    np.testing.assert_allclose(scorer.scores_, slow, rtol=1e-5, atol=1e-6)


def test_an_outlier_scores_highest_and_the_middle_of_a_cluster_lowest():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 20, [[0.0, 6.0]]])
    scorer = PrototypeDistance(n_prototypes=2).fit(X)
    assert scorer.scores_.argmax() == 100
    np.testing.assert_allclose(scorer.transform(scorer.prototypes_), 0.0, atol=1e-6)


def test_the_seed_alone_decides():
    X = points(200)
    first = PrototypeDistance(n_prototypes=8).fit(X).scores_
    np.testing.assert_array_equal(PrototypeDistance(n_prototypes=8).fit(X).scores_, first)
    assert not np.array_equal(PrototypeDistance(n_prototypes=8, random_state=1).fit(X).scores_, first)


def test_embeddings_come_from_every_kind_of_data_set():
    X = points(6)
    dataset = Dataset.from_dict({"x": X.tolist(), "label": list(range(6))})
    rows = [{"x": row} for row in X]
    for kind in (dataset, dataset.to_pandas(), rows, dataset.with_format("torch")):
        np.testing.assert_array_equal(read_embeddings(kind, "x"), X)
    for kind in (X, torch.from_numpy(X), list(X), X.astype(np.float64)):
        np.testing.assert_array_equal(read_embeddings(kind, None), X)
    assert read_embeddings(X, None) is X  # not copied
    assert read_embeddings(torch.from_numpy(X).requires_grad_(), None).dtype == np.float32


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["play jazz", "stop"], r"Rows must hold embeddings.*Texts need fit\(..., model=encoder"),
        ([[1.0, 2.0], [1.0]], "lists of numbers of one length"),
        ([1.0, 2.0], r"one embedding per row, \(n, n_features\) in all, got \(2,\)"),
        (np.zeros((2, 2, 2)), r"got \(2, 2, 2\)"),
        ([[1.0, 2.0], [1.0, float("nan")]], "finite embeddings, got another in row 1"),
        ([[1.0, 2.0], [None, None]], "finite embeddings, got another in row 1"),
    ],
)
def test_rows_that_are_no_embeddings_are_refused(rows, words):
    with pytest.raises(DataError, match=words):
        PrototypeDistance(n_prototypes=1).fit(rows)


def test_numbers_of_prototypes_out_of_range_are_refused():
    with pytest.raises(InvalidValueError, match="at most the number of rows, 2, got 10"):
        PrototypeDistance().fit(points(2))
    with pytest.raises(DataPruneError, match="n_prototypes must be at least 1, got 0"):
        PrototypeDistance(n_prototypes=0).fit(points(2))
    with pytest.raises(NotFittedError, match="has no prototypes yet"):
        PrototypeDistance().transform(points(2))
    with pytest.raises(DataError, match="fitted on embeddings of length 3, got 2"):
        PrototypeDistance(n_prototypes=2).fit(points()).transform(points(4, n_features=2))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=9).map(" ".join), min_size=1, max_size=7
    ),
    batch_size=st.integers(1, 4),
)
def test_an_embedding_is_the_mean_over_the_tokens_of_one_text_alone(encoder, tokenizer, texts, batch_size):
    embeddings = embed_texts(texts, encoder, tokenizer, batch_size=batch_size)
    assert embeddings.shape == (len(texts), 16)
    assert embeddings.dtype == np.float32
    encoder.eval()
    for text, found in zip(texts, embeddings, strict=True):
        with torch.no_grad():
            states = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(found, states.mean(0), rtol=1e-4, atol=1e-6)


def test_embeddings_depend_on_neither_batch_size_nor_order(encoder, tokenizer):
    one = embed_texts(TEXTS, encoder, tokenizer, batch_size=1)
    np.testing.assert_allclose(embed_texts(TEXTS, encoder, tokenizer), one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(embed_texts(TEXTS[::-1], encoder, tokenizer)[::-1], one, rtol=1e-4, atol=1e-6)


def test_the_encoder_is_left_as_it_was(encoder, tokenizer):
    encoder.train()
    encoder.encoder.layer[0].eval()  # a frozen part must stay frozen
    modes = [module.training for module in encoder.modules()]
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = torch.get_rng_state()
    first = embed_texts(TEXTS, encoder, tokenizer)
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(embed_texts(TEXTS, encoder, tokenizer), first)  # no dropout


def test_long_texts_are_cut_and_a_text_of_no_tokens_is_zero(encoder, tokenizer):
    long = embed_texts(["hello " * 40], encoder, tokenizer, max_length_tokens=6)
    np.testing.assert_allclose(long, embed_texts(["hello " * 4], encoder, tokenizer), rtol=1e-4, atol=1e-6)
    torch.manual_seed(0)
    decoder = GPT2Model(GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=1, n_positions=64))

    def without_special_tokens(texts, **keywords):
        return tokenizer(texts, add_special_tokens=False, **keywords)

    without_special_tokens.pad_token_id = None
    found = embed_texts(["", "hello", "fly to boston"], decoder, without_special_tokens)
    assert found.shape == (3, 8)
    assert not found[0].any()
    assert found[1:].any(axis=1).all()
    assert embed_texts([""], decoder, without_special_tokens).shape == (1, 0)
    assert embed_texts([], decoder, tokenizer).shape == (0, 0)


def test_what_is_no_encoder_is_refused(tokenizer, tiny_config):
    with pytest.raises(InvalidTypeError, match=r"embed_texts\(\) needs model=... as a torch.nn.Module, got NoneType"):
        PrototypeDistance().fit(TEXTS, tokenizer=tokenizer)
    classifier = BertForSequenceClassification(tiny_config)
    with pytest.raises(InvalidTypeError, match=r"got BertForSequenceClassification. Pass its base model"):
        embed_texts(TEXTS, classifier, tokenizer)
    assert classifier.training is BertForSequenceClassification(tiny_config).training
    with pytest.raises(DataPruneError, match="batch_size must be at least 1, got 0"):
        embed_texts(TEXTS, nn.Identity(), tokenizer, batch_size=0)


def test_a_model_without_a_tokenizer_is_not_looked_at():
    # A DynamicPruner passes the model that it trains.
    X = points()
    scorer = PrototypeDistance(n_prototypes=2).fit(X, model=nn.Identity())
    np.testing.assert_array_equal(scorer.scores_, PrototypeDistance(n_prototypes=2).fit(X).scores_)


def test_a_text_longer_than_the_model_takes_is_cut_at_its_limit(encoder, tokenizer):
    long = "fly to boston on monday " * 50
    cut = embed_texts([long], encoder, tokenizer, max_length_tokens=tokenizer.model_max_length)
    np.testing.assert_array_equal(embed_texts([long], encoder, tokenizer, max_length_tokens=128), cut)
