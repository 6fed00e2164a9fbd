"""fit: evaluation, callbacks, precision, grouping by length, scores of another run, the progress bar."""

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from training_parts import SCHEDULE, classifier, points, pruner, weights_of

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.data.forward import default_forward


def test_the_best_weights_on_the_evaluation_data_come_back():
    model = classifier()
    seen = []

    def metrics(signals):
        list(signals)
        seen.append(weights_of(model))
        return {"score": [0.1, 0.7, 0.7, 0.3][len(seen) - 1], "other": len(seen)}

    ours = pruner().fit(
        points(), model=model, n_epochs=4, batch_size=8, learning_rate=0.05, eval_dataset=points(9), metrics=metrics
    )
    assert [record.metrics["score"] for record in ours.history_] == [0.1, 0.7, 0.7, 0.3]
    assert all(torch.equal(tensor, seen[1][name]) for name, tensor in weights_of(model).items())
    assert not torch.equal(seen[1]["0.weight"], seen[3]["0.weight"])


@pytest.mark.parametrize(("best_metric", "best"), [("loss", 2), ("f1", 1), (None, 1)])
def test_the_loss_is_minimised_and_any_other_metric_maximised(best_metric, best):
    model = classifier()
    seen = []

    def metrics(signals):
        list(signals)
        seen.append(weights_of(model))
        return {"f1": [0.1, 0.9, 0.5][len(seen) - 1], "loss": [0.3, 0.2, 0.1][len(seen) - 1]}

    pruner().fit(
        points(),
        model=model,
        n_epochs=3,
        batch_size=8,
        learning_rate=0.05,
        eval_dataset=points(9),
        metrics=metrics,
        best_metric=best_metric,
    )
    assert torch.equal(model.state_dict()["0.weight"], seen[best]["0.weight"])


def test_evaluation_sees_each_row_in_eval_mode_and_training_goes_on_in_train_mode():
    modes = []

    def forward(model, batch):
        modes.append((model.training, len(batch[1])))
        return default_forward(model, batch)

    model = classifier()
    ours = pruner().fit(points(), model=model, n_epochs=2, batch_size=30, forward=forward, eval_dataset=points(7))
    assert modes == [(True, 30), (True, 30), (False, 7), (True, 24), (False, 7)]
    assert set(ours.history_[0].metrics) == {"accuracy", "loss"}
    assert model.training


def test_callbacks_see_the_pruner_after_each_epoch():
    seen = []
    ours = pruner()
    ours.fit(
        points(),
        model=classifier(),
        n_epochs=3,
        batch_size=8,
        eval_dataset=points(9),
        callbacks=[lambda p: seen.append((p.epoch_, p.n_observed_batches_, "accuracy" in p.history_[-1].metrics))],
    )
    assert seen == [(0, 8, True), (1, 3, True), (2, 3, True)]


def test_bf16_trains_float32_weights_and_scores_in_float32():
    model, dtypes = classifier(), set()

    def forward(model, batch):
        signals = default_forward(model, batch)
        dtypes.add(signals["logits"].dtype)
        return signals

    ours = pruner(refresh="full").fit(
        points(), model=model, n_epochs=2, batch_size=8, mixed_precision="bf16", forward=forward, learning_rate=0.01
    )
    assert dtypes == {torch.bfloat16}
    assert ours.scorer_.scores_.dtype == np.float32
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("found", "is_told"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_bf16_on_a_cpu_that_only_emulates_it_is_told(found, is_told, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    for precision in ("no", "bf16"):
        pruner().fit(points(), model=classifier(), n_epochs=1, batch_size=30, mixed_precision=precision)
    told = "This CPU has no bfloat16 instructions: mixed_precision='bf16' is slower here than 'no'."
    assert [record.getMessage() for record in caplog.records] == [told] * is_told


@pytest.mark.parametrize("group_by_length", [True, False])
def test_batches_are_grouped_by_length_where_lengths_are_known(group_by_length):
    lengths = np.random.default_rng(0).integers(1, 50, size=60)
    data = datasets.Dataset.from_dict({"input_ids": [[1] * n for n in lengths], "label": [0, 1] * 30})
    spreads = []

    def collate(rows):
        spreads.append(np.ptp([len(row["input_ids"]) for row in rows]))
        return torch.tensor([[float(len(row["input_ids"]))] for row in rows]), torch.tensor(
            [row["label"] for row in rows]
        )

    ours = DynamicPruner(EL2N(), TopK(), SCHEDULE)
    ours.fit(
        data, model=nn.Linear(1, 2), n_epochs=1, batch_size=10, collate_fn=collate, group_by_length=group_by_length
    )
    assert (np.mean(spreads) < 15) == group_by_length
    assert ours.history_[0].n_tokens == lengths.sum()


def test_scores_of_another_run_may_skip_the_warm_up():
    scorer = EL2N().fit(points(), model=classifier())
    ours = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=0))
    ours.fit(points(), model=classifier(), n_epochs=2, batch_size=8, scores=scorer.store_)
    assert [record.n_kept for record in ours.history_] == [24, 24]


def test_gradients_from_before_fit_are_not_used():
    def run(dirty):
        model = classifier(p_dropout=0.0)
        if dirty:
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
        pruner().fit(
            points(), model=model, n_epochs=1, batch_size=8, optimizer=torch.optim.SGD(model.parameters(), 0.1)
        )
        return weights_of(model)

    clean, dirty = run(dirty=False), run(dirty=True)
    assert all(torch.equal(clean[name], dirty[name]) for name in clean)


def test_parameters_the_optimizer_leaves_out_do_not_pile_up_gradients():
    model = classifier()
    norms = []
    ours = pruner()

    def forward(model, batch):
        norms.append(max((float(p.grad.norm()) for p in model.parameters() if p.grad is not None), default=0.0))
        return default_forward(model, batch)

    head = torch.optim.SGD(model[3].parameters(), 0.1)
    ours.fit(points(), model=model, n_epochs=2, batch_size=8, optimizer=head, forward=forward)
    assert norms == [0.0] * ours.plan_.n_updates


def test_a_progress_bar_goes_to_standard_error(capsys):
    pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=8, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 2/2, 24 of 60 examples" in captured.err
    pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=8)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
