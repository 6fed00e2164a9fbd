# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""Models for the tasks: a Hugging Face encoder with one head (classification) or two (joint NLU), or a decoder."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from tokenizers import pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING,
)
from transformers.utils import logging
from transformers.utils.generic import ModelOutput

from dataprune.data.forward import signals_from_outputs
from dataprune.data.tasks import CausalLMTask, ImageClassificationTask, Task
from dataprune.data.text_task import TextTask
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.image_models import build_image_model


class JointIntentSlotConfig(PreTrainedConfig):
    """Configuration of `JointIntentSlotModel`.

    Parameters
    ----------
    encoder : PreTrainedConfig, dict or None, default=None
        The encoder's configuration; required to build a model.
    intent_labels : sequence of str, default=()
        Names of the intents, in the order of their ids.
    slot_labels : sequence of str, default=()
        Names of the slot tags, in the order of their ids.
    dropout : float, default=0.1
        Dropout rate before both heads, in [0, 1).
    **kwargs : Any
        What every `PreTrainedConfig` takes.

    Examples
    --------
    >>> JointIntentSlotConfig(intent_labels=["book", "cancel"]).intent_labels
    ['book', 'cancel']
    """

    model_type = "dataprune-joint-intent-slot"

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        *,
        intent_labels: Sequence[str] = (),
        slot_labels: Sequence[str] = (),
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.encoder = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        self.intent_labels = list(intent_labels)
        self.slot_labels = list(slot_labels)
        self.dropout = dropout
        super().__init__(**kwargs)


@dataclass
class JointOutput(ModelOutput):
    """What `JointIntentSlotModel` returns.

    Parameters
    ----------
    loss : Tensor or None
        Scalar; the mean over the examples, when labels were given.
    intent_logits : Tensor
        Shape (B, I).
    slot_logits : Tensor
        Shape (B, T, S).
    """

    loss: Tensor | None = None
    intent_logits: Tensor | None = None
    slot_logits: Tensor | None = None


class JointIntentSlotModel(PreTrainedModel):
    """Intent from the first token's state, one slot tag from each token's state, over any encoder.

    Parameters
    ----------
    config : JointIntentSlotConfig
        The encoder's configuration and the label names.
    encoder : PreTrainedModel or None, default=None
        A ready encoder; None builds one with random weights.

    References
    ----------
    Chen, Zhuo & Wang 2019, *BERT for Joint Intent Classification and Slot Filling*, arXiv 1902.10909.

    Examples
    --------
    >>> from transformers import BertConfig
    >>> encoder = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    >>> config = JointIntentSlotConfig(encoder, intent_labels=["book", "cancel"], slot_labels=["B-a", "I-a", "O"])
    >>> output = JointIntentSlotModel(config)(torch.ones(1, 4, dtype=torch.long))
    >>> tuple(output.intent_logits.shape), tuple(output.slot_logits.shape)
    ((1, 2), (1, 4, 3))
    """

    config_class = JointIntentSlotConfig
    base_model_prefix = "encoder"

    def __init__(self, config: JointIntentSlotConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if config.encoder is None:
            raise InvalidValueError(
                "JointIntentSlotConfig.encoder must be an encoder's configuration, got None. "
                "Use JointIntentSlotModel.from_encoder."
            )
        if encoder is None:
            encoder = AutoModel.from_config(config.encoder, **encoder_options(config.encoder))
        self.encoder = encoder
        self.dropout = nn.Dropout(config.dropout)
        self.intent_head = nn.Linear(config.encoder.hidden_size, len(config.intent_labels))
        self.slot_head = nn.Linear(config.encoder.hidden_size, len(config.slot_labels))
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        name_or_path: str | Path,
        *,
        intent_labels: Sequence[str],
        slot_labels: Sequence[str],
        dropout: float = 0.1,
    ) -> Self:
        """Load a pretrained encoder and put two new heads on it.

        Parameters
        ----------
        name_or_path : str or Path
            A folder saved by `save_pretrained`, or a hub name.
        intent_labels : sequence of str
            Names of the intents, in the order of their ids.
        slot_labels : sequence of str
            Names of the slot tags, in the order of their ids.
        dropout : float, default=0.1
            Dropout rate before both heads, in [0, 1).

        Returns
        -------
        JointIntentSlotModel
            In float32 and eval mode; the heads are drawn from torch's global generator (`torch.manual_seed`).

        Raises
        ------
        InvalidValueError
            If there is no such model, or its files are damaged.
        InvalidTypeError
            If the model is no encoder.
        """
        encoder_config = load_encoder_config(name_or_path)
        with loading_quietly(name_or_path):
            encoder = AutoModel.from_pretrained(
                name_or_path, config=encoder_config, dtype=torch.float32, **encoder_options(encoder_config)
            )
        config = JointIntentSlotConfig(
            encoder.config, intent_labels=intent_labels, slot_labels=slot_labels, dropout=dropout
        )
        model = cls(config, encoder)
        model.eval()
        return model

    def forward(  # noqa: PLR0917 - positional, as in every model of transformers
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        intent_labels: Tensor | None = None,
        slot_labels: Tensor | None = None,
    ) -> JointOutput:
        """Return the logits of both heads, and the loss if labels are given.

        Parameters
        ----------
        input_ids : Tensor or None, default=None
            Token ids, shape (B, T).
        attention_mask : Tensor or None, default=None
            1 for tokens, 0 for padding, shape (B, T).
        token_type_ids : Tensor or None, default=None
            Segment ids, shape (B, T), for encoders that have them.
        inputs_embeds : Tensor or None, default=None
            Embeddings in place of `input_ids`, shape (B, T, H).
        intent_labels : Tensor or None, default=None
            Intent ids, shape (B,); negative ids do not count.
        slot_labels : Tensor or None, default=None
            Slot ids, shape (B, T); negative ids do not count.

        Returns
        -------
        JointOutput
            ``loss`` (scalar or None), ``intent_logits`` (B, I), ``slot_logits`` (B, T, S).

        Notes
        -----
        An example's loss is the negative log likelihood of its intent and of all its tags that count: the sum of
        their cross entropies, Chen et al.'s objective. ``loss`` is the mean of what pruning sees per example.
        """
        # No **kwargs in the signature: Trainer would take them as a promise to handle gradient accumulation.
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "inputs_embeds": inputs_embeds,
        }
        states = self.encoder(**{k: v for k, v in inputs.items() if v is not None}).last_hidden_state  # (B, T, H)
        states = self.dropout(states)
        logits = {
            "intent_logits": self.intent_head(states[:, 0]),  # (B, I)
            "slot_logits": self.slot_head(states),  # (B, T, S)
        }
        if intent_labels is None and slot_labels is None:
            return JointOutput(**logits)
        labels = {"intent_labels": intent_labels, "slot_labels": slot_labels}
        return JointOutput(loss=signals_from_outputs(logits, labels)["loss"].mean(), **logits)


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
        many classes keeps its head.

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
        return JointIntentSlotModel.from_encoder(
            name_or_path, intent_labels=task.labels_["intent"], slot_labels=task.labels_["slot"]
        )
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


def load_encoder(name_or_path: str | Path) -> PreTrainedModel:
    """Load a model without a head, for embeddings.

    Parameters
    ----------
    name_or_path : str or Path
        A folder saved by `save_pretrained`, or a hub name.

    Returns
    -------
    PreTrainedModel
        In eval mode.

    Raises
    ------
    InvalidValueError
        If there is no such model, or its files are damaged.

    Examples
    --------
    >>> load_encoder("./missing")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model './missing' must be an existing folder or a hub name, ...
    """
    with loading_quietly(name_or_path):
        model: PreTrainedModel = AutoModel.from_pretrained(name_or_path)
    return model


def load_tokenizer(name_or_path: str | Path, *, add_prefix_space: bool = True) -> PreTrainedTokenizerBase:
    """Load a fast tokenizer that can tokenise word by word.

    Parameters
    ----------
    name_or_path : str or Path
        A folder saved by `save_pretrained`, or a hub name.
    add_prefix_space : bool, default=True
        Make byte-level tokenizers (RoBERTa's kind) read a first word as they read the others, also when saved and
        loaded again; without, each of a list of words would be read as the end of another word. False leaves them as
        they are, for causal language models (`TextTask.add_prefix_space`).

    Returns
    -------
    PreTrainedTokenizerFast
        The tokenizer.

    Raises
    ------
    InvalidValueError
        If there is no such tokenizer, or its files are damaged.
    InvalidTypeError
        If it has no fast form.

    Examples
    --------
    >>> load_tokenizer("./missing")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model './missing' must be an existing folder or a hub name, ...
    """
    with loading_quietly(name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        if not tokenizer.is_fast:
            raise InvalidTypeError(
                f"The tokenizer of {str(name_or_path)!r} must be a fast one, got {type(tokenizer).__name__}. "
                "Choose a model with a tokenizer.json."
            )
        parts = byte_level_parts(tokenizer.backend_tokenizer.pre_tokenizer)
        if add_prefix_space and not all(part.add_prefix_space for part in parts):
            # RoBERTa's class rebuilds its parts from this argument; others keep the parts of their file.
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, add_prefix_space=True)
            for part in byte_level_parts(tokenizer.backend_tokenizer.pre_tokenizer):
                part.add_prefix_space = True
    return tokenizer


def byte_level_parts(pre_tokenizer: Any) -> list[Any]:
    """Return the byte-level parts of a pre-tokenizer.

    Parameters
    ----------
    pre_tokenizer : tokenizers.pre_tokenizers.PreTokenizer or None
        What a fast tokenizer splits text with.

    Returns
    -------
    list of tokenizers.pre_tokenizers.ByteLevel
        The parts, shared with `pre_tokenizer`.

    Examples
    --------
    >>> byte_level_parts(pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()]))
    [ByteLevel(add_prefix_space=True, ...)]
    """
    if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
        return [pre_tokenizer]
    if isinstance(pre_tokenizer, pre_tokenizers.Sequence):
        members: Any = pre_tokenizer  # iterable, though its type stub does not say so
        return [part for member in members for part in byte_level_parts(member)]
    return []


def load_encoder_config(name_or_path: str | Path) -> PreTrainedConfig:
    """Load the configuration of a model and raise unless it is an encoder of text.

    Parameters
    ----------
    name_or_path : str or Path
        A folder saved by `save_pretrained`, or a hub name.

    Returns
    -------
    PreTrainedConfig
        The configuration.

    Raises
    ------
    InvalidValueError
        If there is no such model.
    InvalidTypeError
        If it reads other things than text, or generates text.

    Examples
    --------
    >>> load_encoder_config("./missing")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model './missing' must be an existing folder or a hub name, ...
    """
    with loading_quietly(name_or_path):
        config: PreTrainedConfig = AutoConfig.from_pretrained(name_or_path)
    kind = config.model_type
    generates = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        generates = True
    if generates or kind not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES:
        found = "Seq2Seq model" if config.is_encoder_decoder else "decoder" if generates else "model"
        raise InvalidTypeError(
            f"The model {str(name_or_path)!r} must be a text encoder (such as BERT, RoBERTa, DeBERTa), "
            f"got a {found} of type {kind!r}. Choose another, or build the model yourself and pass it to fit."
        )
    return config


def load_decoder_config(name_or_path: str | Path) -> PreTrainedConfig:
    """Load the configuration of a model and raise unless it is a causal language model.

    Parameters
    ----------
    name_or_path : str or Path
        A folder saved by `save_pretrained`, or a hub name.

    Returns
    -------
    PreTrainedConfig
        The configuration.

    Raises
    ------
    InvalidValueError
        If there is no such model.
    InvalidTypeError
        If it is another kind of model.

    Examples
    --------
    >>> load_decoder_config("./missing")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model './missing' must be an existing folder or a hub name, ...
    """
    with loading_quietly(name_or_path):
        config: PreTrainedConfig = AutoConfig.from_pretrained(name_or_path)
    kind = config.model_type
    is_encoder = reads_both_ways(config)
    if config.is_encoder_decoder or is_encoder or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        found = "a Seq2Seq model" if config.is_encoder_decoder else "an encoder" if is_encoder else "a model"
        raise InvalidTypeError(
            f"The model {str(name_or_path)!r} must be a causal language model (such as GPT-2, Llama, SmolLM2), "
            f"got {found} of type {kind!r}. Choose another, or another task."
        )
    return config


def reads_both_ways(config: PreTrainedConfig) -> bool:
    """Tell whether a model is an encoder, such as BERT, though transformers may put a language model's head on it.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's configuration.

    Returns
    -------
    bool
        False for decoders, and for encoders that ``config.is_decoder`` makes one.

    Examples
    --------
    >>> from transformers import BertConfig, GPT2Config
    >>> reads_both_ways(BertConfig()), reads_both_ways(BertConfig(is_decoder=True)), reads_both_ways(GPT2Config())
    (True, False, False)
    """
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)


def encoder_options(config: PreTrainedConfig) -> dict[str, bool]:
    """Return the arguments that leave out an encoder's pooler, whose weights no head of ours would train.

    Parameters
    ----------
    config : PreTrainedConfig
        The encoder's configuration.

    Returns
    -------
    dict of str to bool
        Keyword arguments of the encoder's class.

    Examples
    --------
    >>> from transformers import BertConfig, DistilBertConfig
    >>> encoder_options(BertConfig()), encoder_options(DistilBertConfig())
    ({'add_pooling_layer': False}, {})
    """
    encoder_class: Any = MODEL_MAPPING[type(config)]  # a few types have a tuple of classes, none with a pooler
    has_pooler = inspect.isclass(encoder_class) and "add_pooling_layer" in inspect.signature(encoder_class).parameters
    return {"add_pooling_layer": False} if has_pooler else {}


@contextmanager
def loading_quietly(name_or_path: str | Path) -> Iterator[None]:
    """Silence transformers' bars and its news of new heads, and put its loading errors into one sentence.

    Parameters
    ----------
    name_or_path : str or Path
        What is loaded.

    Yields
    ------
    None
        Control, while the model loads.

    Raises
    ------
    InvalidValueError
        If the files are missing or damaged.

    Examples
    --------
    >>> with loading_quietly("./missing"):
    ...     AutoModel.from_pretrained("./missing")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model './missing' must be an existing folder or a hub name, ...
    """
    text = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1
    if is_path and not Path(text).is_dir():  # no hub name, so the hub is not asked
        raise InvalidValueError(
            f"The model {text!r} must be an existing folder or a hub name, got a path without a folder. "
            "Check the spelling, and the directory that you started from."
        )
    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    hub_logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InvalidValueError(
            f"The model {text!r} could not be loaded: {reason.rstrip('.')}. "
            "Pass a folder saved by save_pretrained, or a hub name."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if had_bars:
            logging.enable_progress_bar()
