"""The laws of DESIGN.md over every public scorer, selector and scheduler: a new one is tested without a new test."""

import inspect

import numpy as np
import pytest
import torch
from sklearn.base import clone

import dataprune
from dataprune.testing import check_dataset_scorer, check_scheduler, check_scorer, check_selector

SMOOTHINGS = ("last", "mean", "ema", "ema_plus_std")


ARGUMENTS = {
    "ReducibleLoss": {"irreducible_loss": np.linspace(0, 1, 23)},
    "ColumnScore": {"column": "n"},
    "FunctionScore": {"function": lambda rows: [row["n"] for row in rows]},
    "Combined": {"scorers": [("n", dataprune.ColumnScore("n"))]},
}
"""What the constructors of some classes need."""


def public(base):
    """Public concrete classes that derive from `base`."""
    named = {name: getattr(dataprune, name) for name in dataprune.__all__}
    return [
        cls
        for cls in named.values()
        if inspect.isclass(cls) and issubclass(cls, base) and cls is not base and not inspect.isabstract(cls)
    ]


def make(cls, **parameters):
    """An instance, with those of the parameters that it takes."""
    taken = {name: value for name, value in parameters.items() if name in inspect.signature(cls).parameters}
    return cls(**ARGUMENTS.get(cls.__name__, {}), **taken)


SCORERS, SELECTORS = public(dataprune.BatchScorer), public(dataprune.Selector)
DATASET_SCORERS = public(dataprune.DatasetScorer)
SCHEDULERS = public(dataprune.Scheduler)
PARTS = [
    *(*SCORERS, *DATASET_SCORERS, dataprune.VarianceOfGradients, *SELECTORS, *SCHEDULERS),
    *(*public(dataprune.BatchPolicy), dataprune.DynamicPruner),
]


def test_reflection_finds_the_classes_of_this_release():
    names = {cls.__name__ for cls in PARTS}
    assert names >= {"EL2N", "JointEL2N", "Loss", "TopK", "RandomK", "WeightedK", "CyclicScheduler"}
    assert len(names) == len(PARTS)


def numbers_as_labels(n, generator):
    return {"logits": torch.randn(n, 2, generator=generator), "labels": torch.randn(n, 2, generator=generator)}


def several_labels(n, generator):
    logits = torch.randn(n, 3, generator=generator)
    return {"logits": logits, "labels": (torch.rand(n, 3, generator=generator) < 0.5).float()}


SIGNALS = {"RegressionError": numbers_as_labels, "MultiLabelEL2N": several_labels}


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("cls", SCORERS)
def test_scorers_keep_the_contract(cls, smoothing):
    scorer = make(cls, smoothing=smoothing, ema_weight=0.5, std_bonus=2.0)
    check_scorer(scorer, make_signals=SIGNALS.get(cls.__name__))


TEXTS = [
    {"text": text} for text in ["a red cat", "a red dog", "two dogs", "a red cat", "one far away planet", "the sea"]
]
NUMBERS = [{"n": n} for n in (3, 1, 4, 1, 5, 9)]
POINTS = list(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
ROWS = {
    "TfidfDistance": TEXTS,
    "NearDuplicate": TEXTS,
    "PrototypeDistance": POINTS,
    "ColumnScore": NUMBERS,
    "FunctionScore": NUMBERS,
    "Combined": NUMBERS,
}
"""Rows to score; PVI and Perplexity need models and are checked in their own files."""
DEPEND_ON_ORDER = {"NearDuplicate", "PrototypeDistance"}
DEPEND_ON_OTHER_ROWS = {"NearDuplicate"}


@pytest.mark.parametrize("cls", [cls for cls in DATASET_SCORERS if cls.__name__ not in {"PVI", "Perplexity"}])
def test_dataset_scorers_keep_the_contract(cls):
    name = cls.__name__
    check_dataset_scorer(
        make(cls), ROWS[name], row_by_row=name not in DEPEND_ON_OTHER_ROWS, permutes=name not in DEPEND_ON_ORDER
    )


@pytest.mark.parametrize("reduction", ["norm", "sum", "mean"])
def test_every_reduction_keeps_the_contract(reduction):
    check_scorer(dataprune.JointEL2N(reduction=reduction))
    check_scorer(dataprune.JointEL2N(heads=["slot"], reduction=reduction))


@pytest.mark.parametrize("cls", SELECTORS)
def test_selectors_keep_the_contract(cls):
    check_selector(make(cls), ranked=cls.__module__.endswith(".ranked"))
    check_selector(make(cls, keep_fraction=0.3, random_state=[1, 2]), ranked=cls.__module__.endswith(".ranked"))


@pytest.mark.parametrize("cls", SCHEDULERS)
@pytest.mark.parametrize("n_warmup_epochs", [0, 1, 3])
@pytest.mark.parametrize("n_full_final_epochs", [0, 2])
@pytest.mark.parametrize("keep_fraction", [0.01, 0.5, 1.0])
def test_schedulers_keep_the_contract(cls, n_warmup_epochs, n_full_final_epochs, keep_fraction):
    check_scheduler(
        make(
            cls,
            keep_fraction=keep_fraction,
            n_warmup_epochs=n_warmup_epochs,
            n_full_final_epochs=n_full_final_epochs,
        )
    )


@pytest.mark.parametrize("cls", PARTS)
def test_the_constructor_stores_its_arguments_and_nothing_else(cls):
    part = make(cls)
    assert set(vars(part)) == set(part.get_params(deep=False))
    by_position = [p.name for p in constructor(cls) if p.kind is not p.KEYWORD_ONLY]
    assert len(by_position) <= (3 if cls is dataprune.DynamicPruner else 1)


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
