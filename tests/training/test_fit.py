"""fit: the updates, learning rates and gradients of a run, and all that can be passed in."""

import numpy as np
import pytest
import torch
from training_parts import (
    classifier,
    loader,
    points,
    pruner,
    train_plainly,
    weights_of,
)

from dataprune import EL2N, CyclicScheduler, DynamicPruner, RandomK, Selector
from dataprune.data.forward import default_forward
from dataprune.testing import unchanged_random_state


class Watched(torch.optim.SGD):
    """SGD that remembers the learning rate of each update."""

    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), lr=lr)
        self.rates = []
        self.register_step_pre_hook(lambda *_: self.rates.append(self.param_groups[0]["lr"]))


@pytest.mark.parametrize("n_accumulation", [1, 4])
@pytest.mark.parametrize("keep_fraction", [0.4, 0.05])  # 24 of 60: 3 batches, less than one window of 4
def test_updates_planned_are_done_the_rate_ends_at_its_target_and_no_gradient_is_left(n_accumulation, keep_fraction):
    model = classifier()
    optimizer = Watched(model)
    left_over = []

    def forward(model, batch):
        if ours.n_observed_batches_ == 0:
            left_over.append([p.grad for p in model.parameters() if p.grad is not None])
        return default_forward(model, batch)

    ours = pruner(scheduler=CyclicScheduler(keep_fraction=keep_fraction, n_warmup_epochs=2))
    ours.fit(
        points(),
        model=model,
        n_epochs=6,
        batch_size=8,
        forward=forward,
        optimizer=optimizer,
        n_accumulation=n_accumulation,
    )
    n_planned = ours.plan_.n_updates
    assert len(optimizer.rates) == n_planned == sum(record.n_updates for record in ours.history_)
    assert [record.n_updates for record in ours.history_] == list(ours.plan_.updates)
    np.testing.assert_allclose(optimizer.rates, 0.1 * (1 - np.arange(n_planned) / n_planned), rtol=1e-9)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert left_over == [[]] * 6
    assert all(parameter.grad is None for parameter in model.parameters())
    assert ours.progress() == 1.0


def test_accumulated_batches_are_one_large_batch():
    def run(batch_size, n_accumulation):
        model = classifier(p_dropout=0.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        data = points(40)  # the last window of an epoch is shorter
        pruner(scheduler=CyclicScheduler(keep_fraction=1.0)).fit(
            data, model=model, n_epochs=2, batch_size=batch_size, n_accumulation=n_accumulation, optimizer=optimizer
        )
        return weights_of(model)

    small, large = run(4, 3), run(12, 1)
    assert all(torch.allclose(small[name], large[name], atol=1e-6) for name in small)


def test_fit_trains_as_a_plain_loop_over_the_same_batches():
    ours, model = pruner(), classifier(p_dropout=0.0)
    batches = ours.attach(loader(), n_epochs=4)
    train_plainly(ours, batches, model, torch.optim.SGD(model.parameters(), 0.1), 4)
    fitted = classifier(p_dropout=0.0)
    other = pruner().fit(
        points(),
        model=fitted,
        n_epochs=4,
        batch_size=8,
        optimizer=torch.optim.SGD(fitted.parameters(), 0.1),
        lr_schedule="constant",
        max_grad_norm=None,
    )
    for name, tensor in weights_of(model).items():
        torch.testing.assert_close(weights_of(fitted)[name], tensor)
    np.testing.assert_allclose(other.scorer_.scores_, ours.scorer_.scores_, rtol=1e-4)


@pytest.mark.parametrize("refresh", ["observed", "full", 0.25])
def test_two_runs_of_one_seed_are_equal_and_leave_the_random_state(refresh):
    def run():
        model = classifier(p_dropout=0.0)
        ours = pruner(refresh=refresh, selector=RandomK())
        with unchanged_random_state("fit() of a model without dropout"):
            returned = ours.fit(
                points(), model=model, n_epochs=4, batch_size=8, learning_rate=0.01, eval_dataset=points(9)
            )
        assert returned is ours
        return ours, weights_of(model)

    (first, weights), (second, others) = run(), run()
    assert first.indices_.tolist() == second.indices_.tolist()
    assert first.scorer_.scores_.tobytes() == second.scorer_.scores_.tobytes()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("linear", 0.0), ("cosine", 0.0), ("constant", 1.0), (lambda progress: 1 - progress / 2, 0.5)],
)
def test_the_learning_rate_follows_its_schedule_to_the_end(schedule, last):
    model = classifier()
    optimizer = Watched(model, lr=0.2)
    pruner().fit(points(), model=model, n_epochs=3, batch_size=8, optimizer=optimizer, lr_schedule=schedule)
    assert optimizer.rates[0] == 0.2
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * last, abs=1e-12)
    assert all(np.diff(optimizer.rates) <= 0)


def test_weights_of_a_selector_multiply_the_loss():
    class First(Selector):
        def _choose(self, candidates, n_keep, rng):
            return np.arange(n_keep)

    class Double(First):
        def _choose_weighted(self, candidates, n_keep, rng):
            return np.arange(n_keep), np.full(n_keep, 2.0, np.float32)

    def run(selector, lr):
        model = classifier(p_dropout=0.0)
        rate = 0.1 if lr is None else None
        optimizer = torch.optim.SGD(model.parameters(), rate or 0.1)
        ours = DynamicPruner(EL2N(), selector, CyclicScheduler(keep_fraction=0.2, n_warmup_epochs=1))
        ours.fit(
            points(),
            model=model,
            n_epochs=2,
            batch_size=60,
            optimizer=optimizer,
            max_grad_norm=None,
            lr_schedule=lambda progress: lr if progress > 0 else 1.0,
        )
        return weights_of(model)

    doubled, faster = run(Double(), 1.0), run(First(), 2.0)
    assert all(torch.allclose(doubled[name], faster[name], atol=1e-7) for name in doubled)
