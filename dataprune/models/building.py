# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""The model of a task: an encoder with new heads, a decoder as it is, or a network for images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from dataprune.data.tasks import CausalLMTask, ImageClassificationTask, Task
from dataprune.data.text_task import TextTask
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.models.images import build_image_model
from dataprune.models.joint import JointIntentSlotConfig, JointIntentSlotModel
from dataprune.models.loading import load_decoder_config, load_encoder_config, loading_quietly

ONE_HEAD: dict[str, tuple[Any, Any]] = {
    "classification": (AutoModelForSequenceClassification, "single_label_classification"),
    "multi-label": (AutoModelForSequenceClassification, "multi_label_classification"),
    "regression": (AutoModelForSequenceClassification, "regression"),
    "token-classification": (AutoModelForTokenClassification, None),
}
"""Task -> Hugging Face's class for it, and its ``problem_type``."""


def build_model(task: Task, name_or_path: str | Path) -> nn.Module:
    """Load a pretrained encoder and put the task's new heads on it, a language model as it is, or make one for images.

    Parameters
    ----------
    task : Task
        A fitted task.
    name_or_path : str or Path
        A folder saved by `save_pretrained`, or a hub name; of images what `build_image_model` takes.

    Returns
    -------
    nn.Module
        `JointIntentSlotModel`, or Hugging Face's sequence or token classifier or causal language model, in float32 and
        eval mode. New heads are drawn from torch's global generator (`torch.manual_seed`); a saved classifier with as
        many classes keeps its head, a saved `JointIntentSlotModel` of the same labels both.

    Raises
    ------
    NotFittedError
        If the task has no label maps.
    InvalidValueError
        If there is no such model, its files are damaged, or it takes fewer tokens than the task may give.
    InvalidTypeError
        If the model is no encoder, or for `CausalLMTask` no decoder, or the task has no model.

    Examples
    --------
    >>> from dataprune.data.tasks import ClassificationTask
    >>> build_model(ClassificationTask(), "some/folder")
    Traceback (most recent call last):
    dataprune.errors.NotFittedError: ClassificationTask.build_model needs label maps, got none. ...
    """
    task.check_fitted("build_model")
    if isinstance(task, ImageClassificationTask):
        return build_image_model(task, name_or_path)
    if not isinstance(task, TextTask):
        raise InvalidTypeError(f"build_model knows no model for the task {task.name!r}. Build one and pass it to fit.")
    is_causal = isinstance(task, CausalLMTask)
    trained = _joint_config(name_or_path) if task.name == "joint-nlu" else None
    config: PreTrainedConfig
    if trained is not None and trained.encoder is not None:
        config = trained.encoder
    else:
        config = load_decoder_config(name_or_path) if is_causal else load_encoder_config(name_or_path)
    n_positions = getattr(config, "max_position_embeddings", None)
    if n_positions is not None and task.max_length_tokens > n_positions > 0:
        raise InvalidValueError(
            f"{type(task).__name__}.max_length_tokens must be at most {n_positions} for the model "
            f"{str(name_or_path)!r}, got {task.max_length_tokens}. Choose a smaller one."
        )
    if is_causal:
        with loading_quietly(name_or_path):
            decoder: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                name_or_path, config=config, dtype=torch.float32
            )
        return decoder
    if task.name == "joint-nlu":
        intents, tags = task.labels_["intent"], task.labels_["slot"]
        if trained is None:
            return JointIntentSlotModel.from_encoder(name_or_path, intent_labels=intents, slot_labels=tags)
        return _trained_joint_model(name_or_path, trained, intent_labels=intents, slot_labels=tags)
    if task.name in ONE_HEAD:
        names = task.labels_[""] or [task.column(task.heads[""])]
        config.id2label = dict(enumerate(names))
        config.label2id = {name: position for position, name in config.id2label.items()}
        kind, config.problem_type = ONE_HEAD[task.name]
        with loading_quietly(name_or_path):
            model: PreTrainedModel = kind.from_pretrained(
                name_or_path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
            )
        return model
    raise InvalidTypeError(f"build_model knows no model for the task {task.name!r}. Build one and pass it to fit.")


def _joint_config(name_or_path: str | Path) -> JointIntentSlotConfig | None:
    with loading_quietly(name_or_path):
        config = AutoConfig.from_pretrained(name_or_path)
    return config if isinstance(config, JointIntentSlotConfig) else None


def _trained_joint_model(
    name_or_path: str | Path, config: JointIntentSlotConfig, *, intent_labels: list[str], slot_labels: list[str]
) -> JointIntentSlotModel:
    with loading_quietly(name_or_path):
        model: JointIntentSlotModel = JointIntentSlotModel.from_pretrained(name_or_path, dtype=torch.float32)
    if (config.intent_labels, config.slot_labels) != (intent_labels, slot_labels):
        config = JointIntentSlotConfig(
            config.encoder, intent_labels=intent_labels, slot_labels=slot_labels, dropout=config.dropout
        )
        model = JointIntentSlotModel(config, model.encoder)
    model.eval()
    return model
