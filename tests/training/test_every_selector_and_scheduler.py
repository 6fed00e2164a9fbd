"""Every public selector and scheduler decides what a model is trained on, on real images: new ones are tried too."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import dataprune
from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK

N_DIGITS, N_EPOCHS = 320, 8
SETTINGS = {
    "KeepAlways": {"indices": [7, 11, 200]},
    "TopOrStratified": {"n_ranked": 100},  # or it would be TopK
    "StepScheduler": {"n_levels": 2},
    "SoftPruneScheduler": {"drop_fraction": 0.8},
}
"""Settings that matter with so few rows; the others have their defaults."""


def public(base):
    """Public concrete classes that derive from `base`."""
    named = [getattr(dataprune, name) for name in sorted(dataprune.__all__)]
    return [
        cls
        for cls in named
        if inspect.isclass(cls) and issubclass(cls, base) and cls is not base and not inspect.isabstract(cls)
    ]


def make(cls):
    return cls(**SETTINGS.get(cls.__name__, {}))


def train(selector, scheduler):
    """Run on digits with all that is known of them; check that the model learned what it did not know."""
    images, digits = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32)
    rows = list(zip(x[:N_DIGITS], torch.from_numpy(digits[:N_DIGITS]), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def accuracy_of_unseen():
        with torch.no_grad():
            return float(np.mean(model(x[N_DIGITS:]).argmax(1).numpy() == digits[N_DIGITS:]))

    assert accuracy_of_unseen() < 0.2
    pruner = DynamicPruner(EL2N(), selector, scheduler, random_state=0)
    pruner.fit(
        rows,
        model=model,
        n_epochs=N_EPOCHS,
        batch_size=16,
        learning_rate=1e-2,
        labels=digits[:N_DIGITS],
        groups=np.arange(N_DIGITS) // 8,
        cost=(images[:N_DIGITS] > 0).sum(1),
        features=images[:N_DIGITS],
    )
    assert accuracy_of_unseen() > 0.6  # chance is 0.1
    plan = scheduler.plan(N_DIGITS, N_EPOCHS, 16)
    kept = tuple(record.n_kept for record in pruner.history_)
    assert tuple(record.n_asked for record in pruner.history_) == kept
    assert kept == plan.n_kept if plan.exact else all(n <= most for n, most in zip(kept, plan.n_kept, strict=True))
    assert min(kept) < N_DIGITS
    assert sum(record.n_updates for record in pruner.history_) == sum(-(-n // 16) for n in kept)
    assert pruner.n_epochs_trained_.sum() == sum(kept)
    assert len(np.unique(pruner.scorer_.scores_)) > 1
    return pruner


@pytest.mark.parametrize("cls", public(dataprune.Selector), ids=lambda cls: cls.__name__)
def test_every_selector_drives_a_run_on_digits(cls):
    pruner = train(make(cls), CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=1, n_cycle_epochs=2))
    if cls.__name__ == "KeepAlways":
        assert (pruner.n_epochs_trained_[SETTINGS["KeepAlways"]["indices"]] == N_EPOCHS).all()


@pytest.mark.parametrize("cls", public(dataprune.Scheduler), ids=lambda cls: cls.__name__)
def test_every_scheduler_drives_a_run_on_digits(cls):
    train(TopK(), make(cls))


def test_reflection_finds_those_of_this_release():
    selectors, schedulers = (
        {cls.__name__ for cls in public(base)} for base in (dataprune.Selector, dataprune.Scheduler)
    )
    assert selectors >= {"BudgetedTopK", "KeepTogether", "ScorePerCost", "SubmodularMixture", "TopOrStratified"}
    assert schedulers >= {"CosineScheduler", "ExponentialScheduler", "InterleavedScheduler", "StepScheduler"}
