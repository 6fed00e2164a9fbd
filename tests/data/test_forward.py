"""From a batch to signals: losses per example, labels that count, kinds of labels, models that are refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertLMHeadModel, GPT2Config, GPT2LMHeadModel

from dataprune.data.forward import (
    check_labels,
    check_not_encoder_decoder,
    cross_entropy_per_example,
    default_forward,
    is_causal,
    signals_from_model,
    signals_from_outputs,
    with_precision,
)
from dataprune.data.losses import CHUNK_ELEMENTS, row_chunks
from dataprune.errors import InvalidTypeError, InvalidValueError


def slow_loss(logits, labels):
    """Sum of the cross entropies of one example over the labels that count, in float64."""
    rows = [(z, y) for z, y in zip(logits, labels, strict=True) if y >= 0]
    if not rows:
        return 0.0
    losses = []
    for z, y in rows:
        top = max(z)
        losses.append(top + math.log(math.fsum(math.exp(v - top) for v in z)) - z[y])
    return math.fsum(losses)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 4),
    n_tokens=st.one_of(st.none(), st.integers(0, 4)),
    n_classes=st.integers(2, 5),
    masked=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 999),
)
def test_the_loss_of_an_example_is_the_slow_one(n, n_tokens, n_classes, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (n,) if n_tokens is None else (n, n_tokens)
    logits = 5 * torch.randn(*shape, n_classes, generator=generator)
    labels = torch.randint(n_classes, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < masked] = -100 - int(torch.randint(3, (), generator=generator))
    before = labels.clone()
    losses = cross_entropy_per_example(logits, labels)
    assert losses.shape == (n,)
    expected = [slow_loss(logits[i].reshape(-1, n_classes).tolist(), labels[i].reshape(-1).tolist()) for i in range(n)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert torch.equal(labels, before)


def test_a_gradient_reaches_the_logits_that_count_alone():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    cross_entropy_per_example(logits, torch.tensor([[1, -100, -105], [-100, -100, -100]])).sum().backward()
    assert logits.grad.abs().sum(-1).gt(0).tolist() == [[True, False, False], [False, False, False]]


def test_losses_of_bf16_logits_are_float32():
    assert (
        cross_entropy_per_example(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32
    )


def test_shapes_that_do_not_belong_together_are_refused():
    for logits, labels in ((torch.zeros(2, 3), torch.zeros(3)), (torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4))):
        with pytest.raises(InvalidValueError, match="Logits must be"):
            cross_entropy_per_example(logits, labels.long())


def test_heads_are_paired_by_name_and_their_losses_added():
    outputs = {"intent_logits": torch.randn(2, 3), "slot_logits": torch.randn(2, 4, 5), "hidden_states": None}
    batch = {
        "input_ids": torch.zeros(2, 4),
        "intent_labels": torch.tensor([0, 2]),
        "slot_labels": torch.tensor([[1, -100, 2, 0], [-100, -100, -100, -100]]),
    }
    signals = signals_from_outputs(outputs, batch)
    assert set(signals) == {"intent_logits", "intent_labels", "slot_logits", "slot_labels", "loss"}
    intent = cross_entropy_per_example(outputs["intent_logits"], batch["intent_labels"])
    slots = cross_entropy_per_example(outputs["slot_logits"], batch["slot_labels"])
    torch.testing.assert_close(signals["loss"], intent + slots)


def test_a_head_without_labels_is_left_out():
    signals = signals_from_outputs(
        {"logits": torch.zeros(1, 2), "aux_logits": torch.zeros(1, 2)}, {"labels": torch.tensor([1])}
    )
    assert set(signals) == {"logits", "labels", "loss"}


def test_a_batch_without_labels_is_refused_and_its_keys_are_named():
    with pytest.raises(InvalidValueError, match=r"got a batch of \['input_ids'\] and outputs of \['logits'\]"):
        signals_from_outputs({"logits": torch.zeros(1, 2)}, {"input_ids": torch.zeros(1, 3)})


@pytest.mark.parametrize("label", [-1, -99, 3, 1000])
def test_labels_out_of_range_are_refused(label):
    with pytest.raises(InvalidValueError, match=rf"'labels' must be in \[0, 3\) or -100, got {label}"):
        default_forward(nn.Linear(2, 3), (torch.zeros(2, 2), torch.tensor([0, label])))


@pytest.mark.parametrize("label", [-100, -101, -500])
def test_labels_that_do_not_count_are_fine(label):
    check_labels(torch.tensor([0, 2, label]), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_that_are_no_classes_are_refused(dtype):
    with pytest.raises(InvalidTypeError, match="'slot_labels' must hold integer class ids"):
        check_labels(torch.zeros(2, dtype=dtype), 3, name="slot_labels")


class MappingModel(nn.Module):
    """Takes keywords and returns what it was told to."""

    def __init__(self, result):
        super().__init__()
        self.result, self.seen = result, None

    def forward(self, **inputs):
        self.seen = inputs
        return self.result


def test_labels_are_held_back_from_the_model():
    model = MappingModel({"logits": torch.zeros(1, 2)})
    default_forward(model, {"input_ids": torch.zeros(1, 3), "labels": torch.tensor([1]), "slot_labels": None})
    assert set(model.seen) == {"input_ids"}


def test_a_model_may_return_bare_logits_for_either_form_of_batch():
    by_pair = default_forward(nn.Identity(), [torch.zeros(1, 2), torch.tensor([1])])
    by_mapping = default_forward(MappingModel(torch.zeros(1, 2)), {"x": torch.zeros(1), "labels": torch.tensor([1])})
    assert by_pair["loss"].item() == by_mapping["loss"].item() == pytest.approx(math.log(2))


def test_a_model_that_returns_a_tuple_is_refused():
    with pytest.raises(InvalidTypeError, match="must return logits or a mapping that holds them, got tuple"):
        default_forward(MappingModel((torch.zeros(1, 2),)), {"labels": torch.tensor([1])})


@pytest.mark.parametrize("batch", [torch.zeros(2), (1, 2, 3), "text"])
def test_another_form_of_batch_is_refused(batch):
    with pytest.raises(InvalidTypeError, match=f"got {type(batch).__name__}. Pass forward=..."):
        default_forward(nn.Identity(), batch)


TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 20}


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("shape", [(0, 5), (7, 5), (2, 0, 5), (3, 4, 5), (0, 4, 5)])
def test_chunks_are_all_rows_in_order_and_never_copies(shape, contiguous):
    logits = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    if not contiguous:
        logits = torch.randn(*shape[:-2], shape[-2] + 1, 5)[..., :-1, :]
    for n_elements in (1, 10, 15, 1000):
        chunks = list(row_chunks(logits, n_elements))
        rows = torch.cat([rows for rows, _ in chunks])
        assert torch.equal(rows, logits.reshape(-1, 5))
        places = [torch.arange(len(rows))[place] for _, place in chunks]
        assert torch.equal(torch.cat(places), torch.arange(len(rows)))
        if logits.numel() > n_elements:  # smaller ones may be copied
            assert all(
                part.data_ptr() >= logits.data_ptr() and len(part) <= max(1, n_elements // 5) for part, _ in chunks
            )
            assert all(part.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr() for part, _ in chunks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_over_a_large_vocabulary_makes_no_large_copy_without_a_gradient(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 31, 60_000, generator=generator).to(dtype)[:, :-1]
    labels = torch.randint(60_000, (2, 30), generator=generator)
    labels[0, :9] = -100
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        losses = cross_entropy_per_example(logits, labels)
    assert 0 < max(event.cpu_memory_usage for event in profile.events()) <= 4 * CHUNK_ELEMENTS
    trained = cross_entropy_per_example(logits.clone().requires_grad_(), labels)
    assert trained.requires_grad
    torch.testing.assert_close(losses, trained.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bool])
def test_labels_of_the_logits_shape_are_several_at_once(dtype):
    logits, labels = torch.randn(3, 4), torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).to(dtype)
    signals = default_forward(nn.Identity(), (logits, labels))
    p = logits.double().sigmoid()
    expected = -torch.where(labels.bool(), p.log(), (1 - p).log()).sum(-1)
    torch.testing.assert_close(signals["loss"].double(), expected, rtol=1e-5, atol=1e-6)
    assert signals["loss"].dtype == torch.float32
    assert signals["labels"] is labels


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_float_labels_one_per_example_are_numbers(shape):
    predictions, targets = torch.tensor([1.0, 2.0, 4.0]).view(shape), torch.tensor([1.0, 5.0, 0.0], dtype=torch.float64)
    loss = default_forward(nn.Identity(), (predictions, targets))["loss"]
    assert loss.tolist() == [0.0, 9.0, 16.0]
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((3, 1), torch.zeros(3, 1)),  # a number, or one label that holds or not
        ((3, 1), torch.zeros(3, dtype=torch.bool)),
        ((3, 2), torch.zeros(3)),
        ((3, 2, 4), torch.zeros(3, 2)),
        ((3, 2, 4), torch.zeros(3, 2, 4)),
    ],
)
def test_labels_that_may_mean_several_things_are_refused(logits, labels):
    with pytest.raises(InvalidTypeError, match=r"must hold integer class ids, got .* set model.config.problem_type"):
        default_forward(nn.Identity(), (torch.zeros(logits), labels))


def test_integers_of_the_logits_shape_are_refused_unless_the_model_says_what_they_are():
    logits, labels = torch.zeros(2, 3), torch.tensor([[0, 1, 1], [1, 0, 0]])
    with pytest.raises(InvalidValueError, match="Logits must be"):
        default_forward(nn.Identity(), (logits, labels))
    loss = signals_from_outputs({"logits": logits}, {"labels": labels}, problem_type="multi_label_classification")[
        "loss"
    ]
    assert loss.tolist() == pytest.approx([3 * math.log(2)] * 2)


def test_numbers_in_place_of_several_labels_are_refused():
    with pytest.raises(InvalidValueError, match=r"'labels' must be in \[0, 1\] for multi-label data, got 2.5"):
        default_forward(nn.Identity(), (torch.zeros(1, 2), torch.tensor([[0.5, 2.5]])))


@pytest.mark.parametrize(
    ("problem_type", "n_outputs", "labels"),
    [
        ("regression", 1, torch.tensor([[0.5], [2.0]])),
        ("regression", 1, torch.tensor([1, 3])),
        ("regression", 3, torch.tensor([[0.5, 1.0, 2.5], [0.0, 0.0, -4.0]])),
        ("multi_label_classification", 3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])),
        ("multi_label_classification", 1, torch.tensor([[1.0], [0.0]])),
        ("single_label_classification", 3, torch.tensor([2, 0])),
        (None, 3, torch.tensor([2, 0])),
        (None, 1, torch.tensor([0.5, 2.0])),
        (None, 3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])),
    ],
)
def test_the_loss_is_the_models_own_up_to_the_mean_over_outputs(problem_type, n_outputs, labels):
    torch.manual_seed(0)
    config = BertConfig(**TINY, num_labels=n_outputs, problem_type=problem_type)
    model = BertForSequenceClassification(config).eval()
    batch = {"input_ids": torch.tensor([[5, 6], [7, 8]]), "labels": labels}
    loss = default_forward(model, batch)["loss"]
    own = model(**{**batch, "labels": labels.float() if problem_type == "regression" else labels}).loss
    if labels.dim() == 2:
        loss = loss / n_outputs
    torch.testing.assert_close(loss.mean(), own, rtol=1e-5, atol=1e-6)


def test_a_problem_type_that_the_labels_do_not_fit_is_refused():
    model = BertForSequenceClassification(BertConfig(**TINY, num_labels=3, problem_type="single_label_classification"))
    with pytest.raises(InvalidTypeError, match="must hold integer class ids"):
        default_forward(model, {"input_ids": torch.tensor([[5]]), "labels": torch.zeros(1, 3)})
    model.config.problem_type = "multi_label_classification"
    with pytest.raises(InvalidValueError, match=r"one shape \(B, C\)"):
        default_forward(model, {"input_ids": torch.tensor([[5]]), "labels": torch.tensor([1])})


def test_a_causal_model_predicts_the_next_token():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=1, n_positions=8, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 0]])
    labels = torch.tensor([[-100, -100, 5, 6], [-100, 8, 9, -100]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}
    signals = default_forward(model, batch)
    assert signals["logits"].shape == (2, 3, 30)
    assert torch.equal(signals["labels"], labels[:, 1:])
    assert signals["labels"].data_ptr() == labels[:, 1:].data_ptr()  # views
    assert not signals["logits"].is_contiguous()
    own = model(**batch).loss  # the mean over the four tokens that count
    torch.testing.assert_close(signals["loss"].sum() / 4, own)
    signals["loss"].mean().backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_a_causal_model_is_known_inside_its_wrappers():
    class TinyForCausalLM(nn.Module):
        pass

    inner = TinyForCausalLM()
    compiled, parallel = nn.Module(), nn.Module()
    compiled._orig_mod = inner
    parallel.module = inner
    both = nn.Module()
    both.module = compiled  # DistributedDataParallel around a compiled model
    assert all(is_causal(model) for model in (inner, compiled, parallel, both))
    assert is_causal(BertLMHeadModel(BertConfig(**TINY, is_decoder=True)))

    class XLNetLMHeadModel(nn.Module):  # takes labels that stand where the logits do
        pass

    assert not is_causal(XLNetLMHeadModel())


def test_signals_of_a_causal_model_without_labels_are_refused():
    class TinyForCausalLM(nn.Module):
        pass

    with pytest.raises(InvalidValueError, match="must hold 'labels'"):
        signals_from_model(TinyForCausalLM(), {"logits": torch.zeros(1, 2, 3)}, {"input_ids": torch.zeros(1, 2)})


def test_encoder_decoders_are_refused():
    class Config:
        is_encoder_decoder = True

    class TinyForCausalLM(nn.Module):
        pass

    class TinyForConditionalGeneration(nn.Module):
        pass

    seq2seq = nn.Linear(1, 1)
    seq2seq.config = Config()
    wrapped = nn.Module()
    wrapped.module = seq2seq
    for model, words in (
        (seq2seq, "Seq2Seq model Linear"),
        (wrapped, "Seq2Seq model Linear"),
        (TinyForConditionalGeneration(), "multimodal model TinyForConditionalGeneration"),
    ):
        with pytest.raises(InvalidTypeError, match=words):
            check_not_encoder_decoder(model)
        with pytest.raises(InvalidTypeError, match=words):
            default_forward(model, (torch.zeros(1, 1), torch.zeros(1, dtype=torch.long)))
    check_not_encoder_decoder(TinyForCausalLM())


def test_bf16_runs_the_model_in_bf16_and_the_loss_in_float32():
    model = nn.Linear(2, 3)
    forward = with_precision(default_forward, "bf16")
    signals = forward(model, (torch.randn(4, 2), torch.tensor([0, 1, 2, 0])))
    assert signals["logits"].dtype == torch.bfloat16
    assert signals["loss"].dtype == torch.float32
    signals["loss"].mean().backward()
    assert model.weight.grad.dtype == torch.float32
    assert with_precision(default_forward, "no") is default_forward


def test_an_unknown_precision_is_refused():
    with pytest.raises(InvalidValueError, match="mixed_precision must be one of 'no', 'bf16', got 'fp8'"):
        with_precision(default_forward, "fp8")
