"""From the words of a configuration to a pruner: scorers, selectors and recipes by name."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from sklearn.base import clone

from dataprune.data.tasks import Task
from dataprune.errors import InvalidValueError, check_choice
from dataprune.models import load_encoder, load_tokenizer
from dataprune.recipes import RECIPES
from dataprune.runs.config import COMPOSITION, RunConfig
from dataprune.runs.groups import groups_of
from dataprune.runs.irreducible import HOW, irreducible_losses
from dataprune.scheduling.budget import Budget
from dataprune.scheduling.by_name import make_scheduler
from dataprune.scheduling.cyclic import ConstantScheduler
from dataprune.scoring.base import BatchScorer, DatasetScorer
from dataprune.scoring.dynamics import AUM, Confidence, Correctness, Forgetting, Variability
from dataprune.scoring.embedding import embed_texts
from dataprune.scoring.error_norm import EL2N, JointEL2N, MultiLabelEL2N, RegressionError
from dataprune.scoring.gradient_norm import GraNd
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.scoring.information import PVI
from dataprune.scoring.metadata import ColumnScore
from dataprune.scoring.perplexity import Perplexity
from dataprune.scoring.uncertainty import Entropy, Loss, Margin
from dataprune.selection.balanced import ClassBalanced, ClassFloor, check_classes
from dataprune.selection.base import Selector
from dataprune.selection.budgeted import BudgetedTopK
from dataprune.selection.clustered import ClusteredK, KCenter
from dataprune.selection.per_cost import ScorePerCost
from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
from dataprune.selection.stratified import StratifiedK, TopOrStratified
from dataprune.selection.submodular import FacilityLocation, SubmodularMixture
from dataprune.selection.unbiased import ImportanceSample, SoftPrune
from dataprune.training.pruner import DynamicPruner
from dataprune.training.static import StaticPruner

if TYPE_CHECKING:
    import datasets

SCORERS: dict[str, type[BatchScorer]] = {
    "el2n": EL2N,
    "joint-el2n": JointEL2N,
    "multilabel-el2n": MultiLabelEL2N,
    "regression-error": RegressionError,
    "loss": Loss,
    "margin": Margin,
    "entropy": Entropy,
    "grand": GraNd,
    "forgetting": Forgetting,
    "aum": AUM,
    "confidence": Confidence,
    "variability": Variability,
    "correctness": Correctness,
}
"""Names of scorers on the command line."""

SELECTORS: dict[str, type[Selector]] = {
    "top-k": TopK,
    "budgeted-top-k": BudgetedTopK,
    "weighted-k": WeightedK,
    "random-k": RandomK,
    "epsilon-greedy": EpsilonGreedy,
    "both-ends": BothEnds,
    "stratified-k": StratifiedK,
    "soft-prune": SoftPrune,
    "importance-sample": ImportanceSample,
    "score-window": ScoreWindow,
    "score-per-cost": ScorePerCost,
    "top-or-stratified": TopOrStratified,
    "class-balanced": ClassBalanced,
    "class-floor": ClassFloor,
    "clustered-k": ClusteredK,
    "k-center": KCenter,
    "facility-location": FacilityLocation,
    "submodular-mixture": SubmodularMixture,
}
"""Names of selectors on the command line."""


ERROR_NORMS = {"joint-nlu": "joint-el2n", "multi-label": "multilabel-el2n", "regression": "regression-error"}
"""Task -> its error norm; of any other it is ``el2n``."""

ERROR_NORM_ARGS: dict[str, dict[str, Any]] = {"causal-lm": {"reduction": "mean"}}
"""Task -> parameters of its error norm: the norm over all tokens would keep the long texts, whatever they say."""

SEARCH = "bilevel_architecture_search"
"""The recipe whose two pruners are for a search; the run then trains what was found on all examples."""

MEAN_LOSS = {"causal-lm"}
"""Tasks of which a recipe that can takes the mean loss over an example's tokens: one long text has the largest sum."""

PRUNING = ("scorer", "scorer_args", "selector_args", "budget", *COMPOSITION)
"""Settings that compose a pruner; a recipe has its own, and takes those that it has parameters for."""

TRAIN_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in COMPOSITION} | {
    "random_state": "--seed",
    "n_epochs": "--n-epochs",
    "task": "--task",
    "irreducible_loss": "--scores",
    "column": "--column text=NAME",
}
"""Parameters of recipes that options of `train` set."""


def make_part(option: str, table: Mapping[str, type[Any]], name: str, arguments: Mapping[str, Any]) -> Any:
    """Make a scorer or a selector by name.

    Parameters
    ----------
    option : str
        That messages name: ``scorer`` or ``selector``.
    table : mapping of str to type
        Names to classes.
    name : str
        A key of it.
    arguments : mapping of str to object
        Parameters of the class.

    Returns
    -------
    object
        An instance.

    Raises
    ------
    InvalidValueError
        If the name or a parameter is unknown, or one is missing.

    Examples
    --------
    >>> make_part("selector", SELECTORS, "stratified-k", {"n_strata": 20})
    StratifiedK(n_strata=20)
    """
    kind = table[check_choice("train", option, name, table)]
    parameters = inspect.signature(kind).parameters
    unknown = sorted(arguments.keys() - parameters.keys())
    if unknown:
        raise InvalidValueError(f"The {option} {name!r} has no {unknown[0]!r}, but {', '.join(parameters)}.")
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise InvalidValueError(f"The {option} {name!r} needs {missing[0]!r}. Pass --{option}-arg {missing[0]}=...")
    return kind(**arguments)


def make_pruner(config: RunConfig, task: Task) -> DynamicPruner:
    """Compose the pruner that a configuration describes.

    Parameters
    ----------
    config : RunConfig
        The configuration.
    task : Task
        Decides the default scorer.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Raises
    ------
    InvalidValueError
        If a name is unknown, or settings do not go together.

    Examples
    --------
    >>> from dataprune.data.tasks import ClassificationTask
    >>> make_pruner(RunConfig(data="", model="", output_dir="", selector="random-k"), ClassificationTask())
    DynamicPruner(scheduler=CyclicScheduler(), scorer=EL2N(), selector=RandomK())
    """
    if config.recipe is not None:
        return _make_recipe(config, task)
    if config.recipe_args:
        raise InvalidValueError(f"train.recipe_arg must be left out without a recipe, got {config.recipe_args!r}.")
    default = ERROR_NORMS.get(task.name, "el2n")
    scorer = default if config.scorer is None else check_choice("train", "scorer", config.scorer, SCORERS)
    scorer_args = ERROR_NORM_ARGS.get(task.name, {}) if scorer == default else {}
    chosen: dict[str, Any] = {name: getattr(config, name) for name in COMPOSITION} | {
        "keep_fraction": _keep_fraction(config)
    }
    selector, scheduler, refresh = (chosen.pop(name) for name in ("selector", "scheduler", "refresh"))
    return DynamicPruner(
        make_part("scorer", SCORERS, scorer, {**scorer_args, **config.scorer_args}),
        make_part("selector", SELECTORS, selector, config.selector_args),
        make_scheduler("train", scheduler, **chosen),
        refresh=refresh,
        random_state=config.seed,
    )


def _keep_fraction(config: RunConfig) -> float | Budget:
    if not config.budget:
        return cast("float", config.keep_fraction)  # given, or filled in
    if config.keep_fraction is not None:
        raise InvalidValueError(f"train.keep_fraction must be left out with a budget, got {config.keep_fraction!r}.")
    units = [unit.name for unit in fields(Budget)]
    for unit in config.budget:
        check_choice("train", "budget", unit, units)
    return Budget(**config.budget)


def make_recipe(
    name: str, settings: Mapping[str, Any], arguments: Mapping[str, Any], *, options: Mapping[str, str], command: str
) -> Any:
    """Make what a recipe returns.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    settings : mapping of str to object
        Parameters that options or the data decide; those that the recipe has not are left out.
    arguments : mapping of str to object
        Parameters that a user gave by name.
    options : mapping of str to str
        Parameter -> the option that sets it, so that it must not be among the arguments.
    command : str
        That messages name.

    Returns
    -------
    DynamicPruner, StaticPruner or tuple of DynamicPruner
        Not attached or fitted yet.

    Raises
    ------
    InvalidValueError
        If a parameter is unknown, one is missing, or one has an option of its own.

    Examples
    --------
    >>> settings = {"keep_fraction": 0.5, "random_state": 0}
    >>> make_recipe("perplexity_pruning", settings, {"band": "high"}, options={}, command="select").selector
    TopK(keep_fraction=0.5)
    """
    takes = inspect.signature(RECIPES[name].make).parameters
    unknown = sorted(arguments.keys() - takes.keys())
    if unknown:
        raise InvalidValueError(f"The recipe {name!r} has no {unknown[0]!r}, but {', '.join(takes)}.")
    for parameter in arguments:
        is_of_numbers = parameter == "column" and takes[parameter].default is inspect.Parameter.empty
        if parameter in options and not is_of_numbers:
            raise InvalidValueError(f"{command}.recipe_arg must not set {parameter!r}. Pass {options[parameter]}.")
    given = {key: value for key, value in settings.items() if key in takes} | {**arguments}
    missing = [key for key, p in takes.items() if p.default is p.empty and key not in given]
    if missing:
        raise InvalidValueError(f"The recipe {name!r} needs {missing[0]!r}. Pass --recipe-arg {missing[0]}=...")
    return RECIPES[name].make(**given)


def make_search(config: RunConfig) -> tuple[DynamicPruner, DynamicPruner]:
    """Make the two pruners of a search for an architecture.

    Parameters
    ----------
    config : RunConfig
        A run with the recipe `SEARCH`.

    Returns
    -------
    tuple of DynamicPruner
        For the weights and for the architecture.
    """
    settings = {**_typed_settings(config, SEARCH), "random_state": config.seed}
    pruners: tuple[DynamicPruner, DynamicPruner] = make_recipe(
        SEARCH, settings, config.recipe_args, options=TRAIN_OPTIONS, command="train"
    )
    return pruners


def _typed_settings(config: RunConfig, name: str) -> dict[str, Any]:
    takes = inspect.signature(RECIPES[name].make).parameters
    settings: dict[str, Any] = {}
    for setting in PRUNING:
        value = getattr(config, setting)
        if value is not None and value != {}:
            if setting not in takes:
                raise InvalidValueError(f"train.{setting} must be left out with the recipe {name!r}, got {value!r}.")
            settings[setting] = value
    return settings


def _make_recipe(config: RunConfig, task: Task) -> DynamicPruner:
    name = check_choice("train", "recipe", config.recipe, RECIPES)
    settings = _typed_settings(config, name)
    if name == SEARCH:
        make_search(config)  # so that a wrong argument is found before the start
        if config.scores is not None:
            raise InvalidValueError(f"train.scores must be left out with the recipe {name!r}, got {config.scores!r}.")
        return DynamicPruner(
            None, RandomK(), ConstantScheduler(keep_fraction=1.0, n_warmup_epochs=0), random_state=config.seed
        )
    takes = inspect.signature(RECIPES[name].make).parameters
    settings |= {"random_state": config.seed, "n_epochs": config.n_epochs}
    settings |= {"task": "joint" if len(task.heads) > 1 else "sentence"}
    settings |= {"reduction": "mean"} if task.name in MEAN_LOSS else {}
    if "irreducible_loss" in takes:
        if config.scores is None:
            raise InvalidValueError(
                f"train.scores must be given with the recipe {name!r}, as the losses under a model of held-out data, "
                f"got None. {HOW}"
            )
        settings["irreducible_loss"] = irreducible_losses(config.scores)
    elif config.scores is not None:
        raise InvalidValueError(f"train.scores must be left out with the recipe {name!r}, got {config.scores!r}.")
    pruner = make_recipe(name, settings, config.recipe_args, options=TRAIN_OPTIONS, command="train")
    if isinstance(pruner.scorer, PVI | VarianceOfGradients):
        raise InvalidValueError(
            f"The recipe {name!r} with {type(pruner.scorer).__name__} needs models that are trained already: "
            "use it from Python."
        )
    if isinstance(pruner, StaticPruner):
        return _without_warm_up(pruner, config.seed)
    if task.name in ERROR_NORMS and type(pruner.scorer) is EL2N:
        pruner.set_params(scorer=SCORERS[ERROR_NORMS[task.name]](smoothing=pruner.scorer.smoothing))
    if type(pruner.scorer) is EL2N:
        pruner.scorer.set_params(**ERROR_NORM_ARGS.get(task.name, {}))
    made: DynamicPruner = pruner
    return made


def _without_warm_up(static: StaticPruner, seed: int) -> DynamicPruner:
    """Return a static choice as a run that trains on nothing else."""
    if isinstance(static.scorer, Perplexity):
        raise InvalidValueError(
            "The recipe 'perplexity_pruning' needs a language model, which `train` has none of. "
            "Select the texts first with `dataprune select --recipe perplexity_pruning`."
        )
    selector: Selector = clone(static.selector)
    scheduler = ConstantScheduler(keep_fraction=selector.keep_fraction, n_warmup_epochs=0)
    selector.set_params(keep_fraction=1.0, random_state=None)
    return DynamicPruner(static.scorer, selector, scheduler, random_state=seed)


def prepare(
    pruner: DynamicPruner,
    raw: datasets.Dataset,
    encoded: datasets.Dataset,
    *,
    task: Task,
    model: str,
    group_column: str | None = None,
) -> tuple[dict[str, Any], float]:
    """Fit a scorer of the data itself, and find what the selector needs to know of the examples.

    Parameters
    ----------
    pruner : DynamicPruner
        Its scorer is fitted where it is a `DatasetScorer`.
    raw : datasets.Dataset
        The train split as it was read.
    encoded : datasets.Dataset
        The same rows, tokenised.
    task : Task
        Knows the columns.
    model : str
        Folder or hub name of the encoder, for embeddings.
    group_column : str, optional
        Column of `raw` that the groups are read from, as `groups_of` does; by default they are the classes.

    Returns
    -------
    known : dict
        ``labels``, and ``groups`` and ``features`` where the selector needs them: classes and embeddings.
    seconds : float
        What it took.

    Raises
    ------
    InvalidTypeError
        If the groups are not of one kind.
    InvalidValueError
        If the selector needs groups and there are none, or takes one group per example and there are several.
    """
    start = time.perf_counter()
    selector: Selector = TopK() if pruner.selector is None else pruner.selector
    known: dict[str, Any] = {} if task.class_column is None else {"labels": encoded[task.class_column][:]}
    if "groups" in selector.needs:
        if group_column is not None:
            known["groups"] = groups_of(raw, encoded, group_column, task=task)
            check_classes(selector, "groups", known["groups"])
        elif known:
            known["groups"] = known["labels"]
        else:
            raise InvalidValueError(
                f"train.group_column must be given for {type(selector).__name__}, for the task {task.name!r} has no "
                "class per example, got None."
            )
    if "features" in selector.needs:
        known["features"] = embed_texts(task.texts(raw), load_encoder(model), load_tokenizer(model))
    if isinstance(pruner.scorer, DatasetScorer):
        if not isinstance(pruner.scorer, ColumnScore):  # what the task reads: a column "text" may be another
            raw = raw.remove_columns([*{"text"} & {*raw.column_names}]).add_column("text", task.texts(raw))
        pruner.scorer.fit(raw)
    return known, time.perf_counter() - start
