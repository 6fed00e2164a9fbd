"""The laws of DESIGN.md over every public scorer, selector and scheduler: a new one is tested without a new test."""

import inspect

import pytest
import torch
from sklearn.base import clone

import dataprune
from dataprune.testing import check_scheduler, check_scorer, check_selector

SMOOTHINGS = ("last", "mean", "ema", "ema_plus_std")


def public(base):
    """Public concrete classes that derive from `base`."""
    named = {name: getattr(dataprune, name) for name in dataprune.__all__}
    return [
        cls for cls in named.values() if inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls)
    ]


SCORERS, SELECTORS = public(dataprune.BatchScorer), public(dataprune.Selector)
SCHEDULERS = public(dataprune.Scheduler)
PARTS = [*SCORERS, *SELECTORS, *SCHEDULERS, dataprune.DynamicPruner]


def test_reflection_finds_the_classes_of_this_release():
    names = {cls.__name__ for cls in PARTS}
    assert names >= {"EL2N", "JointEL2N", "Loss", "TopK", "RandomK", "WeightedK", "CyclicScheduler"}
    assert len(names) == len(PARTS)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("cls", SCORERS)
def test_scorers_keep_the_contract(cls, smoothing):
    check_scorer(cls(smoothing=smoothing, ema_weight=0.5, std_bonus=2.0))


@pytest.mark.parametrize("reduction", ["norm", "sum", "mean"])
def test_every_reduction_keeps_the_contract(reduction):
    check_scorer(dataprune.JointEL2N(reduction=reduction))
    check_scorer(dataprune.JointEL2N(heads=["slot"], reduction=reduction))


@pytest.mark.parametrize("cls", SELECTORS)
def test_selectors_keep_the_contract(cls):
    check_selector(cls(), ranked=cls.__module__.endswith(".ranked"))
    check_selector(cls(keep_fraction=0.3, random_state=[1, 2]), ranked=cls.__module__.endswith(".ranked"))


@pytest.mark.parametrize("cls", SCHEDULERS)
@pytest.mark.parametrize("n_warmup_epochs", [0, 1, 3])
@pytest.mark.parametrize("n_full_final_epochs", [0, 2])
@pytest.mark.parametrize("keep_fraction", [0.01, 0.5, 1.0])
def test_schedulers_keep_the_contract(cls, n_warmup_epochs, n_full_final_epochs, keep_fraction):
    check_scheduler(
        cls(
            keep_fraction=keep_fraction,
            n_warmup_epochs=n_warmup_epochs,
            n_full_final_epochs=n_full_final_epochs,
        )
    )


@pytest.mark.parametrize("cls", PARTS)
def test_the_constructor_stores_its_arguments_and_nothing_else(cls):
    part = cls()
    assert set(vars(part)) == set(part.get_params(deep=False))
    assert all(p.kind is p.KEYWORD_ONLY for p in constructor(cls) if p.name not in {"scorer", "selector", "scheduler"})


@pytest.mark.parametrize("cls", PARTS)
def test_every_parameter_is_documented_with_its_default(cls):
    for parameter in constructor(cls):
        assert f"    {parameter.name} : " in cls.__doc__, parameter.name


def constructor(cls):
    return list(inspect.signature(cls).parameters.values())


def test_a_pruner_is_cloned_and_rebuilt_with_its_parts():
    pruner = dataprune.DynamicPruner(
        dataprune.JointEL2N(reduction="sum"),
        dataprune.WeightedK(),
        dataprune.CyclicScheduler(keep_fraction=0.3, n_cycle_epochs=2),
        refresh=0.25,
        random_state=4,
    )
    rebuilt = eval(repr(pruner), {name: getattr(dataprune, name) for name in dataprune.__all__})  # noqa: S307
    for copy in (clone(pruner), rebuilt):
        assert repr(copy.get_params()) == repr(pruner.get_params())
        assert copy.scorer is not pruner.scorer


def test_a_fitted_pruner_clones_without_state():
    data = [(torch.tensor([float(i)]), i % 2) for i in range(8)]
    pruner = dataprune.DynamicPruner(dataprune.EL2N())
    pruner.fit(data, model=torch.nn.Linear(1, 2), n_epochs=2, batch_size=4)
    assert set(vars(clone(pruner))) == set(pruner.get_params(deep=False))
    assert not hasattr(pruner.scorer, "store_")  # the user's scorer is a template
