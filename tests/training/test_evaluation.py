"""Evaluation: what the default metrics count, and which epoch is the best."""

import pytest
import torch
from torch import nn
from training_parts import classifier, points

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
