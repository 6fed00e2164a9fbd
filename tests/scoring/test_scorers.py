"""What every BatchScorer shares: passes over data, updates, errors."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, JointEL2N, Loss, ScoreStore, TopK
from dataprune.data.forward import default_forward
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, NotFittedError
from dataprune.scoring.base import as_index
from dataprune.scoring.store import OBSERVED, PASS


class Confident(nn.Module):
    """Logits that favour class 0 by `gap`."""

    def __init__(self, gap):
        super().__init__()
        self.gap = nn.Parameter(torch.tensor(float(gap)))

    def forward(self, x):
        return torch.stack([self.gap.expand(len(x)), torch.zeros(len(x))], -1)


DATA = [(torch.zeros(1), 0), (torch.zeros(1), 1), (torch.zeros(1), 0)]


@pytest.mark.parametrize("scorer", [EL2N(), Loss()])
def test_a_wrong_label_scores_higher_than_a_right_one(scorer):
    scores = scorer.fit(DATA, model=Confident(2)).scores_
    assert scores[1] > scores[0] == scores[2]


def test_scores_of_several_runs_are_averaged():
    runs = [Confident(0), Confident(2), Confident(5)]
    scorer = EL2N(smoothing="mean").fit(DATA, model=runs[0])
    assert scorer.partial_fit(DATA, model=runs[1]).partial_fit(DATA, model=runs[2]) is scorer
    one_by_one = np.mean([EL2N().fit(DATA, model=model).scores_ for model in runs], axis=0)
    np.testing.assert_allclose(scorer.scores_, one_by_one, rtol=1e-6)
    assert scorer.store_.counts.tolist() == [3, 3, 3]


def test_a_checkpoint_counts_for_all_rows_or_for_none():
    def broken(model, batch):
        signals = default_forward(model, batch)
        return {**signals, "logits": signals["logits"].index_fill(0, torch.tensor([1]), float("nan"))}

    scorer = EL2N(smoothing="mean").fit(DATA, model=Confident(0))
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN"):
        scorer.partial_fit(DATA, model=Confident(5), forward=broken)
    assert scorer.store_.counts.tolist() == [1, 1, 1]
    scorer.partial_fit(DATA, model=Confident(2))
    expected = EL2N(smoothing="mean").fit(DATA, model=Confident(0)).partial_fit(DATA, model=Confident(2))
    np.testing.assert_array_equal(scorer.scores_, expected.scores_)


def test_a_pass_counts_after_whatever_the_table_has_seen(tmp_path):
    whole = EL2N(smoothing="mean").fit(DATA, model=Confident(0))
    whole.store_.save(tmp_path / "s.safetensors")
    loaded = EL2N(smoothing="mean").reset(3)
    loaded.store_ = ScoreStore.load(tmp_path / "s.safetensors")
    pruner = DynamicPruner(EL2N(smoothing="mean"), TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=1))
    trained = pruner.fit(DATA, model=nn.Linear(1, 2), n_epochs=3, batch_size=1).scorer_
    for scorer in (loaded, trained):
        before = scorer.store_.counts
        scorer.partial_fit(DATA, model=Confident(2))
        np.testing.assert_array_equal(scorer.store_.counts, before + 1)
    np.testing.assert_array_equal(loaded.scores_, whole.partial_fit(DATA, model=Confident(2)).scores_)


def test_fit_starts_afresh_and_partial_fit_alone_does_not_need_it():
    scorer = EL2N(smoothing="mean").fit(DATA, model=Confident(0)).fit(DATA, model=Confident(2))
    assert scorer.store_.counts.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(EL2N().partial_fit(DATA, model=Confident(2)).scores_, scorer.scores_)


def test_transform_scores_other_rows():
    scorer = EL2N().fit(DATA, model=Confident(2))
    np.testing.assert_array_equal(scorer.transform(DATA[1:2], model=Confident(2)), scorer.scores_[1:2])
    assert len(scorer.scores_) == 3


def test_fit_marks_scores_as_those_of_a_pass_and_update_as_observed():
    scorer = EL2N().fit(DATA, model=Confident(2))
    assert scorer.store_.source.tolist() == [PASS] * 3
    scorer.update(torch.tensor([1]), logits=torch.zeros(1, 2), labels=torch.tensor([0]))
    assert scorer.store_.source.tolist() == [PASS, OBSERVED, PASS]


def test_an_update_after_fit_counts_as_a_new_visit():
    scorer = EL2N(smoothing="mean").fit(DATA, model=Confident(2))
    scorer.update(torch.arange(3), logits=torch.zeros(3, 2), labels=torch.tensor([0, 1, 0]))
    assert scorer.store_.counts.tolist() == [2, 2, 2]


def test_the_scores_of_a_model_in_train_mode_are_those_of_eval_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()  # a frozen part must stay frozen
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data = [(torch.randn(4), i % 3) for i in range(10)]
    scorer = EL2N().fit(data, model=model, batch_size=3)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    np.testing.assert_allclose(scorer.scores_, EL2N().fit(data, model=model.eval(), batch_size=10).scores_, rtol=1e-5)


def test_inputs_of_update_may_be_overwritten_afterwards():
    index, logits = torch.tensor([0]), torch.zeros(1, 2)
    loss = torch.tensor([3.0])
    by_loss = Loss().reset(2).update(index, loss=loss)
    by_error = EL2N().reset(2).update(index, logits=logits, labels=torch.tensor([0]))
    index.fill_(1)
    loss.fill_(9.0)
    logits.fill_(float("nan"))
    np.testing.assert_array_equal(by_loss.scores_, [3.0, np.nan])
    assert by_error.scores_[0] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_scores_are_float32_whatever_the_logits_are(dtype):
    scorer = EL2N().reset(2).update(torch.arange(2), logits=torch.zeros(2, 3, dtype=dtype), labels=torch.tensor([0, 1]))
    assert scorer.scores_.dtype == np.float32
    loss = Loss().reset(1).update(torch.tensor([0]), loss=torch.tensor([1.0], dtype=dtype))
    assert loss.scores_.dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[3, -100, 2], [-100, -100, -100]], [2.0, 4.0]),  # per token; where none counts the loss is what it is
        ([1, -100], [4.0, 4.0]),  # one label per example
        ([[0.0, 1.0], [1.0, 1.0]], [2.0, 2.0]),  # several classes at once
        ([-7.5, 2.0], [4.0, 4.0]),  # numbers, below zero too
    ],
)
def test_a_mean_loss_is_that_of_the_labels_that_count(labels, expected):
    scorer = Loss(reduction="mean").reset(2)
    scorer.update(torch.arange(2), loss=torch.tensor([4.0, 4.0]), labels=torch.tensor(labels))
    assert scorer.scores_.tolist() == expected
    heads = {"intent_labels": torch.tensor([2, -100]), "slot_labels": torch.tensor([[1, 1, -100], [4, -100, -100]])}
    scorer.set_epoch(1)
    scorer.update(torch.arange(2), loss=torch.tensor([6.0, 6.0]), **heads)
    assert scorer.scores_.tolist() == [2.0, 6.0]
    with pytest.raises(InvalidValueError, match=r"needs a signal 'labels' or '<head>_labels', got only 'loss'"):
        scorer.update(torch.arange(2), loss=torch.tensor([4.0, 4.0]))
    with pytest.raises(InvalidValueError, match=r"Loss.reduction must be one of 'sum', 'mean'"):
        Loss(reduction="norm").reset(2)


@pytest.mark.parametrize("index", [torch.tensor(1), 1, np.array([1]), [1], torch.tensor([1], dtype=torch.int32)])
def test_an_index_comes_in_many_forms(index):
    assert as_index(index).tolist() == [1]
    assert as_index(index).dtype == torch.int64
    scores = Loss().reset(2).update(index, loss=torch.tensor([0.5])).scores_
    assert scores[1] == 0.5


@pytest.mark.parametrize("index", [torch.tensor([1.0]), [0.5], torch.tensor([True])])
def test_an_index_that_is_no_integer_is_refused(index):
    with pytest.raises(InvalidTypeError, match="An index must be integers"):
        Loss().reset(2).update(index, loss=torch.tensor([0.5]))


def test_a_missing_signal_is_named():
    with pytest.raises(
        InvalidValueError,
        match=r"EL2N.update\(\) needs the signals 'labels' and 'logits', got only 'logits'. Pass labels=...",
    ):
        EL2N().reset(2).update(torch.tensor([0]), logits=torch.zeros(1, 2))
    with pytest.raises(InvalidValueError, match="'slot_labels' and 'slot_logits', got only none"):
        JointEL2N(heads=("slot",)).reset(2).update(torch.tensor([0]))


def test_scores_before_fit_are_an_error_that_says_so():
    with pytest.raises(NotFittedError, match=r"EL2N has no scores yet. Call fit"):
        _ = EL2N().scores_
    assert not hasattr(EL2N(), "scores_")  # as scikit-learn's own attributes
    with pytest.raises(NotFittedError):
        Loss().update(torch.tensor([0]), loss=torch.tensor([1.0]))


def test_a_model_is_needed():
    with pytest.raises(InvalidTypeError, match=r"EL2N.fit\(\) needs model=... as a torch.nn.Module, got NoneType"):
        EL2N().fit(DATA)


def test_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(DATA)

    with pytest.raises(InvalidTypeError, match="stream cannot"):
        EL2N().fit(Stream(), model=Confident(1))


def test_other_data_in_partial_fit_are_refused():
    scorer = EL2N().fit(DATA, model=Confident(1))
    with pytest.raises(InvalidValueError, match="was fitted on 3 examples, got 2"):
        scorer.partial_fit(DATA[:2], model=Confident(1))


def test_a_nan_logit_names_its_example():
    data = [(torch.tensor([0.0, 1.0]), 0), (torch.tensor([float("nan"), 1.0]), 0)]
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN"):
        EL2N().fit(data, model=nn.Identity())


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"smoothing": "median"}, "smoothing must be one of 'last', 'mean', 'ema', 'ema_plus_std', got 'median'"),
        ({"smoothing": "ema", "ema_weight": 0.0}, r"ema_weight must be in \(0, 1\], got 0.0"),
        ({"smoothing": "ema", "ema_weight": 1.5}, r"ema_weight must be in \(0, 1\], got 1.5"),
    ],
)
def test_parameters_out_of_range_are_refused_at_reset(parameters, words):
    with pytest.raises(DataPruneError, match=words):
        EL2N(**parameters).reset(3)


def test_a_store_can_be_taken_out_and_kept(tmp_path):
    scorer = EL2N(smoothing="ema").fit(DATA, model=Confident(2))
    scorer.store_.save(tmp_path / "scores.safetensors")
    again = ScoreStore.load(tmp_path / "scores.safetensors")
    np.testing.assert_array_equal(again.scores, scorer.scores_)
