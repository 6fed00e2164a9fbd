"""Batch policies in runs: what is trained on, what it costs, resume, and the same in a loop of one's own."""

import numpy as np
import pytest
import torch
from training_parts import N, classifier, loader, points

from dataprune import (
    EL2N,
    BatchTopK,
    BatchWindow,
    ConstantScheduler,
    DynamicPruner,
    GraNd,
    LastLayerGraNd,
    Loss,
    RandomK,
    ReducibleLoss,
    RobustWeights,
    SelectiveBackprop,
    SoftPrune,
    TopK,
)
from dataprune.data.forward import default_forward
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.scoring.scoring_pass import scoring_pass

ALL = ConstantScheduler(keep_fraction=1.0, n_warmup_epochs=0)


def policy_pruner(policy, *, scorer=None, scheduler=ALL, **parts):
    return DynamicPruner(Loss() if scorer is None else scorer, scheduler=scheduler, batch_policy=policy, **parts)


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "policy", [BatchTopK(keep_fraction=0.25), BatchWindow(keep_fraction=0.25), SelectiveBackprop(keep_fraction=0.25)]
)
def test_fit_trains_on_the_share_of_each_batch_and_tells_what_it_cost(policy):
    trained = []

    def forward(model, batch):
        if model.training:
            trained.append(len(batch[0]))
        return default_forward(model, batch)

    pruner = policy_pruner(policy).fit(points(), model=classifier(), n_epochs=2, batch_size=8, forward=forward)
    assert trained == [2, 2, 2, 2, 2, 2, 2, 1] * 2  # 60 in batches of 8, a quarter of each
    for record in pruner.history_:
        assert (record.n_kept, record.n_trained, record.n_scored, record.n_updates) == (N, 15, N, 8)
        assert record.seconds["score"] > 0
    assert pruner.n_epochs_trained_.sum() == 30
    assert "left_out" in str(pruner.history_)
    assert pruner.plan_.n_updates == sum(record.n_updates for record in pruner.history_)


@pytest.mark.parametrize("refresh", ["observed", "full"])
def test_a_policy_finds_the_features_that_its_scorer_needs(refresh):
    pruner = policy_pruner(BatchTopK(keep_fraction=0.25), scorer=LastLayerGraNd(), refresh=refresh)
    pruner.fit(points(), model=classifier(), n_epochs=2, batch_size=8)
    assert [record.n_trained for record in pruner.history_] == [15, 15]


def test_the_policy_rests_in_warm_up_and_full_final_epochs():
    scheduler = ConstantScheduler(keep_fraction=1.0, n_warmup_epochs=1, n_full_final_epochs=1)
    pruner = policy_pruner(BatchTopK(keep_fraction=0.5), scheduler=scheduler)
    pruner.fit(points(), model=classifier(), n_epochs=4, batch_size=10)
    assert [record.n_trained for record in pruner.history_] == [60, 30, 30, 60]


def test_fit_trains_on_the_rows_that_the_reference_picks():
    data, model, seen = points(), classifier(), []
    reference = classifier()
    reference.load_state_dict(model.state_dict())
    losses = torch.cat([s["loss"] for _, s in scoring_pass(data, reference)])

    def forward(model, batch):
        if model.training:
            seen.append(batch[0])
        return default_forward(model, batch)

    policy_pruner(BatchTopK(keep_fraction=0.1)).fit(data, model=model, n_epochs=1, batch_size=N, forward=forward)
    hardest = losses.topk(6).indices
    assert sorted(map(tuple, seen[0].tolist())) == sorted(map(tuple, data.tensors[0][hardest].tolist()))


def test_rho_picks_compare_each_example_with_its_own_irreducible_loss():
    hopeless = np.zeros(N, np.float32)
    hopeless[: N // 2] = 100.0
    pruner = policy_pruner(BatchTopK(keep_fraction=0.5), scorer=ReducibleLoss(hopeless))
    pruner.fit(points(), model=classifier(), n_epochs=3, batch_size=N)
    assert pruner.n_epochs_trained_[: N // 2].sum() == 0
    assert (pruner.n_epochs_trained_[N // 2 :] == 3).all()


def test_in_a_loop_of_ones_own_left_out_examples_weigh_nothing():
    model, pruner = classifier(p_dropout=0.0), policy_pruner(BatchTopK(keep_fraction=0.5))
    batches = pruner.attach(loader(), n_epochs=1)
    pruner.set_epoch(0)
    assert not pruner.has_unit_weights
    for index, (x, y) in batches:
        logits = model(x)
        losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
        weights = pruner.weights(index, loss=losses)
        assert not weights.requires_grad
        hardest = losses.detach().topk(len(index) // 2).indices
        assert set(weights.nonzero().flatten().tolist()) == set(hardest.tolist())
        torch.testing.assert_close((losses * weights).mean(), losses[hardest].mean())
        pruner.observe(index, loss=losses)


def test_fit_and_the_weighted_loop_take_the_same_steps_without_dropout():
    fitted, plain = classifier(p_dropout=0.0), classifier(p_dropout=0.0)
    policy_pruner(SelectiveBackprop()).fit(
        points(),
        model=fitted,
        n_epochs=2,
        batch_size=8,
        optimizer=torch.optim.SGD(fitted.parameters(), 0.1),
        lr_schedule="constant",
        max_grad_norm=None,
    )
    pruner = policy_pruner(SelectiveBackprop())
    optimizer, batches = torch.optim.SGD(plain.parameters(), 0.1), pruner.attach(loader(), n_epochs=2)
    for epoch in range(2):
        pruner.set_epoch(epoch)
        for index, (x, y) in batches:
            logits = plain(x)
            losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
            (losses * pruner.weights(index, loss=losses)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.observe(index, loss=losses)
    torch.testing.assert_close(weights_of(fitted), weights_of(plain))


def test_robust_weights_need_no_second_look():
    pruner = policy_pruner(RobustWeights(temperature=0.5))
    pruner.fit(points(), model=classifier(), n_epochs=2, batch_size=8)
    assert [record.n_scored for record in pruner.history_] == [0, 0]
    assert [record.n_trained for record in pruner.history_] == [N, N]


@pytest.mark.parametrize("policy", [SelectiveBackprop(), RobustWeights()])
def test_a_policy_works_on_what_a_selector_keeps_and_with_its_weights(policy):
    scheduler = ConstantScheduler(keep_fraction=0.5, n_warmup_epochs=1)
    pruner = policy_pruner(policy, scheduler=scheduler, selector=SoftPrune())
    pruner.fit(points(), model=classifier(), n_epochs=3, batch_size=8)
    trained = 15 if policy.leaves_out else 30
    assert [record.n_trained for record in pruner.history_] == [60, trained, trained]
    assert np.isfinite(pruner.scorer_.scores_).all()


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(tmp_path):
    def train(pruner, model, **keywords):
        return pruner.fit(points(), model=model, n_epochs=3, batch_size=8, checkpoint_dir=tmp_path, **keywords)

    whole_model, whole = classifier(), policy_pruner(SelectiveBackprop())
    torch.manual_seed(0)
    whole.fit(points(), model=whole_model, n_epochs=3, batch_size=8)

    class Stop(Exception):
        pass

    def stop(pruner):
        if pruner.epoch_ == 1:
            raise Stop

    torch.manual_seed(0)
    with pytest.raises(Stop):
        train(policy_pruner(SelectiveBackprop()), classifier(), callbacks=[stop])
    resumed_model, resumed = classifier(seed=5), policy_pruner(SelectiveBackprop())
    train(resumed, resumed_model, resume=True)
    assert torch.equal(weights_of(resumed_model), weights_of(whole_model))
    assert np.array_equal(resumed.n_epochs_trained_, whole.n_epochs_trained_)
    np.testing.assert_array_equal(resumed.scorer_.scores_, whole.scorer_.scores_)


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ({"batch_policy": TopK()}, InvalidTypeError, "batch_policy must be a BatchPolicy"),
        ({"scorer": None, "selector": RandomK(), "batch_policy": BatchTopK()}, InvalidValueError, "such as Loss"),
        ({"scorer": GraNd(), "refresh": "full", "batch_policy": BatchTopK()}, InvalidValueError, "such as Loss"),
        ({"batch_policy": BatchTopK(keep_fraction=2.0)}, InvalidValueError, "BatchTopK.keep_fraction"),
    ],
    ids=["a selector", "no scorer", "no score in training", "more than all"],
)
def test_a_policy_that_cannot_work_is_refused(parts, error, words):
    with pytest.raises(error, match=words):
        DynamicPruner(**{"scorer": EL2N(), **parts}).fit(points(), model=classifier(), n_epochs=2)


def test_a_policy_needs_the_signals_of_the_batch():
    pruner = policy_pruner(BatchTopK())
    pruner.attach(loader(), n_epochs=1)
    pruner.set_epoch(0)
    with pytest.raises(InvalidValueError, match="needs the signals"):
        pruner.weights(torch.arange(4))
