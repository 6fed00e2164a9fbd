"""Budgets of tokens, updates and seconds in runs, and the scheduler that follows the scores."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from training_parts import N, classifier, loader, points
from transformers import BertConfig, BertForSequenceClassification

from dataprune import (
    EL2N,
    Budget,
    ClassFloor,
    ConstantScheduler,
    CyclicScheduler,
    DynamicPruner,
    LinearScheduler,
    Loss,
    RandomK,
    ScorePerCost,
    SoftPrune,
    SoftPruneScheduler,
    TopK,
)
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.integrations.huggingface import PruningTrainer

COST = np.random.default_rng(0).integers(2, 30, N)


@pytest.mark.parametrize("selector", [TopK(), ScorePerCost(), RandomK()])
def test_pruned_epochs_stay_within_their_share_of_the_cost(selector):
    scheduler = CyclicScheduler(keep_fraction=Budget(token_fraction=0.5), n_cycle_epochs=2)
    pruner = DynamicPruner(EL2N(), selector, scheduler)
    spent, rates = [], []

    def note(pruner):
        spent.append(COST[pruner.indices_].sum() / COST.sum())
        rates.append(pruner.progress())

    pruner.fit(points(), model=classifier(), n_epochs=5, batch_size=8, cost=COST, callbacks=[note])
    assert spent[0] == 1.0
    room = 0.1 if isinstance(selector, RandomK) else 30 / COST.sum()  # a larger draw may cost less than a smaller one
    assert all(0.5 - room < share <= 0.5 for share in spent[1:])
    assert [record.n_kept for record in pruner.history_][1:3] == [pruner.history_[1].n_kept] * 2  # one cycle
    assert not pruner.plan_.exact
    assert pruner.plan_.n_updates >= sum(record.n_updates for record in pruner.history_)
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # the learning rate meets its target


def test_a_budget_of_tokens_counts_the_lengths_of_a_tokenised_data_set():
    rows = [{"input_ids": [1 + i % 7] * (2 + i % 9), "labels": i % 2} for i in range(40)]
    lengths = np.array([len(row["input_ids"]) for row in rows])
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))

    def collate(examples):
        width = max(len(example["input_ids"]) for example in examples)
        ids = [example["input_ids"] + [0] * (width - len(example["input_ids"])) for example in examples]
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor([example["labels"] for example in examples])}

    pruner = DynamicPruner(Loss(), ScorePerCost(), ConstantScheduler(keep_fraction=Budget(token_fraction=0.3)))
    pruner.fit(Dataset.from_list(rows), model=model, n_epochs=2, batch_size=8, collate_fn=collate)
    assert 0.2 * lengths.sum() < pruner.history_[1].n_tokens <= 0.3 * lengths.sum()


def test_a_ramp_of_token_shares():
    scheduler = LinearScheduler(keep_fraction=Budget(token_fraction=0.2))
    pruner = DynamicPruner(EL2N(), TopK(), scheduler)
    spent = []
    pruner.fit(
        points(),
        model=classifier(),
        n_epochs=5,
        batch_size=8,
        cost=COST,
        callbacks=[lambda pruner: spent.append(COST[pruner.indices_].sum() / COST.sum())],
    )
    np.testing.assert_allclose(spent, [1.0, 0.8, 0.6, 0.4, 0.2], atol=30 / COST.sum())


@pytest.mark.parametrize("n_accumulation", [1, 3])
@pytest.mark.parametrize("n_updates", [15, 20, 29, 1000])
def test_a_budget_of_updates_is_met_as_nearly_as_it_can_be(n_updates, n_accumulation):
    scheduler = CyclicScheduler(keep_fraction=Budget(n_updates=n_updates))
    pruner = DynamicPruner(EL2N(), TopK(), scheduler)
    pruner.fit(points(), model=classifier(), n_epochs=4, batch_size=6, n_accumulation=n_accumulation)
    done = sum(record.n_updates for record in pruner.history_)
    assert pruner.plan_.exact
    assert done == pruner.plan_.n_updates <= n_updates
    n_pruned = 3
    assert done > n_updates - n_pruned or pruner.history_[1].n_kept == N  # one example more in each would pass it
    assert scheduler.keep_fraction == Budget(n_updates=n_updates)


def test_a_plan_of_a_budget_says_what_it_knows():
    plan = CyclicScheduler(keep_fraction=Budget(n_updates=40)).plan(100, 5, 5)
    assert (plan.n_updates, plan.exact, plan.n_kept[1]) == (40, True, 25)
    plan = CyclicScheduler(keep_fraction=Budget(seconds=60.0)).plan(100, 5, 5)
    assert not plan.exact
    assert "at most 100 updates" in str(plan)


def test_a_budget_of_seconds_shrinks_what_is_kept_until_it_fits():
    pruner = DynamicPruner(EL2N(), RandomK(), CyclicScheduler(keep_fraction=Budget(seconds=10.0)))
    batches = pruner.attach(loader(), n_epochs=6)
    for epoch in range(6):
        pruner.set_epoch(epoch)
        for index, (x, y) in batches:
            pruner.observe(index, logits=torch.zeros(len(x), 3), labels=y)
        record = pruner.history_[-1]
        # A clock of our own: 4 seconds for a full epoch, of which one is evaluation whatever is kept.
        record.seconds = {"train": 3.0 * record.n_kept / N, "score": 0.0, "select": 0.0, "evaluate": 1.0}
    assert [record.n_kept for record in pruner.history_] == [N, 8, 8, 8, 8, 8]  # 4 + 5 evaluations leave 1 second
    assert pruner.history_[1].n_kept == 8  # one batch at least, 0.4 seconds; asked: 0.2 seconds, or 4 examples


def test_a_budget_of_seconds_with_room_keeps_what_fits():
    pruner = DynamicPruner(EL2N(), RandomK(), CyclicScheduler(keep_fraction=Budget(seconds=12.0)))
    batches = pruner.attach(loader(), n_epochs=5)
    for epoch in range(5):
        pruner.set_epoch(epoch)
        for index, (x, y) in batches:
            pruner.observe(index, logits=torch.zeros(len(x), 3), labels=y)
        record = pruner.history_[-1]
        record.seconds = {"train": 4.0 * record.n_kept / N, "score": 0.0, "select": 0.0, "evaluate": 0.0}
    assert [record.n_kept for record in pruner.history_] == [N, N // 2, N // 2, N // 2, N // 2]


@pytest.mark.parametrize(
    ("budget", "error", "words"),
    [
        (Budget(), InvalidValueError, "one of token_fraction, n_updates and seconds, got none"),
        (Budget(token_fraction=0.5, seconds=9), InvalidValueError, "got token_fraction and seconds"),
        (Budget(token_fraction=1.5), InvalidValueError, "Budget.token_fraction"),
        (Budget(n_updates=2.5), InvalidTypeError, "Budget.n_updates"),
        (Budget(seconds=-1), InvalidValueError, "Budget.seconds"),
        (Budget(n_updates=9), InvalidValueError, "Budget.n_updates must be at least 10 for 3 epochs of 60"),
        (Budget(token_fraction=0.5), InvalidValueError, "needs what each example costs"),
    ],
    ids=repr,
)
def test_a_budget_that_cannot_be_kept_is_refused(budget, error, words):
    pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=budget))
    with pytest.raises(error, match=words):
        pruner.fit(points(), model=classifier(), n_epochs=3, batch_size=8)


def test_floors_that_fit_into_the_tokens_are_kept():
    labels = [i % 4 for i in range(200)]
    pruner = DynamicPruner(
        EL2N(),
        ClassFloor(TopK(), n_min=8),  # 32 of the 40 that fit; fewer are looked at on the way
        CyclicScheduler(keep_fraction=Budget(token_fraction=0.2)),
    )
    known = {"cost": np.ones(200), "labels": labels}
    data = [(torch.tensor([float(label), 1.0]), label) for label in labels]
    pruner.fit(data, model=torch.nn.Linear(2, 4), n_epochs=2, batch_size=20, **known)
    assert pruner.history_[1].n_kept == 40
    pruner.set_params(scheduler__keep_fraction=Budget(token_fraction=0.1))
    with pytest.raises(InvalidValueError, match=r"ClassFloor\.n_keep must be at least 32"):
        pruner.fit(data, model=torch.nn.Linear(2, 4), n_epochs=2, batch_size=20, **known)


@pytest.mark.parametrize(
    ("selector", "scheduler"),
    [
        (TopK(), CyclicScheduler(keep_fraction=Budget(token_fraction=0.1))),
        (SoftPrune(), SoftPruneScheduler(drop_fraction=0.99, n_full_final_epochs=0)),
    ],
)
def test_an_epoch_that_turns_out_to_have_no_batch_is_refused(selector, scheduler):
    pruner = DynamicPruner(Loss(), selector, scheduler)
    loader = DataLoader([(torch.zeros(2), 0)] * 40, 36, shuffle=True, drop_last=True)
    pruner.attach(loader, n_epochs=2, cost=np.ones(40))
    pruner.set_epoch(0)
    pruner.observe(torch.arange(40), loss=torch.arange(40.0) ** 2)
    with pytest.raises(InvalidValueError, match="drop_last=True drops the only batch of an epoch that keeps"):
        pruner.set_epoch(1)


def test_a_ramp_has_no_seconds():
    with pytest.raises(InvalidValueError, match=r"LinearScheduler\.keep_fraction must not be a budget of seconds"):
        LinearScheduler(keep_fraction=Budget(seconds=60)).plan(40, 5, 8)


def test_seconds_need_a_warm_up():
    scheduler = CyclicScheduler(keep_fraction=Budget(seconds=9), n_warmup_epochs=0)
    with pytest.raises(InvalidValueError, match="n_warmup_epochs must be at least 1 with Budget"):
        DynamicPruner(None, RandomK(), scheduler).attach(loader(), n_epochs=3)


def test_a_trainer_needs_a_budget_that_is_known_before(tmp_path):
    rows = Dataset.from_list([{"input_ids": [1, 2], "labels": i % 2} for i in range(20)])
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=Budget(token_fraction=0.5)))
    trainer = PruningTrainer(model=model, train_dataset=rows, pruner=pruner)
    with pytest.raises(InvalidValueError, match="needs to know its updates before it starts"):
        trainer.train()


def test_the_scheduler_of_infobatch_drops_its_share_of_what_is_below_the_mean():
    pruner = DynamicPruner(Loss(), SoftPrune(), SoftPruneScheduler(drop_fraction=0.5, n_full_final_epochs=1))
    below, weights = [], []

    def note(pruner):
        scores = pruner.scorer_.scores_.astype(float)
        below.append(int((scores < scores.mean()).sum()))
        weights.append(sorted(set(pruner.weights_.round(4).tolist())))

    pruner.fit(points(), model=classifier(p_dropout=0.0), n_epochs=5, batch_size=8, callbacks=[note])
    kept = [record.n_kept for record in pruner.history_]
    assert kept == [N, *(N - n // 2 for n in below[:3]), N]
    for epoch in (1, 2, 3):
        n_dropped = N - kept[epoch]
        others = kept[epoch] / N
        assert weights[epoch] == pytest.approx(
            [others, others * below[epoch - 1] / (below[epoch - 1] - n_dropped)], rel=1e-3
        )
    assert not pruner.plan_.exact
    assert pruner.progress() == 1.0


@pytest.mark.parametrize("scores", [np.full(5, np.nan), np.ones(5), np.zeros(5)], ids=["unseen", "ones", "zeros"])
def test_nothing_is_below_a_mean_of_equal_scores(scores):
    assert SoftPruneScheduler().decide(1, 5, scores=scores.astype(np.float32)).keep_fraction == 1.0


def test_the_share_to_drop_is_below_one():
    with pytest.raises(InvalidValueError, match="drop_fraction must be below 1"):
        SoftPruneScheduler(drop_fraction=1.0).decide(0, 4)
