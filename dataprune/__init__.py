"""Fine-tune on the examples that still matter: score, select and schedule them while a model trains.

The data's way: a `BatchScorer` turns signals (logits, labels) into one number per example; a `Selector` turns scores
and a budget into the examples to keep; a `Scheduler` turns the epoch into the budget; a `DynamicPruner` applies the
three while a model trains.

>>> import dataprune
>>> dataprune.EL2N(), dataprune.TopK(), dataprune.CyclicScheduler(keep_fraction=0.3)
(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.3))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch as _torch  # noqa: F401 - the one library that every use needs; the others load with the name asked for

if TYPE_CHECKING:
    from dataprune.data.indexed import Indexed, IndexedCollate, IndexedDataset
    from dataprune.data.loading import LoadedData, load_data, load_split
    from dataprune.data.review import ReviewLine, apply_review, read_review, write_review
    from dataprune.data.synthetic import SyntheticData, make_classification, make_joint_nlu
    from dataprune.data.tasks import (
        CausalLMTask,
        ClassificationTask,
        ImageClassificationTask,
        JointNLUTask,
        MultiLabelTask,
        RegressionTask,
        Task,
        TextTask,
        TokenClassificationTask,
    )
    from dataprune.errors import DataPruneError
    from dataprune.integrations.huggingface import PruningTrainer
    from dataprune.models import JointIntentSlotModel, build_model, load_tokenizer
    from dataprune.runs.suspects import Suspects, find_suspects
    from dataprune.scheduling.adaptive import SoftPruneScheduler
    from dataprune.scheduling.base import Decision, Scheduler
    from dataprune.scheduling.budget import Budget
    from dataprune.scheduling.cyclic import ConstantScheduler, CyclicScheduler
    from dataprune.scheduling.plan import Plan
    from dataprune.scheduling.ramps import (
        CosineScheduler,
        ExponentialScheduler,
        InterleavedScheduler,
        LinearScheduler,
        RampScheduler,
        StepScheduler,
    )
    from dataprune.scoring.agreement import Agreement, PairAgreement, agreement
    from dataprune.scoring.base import BatchScorer, DatasetScorer, Scorer
    from dataprune.scoring.combined import Combined, rank_average
    from dataprune.scoring.duplicates import NearDuplicate
    from dataprune.scoring.dynamics import AUM, Cartography, Confidence, Correctness, Forgetting, Variability
    from dataprune.scoring.dynamics_store import DynamicsStore
    from dataprune.scoring.embedding import PrototypeDistance, embed_texts
    from dataprune.scoring.error_norm import EL2N, JointEL2N, MultiLabelEL2N, RegressionError
    from dataprune.scoring.gradient_norm import GraNd, LastLayerGraNd, last_layer_gradient_norms
    from dataprune.scoring.gradient_variance import VarianceOfGradients
    from dataprune.scoring.information import PVI, ReducibleLoss
    from dataprune.scoring.label_errors import LabelErrors, confident_learning
    from dataprune.scoring.metadata import ColumnScore, FunctionScore
    from dataprune.scoring.per_example_gradients import gradient_norms, last_blocks, with_gradient_norms
    from dataprune.scoring.perplexity import Perplexity
    from dataprune.scoring.score_log import ScoreLog
    from dataprune.scoring.store import ExampleStore, ScoreStore
    from dataprune.scoring.text import TfidfDistance
    from dataprune.scoring.threshold_examples import aum_cutoff, make_threshold_examples
    from dataprune.scoring.uncertainty import Entropy, Loss, Margin
    from dataprune.selection.balanced import ClassBalanced, ClassFloor
    from dataprune.selection.base import Candidates, Selector
    from dataprune.selection.batch import BatchPolicy, BatchTopK, BatchWindow, RobustWeights, SelectiveBackprop
    from dataprune.selection.budgeted import BudgetedTopK
    from dataprune.selection.clustered import ClusteredK, KCenter
    from dataprune.selection.constrained import KeepAlways, KeepTogether
    from dataprune.selection.per_cost import ScorePerCost
    from dataprune.selection.random import EpsilonGreedy, RandomK, WeightedK
    from dataprune.selection.ranked import BothEnds, ScoreWindow, TopK
    from dataprune.selection.stratified import StratifiedK, TopOrStratified
    from dataprune.selection.submodular import FacilityLocation, SubmodularMixture
    from dataprune.selection.unbiased import ImportanceSample, SoftPrune
    from dataprune.training.history import EpochRecord, PruningHistory
    from dataprune.training.pruner import DynamicPruner
    from dataprune.training.sampler import PruningSampler
    from dataprune.training.static import StaticPruner

__version__ = "0.1.0.dev0"

_HOMES = {
    "data.indexed": (
        "Indexed",
        "IndexedCollate",
        "IndexedDataset",
    ),
    "data.loading": (
        "LoadedData",
        "load_data",
        "load_split",
    ),
    "data.review": (
        "ReviewLine",
        "apply_review",
        "read_review",
        "write_review",
    ),
    "data.synthetic": (
        "SyntheticData",
        "make_classification",
        "make_joint_nlu",
    ),
    "data.tasks": (
        "CausalLMTask",
        "ClassificationTask",
        "ImageClassificationTask",
        "JointNLUTask",
        "MultiLabelTask",
        "RegressionTask",
        "Task",
        "TextTask",
        "TokenClassificationTask",
    ),
    "errors": ("DataPruneError",),
    "integrations.huggingface": ("PruningTrainer",),
    "models": (
        "JointIntentSlotModel",
        "build_model",
        "load_tokenizer",
    ),
    "runs.suspects": (
        "Suspects",
        "find_suspects",
    ),
    "scheduling.adaptive": ("SoftPruneScheduler",),
    "scheduling.base": (
        "Decision",
        "Scheduler",
    ),
    "scheduling.budget": ("Budget",),
    "scheduling.cyclic": (
        "ConstantScheduler",
        "CyclicScheduler",
    ),
    "scheduling.plan": ("Plan",),
    "scheduling.ramps": (
        "CosineScheduler",
        "ExponentialScheduler",
        "InterleavedScheduler",
        "LinearScheduler",
        "RampScheduler",
        "StepScheduler",
    ),
    "scoring.agreement": (
        "Agreement",
        "PairAgreement",
        "agreement",
    ),
    "scoring.base": (
        "BatchScorer",
        "DatasetScorer",
        "Scorer",
    ),
    "scoring.combined": (
        "Combined",
        "rank_average",
    ),
    "scoring.duplicates": ("NearDuplicate",),
    "scoring.dynamics": (
        "AUM",
        "Cartography",
        "Confidence",
        "Correctness",
        "Forgetting",
        "Variability",
    ),
    "scoring.dynamics_store": ("DynamicsStore",),
    "scoring.embedding": (
        "PrototypeDistance",
        "embed_texts",
    ),
    "scoring.error_norm": (
        "EL2N",
        "JointEL2N",
        "MultiLabelEL2N",
        "RegressionError",
    ),
    "scoring.gradient_norm": (
        "GraNd",
        "LastLayerGraNd",
        "last_layer_gradient_norms",
    ),
    "scoring.gradient_variance": ("VarianceOfGradients",),
    "scoring.information": (
        "PVI",
        "ReducibleLoss",
    ),
    "scoring.label_errors": (
        "LabelErrors",
        "confident_learning",
    ),
    "scoring.metadata": (
        "ColumnScore",
        "FunctionScore",
    ),
    "scoring.per_example_gradients": (
        "gradient_norms",
        "last_blocks",
        "with_gradient_norms",
    ),
    "scoring.perplexity": ("Perplexity",),
    "scoring.score_log": ("ScoreLog",),
    "scoring.store": (
        "ExampleStore",
        "ScoreStore",
    ),
    "scoring.text": ("TfidfDistance",),
    "scoring.threshold_examples": (
        "aum_cutoff",
        "make_threshold_examples",
    ),
    "scoring.uncertainty": (
        "Entropy",
        "Loss",
        "Margin",
    ),
    "selection.balanced": (
        "ClassBalanced",
        "ClassFloor",
    ),
    "selection.base": (
        "Candidates",
        "Selector",
    ),
    "selection.batch": (
        "BatchPolicy",
        "BatchTopK",
        "BatchWindow",
        "RobustWeights",
        "SelectiveBackprop",
    ),
    "selection.budgeted": ("BudgetedTopK",),
    "selection.clustered": (
        "ClusteredK",
        "KCenter",
    ),
    "selection.constrained": (
        "KeepAlways",
        "KeepTogether",
    ),
    "selection.per_cost": ("ScorePerCost",),
    "selection.random": (
        "EpsilonGreedy",
        "RandomK",
        "WeightedK",
    ),
    "selection.ranked": (
        "BothEnds",
        "ScoreWindow",
        "TopK",
    ),
    "selection.stratified": (
        "StratifiedK",
        "TopOrStratified",
    ),
    "selection.submodular": (
        "FacilityLocation",
        "SubmodularMixture",
    ),
    "selection.unbiased": (
        "ImportanceSample",
        "SoftPrune",
    ),
    "training.history": (
        "EpochRecord",
        "PruningHistory",
    ),
    "training.pruner": ("DynamicPruner",),
    "training.sampler": ("PruningSampler",),
    "training.static": ("StaticPruner",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AUM",
    "EL2N",
    "PVI",
    "Agreement",
    "BatchPolicy",
    "BatchScorer",
    "BatchTopK",
    "BatchWindow",
    "BothEnds",
    "Budget",
    "BudgetedTopK",
    "Candidates",
    "Cartography",
    "CausalLMTask",
    "ClassBalanced",
    "ClassFloor",
    "ClassificationTask",
    "ClusteredK",
    "ColumnScore",
    "Combined",
    "Confidence",
    "ConstantScheduler",
    "Correctness",
    "CosineScheduler",
    "CyclicScheduler",
    "DataPruneError",
    "DatasetScorer",
    "Decision",
    "DynamicPruner",
    "DynamicsStore",
    "Entropy",
    "EpochRecord",
    "EpsilonGreedy",
    "ExampleStore",
    "ExponentialScheduler",
    "FacilityLocation",
    "Forgetting",
    "FunctionScore",
    "GraNd",
    "ImageClassificationTask",
    "ImportanceSample",
    "Indexed",
    "IndexedCollate",
    "IndexedDataset",
    "InterleavedScheduler",
    "JointEL2N",
    "JointIntentSlotModel",
    "JointNLUTask",
    "KCenter",
    "KeepAlways",
    "KeepTogether",
    "LabelErrors",
    "LastLayerGraNd",
    "LinearScheduler",
    "LoadedData",
    "Loss",
    "Margin",
    "MultiLabelEL2N",
    "MultiLabelTask",
    "NearDuplicate",
    "PairAgreement",
    "Perplexity",
    "Plan",
    "PrototypeDistance",
    "PruningHistory",
    "PruningSampler",
    "PruningTrainer",
    "RampScheduler",
    "RandomK",
    "ReducibleLoss",
    "RegressionError",
    "RegressionTask",
    "ReviewLine",
    "RobustWeights",
    "Scheduler",
    "ScoreLog",
    "ScorePerCost",
    "ScoreStore",
    "ScoreWindow",
    "Scorer",
    "SelectiveBackprop",
    "Selector",
    "SoftPrune",
    "SoftPruneScheduler",
    "StaticPruner",
    "StepScheduler",
    "StratifiedK",
    "SubmodularMixture",
    "Suspects",
    "SyntheticData",
    "Task",
    "TextTask",
    "TfidfDistance",
    "TokenClassificationTask",
    "TopK",
    "TopOrStratified",
    "Variability",
    "VarianceOfGradients",
    "WeightedK",
    "agreement",
    "apply_review",
    "aum_cutoff",
    "build_model",
    "confident_learning",
    "embed_texts",
    "find_suspects",
    "gradient_norms",
    "last_blocks",
    "last_layer_gradient_norms",
    "load_data",
    "load_split",
    "load_tokenizer",
    "make_classification",
    "make_joint_nlu",
    "make_threshold_examples",
    "rank_average",
    "read_review",
    "with_gradient_norms",
    "write_review",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'dataprune' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dataprune.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
