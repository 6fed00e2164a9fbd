"""Per-example gradient norms against the slow, obvious loop: a batch of one, backward, the norm over all gradients."""

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRMSNorm
from transformers.pytorch_utils import Conv1D

from dataprune import JointIntentSlotModel
from dataprune.data.forward import default_forward
from dataprune.errors import InvalidValueError
from dataprune.models import JointIntentSlotConfig
from dataprune.scoring._gradients_layers import Outer, squared_norms
from dataprune.scoring.gradient_norm import last_layer_gradient_norms
from dataprune.scoring.per_example_gradients import gradient_norms

seeds, batch_sizes, lengths = st.integers(0, 999), st.integers(1, 5), st.integers(1, 7)


def row(batch, i):
    """Example i as a batch of one."""
    if torch.is_tensor(batch):
        return batch[i : i + 1]
    if isinstance(batch, dict):
        return {key: row(value, i) for key, value in batch.items()}
    return tuple(row(part, i) for part in batch)


def slow_norms(model, batch, forward, n, parameters=lambda name: True):
    norms = []
    for i in range(n):
        loss = forward(model, row(batch, i))["loss"]
        chosen = [p for name, p in model.named_parameters() if parameters(name)]
        found = torch.autograd.grad(loss.sum(), chosen, allow_unused=True)
        norms.append(torch.stack([g.double().square().sum() for g in found if g is not None]).sum().sqrt().item())
    return norms


def check(model, batch, n, *, forward=default_forward, parameters=None, rtol=1e-5):
    model.eval()
    fast = gradient_norms(model, batch, forward, parameters=parameters, check_rows=True)
    slow = slow_norms(model, batch, forward, n, parameters or (lambda name: True))
    assert fast.dtype == torch.float32
    assert not fast.requires_grad
    torch.testing.assert_close(fast, torch.tensor(slow), rtol=rtol, atol=1e-7)


def built(make, seed=0):
    """A model of random weights, norms and biases included, without touching the global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def generator(seed):
    return torch.Generator().manual_seed(seed)


def mlp():
    return nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)
    )


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 8, (3, 2), dilation=(1, 2), padding=(2, 1), groups=2, bias=False),
            nn.GroupNorm(2, 8),
            nn.ReLU(),
        )
        self.series = nn.Conv1d(8, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 3)
        self.body[1].running_mean.fill_(0.3)
        self.body[1].running_var.fill_(2.0)

    def forward(self, x):
        return self.head(self.series(self.body(x).flatten(2)).mean(-1))


@settings(max_examples=20, deadline=None)
@given(n=batch_sizes, seed=seeds, scale=st.sampled_from([1e-2, 1.0, 30.0]))
def test_an_mlp_is_the_slow_loop(n, seed, scale):
    x, y = torch.randn(n, 6, generator=generator(seed)) * scale, torch.randint(3, (n,), generator=generator(seed))
    check(built(mlp, seed), (x, y), n)


@pytest.mark.parametrize("first", [lambda: nn.Linear(3, 4), lambda: Conv1D(4, 3)], ids=["Linear", "Conv1D"])
def test_outputs_that_are_changed_in_place_are_the_slow_loop(first):
    def make():
        return nn.Sequential(first(), nn.ReLU(inplace=True), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Flatten())

    draw = generator(0)
    check(built(make), (torch.randn(5, 2, 3, generator=draw), torch.randint(8, (5,), generator=draw)), 5)


@settings(max_examples=20, deadline=None)
@given(n=batch_sizes, height=st.integers(3, 9), width=st.integers(3, 9), seed=seeds)
def test_a_cnn_with_batch_norm_in_eval_mode_is_the_slow_loop(*, n, height, width, seed):
    x = torch.randn(n, 2, height, width, generator=generator(seed))
    check(built(Cnn), (x, torch.randint(3, (n,), generator=generator(seed))), n)


def token_batch(n, n_tokens, seed, vocabulary=11):
    """Ids with many repeats, and padding (0) at the end."""
    ids = torch.randint(1, vocabulary, (n, n_tokens), generator=generator(seed))
    kept = torch.randint(1, n_tokens + 1, (n, 1), generator=generator(seed + 1))
    mask = (torch.arange(n_tokens) < kept).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def bert_config(**more):
    return BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        pad_token_id=0,
        **more,
    )


BERT = built(lambda: BertForSequenceClassification(bert_config(num_labels=3)))
JOINT = built(
    lambda: JointIntentSlotModel(
        JointIntentSlotConfig(encoder=bert_config(), intent_labels=["a", "b", "c"], slot_labels=["O", "B-x"])
    )
)


@settings(max_examples=20, deadline=None)
@given(n=batch_sizes, n_tokens=lengths, seed=seeds)
def test_a_bert_is_the_slow_loop_though_it_looks_up_positions_once_for_the_whole_batch(n, n_tokens, seed):
    batch = token_batch(n, n_tokens, seed) | {"labels": torch.randint(3, (n,), generator=generator(seed))}
    check(BERT, batch, n)


def without_padding(batch, i):
    """Example i as a batch of one, cut to its own tokens, as if it had never been in a longer batch."""
    n_tokens, n_own = batch["attention_mask"].shape[1], int(batch["attention_mask"][i].sum())
    return {k: v[i : i + 1, :n_own] if v.shape[1:] == (n_tokens,) else v[i : i + 1] for k, v in batch.items()}


@settings(max_examples=20, deadline=None)
@given(n=batch_sizes, n_tokens=st.integers(2, 7), joint=st.booleans(), seed=seeds)
def test_padding_counts_for_nothing(*, n, n_tokens, joint, seed):
    draw, batch = generator(seed), token_batch(n, n_tokens, seed)
    if joint:
        tags = torch.randint(2, (n, n_tokens), generator=draw).masked_fill(batch["attention_mask"] == 0, -100)
        batch |= {"slot_labels": tags, "intent_labels": torch.randint(3, (n,), generator=draw)}
    else:
        batch |= {"labels": torch.randint(3, (n,), generator=draw)}
    model = (JOINT if joint else BERT).eval()
    fast = gradient_norms(model, batch, default_forward, check_rows=True)
    alone = [slow_norms(model, without_padding(batch, i), default_forward, 1)[0] for i in range(n)]
    torch.testing.assert_close(fast, torch.tensor(alone), rtol=1e-5, atol=1e-7)


@settings(max_examples=10, deadline=None)
@given(n=batch_sizes, n_tokens=lengths, seed=seeds)
def test_a_joint_model_with_labels_per_token_is_the_slow_loop(n, n_tokens, seed):
    batch = token_batch(n, n_tokens, seed)
    tags = torch.randint(2, (n, n_tokens), generator=generator(seed)).masked_fill(batch["attention_mask"] == 0, -100)
    batch |= {"slot_labels": tags, "intent_labels": torch.randint(3, (n,), generator=generator(seed))}
    check(JOINT, batch, n)


def next_token_forward(model, batch):
    """Sum of the cross entropies of the tokens after the first, per example."""
    ids = batch["input_ids"]
    logits = model(input_ids=ids).logits[:, :-1]
    return {"loss": F.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").sum(-1)}


def gpt2(*, tied):
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2, tie_word_embeddings=tied)
    )


def llama(*, tied):
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


LANGUAGE_MODELS = {(make, tied): built(lambda: make(tied=tied)) for make in (gpt2, llama) for tied in (True, False)}  # noqa: B023


@settings(max_examples=30, deadline=None)
@given(model=st.sampled_from(list(LANGUAGE_MODELS)), n=batch_sizes, n_tokens=lengths, seed=seeds)
def test_a_language_model_is_the_slow_loop_with_tied_embeddings_and_without(model, n, n_tokens, seed):
    ids = torch.randint(11, (n, n_tokens), generator=generator(seed))
    assert (LANGUAGE_MODELS[model].lm_head.weight is LANGUAGE_MODELS[model].get_input_embeddings().weight) == model[1]
    check(LANGUAGE_MODELS[model], {"input_ids": ids}, n, forward=next_token_forward)


def test_the_cross_terms_of_a_tied_weight_count():
    model, ids = LANGUAGE_MODELS[gpt2, True], torch.tensor([[1, 1, 2, 1, 1], [3, 4, 5, 6, 7]])
    batch, name = {"input_ids": ids}, "transformer.wte.weight"
    together = gradient_norms(model, batch, next_token_forward, parameters=name.__eq__)
    apart = built(lambda: gpt2(tied=False))
    apart.load_state_dict(model.state_dict())
    one, other = (
        gradient_norms(apart, batch, next_token_forward, parameters=key.__eq__) for key in (name, "lm_head.weight")
    )
    assert not torch.allclose(together.square(), one.square() + other.square(), rtol=1e-3)
    check(model, batch, 2, forward=next_token_forward, parameters=name.__eq__)


class Nested(nn.Module):
    """Calls one layer twice, shares its weight with another, and adds positions that no example owns."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(9, 5, padding_idx=2), nn.Embedding(8, 5)
        self.twice, self.twin, self.turned = nn.Linear(5, 5), nn.Linear(5, 5), Conv1D(5, 5)
        self.turned.weight = self.twin.weight = self.twice.weight
        self.norm, self.head = LlamaRMSNorm(5), nn.Linear(5, 3)
        self.never_called = nn.Linear(2, 2)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        x = self.turned(self.twin(self.twice(torch.tanh(self.twice(x)))))
        return self.head(self.norm(x).mean(1))


@settings(max_examples=30, deadline=None)
@given(n=batch_sizes, n_tokens=lengths, seed=seeds)
def test_layers_called_twice_shared_weights_and_positions_without_a_batch_are_the_slow_loop(n, n_tokens, seed):
    ids = torch.randint(9, (n, n_tokens), generator=generator(seed))
    check(built(Nested, seed), (ids, torch.randint(3, (n,), generator=generator(seed))), n)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(9, 4), kind(4, 5, 2, batch_first=True), nn.Linear(10, 3)

    def forward(self, ids):
        states, last = self.rnn(self.embed(ids))
        last = last[0] if isinstance(last, tuple) else last
        return self.head(torch.cat([states.mean(1), last[-1]], -1))


class Patches(nn.Module):
    """A vision transformer in small: raw parameters at the top, torch's attention inside."""

    def __init__(self):
        super().__init__()
        self.start, self.places = nn.Parameter(torch.zeros(1, 1, 4)), nn.Parameter(torch.zeros(1, 10, 4))
        self.embed = nn.Linear(3, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, ids):
        x = self.embed(F.one_hot(ids % 3, 3).float())
        x = torch.cat([self.start.expand(len(x), -1, -1), x], 1)
        return self.head(self.block(x + self.places[:, : x.shape[1]])[:, 0])


class Attention(nn.Module):
    """torch's attention, whose inner layer is used but never called; and a causal mask that is as long as the batch."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = (
            nn.Embedding(9, 4),
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.Linear(4, 3),
        )

    def forward(self, ids):
        x = self.embed(ids)
        return self.head(self.mix(x, x, x, key_padding_mask=ids == 0, need_weights=False)[0].mean(1))


class Shifted(nn.Embedding):
    """Not an embedding as torch's: it must not be taken for one."""

    def forward(self, ids):
        return 2 * super().forward(ids) + 1


class Odd(nn.Module):
    """An embedding of one's own, a bilinear layer, and a tied weight that a layer without a rule uses, too."""

    def __init__(self):
        super().__init__()
        self.embed, self.pairs, self.head = Shifted(9, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 9)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids).mean(1)
        return self.head(self.pairs(x, torch.tanh(x)))


@pytest.mark.parametrize(
    "make",
    [lambda: Recurrent(nn.LSTM), lambda: Recurrent(nn.GRU), Patches, Attention, Odd],
    ids=["LSTM", "GRU", "Patches", "Attention", "Odd"],
)
@settings(max_examples=6, deadline=None)
@given(n=batch_sizes, n_tokens=lengths, seed=seeds)
def test_layers_without_a_rule_are_the_slow_loop(make, n, n_tokens, seed):
    ids = torch.randint(1, 9, (n, n_tokens), generator=generator(seed))
    check(built(make, seed), (ids, torch.randint(3, (n,), generator=generator(seed))), n)


@pytest.mark.parametrize(
    "norm",
    [lambda: nn.LayerNorm((3, 4)), lambda: nn.RMSNorm(4), lambda: GemmaRMSNorm(4)],
    ids=["LayerNorm", "RMSNorm", "GemmaRMSNorm"],
)
def test_norms_of_all_spellings_are_the_slow_loop(norm):
    model = built(lambda: nn.Sequential(nn.Linear(4, 4), norm(), nn.Flatten(), nn.Linear(12, 3)))
    check(model, (torch.randn(5, 3, 4, generator=generator(0)), torch.tensor([0, 1, 2, 0, 1])), 5)


def test_a_filter_counts_the_named_parameters_alone():
    batch = token_batch(4, 6, 0) | {"labels": torch.tensor([0, 1, 2, 0])}
    for words in (("bias",), ("layer.1", "pooler", "classifier"), ("position_embeddings",)):
        check(BERT, batch, 4, parameters=lambda name, words=words: any(word in name for word in words))


def test_under_autocast_the_norms_are_float32_and_near():
    def forward(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return default_forward(model, batch)

    batch = token_batch(4, 6, 0) | {"labels": torch.tensor([0, 1, 2, 0])}
    check(BERT, batch, 4, forward=forward, rtol=0.05)
    ids = torch.randint(9, (4, 5), generator=generator(1))
    check(built(Odd), (ids, torch.tensor([0, 1, 2, 0])), 4, forward=forward, rtol=0.05)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["dense", "lookup", "tensor"]), min_size=1, max_size=3),
    n=st.integers(1, 4),
    n_positions=st.sampled_from([1, 2, 7, 40]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    seed=seeds,
)
def test_the_squared_norm_of_a_sum_of_uses_is_that_of_the_written_out_gradients(*, kinds, n, n_positions, shape, seed):
    draw = generator(seed)
    parts, dense = [], torch.zeros(n, *shape, dtype=torch.float64)
    for kind in kinds:
        if kind == "tensor":
            parts.append(torch.randn(n, *shape, generator=draw))
            dense += parts[-1]
            continue
        right = torch.randn(n, n_positions, shape[1], generator=draw)
        left = torch.randn(n, n_positions, shape[0], generator=draw)
        if kind == "lookup":
            left = torch.randint(shape[0], (n, n_positions), generator=draw)
        parts.append(Outer(left, right, torch.Size(shape)))
        rows = F.one_hot(left, shape[0]) if kind == "lookup" else left
        for i in range(n):
            for t in range(n_positions):
                dense[i] += torch.outer(rows[i, t].double(), right[i, t].double())
    expected = dense.flatten(1).square().sum(1)
    torch.testing.assert_close(squared_norms(parts).double(), expected, rtol=1e-4, atol=1e-4)


def test_many_examples_are_worked_on_in_groups_and_nothing_changes():
    draw = generator(0)
    part = Outer(torch.randn(9, 300, 80, generator=draw), torch.randn(9, 300, 90, generator=draw), torch.Size((80, 90)))
    long = Outer(
        torch.randn(3, 1100, 900, generator=draw), torch.randn(3, 1100, 900, generator=draw), torch.Size((900, 900))
    )
    ids = Outer(
        torch.randint(50, (3, 1100), generator=draw), torch.randn(3, 1100, 8, generator=draw), torch.Size((50, 8))
    )
    for some in (part, long, ids):
        expected = some[slice(None)].dense().double().flatten(1).square().sum(1)
        torch.testing.assert_close(squared_norms([some]).double(), expected, rtol=1e-4, atol=0)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 5), n_classes=st.integers(2, 6), width=st.integers(1, 5), bias=st.booleans(), seed=seeds)
def test_the_closed_form_of_the_last_layer_is_the_slow_loop(*, n, n_classes, width, bias, seed):
    head = built(lambda: nn.Linear(width, n_classes, bias=bias), seed)
    features = torch.randn(n, width, generator=generator(seed))
    labels = torch.randint(n_classes, (n,), generator=generator(seed))
    fast = last_layer_gradient_norms(head(features), labels, features, bias=bias)
    assert fast.dtype == torch.float32
    assert not fast.requires_grad
    slow = slow_norms(head, (features, labels), default_forward, n)
    torch.testing.assert_close(fast, torch.tensor(slow, dtype=torch.float32), rtol=1e-5, atol=1e-7)


SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "pad_token_id": 0,
    "num_labels": 3,
}
TEXT = {"vocab_size": 11, "max_position_embeddings": 16, **SMALL}
FAMILIES = {
    "albert": lambda: hf.AlbertForSequenceClassification(hf.AlbertConfig(embedding_size=4, **TEXT)),
    "modernbert": lambda: hf.ModernBertForSequenceClassification(
        hf.ModernBertConfig(
            global_attn_every_n_layers=2,
            local_attention=4,
            **dict.fromkeys(("cls_token_id", "sep_token_id"), 1),
            **TEXT,
        )
    ),
    "qwen2": lambda: hf.Qwen2ForSequenceClassification(hf.Qwen2Config(num_key_value_heads=1, **TEXT)),
    "gemma": lambda: hf.GemmaForSequenceClassification(hf.GemmaConfig(num_key_value_heads=1, head_dim=4, **TEXT)),
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, **SMALL)),
    "resnet": lambda: hf.ResNetForImageClassification(
        hf.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_hugging_face_models_are_the_slow_loop(family):
    batch = token_batch(4, 6, 0)
    if family in {"vit", "resnet"}:
        batch = {"pixel_values": torch.randn(4, 3, *((8, 8) if family == "vit" else (32, 32)), generator=generator(0))}
    check(built(FAMILIES[family]), batch | {"labels": torch.tensor([0, 1, 2, 0])}, 4)


def test_relative_positions_that_belong_to_no_example_are_refused_and_can_be_left_out():
    config = hf.MPNetConfig(**TEXT | {"max_position_embeddings": 20, "pad_token_id": 1})
    model = built(lambda: hf.MPNetForSequenceClassification(config)).eval()
    batch = {"input_ids": token_batch(4, 6, 0)["input_ids"].clamp(min=2), "labels": torch.tensor([0, 1, 2, 0])}
    with pytest.raises(InvalidValueError, match=r"relative_attention_bias', got the shape \(6, 6, 2\) for 4 examples"):
        gradient_norms(model, batch, default_forward)
    check(model, batch, 4, parameters=lambda name: "relative_attention_bias" not in name)
