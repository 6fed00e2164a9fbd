"""Error norms of every task, from real Hugging Face models: classes, tags, next tokens, several labels, numbers."""

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from dataprune import EL2N, CyclicScheduler, DynamicPruner
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.scoring.error_norm import MultiLabelEL2N, RegressionError
from dataprune.scoring.uncertainty import Entropy, Loss, Margin
from dataprune.testing import check_scorer

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TINY_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "bos_token_id": 0, "eos_token_id": 0}


def bert(cls, **settings):
    torch.manual_seed(0)
    return cls(BertConfig(vocab_size=30, **SIZES, **settings)).eval()


def multilabel_signals(n_examples, generator):
    return {
        "logits": 3 * torch.randn(n_examples, 4, generator=generator),
        "labels": torch.rand(n_examples, 4, generator=generator).round(),
    }


def regression_signals(n_examples, generator):
    return {
        "logits": torch.randn(n_examples, 1, generator=generator),
        "labels": torch.randn(n_examples, generator=generator),
    }


def token_signals(n_examples, generator):
    labels = torch.randint(5, (n_examples, 6), generator=generator)
    labels[:, 3:][torch.rand(n_examples, 3, generator=generator) < 0.5] = -100
    return {"logits": 3 * torch.randn(n_examples, 6, 5, generator=generator), "labels": labels}


def token_losses(n_examples, generator):
    return {"loss": 9 * torch.rand(n_examples, generator=generator), **token_signals(n_examples, generator)}


@pytest.mark.parametrize("smoothing", ["last", "mean", "ema", "ema_plus_std"])
def test_scorers_of_other_labels_keep_the_contract(smoothing):
    check_scorer(Loss(smoothing=smoothing, reduction="mean"), make_signals=token_losses)
    check_scorer(MultiLabelEL2N(smoothing=smoothing), make_signals=multilabel_signals)
    check_scorer(RegressionError(smoothing=smoothing, target_scale=2.0), make_signals=regression_signals)


@pytest.mark.parametrize("reduction", ["norm", "sum", "mean"])
def test_el2n_keeps_the_contract_with_one_label_per_example_and_per_token(reduction):
    check_scorer(EL2N(reduction=reduction))
    check_scorer(EL2N(reduction=reduction), make_signals=token_signals)


@pytest.mark.parametrize("scorer", [Margin(), Entropy()])
def test_scores_without_labels_keep_the_contract(scorer):
    check_scorer(scorer)
    check_scorer(scorer, make_signals=token_signals)


@pytest.mark.parametrize("scorer", [Margin(), Entropy()])
def test_scores_of_one_class_among_several_refuse_other_heads(scorer):
    for logits, labels in [
        (torch.zeros(2, 1), None),
        (torch.zeros(2, 3), torch.ones(2, 3)),
        (torch.zeros(2, 3), torch.ones(2)),
    ]:
        signals = {"logits": logits} if labels is None else {"logits": logits, "labels": labels}
        with pytest.raises(InvalidValueError, match="needs logits of two or more classes that exclude each other"):
            scorer.reset(2).update(torch.arange(2), **signals)


@pytest.mark.parametrize("scorer", [Margin(), Entropy()])
def test_a_word_whose_tag_the_model_lacks_is_as_undecided_as_others(scorer):
    labels = torch.tensor([[-101, -100], [0, -100]])
    first, second = scorer.reset(2).update(torch.arange(2), logits=torch.zeros(2, 2, 3), labels=labels).scores_
    assert first == second > 0


@pytest.mark.parametrize("reduction", ["norm", "sum", "mean"])
def test_with_one_label_per_example_all_reductions_agree(reduction):
    data = [(torch.randn(4, generator=torch.Generator().manual_seed(i)), i % 3) for i in range(9)]
    model = torch.nn.Linear(4, 3)
    np.testing.assert_array_equal(
        EL2N(reduction=reduction).fit(data, model=model).scores_, EL2N().fit(data, model=model).scores_
    )


def test_an_unknown_reduction_is_refused_at_reset():
    with pytest.raises(InvalidValueError, match=r"EL2N.reduction must be one of 'norm', 'sum', 'mean', got 'max'"):
        EL2N(reduction="max").reset(1)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), "one"])
def test_a_scale_that_is_no_deviation_is_refused_at_reset(scale):
    with pytest.raises(DataPruneError, match=r"RegressionError.target_scale must be a (finite )?number above 0"):
        RegressionError(target_scale=scale).reset(1)


def test_tags_of_a_token_classifier_are_scored_alike_alone_and_in_a_padded_batch():
    model = bert(BertForTokenClassification, num_labels=4)
    rows = [{"input_ids": [5, 6, 7, 8, 9], "labels": [0, 1, -100, 3, 2]}, {"input_ids": [5, 6], "labels": [1, 0]}]
    together = EL2N().fit(rows, model=model, collate_fn=pad).scores_
    alone = [EL2N().fit([row], model=model, collate_fn=pad).scores_[0] for row in rows]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def causal_rows():
    """Two answers after their prompts, of different lengths."""
    rows = [([5, 6, 7, 8, 9, 10], 2), ([11, 12, 13], 1)]
    return [{"input_ids": ids, "labels": [-100] * n_prompt + ids[n_prompt:]} for ids, n_prompt in rows]


def pad(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows]),
        "attention_mask": torch.tensor([[i < len(row["input_ids"]) for i in range(longest)] for row in rows]).long(),
        "labels": torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in rows]),
    }


@pytest.mark.parametrize("reduction", ["norm", "sum", "mean"])
def test_the_answer_of_a_causal_model_is_scored_token_by_token(reduction):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, **TINY_GPT)).eval()
    rows = causal_rows()
    scores = EL2N(reduction=reduction).fit(rows, model=model, collate_fn=pad).scores_
    losses = Loss().fit(rows, model=model, collate_fn=pad).scores_
    means = Loss(reduction="mean").fit(rows, model=model, collate_fn=pad).scores_
    for row, score, loss, mean in zip(rows, scores, losses, means, strict=True):
        errors, nats = [], 0.0
        for position, label in enumerate(row["labels"]):
            if label == -100:
                continue
            with torch.no_grad():  # what the model says after the tokens before this one, alone in its batch
                before = torch.tensor([row["input_ids"][:position]])
                p = model(input_ids=before).logits[0, -1].double().softmax(-1)
            onehot = torch.nn.functional.one_hot(torch.tensor(label), 50)
            errors.append((p - onehot).norm().item())
            nats -= p[label].log().item()
        expected = {"norm": np.linalg.norm(errors), "sum": np.sum(errors), "mean": np.mean(errors)}[reduction]
        assert score == pytest.approx(expected, rel=1e-5)
        assert loss == pytest.approx(nats, rel=1e-5)
        assert mean == pytest.approx(nats / len(errors), rel=1e-5)


def test_several_labels_and_numbers_are_told_by_the_form_of_the_labels():
    ids = torch.tensor([[5, 6], [7, 8], [9, 10]])
    several = bert(BertForSequenceClassification, num_labels=4)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]
    with torch.no_grad():
        expected = (several(input_ids=ids).logits.sigmoid() - labels).norm(dim=-1)
    np.testing.assert_allclose(MultiLabelEL2N().fit(rows, model=several).scores_, expected, rtol=1e-5)
    number = bert(BertForSequenceClassification, num_labels=1)
    targets = torch.tensor([0.5, -2.0, 0.0])
    rows = [{"input_ids": i, "labels": y} for i, y in zip(ids, targets, strict=True)]
    with torch.no_grad():
        expected = (number(input_ids=ids).logits.squeeze(-1) - targets).abs() / 4
    np.testing.assert_allclose(RegressionError(target_scale=4.0).fit(rows, model=number).scores_, expected, rtol=1e-5)


def test_el2n_names_the_score_for_labels_that_are_no_classes():
    with pytest.raises(InvalidTypeError, match="Use MultiLabelEL2N"):
        EL2N().reset(1).update(torch.tensor([0]), logits=torch.zeros(1, 2), labels=torch.zeros(1, 2))


@pytest.mark.parametrize("kind", ["causal", "several labels", "number"])
def test_a_pruner_trains_on_every_kind_of_label(kind):
    torch.manual_seed(0)
    if kind == "causal":
        model, scorer = GPT2LMHeadModel(GPT2Config(vocab_size=50, **TINY_GPT)), EL2N(reduction="mean")
        data, collate_fn = causal_rows() * 6, pad
    else:
        several = kind == "several labels"
        model = bert(BertForSequenceClassification, num_labels=3 if several else 1)
        scorer, collate_fn = MultiLabelEL2N() if several else RegressionError(), None
        labels = [torch.tensor([i % 2, 1.0, 0.0]) if several else torch.tensor(i / 6) for i in range(12)]
        data = [{"input_ids": torch.tensor([5 + i, 6]), "labels": y} for i, y in enumerate(labels)]
    pruner = DynamicPruner(scorer, scheduler=CyclicScheduler(keep_fraction=0.5))
    pruner.fit(data, model=model, n_epochs=4, batch_size=4, collate_fn=collate_fn)
    assert [record.n_kept for record in pruner.history_] == [12, 6, 6, 6]
    assert np.isfinite(pruner.scorer_.scores_).all()
    after = scorer.fit(data, model=model, collate_fn=collate_fn).scores_
    assert after.mean() < pruner.scorer_.transform(data, model=fresh(model), collate_fn=collate_fn).mean()


def fresh(model):
    """An untrained model of the same configuration."""
    torch.manual_seed(0)
    return type(model)(model.config)
