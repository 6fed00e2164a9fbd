"""On data whose redundancy and label noise are known, scores and selections find them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from dataprune import (
    EL2N,
    CyclicScheduler,
    DynamicPruner,
    JointEL2N,
    Loss,
    TopK,
    WeightedK,
    make_classification,
    make_joint_nlu,
)
from dataprune.data.forward import default_forward

N = 800
DIMS = 48


def ids_of(sequences):
    """Number the values of nested lists from 1, in their own order."""
    names = sorted({name for sequence in sequences for name in sequence})
    number = {name: i for i, name in enumerate(names, start=1)}
    return [[number[name] for name in sequence] for sequence in sequences], len(names)


def padded(sequences, fill):
    width = max(map(len, sequences))
    return torch.tensor([sequence + [fill] * (width - len(sequence)) for sequence in sequences])


class BagOfWords(nn.Module):
    def __init__(self, n_words, n_labels):
        super().__init__()
        self.embed = nn.EmbeddingBag(n_words + 1, DIMS, padding_idx=0)
        self.head = nn.Linear(DIMS, n_labels)

    def forward(self, input_ids):
        return self.head(self.embed(input_ids))


class Tagger(nn.Module):
    def __init__(self, n_words, n_intents, n_slots):
        super().__init__()
        self.embed = nn.Embedding(n_words + 1, DIMS, padding_idx=0)
        self.mix = nn.Conv1d(DIMS, DIMS, 3, padding=1)
        self.intent, self.slot = nn.Linear(DIMS, n_intents), nn.Linear(DIMS, n_slots)

    def forward(self, input_ids):
        mask = (input_ids > 0).unsqueeze(-1)
        states = torch.relu(self.mix(self.embed(input_ids).mT).mT) * mask
        return {"intent_logits": self.intent(states.sum(1) / mask.sum(1)), "slot_logits": self.slot(states)}


def classification():
    made = make_classification(N, noise_fraction=0.05, random_state=3)
    words, n_words = ids_of([text.split() for text in made.dataset["text"]])
    labels, n_labels = ids_of([[label] for label in made.dataset["label"]])
    input_ids = padded(words, 0)
    rows = [{"input_ids": input_ids[i], "labels": labels[i][0] - 1} for i in range(N)]
    return made, rows, lambda: BagOfWords(n_words, n_labels)


def joint():
    made = make_joint_nlu(N, noise_fraction=0.05, random_state=3)
    words, n_words = ids_of(made.dataset["tokens"][:])
    intents, n_intents = ids_of([[intent] for intent in made.dataset["intent"]])
    slots, n_slots = ids_of(made.dataset["slots"][:])
    input_ids, slot_labels = padded(words, 0), padded([[s - 1 for s in row] for row in slots], -100)
    rows = [
        {"input_ids": input_ids[i], "intent_labels": intents[i][0] - 1, "slot_labels": slot_labels[i]} for i in range(N)
    ]
    return made, rows, lambda: Tagger(n_words, n_intents, n_slots)


@pytest.fixture(scope="module")
def data():
    return {"classification": classification(), "joint": joint()}


def trained(rows, make_model, scorer, *, n_epochs=3, keep_fraction=1.0, selector=None, **keywords):
    torch.manual_seed(0)
    pruner = DynamicPruner(
        scorer, TopK() if selector is None else selector, CyclicScheduler(keep_fraction=keep_fraction), **keywords
    )
    return pruner.fit(
        rows,
        model=make_model(),
        n_epochs=n_epochs,
        batch_size=16,
        learning_rate=0.01,
        forward=default_forward,
        lr_schedule="constant",
    )


CASES = [
    ("classification", EL2N()),
    ("classification", Loss()),
    ("joint", JointEL2N()),
    ("joint", JointEL2N(reduction="mean")),
]


@pytest.mark.parametrize(("kind", "scorer"), CASES)
def test_redundant_examples_score_lower_and_mislabelled_ones_high(data, kind, scorer):
    made, rows, make_model = data[kind]
    scores = trained(rows, make_model, scorer).scorer_.scores_
    clean = ~made.is_mislabelled
    assert roc_auc_score(made.is_redundant[clean], -scores[clean]) > 0.8
    assert roc_auc_score(made.is_mislabelled, scores) > 0.9
    assert np.median(scores[made.is_redundant]) < np.median(scores[~made.is_redundant]) / 2


@pytest.mark.parametrize(("kind", "scorer"), CASES[::2])
@pytest.mark.parametrize("refresh", ["observed", "full"])
def test_what_is_pruned_is_redundant(data, kind, scorer, refresh):
    made, rows, make_model = data[kind]
    pruner = trained(rows, make_model, scorer, n_epochs=5, keep_fraction=0.4, refresh=refresh)
    pruned_often = pruner.n_epochs_trained_ <= 2
    assert made.is_redundant[pruned_often].mean() > 0.8
    assert (
        pruner.n_epochs_trained_[~made.is_redundant].mean() > 1.5 * pruner.n_epochs_trained_[made.is_redundant].mean()
    )


def test_a_weighted_draw_repeats_mislabelled_examples_less_than_the_top(data):
    made, rows, make_model = data["classification"]
    visits = {
        type(selector).__name__: trained(rows, make_model, EL2N(), n_epochs=5, keep_fraction=0.2, selector=selector)
        .n_epochs_trained_[made.is_mislabelled]
        .mean()
        for selector in (TopK(), WeightedK())
    }
    assert visits["WeightedK"] < visits["TopK"]
