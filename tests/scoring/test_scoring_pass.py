"""The pass over the full data set: same scores whatever the batches, nothing left behind."""

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dataprune import JointEL2N
from dataprune.data.forward import signals_from_outputs
from dataprune.scoring.scoring_pass import keeping_modes, scoring_pass, to_device
from dataprune.testing import unchanged_random_state

PAD = 0


def token_data(n=17, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        ids = rng.integers(1, 20, size=rng.integers(1, 9)).tolist()
        tags = [int(i % 3) if rng.random() < 0.7 else -100 for i in ids]
        rows.append({"input_ids": ids, "intent": int(ids[0] % 2), "tags": tags})
    return datasets.Dataset.from_list(rows)


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)

    def padded(name, fill):
        return torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])

    return {
        "input_ids": padded("input_ids", PAD),
        "intent_labels": torch.tensor([row["intent"] for row in rows]),
        "slot_labels": padded("tags", -100),
    }


class Tagger(nn.Module):
    """Embeds, forgets under dropout, and ignores padding."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embed = nn.Embedding(20, 8)
            self.dropout = nn.Dropout(0.5)
            self.intent, self.slot = nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, input_ids):
        mask = (input_ids != PAD).unsqueeze(-1)
        states = self.dropout(self.embed(input_ids)) * mask
        return {"intent_logits": self.intent(states.sum(1) / mask.sum(1)), "slot_logits": self.slot(states)}


def forward(model, batch):
    return signals_from_outputs(model(batch["input_ids"]), batch)


MODEL, DATA = Tagger(), token_data()
EXPECTED = JointEL2N().fit(DATA, model=MODEL, forward=forward, collate_fn=collate, batch_size=1).scores_


@settings(max_examples=25, deadline=None)
@given(batch_size=st.integers(1, 40), seed=st.integers(0, 99))
def test_scores_depend_on_no_batch_size_order_or_padding(batch_size, seed):
    order = np.random.default_rng(seed).permutation(len(DATA))
    scores = (
        JointEL2N()
        .fit(DATA.select(order), model=MODEL, forward=forward, collate_fn=collate, batch_size=batch_size)
        .scores_
    )
    np.testing.assert_allclose(scores, EXPECTED[order], rtol=1e-5)


def test_every_row_is_visited_once_under_its_own_index():
    visited = []
    for index, signals in scoring_pass(DATA, MODEL, forward=forward, collate_fn=collate, batch_size=4):
        visited += index.tolist()
        assert [DATA[i]["intent"] for i in index.tolist()] == signals["intent_labels"].tolist()
    assert sorted(visited) == list(range(17))


def test_batches_hold_like_lengths_and_the_longest_come_first():
    lengths = np.array([len(row["input_ids"]) for row in DATA])
    batches = [
        lengths[index.numpy()]
        for index, _ in scoring_pass(DATA, MODEL, forward=forward, collate_fn=collate, batch_size=4)
    ]
    flat = np.concatenate(batches)
    assert (np.diff(flat) <= 0).all()


def test_some_rows_can_be_visited_alone():
    rows = np.array([3, 11, 5])
    pairs = scoring_pass(DATA, MODEL, forward=forward, collate_fn=collate, indices=rows, batch_size=2)
    assert sorted(i for index, _ in pairs for i in index.tolist()) == [3, 5, 11]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_pass_draws_from_no_global_state_and_keeps_no_graph(n_workers):
    model = Tagger().train()
    with unchanged_random_state("A scoring pass"):
        for _, signals in scoring_pass(
            DATA, model, forward=forward, collate_fn=collate, batch_size=8, n_workers=n_workers
        ):
            assert not model.dropout.training
            assert not signals["slot_logits"].requires_grad
    assert model.dropout.training


def test_the_modes_come_back_after_an_error():
    def failing(model, batch):
        raise RuntimeError("out of memory")

    model = Tagger().train()
    model.slot.eval()
    with pytest.raises(RuntimeError, match="out of memory"):
        list(scoring_pass(DATA, model, forward=failing, collate_fn=collate))
    assert model.training
    assert not model.slot.training


def test_the_modes_come_back_when_a_pass_is_left_half_way():
    model = Tagger().train()
    passes = scoring_pass(DATA, model, forward=forward, collate_fn=collate, batch_size=2)
    next(passes)
    passes.close()
    assert model.dropout.training


def test_an_empty_data_set_gives_no_batch():
    assert list(scoring_pass([], nn.Linear(1, 1))) == []
    assert JointEL2N().fit([], model=MODEL).scores_.shape == (0,)


def test_a_model_without_parameters_is_evaluated_too():
    with keeping_modes(nn.Dropout()) as nothing:
        assert nothing is None
    assert to_device([torch.zeros(1)], torch.device("cpu"))[0].device.type == "cpu"
