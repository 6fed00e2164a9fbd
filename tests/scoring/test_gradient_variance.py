"""VarianceOfGradients against the slow, obvious definition, and what it refuses and leaves alone."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn
from transformers import BertForSequenceClassification

from dataprune.data.files import write_tensors
from dataprune.data.forward import default_forward
from dataprune.errors import InvalidTypeError, InvalidValueError, NotFittedError, StateError
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.testing import unchanged_random_state


def built(make, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def mlp():
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3))


def float_data(n=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return list(zip(torch.randn(n, 4, generator=draw), torch.randint(3, (n,), generator=draw), strict=True))


def slow_scores(gradients, labels, *, normalize):
    """gradients[k][i]: the gradient of example i at checkpoint k, as float64."""
    variances = []
    for i in range(len(labels)):
        views = np.stack([checkpoint[i].ravel() for checkpoint in gradients])
        variances.append(np.mean([np.mean((column - column.mean()) ** 2) for column in views.T]))
    if not normalize:
        return variances
    scores = []
    for variance, label in zip(variances, labels, strict=True):
        group = [v for v, other in zip(variances, labels, strict=True) if other == label]
        scores.append((variance - np.mean(group)) / np.std(group) if np.std(group) > 0 else 0.0)
    return scores


def slow_float_gradients(model, data):
    model.eval()
    found = []
    for x, y in data:
        leaf = x.clone().requires_grad_()
        model(leaf[None] * 1)[0, y].backward()
        found.append(leaf.grad.double().numpy())
    model.zero_grad(set_to_none=True)
    return found


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 8), n_checkpoints=st.integers(2, 5), normalize=st.booleans(), seed=st.integers(0, 99))
def test_float_inputs_are_the_slow_definition(n, n_checkpoints, normalize, seed):
    data, models = float_data(n, seed), [built(mlp, seed + k) for k in range(n_checkpoints)]
    scorer = VarianceOfGradients(normalize_by_class=normalize).fit(data, model=models, batch_size=3)
    expected = slow_scores(
        [slow_float_gradients(m, data) for m in models], [int(y) for _, y in data], normalize=normalize
    )
    np.testing.assert_allclose(scorer.scores_, expected, rtol=1e-4, atol=1e-4 if normalize else 1e-9)
    assert scorer.scores_.dtype == scorer.variances_.dtype == np.float32
    assert scorer.n_checkpoints_ == n_checkpoints


def token_rows(n=7, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"input_ids": rng.integers(1, 11, size=rng.integers(1, 8)).tolist(), "labels": int(i % 2)} for i in range(n)
    ]


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)
    return {
        "input_ids": torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows]),
        "attention_mask": torch.tensor(
            [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        ),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


@pytest.fixture
def berts(tiny_config):
    return [built(lambda: BertForSequenceClassification(tiny_config), seed) for seed in range(3)]


def slow_token_gradients(model, rows):
    model.eval()
    found = []
    for row in rows:
        batch = collate([row])
        leaf = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
        logits = model(inputs_embeds=leaf, attention_mask=batch["attention_mask"]).logits
        found.append(torch.autograd.grad(logits[0, row["labels"]], leaf)[0].double().numpy())
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 8),
    batch_size=st.sampled_from([1, 3, 64]),
    n_more=st.integers(0, 1),  # the same batches, or other batches and other padding
    seed=st.integers(0, 99),
)
def test_token_models_are_scored_at_their_embeddings_without_padding(berts, n, batch_size, n_more, seed):
    rows = token_rows(n, seed)
    scorer = VarianceOfGradients(normalize_by_class=False)
    scorer.fit(rows, model=berts[0], batch_size=batch_size, collate_fn=collate)
    for model in berts[1:]:
        assert scorer.partial_fit(rows, model=model, batch_size=batch_size + n_more, collate_fn=collate) is scorer
    gradients = [slow_token_gradients(model, rows) for model in berts]
    expected = slow_scores(gradients, [row["labels"] for row in rows], normalize=False)
    np.testing.assert_allclose(scorer.scores_, expected, rtol=1e-4)


@pytest.mark.parametrize("batch_sizes", [(2, 2, 2), (3, 2, 1), (1, 7, 3)])
def test_rows_of_padding_alone_have_no_variance_and_shift_no_other(batch_sizes):
    def forward(model, batch):
        return {"logits": model(batch["x"]).sum(1), "labels": batch["labels"]}

    draw, lengths = torch.Generator().manual_seed(0), [0, 2, 3, 0, 1, 3, 0]
    rows = [
        {"x": torch.randn(3, 2, generator=draw), "attention_mask": (torch.arange(3) < n).long(), "labels": n % 2}
        for n in lengths
    ]
    models = [built(lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), seed) for seed in range(3)]
    scorer = VarianceOfGradients(normalize_by_class=False)
    for model, batch_size in zip(models, batch_sizes, strict=True):
        scorer.partial_fit(rows, model=model, forward=forward, batch_size=batch_size)
    for row, length, score in zip(rows, lengths, scorer.scores_, strict=True):
        views = []
        for model in models:
            leaf = row["x"].clone().requires_grad_()
            views.append(torch.autograd.grad(model(leaf).sum(0)[row["labels"]], leaf)[0][:length].double().numpy())
        assert score == pytest.approx(np.var(views, axis=0).mean() if length else 0.0, rel=1e-5)


def test_images_of_many_sizes_are_scored_one_by_one():
    models = [built(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh()), seed) for seed in range(2)]
    draw = torch.Generator().manual_seed(0)
    images = [(torch.randn(1, 3 + i, 5, generator=draw), i % 2) for i in range(4)]

    def forward(model, batch):
        return {"logits": model(batch[0]).mean((2, 3)), "labels": batch[1]}

    scorer = VarianceOfGradients(normalize_by_class=False).fit(images, model=models, forward=forward, batch_size=1)
    for (x, y), score in zip(images, scorer.scores_, strict=True):
        leaf = x[None].requires_grad_()
        views = [torch.autograd.grad(m(leaf).mean((2, 3))[0, y], leaf)[0].double().numpy() for m in models]
        assert score == pytest.approx(np.var(views, axis=0).mean(), rel=1e-5)


def test_one_number_is_an_input():
    class Powers(nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.slope = slope

        def forward(self, x):
            return torch.stack([self.slope * x, x**2], 1)

    data = [(torch.tensor(1.0), 0), (torch.tensor(3.0), 1)]
    scorer = VarianceOfGradients(normalize_by_class=False).fit(data, model=[Powers(1.0), Powers(3.0)])
    assert scorer.scores_.tolist() == [1.0, 0.0]


def test_an_example_whose_view_changes_more_scores_higher():
    still, moving = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    class Gate(nn.Module):
        def __init__(self, slope):
            super().__init__()
            self.slope = slope

        def forward(self, x):
            return torch.stack([x[:, 0] ** 2 + self.slope * x[:, 1] ** 2, x.sum(1)], 1)

    scores = VarianceOfGradients(normalize_by_class=False).fit(
        [(still, 0), (moving, 0)], model=[Gate(1.0), Gate(2.0), Gate(3.0)]
    )
    np.testing.assert_allclose(scores.scores_, [0.0, np.var([2.0, 4.0, 6.0]) / 2], rtol=1e-6)


def test_small_changes_of_large_gradients_are_not_lost():
    models = [nn.Linear(1, 2, bias=False) for _ in range(3)]
    for model, weight in zip(models, (1000.0, 1000.5, 1001.0), strict=True):
        model.weight.data.fill_(weight)
    scorer = VarianceOfGradients(normalize_by_class=False).fit([(torch.ones(1), 0)], model=models)
    assert scorer.scores_[0] == pytest.approx(np.var([0.0, 0.5, 1.0]), rel=1e-5)


def test_the_model_the_data_and_the_random_state_are_left_alone():
    model, data = built(mlp, 0).train(), float_data()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = [x.clone() for x, _ in data]
    with unchanged_random_state("VarianceOfGradients.fit()"):
        scorer = VarianceOfGradients().fit(data, model=[model, built(mlp, 1)])
    assert model.training
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert all(torch.equal(x, b) for (x, _), b in zip(data, before, strict=True))
    assert not any(m._forward_hooks for m in model.modules())
    assert not hasattr(clone(scorer), "n_checkpoints_")
    assert repr(clone(scorer)) == repr(scorer) == "VarianceOfGradients()"


def test_hooks_are_removed_after_an_error(berts):
    def failing(model, batch):
        default_forward(model, batch)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        VarianceOfGradients().fit(token_rows(), model=berts[0], forward=failing, collate_fn=collate)
    assert not any(m._forward_hooks for m in berts[0].modules())


def test_transform_scores_other_rows_and_leaves_the_scores_untouched():
    models, data = [built(mlp, 0), built(mlp, 1)], float_data()
    scorer = VarianceOfGradients(normalize_by_class=False).fit(data, model=models)
    before = scorer.scores_
    np.testing.assert_allclose(scorer.transform(data[2:4], model=models), before[2:4], rtol=1e-5)
    np.testing.assert_array_equal(scorer.scores_, before)


def test_one_checkpoint_has_no_variance():
    scorer = VarianceOfGradients()
    assert not hasattr(scorer, "scores_")
    with pytest.raises(NotFittedError, match=r"at least 2 checkpoints, got 1. Call partial_fit"):
        _ = scorer.partial_fit(float_data(), model=built(mlp, 0)).scores_


def test_an_error_half_way_leaves_an_unfitted_scorer():
    data = float_data()
    scorer = VarianceOfGradients().fit(data, model=[built(mlp, 0), built(mlp, 1)])
    with pytest.raises(RuntimeError):
        scorer.partial_fit(data, model=nn.Linear(5, 3))
    with pytest.raises(NotFittedError, match="got 0"):
        _ = scorer.scores_
    with pytest.raises(NotFittedError, match="lost its checkpoints when the last pass failed half way"):
        scorer.partial_fit(data, model=built(mlp, 2))


def test_a_label_that_does_not_count_has_no_variance():
    data = [(x, torch.tensor(-100)) for x, _ in float_data()]
    scorer = VarianceOfGradients().fit(data, model=[built(mlp, 0), built(mlp, 1)])
    assert scorer.scores_.tolist() == [0.0] * 9


def test_an_empty_data_set_has_no_scores():
    assert VarianceOfGradients().fit([], model=[built(mlp, 0), built(mlp, 1)]).scores_.shape == (0,)


def logits_per_token(model, batch):
    return {"logits": torch.zeros(len(batch[0]), 2, 3), "labels": torch.zeros(len(batch[0]), 2, dtype=torch.long)}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, InvalidTypeError, "as a torch.nn.Module or a list of them, got NoneType"),
        ({"model": "bert"}, InvalidTypeError, "got str"),
        ({"model": nn.Linear(4, 3), "forward": logits_per_token}, InvalidValueError, r"'logits' \(B, C\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        VarianceOfGradients().fit(float_data(), **arguments)


def test_inputs_that_have_no_gradient_are_refused():
    class OneHot(nn.Module):
        def forward(self, ids):
            return nn.functional.one_hot(ids, 3).float()

    with pytest.raises(InvalidValueError, match=r"needs a model that calls an nn\.Embedding on its tokens"):
        VarianceOfGradients().fit([(torch.tensor(1), 0)], model=OneHot())


def test_inputs_that_change_their_size_between_checkpoints_are_refused():
    def collate_to(width):
        def without_mask(rows):
            ids = [(row["input_ids"] + [0] * width)[:width] for row in rows]
            return torch.tensor(ids), torch.tensor([row["labels"] for row in rows])

        return without_mask

    model = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.LazyLinear(2))
    with torch.random.fork_rng():
        model(torch.zeros(1, 8, dtype=torch.long))
    scorer = VarianceOfGradients().fit(token_rows(), model=model, collate_fn=collate_to(8))
    model[2] = nn.Linear(16, 2)
    with pytest.raises(InvalidValueError, match="had 32 dimensions at the first checkpoint, got 16"):
        scorer.partial_fit(token_rows(), model=model, collate_fn=collate_to(4))


def test_other_data_in_partial_fit_are_refused():
    scorer = VarianceOfGradients().fit(float_data(), model=built(mlp, 0))
    with pytest.raises(InvalidValueError, match="was fitted on 9 examples, got 2"):
        scorer.partial_fit(float_data()[:2], model=built(mlp, 0))


def test_a_nan_gradient_names_its_example():
    data = float_data()
    data[4] = (torch.full((4,), float("nan")), data[4][1])
    with pytest.raises(InvalidValueError, match="The score of example 4 is NaN"):
        _ = VarianceOfGradients().fit(data, model=[built(mlp, 0), built(mlp, 1)]).scores_


@pytest.mark.parametrize("normalize_by_class", [True, False])
def test_a_saved_scorer_goes_on_as_if_it_had_never_stopped(tmp_path, normalize_by_class, berts):
    for rows, models, known in (  # inputs of one size, and of many
        (float_data(), [built(mlp, seed) for seed in range(3)], {}),
        (token_rows(), [berts[0], berts[1], berts[0]], {"collate_fn": collate}),
    ):
        whole = VarianceOfGradients(normalize_by_class=normalize_by_class).fit(rows, model=models, **known)
        half = VarianceOfGradients(normalize_by_class=normalize_by_class).fit(rows, model=models[:2], **known)
        half.save(tmp_path / "half.safetensors")
        loaded = VarianceOfGradients.load(tmp_path / "half.safetensors")
        assert repr(loaded) == repr(half)
        np.testing.assert_array_equal(loaded.scores_, half.scores_)
        np.testing.assert_array_equal(loaded.partial_fit(rows, model=models[2], **known).scores_, whole.scores_)
        assert loaded.n_checkpoints_ == 3


def test_checkpoints_of_other_rows_are_refused_after_loading_too(tmp_path):
    scorer = VarianceOfGradients().fit(float_data(), model=built(mlp, 0))
    scorer.save(tmp_path / "vog.safetensors")
    for known in (scorer, VarianceOfGradients.load(tmp_path / "vog.safetensors")):
        with pytest.raises(StateError, match="made for other data"):
            known.partial_fit(float_data(seed=1), model=built(mlp, 1))
        assert known.n_checkpoints_ == 1


def test_a_scorer_of_no_examples_is_saved_and_one_of_no_checkpoint_is_not(tmp_path):
    VarianceOfGradients().fit([], model=built(mlp, 0)).save(tmp_path / "empty.safetensors")
    assert VarianceOfGradients.load(tmp_path / "empty.safetensors").n_checkpoints_ == 1
    with pytest.raises(NotFittedError, match="has seen no checkpoint yet"):
        VarianceOfGradients().save(tmp_path / "none.safetensors")


def test_a_file_of_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "other.safetensors", {"means": np.zeros(2, np.float32)}, {"format": "other"})
    with pytest.raises(StateError, match="holds no VarianceOfGradients"):
        VarianceOfGradients.load(tmp_path / "other.safetensors")
