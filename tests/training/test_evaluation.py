"""Evaluation: what the default metrics count, and which epoch is the best."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from training_parts import classifier, points

from dataprune import ConstantScheduler, DynamicPruner, RegressionError
from dataprune.errors import InvalidValueError
from dataprune.testing import unchanged_random_state
from dataprune.training.evaluation import BestModel, default_metrics, evaluate


def test_values_do_not_depend_on_the_batch_size_nor_the_mode():
    model = classifier().train()
    with unchanged_random_state("evaluate()"):
        one, all_at_once = (evaluate(points(20), model, batch_size=n) for n in (1, 20))
    assert model.training
    assert one == pytest.approx(all_at_once)
    model.eval()
    logits, labels = model(points(20).tensors[0]), points(20).tensors[1]
    assert one["accuracy"] == pytest.approx((logits.argmax(-1) == labels).float().mean().item())
    assert one["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_labels_that_do_not_count_are_left_out_of_the_accuracy():
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    labels = torch.tensor([[0, 1, -100]])
    assert default_metrics([{"loss": torch.tensor([1.0]), "logits": logits, "labels": labels}])["accuracy"] == 0.5


def test_without_labels_or_rows_there_is_a_loss_alone():
    assert default_metrics([{"loss": torch.tensor([1.0, 2.0])}]) == {"loss": 1.5}
    assert default_metrics([]) == {"loss": 0.0}


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (torch.zeros(3, 1), torch.tensor([0.0, 1.0, 2.0])),
        (torch.zeros(3), torch.tensor([0.0, 1.0, 2.0])),
        (torch.zeros(3, 3), torch.eye(3)),
        (torch.zeros(3, 3), torch.eye(3, dtype=torch.int64)),
        (torch.zeros(3, 3), torch.eye(3, dtype=torch.bool)),
    ],
    ids=["a number", "a number, flat", "several classes", "of integers", "of bools"],
)
def test_what_has_no_classes_has_no_accuracy(logits, labels):
    assert default_metrics([{"loss": torch.ones(3), "logits": logits, "labels": labels}]) == {"loss": 1.0}


def test_the_best_epoch_of_a_regression_is_that_of_the_lowest_loss():
    x = torch.linspace(-1, 1, 16).unsqueeze(1)
    data = TensorDataset(x, 3 * x[:, 0])
    pruner = DynamicPruner(RegressionError(), scheduler=ConstantScheduler(keep_fraction=1.0))
    pruner.fit(data, model=nn.Linear(1, 1), n_epochs=3, batch_size=8, learning_rate=0.1, eval_dataset=data)
    losses = [record.metrics["loss"] for record in pruner.history_]
    assert losses[0] > losses[1] > losses[2]
    assert pruner.best_epoch_ == 2


def test_metrics_of_ones_own_see_the_signals_of_each_batch():
    def metrics(signals):
        return {"n": sum(len(batch["labels"]) for batch in signals)}

    assert evaluate(points(20), classifier(), metrics=metrics, batch_size=6) == {"n": 20.0}


def test_the_best_weights_are_a_copy_and_come_back():
    model = nn.Linear(1, 1, bias=False)
    best = BestModel("loss")
    for epoch, (loss, weight) in enumerate([(0.5, 1.0), (0.2, 2.0), (0.2, 3.0), (0.4, 4.0)]):
        nn.init.constant_(model.weight, weight)
        best.update({"accuracy": 1.0, "loss": loss}, epoch, model)
    assert (best.epoch, best.value) == (1, 0.2)
    best.restore(model)
    assert model.weight.item() == 2.0


def test_without_an_evaluation_nothing_is_restored():
    model = nn.Linear(1, 1)
    before = model.weight.clone()
    BestModel().restore(model)
    assert torch.equal(model.weight, before)


def test_an_unknown_metric_is_refused():
    with pytest.raises(InvalidValueError, match="best_metric must be one of accuracy, loss, got 'f1'"):
        BestModel("f1").update({"accuracy": 1.0, "loss": 0.0}, 0, nn.Linear(1, 1))


def test_metrics_without_a_value_are_refused():
    with pytest.raises(InvalidValueError, match=r"metrics=\.\.\. that returns at least one value, got none"):
        BestModel().update({}, 0, nn.Linear(1, 1))
