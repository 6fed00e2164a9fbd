"""fit: what is refused, and numbers that are not finite leave good weights."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset
from training_parts import classifier, points, pruner, weights_of

from dataprune.data.forward import default_forward
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(4), 0)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "bert"}, r"fit\(\) needs model=... as a torch.nn.Module, got str"),
        ({"n_epochs": 0}, "n_epochs must be at least 1, got 0"),
        ({"lr_schedule": "step"}, "lr_schedule must be one of 'linear', 'cosine', 'constant', got 'step'"),
        ({"learning_rate": -1.0}, "learning_rate must be a finite number above 0, got -1.0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be a finite number above 0, got 0.0"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be one of 'no', 'bf16', got 'fp8'"),
        ({"n_accumulation": 0}, "n_accumulation must be at least 1, got 0"),
        ({"resume": True}, r"fit\(\) needs checkpoint_dir=... to resume, got None"),
        ({"dataset": []}, "needs a data set with examples, got an empty one"),
        ({"dataset": Stream()}, "stream cannot"),
        ({"forward": lambda model, batch: {"logits": batch[0]}}, "forward must return 'loss'.*, got only 'logits'"),
        (
            {"forward": lambda model, batch: {"loss": batch[0].mean()}},
            r"forward must return 'loss' with one value per example, \(8,\), got \(\)",
        ),
        ({"eval_dataset": points(9), "best_metric": "f1"}, "best_metric must be one of accuracy, loss, got 'f1'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, words):
    given = {"dataset": points(), "model": classifier(), "n_epochs": 2, "batch_size": 8, **arguments}
    with pytest.raises(DataPruneError, match=words):
        pruner().fit(given.pop("dataset"), **given)


def test_a_batch_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=0)


def test_a_sequence_to_sequence_model_is_refused():
    model = classifier()
    model.config = type("Config", (), {"is_encoder_decoder": True})()
    with pytest.raises(InvalidTypeError, match="got the Seq2Seq model Sequential"):
        pruner().fit(points(), model=model, n_epochs=2, batch_size=8)


def test_labels_out_of_range_are_refused():
    x, y = points().tensors
    with pytest.raises(InvalidValueError, match=r"'labels' must be in \[0, 3\) or -100, got 7"):
        pruner().fit(TensorDataset(x, torch.where(y == 2, 7, y)), model=classifier(), n_epochs=2, batch_size=8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("n_accumulation", [1, 3])
def test_a_loss_that_is_not_finite_names_its_example_and_leaves_good_weights(value, n_accumulation):
    x, y = points().tensors
    x[41] = value
    model = classifier()
    seen = []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.register_step_post_hook(lambda *_: seen.append(weights_of(model)))
    with pytest.raises(
        InvalidValueError, match=r"The loss of example 41 is (nan|inf) in epoch 0; the weights are those before"
    ):
        pruner().fit(
            TensorDataset(x, y),
            model=model,
            n_epochs=2,
            batch_size=8,
            optimizer=optimizer,
            n_accumulation=n_accumulation,
        )
    last = seen[-1] if seen else weights_of(classifier())
    for name, tensor in weights_of(model).items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, last[name])


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_leaves_good_weights(max_grad_norm):
    model = classifier()

    def forward(model, batch):
        signals = default_forward(model, batch)
        if (batch[0] == points().tensors[0][41]).all(-1).any():
            zero = signals["logits"].sum() * 0.0
            signals["loss"] = signals["loss"] + torch.sqrt(zero)  # 0, but its slope is infinite
        return signals

    with pytest.raises(InvalidValueError, match=r"The norm of the gradient is (nan|inf) in epoch 0.*\b41\b"):
        pruner().fit(points(), model=model, n_epochs=2, batch_size=8, forward=forward, max_grad_norm=max_grad_norm)
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(model).values())


def test_without_clipping_gradients_are_used_as_they_are():
    def run(max_grad_norm):
        model = nn.Linear(4, 3)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        pruner().fit(points(), model=model, n_epochs=1, batch_size=60, optimizer=optimizer, max_grad_norm=max_grad_norm)
        return np.linalg.norm(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))

    free = run(None)
    assert run(free / 2) == pytest.approx(free / 2, rel=1e-4)
    assert run(free * 2) == pytest.approx(free, rel=1e-6)


def test_a_nan_metric_never_stays_the_best():
    model = classifier()
    seen = []

    def metrics(signals):
        list(signals)
        seen.append(weights_of(model))
        return {"f1": [float("nan"), 0.5, float("nan"), 0.4][len(seen) - 1]}

    pruner().fit(
        points(), model=model, n_epochs=4, batch_size=8, learning_rate=0.05, eval_dataset=points(9), metrics=metrics
    )
    assert torch.equal(model.state_dict()["0.weight"], seen[1]["0.weight"])
