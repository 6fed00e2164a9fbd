"""GraNd and the gradient norms behind it: what they refuse, what they leave alone, and how they work in a run."""

import contextlib
import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dataprune import CyclicScheduler, DynamicPruner
from dataprune.data.forward import default_forward
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError
from dataprune.scoring.gradient_norm import GraNd, LastLayerGraNd, last_layer_gradient_norms
from dataprune.scoring.per_example_gradients import gradient_norms, last_blocks, with_gradient_norms
from dataprune.testing import check_scorer, unchanged_random_state


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def classifier():
    return seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)))


def xy(n=6):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3


DATA = list(zip(*xy(10), strict=True))


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("out of memory")


def failing_in_forward():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8).eval(), Failing()), default_forward


def failing_in_the_check():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.b(F.linear(self.a(x), self.a.weight))

    return Tied(), default_forward


def not_failing():
    return classifier(), default_forward


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (failing_in_forward, "out of memory"),
        (failing_in_the_check, "'a.weight': it is used outside its own layer's forward"),
        (not_failing, None),
    ],
)
def test_hooks_flags_gradients_and_modes_are_as_before_even_after_an_error(make, words):
    model, forward = make()
    first = next(iter(model.parameters()))
    first.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    values = [p.detach().clone() for p in model.parameters()]
    parameters = lambda name: "bias" in name or "a.weight" in name  # noqa: E731
    if words is None:
        gradient_norms(model, xy(), forward, parameters=parameters, check_rows=True)
    else:
        first.requires_grad_(words[0] == "'")
        flags[0] = words[0] == "'"
        with pytest.raises(Exception, match=words):
            gradient_norms(model, xy(), forward, parameters=parameters, check_rows=True)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), values, strict=True))
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


@pytest.mark.parametrize("make", [failing_in_the_check, not_failing])
def test_nothing_of_the_graph_stays_in_memory(make):
    model, forward = make()
    seen = []

    def noting(model, batch):
        handle = model.register_forward_hook(lambda m, args, output: seen.append(weakref.ref(output)))
        try:
            return forward(model, batch)
        finally:
            handle.remove()

    gc.collect()
    gc.disable()  # no collector: circles through the graph's nodes are none that it could see
    try:
        with contextlib.suppress(InvalidValueError):
            gradient_norms(model, xy(), noting)
        assert len(seen) == 1
        assert seen[0]() is None
    finally:
        gc.enable()


def test_inputs_that_require_a_gradient_get_none_and_change_nothing():
    model, (x, y) = classifier().eval(), xy()
    expected = gradient_norms(model, (x, y), default_forward)
    wanting = x.clone().requires_grad_()
    torch.testing.assert_close(gradient_norms(model, (wanting, y), default_forward), expected)
    assert wanting.grad is None


def test_no_gradient_or_inference_mode_around_the_call_changes_nothing():
    model, batch = classifier().eval(), xy()
    expected = gradient_norms(model, batch, default_forward)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(gradient_norms(model, batch, default_forward), expected)


def test_frozen_parameters_do_not_count_and_others_may_be_unused():
    model, batch = classifier().eval(), xy()
    expected = gradient_norms(model, batch, default_forward, parameters=lambda name: name.startswith("3."))
    model[0].requires_grad_(False)
    model.extra = nn.Linear(2, 2)
    torch.testing.assert_close(
        gradient_norms(model, batch, lambda m, b: default_forward(m[:4], b)), expected, rtol=1e-6, atol=0
    )


def test_a_loss_that_no_parameter_touches_has_no_gradient():
    model, (x, y) = classifier(), xy()
    assert gradient_norms(model, (x, y), lambda model, batch: {"loss": batch[0].sum(1)}).tolist() == [0.0] * 6
    with torch.no_grad():
        forward = torch.no_grad()(default_forward)
    assert gradient_norms(model, (x, y), forward).tolist() == [0.0] * 6
    assert gradient_norms(model.eval(), (x[:0], y[:0]), default_forward).shape == (0,)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False).eval()])
def test_batch_norm_that_mixes_examples_is_refused_by_name(norm):
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.Linear(8, 3))
    with pytest.raises(InvalidValueError, match=r"layer '1' normalises over the batch. Call model.eval\(\) first"):
        gradient_norms(model, xy(), default_forward)


class TimeFirst(nn.Module):
    """Works on (T, B, D) inside."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.relu(self.embed(x.transpose(0, 1)))).mean(0)


def test_a_layer_without_one_row_per_example_is_refused():
    x, y = torch.randn(5, 7, 4), torch.zeros(5, dtype=torch.long)
    with pytest.raises(
        InvalidValueError, match=r"one row per example from layer 'embed', got the shape \(7, 5, 8\) for 5"
    ):
        gradient_norms(TimeFirst(), (x, y), default_forward)
    with pytest.raises(InvalidValueError, match="loss of example 0 depends on other rows of layer 'head'"):
        gradient_norms(TimeFirst(), (x[:, :5], y), default_forward, check_rows=True)


def centred_forward(model, batch):
    signals = default_forward(model, batch)
    return {**signals, "loss": signals["loss"] - signals["loss"].mean()}


def test_losses_that_mix_examples_are_refused():
    with pytest.raises(InvalidValueError, match="depends on other rows of layer '3'"):
        gradient_norms(classifier(), xy(), centred_forward, check_rows=True)
    with pytest.raises(InvalidValueError, match="losses that depend on their own example alone"):
        GraNd().fit(DATA, model=classifier(), forward=centred_forward, batch_size=4)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda model, batch: {"logits": model(batch[0])}, r"'loss' of shape \(6,\), one value per example, got none"),
        (lambda model, batch: {"loss": model(batch[0]).sum()}, r"got the shape \(\)"),
        (lambda model, batch: {"loss": model(batch[0])}, r"got the shape \(6, 3\)"),
    ],
)
def test_a_forward_without_a_loss_per_example_is_refused(forward, words):
    with pytest.raises(InvalidValueError, match=words):
        gradient_norms(classifier(), xy(), forward)


def test_nothing_to_take_a_gradient_of_is_refused():
    with pytest.raises(InvalidValueError, match="at least one parameter that requires a gradient, got none"):
        gradient_norms(classifier(), xy(), default_forward, parameters=lambda name: "lora" in name)
    with pytest.raises(InvalidTypeError, match="a batch that holds tensors, got list"):
        gradient_norms(classifier(), ["text"], default_forward)


def test_an_outer_tensor_that_hides_the_way_back_is_refused():
    prompt = torch.randn(4, requires_grad=True)
    model = classifier().eval()
    with pytest.raises(InvalidValueError, match="saw no gradient at layer '3', though the loss depends on it"):
        gradient_norms(model, xy(), lambda model, batch: default_forward(model, (batch[0] + prompt, batch[1])))


class Ranks(nn.Module):
    """Changes each example by its place in the batch."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x + len(x)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Linear(4, 4), nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        states = self.embed(x)
        causal = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return self.mix(states, states, states, attn_mask=causal)[0].mean(1)


def test_a_layer_that_cannot_be_run_one_example_at_a_time_is_refused():
    x, y = torch.randn(3, 3, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(InvalidValueError, match="cannot run layer 'mix' one example at a time: it fails"):
        gradient_norms(seeded(Masked), (x, y), default_forward)  # the mask is taken for one row per example
    with pytest.raises(InvalidValueError, match="'1' one example at a time: example 0 alone gives another output"):
        gradient_norms(nn.Sequential(nn.Linear(4, 4), Ranks(), nn.Flatten()), (x, y), default_forward)
    whole = gradient_norms(seeded(Masked), (x[:2], y[:2]), default_forward, check_rows=True)
    single = [gradient_norms(seeded(Masked), (x[i : i + 1], y[:1]), default_forward) for i in range(2)]
    torch.testing.assert_close(whole, torch.cat(single), rtol=1e-5, atol=0)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_layers_without_a_rule_are_named_in_one_log_line_per_pass(caplog, batch_size):
    with caplog.at_level(logging.INFO, "dataprune"):
        GraNd().fit(DATA, model=with_a_layer_without_a_rule(), batch_size=batch_size)
    assert [record.getMessage() for record in caplog.records] == [NAMED]


@pytest.mark.parametrize("check_rows", [True, False])
def test_a_direct_call_names_them_once_too(caplog, check_rows):
    with caplog.at_level(logging.INFO, "dataprune"):
        gradient_norms(with_a_layer_without_a_rule(), xy(), default_forward, check_rows=check_rows)
        gradient_norms(classifier().eval(), xy(), default_forward, check_rows=check_rows)  # has rules for all
    assert [record.getMessage() for record in caplog.records] == [NAMED]


NAMED = "Gradient norms: run again one example at a time, for want of a rule: 1."


def with_a_layer_without_a_rule():
    return nn.Sequential(nn.Linear(4, 8), nn.PReLU(), nn.Linear(8, 3))


def one_by_one(model, data):
    model = model.eval()
    scores = []
    for x, y in data:
        model.zero_grad()
        F.cross_entropy(model(x[None]), torch.as_tensor([y])).backward()
        scores.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
    model.zero_grad()
    return scores


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_grand_is_the_norm_of_the_gradient_whatever_the_batches_and_the_mode(batch_size):
    model = classifier().train()
    with unchanged_random_state("GraNd.fit()"):
        scores = GraNd().fit(DATA, model=model, batch_size=batch_size).scores_
    assert model.training
    np.testing.assert_allclose(scores, one_by_one(model, DATA), rtol=1e-5)


def test_grand_averages_over_runs():
    models = [classifier(), nn.Sequential(nn.Linear(4, 3)), nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))]
    scorer = GraNd(smoothing="mean").fit(DATA, model=models[0])
    for model in models[1:]:
        scorer.partial_fit(DATA, model=model)
    np.testing.assert_allclose(scorer.scores_, np.mean([one_by_one(m, DATA) for m in models], axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        scorer.transform(DATA[3:5], model=models[1]), one_by_one(models[1], DATA[3:5]), rtol=1e-5
    )


def test_grand_counts_the_chosen_parameters_alone():
    model = classifier()
    last = GraNd(parameters=lambda name: name.startswith("3.")).fit(DATA, model=model).scores_
    np.testing.assert_allclose(last, LastLayerGraNd().fit(DATA, model=model).scores_, rtol=1e-5)
    with pytest.raises(InvalidTypeError, match=r"GraNd\.parameters must be a callable"):
        GraNd(parameters=["3.weight"]).fit(DATA, model=model)


def test_grand_chooses_in_a_run_with_scoring_passes_and_is_refused_without():
    scheduler = CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=1, n_cycle_epochs=1)
    pruner = DynamicPruner(GraNd(), scheduler=scheduler, refresh="full")
    seen = []

    def watch(pruner):
        seen.append((pruner.indices_.tolist(), pruner.scorer_.scores_))

    model = classifier()
    pruner.fit(DATA, model=model, n_epochs=3, batch_size=4, callbacks=[watch])
    for kept, scores in seen[1:]:
        assert kept == sorted(np.argsort(-scores, kind="stable")[:4].tolist())
    assert not np.array_equal(seen[1][1], seen[2][1])  # scored anew
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(DataPruneError, match="GraNd"):
        DynamicPruner(GraNd(), scheduler=scheduler).fit(DATA, model=classifier(), n_epochs=3)


def test_an_observed_batch_without_the_gradient_norm_is_refused():
    with pytest.raises(InvalidValueError, match="'gradient_norm'"):
        GraNd().reset(2).update(torch.tensor([0]), logits=torch.zeros(1, 2), labels=torch.tensor([0]))


def test_a_wrapped_forward_adds_the_norms_and_keeps_no_graph():
    signals = with_gradient_norms(default_forward)(classifier().eval(), xy())
    assert set(signals) == {"logits", "labels", "loss", "gradient_norm"}
    assert not any(signal.requires_grad for signal in signals.values())


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.small = nn.ModuleList([nn.Linear(1, 1)])
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(12)])
        self.head = nn.Linear(4, 3)


def test_the_last_blocks_are_chosen_with_all_that_follows():
    chosen = last_blocks(Blocks(), 2)
    assert {name for name, _ in Blocks().named_parameters() if chosen(name)} == {
        f"{layer}.{kind}" for layer in ("layers.10", "layers.11", "head") for kind in ("weight", "bias")
    }
    assert not last_blocks(Blocks(), 11)("layers.0.weight")
    assert last_blocks(Blocks(), 12)("layers.0.weight")
    with pytest.raises(InvalidValueError, match="n_blocks must be at most 12, the blocks of 'layers', got 13"):
        last_blocks(Blocks(), 13)
    with pytest.raises(InvalidValueError, match="n_blocks must be at least 1, got 0"):
        last_blocks(Blocks(), 0)
    with pytest.raises(InvalidValueError, match=r"needs a model with an nn\.ModuleList of blocks, got Linear"):
        last_blocks(nn.Linear(2, 2), 1)


# The last layer alone.


def features_forward(model, batch):
    x, y = batch
    features = model[:3](x)
    logits = model[3](features)
    return {"logits": logits, "labels": y, "features": features, "loss": F.cross_entropy(logits, y, reduction="none")}


def test_the_features_of_a_scoring_pass_are_found_or_taken_as_given():
    model = classifier()
    found = LastLayerGraNd().fit(DATA, model=model, batch_size=3).scores_
    given = LastLayerGraNd().fit(DATA, model=model, forward=features_forward).scores_
    np.testing.assert_allclose(found, given, rtol=1e-6)
    assert not any(m._forward_hooks for m in model.modules())


def test_the_last_layer_is_told_by_its_output_not_by_its_place():
    class Twisted(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.auxiliary, self.body = nn.Linear(8, 3), nn.Linear(8, 3), nn.Linear(4, 8)

        def forward(self, x):
            states = self.body(x)
            logits = self.head(states)
            return {"logits": logits, "extra": self.auxiliary(states).sum() if self.training else states.sum()}

    model = seeded(Twisted)
    scores = LastLayerGraNd().fit(DATA, model=model).scores_
    chosen = GraNd(parameters=lambda name: name.startswith("head")).fit(DATA, model=model).scores_
    np.testing.assert_allclose(scores, chosen, rtol=1e-5)


def test_a_model_that_does_not_end_in_a_linear_layer_is_refused():
    with pytest.raises(InvalidValueError, match="Return 'features'"):
        LastLayerGraNd().fit(DATA, model=nn.Sequential(nn.Linear(4, 3), nn.Tanh()))


def test_a_bias_that_the_last_layer_has_not_is_refused():
    model = nn.Linear(4, 3, bias=False)
    with pytest.raises(
        InvalidValueError, match=r"LastLayerGraNd.bias must be False for this model's last linear layer, got"
    ):
        LastLayerGraNd().fit(DATA, model=model)
    expected = GraNd().fit(DATA, model=model).scores_
    np.testing.assert_allclose(LastLayerGraNd(bias=False).fit(DATA, model=model).scores_, expected, rtol=1e-5)


def test_a_run_observes_the_features_that_forward_returns_or_finds_them():
    scores = []
    for forward in (features_forward, None):
        pruner = DynamicPruner(LastLayerGraNd(), scheduler=CyclicScheduler(keep_fraction=0.4, n_cycle_epochs=1))
        model = classifier()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # of dropout
            pruner.fit(DATA, model=model, n_epochs=3, batch_size=4, forward=forward)
        assert not any(m._forward_hooks for m in model.modules())
        assert {record.n_scored for record in pruner.history_} == {0}
        scores.append(pruner.scorer_.scores_)
    assert np.isfinite(scores[0]).all()
    np.testing.assert_array_equal(scores[0], scores[1])


def test_the_closed_form_without_a_bias_and_with_a_label_that_does_not_count():
    logits, features = torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    norms = last_layer_gradient_norms(logits, torch.tensor([1, -100]), features, bias=False)
    assert norms.tolist() == pytest.approx([5 * 0.5**0.5, 0.0])


def test_features_of_another_shape_are_refused():
    with pytest.raises(InvalidValueError, match=r"features \(B, D\) and labels \(B,\), got \(2, 3, 4\) and \(2,\)"):
        last_layer_gradient_norms(torch.zeros(2, 2), torch.tensor([0, 1]), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_keeps_the_contract_of_a_scorer(bias):
    def signals(n, generator):
        return {
            "logits": torch.randn(n, 4, generator=generator),
            "labels": torch.randint(4, (n,), generator=generator),
            "features": torch.randn(n, 5, generator=generator),
        }

    check_scorer(LastLayerGraNd(bias=bias), make_signals=signals)


def test_grand_keeps_the_contract_of_a_scorer_that_needs_gradients():
    check_scorer(GraNd(smoothing="mean"))


def test_a_linear_layer_with_a_parameter_of_its_own_has_no_rule():
    class Scaled(nn.Linear):
        def __init__(self):
            super().__init__(4, 3)
            self.scale = nn.Parameter(torch.full((), 2.0))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Scaled()

        def forward(self, x):
            return self.layer(x)

    model = seeded(Model)
    np.testing.assert_allclose(
        GraNd().fit(DATA, model=model).scores_, GraNd().fit(DATA, model=nn.Sequential(model.layer)).scores_, rtol=1e-6
    )
    plain = nn.Linear(4, 3)
    plain.load_state_dict({key: value for key, value in model.layer.state_dict().items() if key != "scale"})
    np.testing.assert_allclose(GraNd().fit(DATA, model=model).scores_, one_by_one(plain, DATA), rtol=1e-5)
