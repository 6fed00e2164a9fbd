# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""Encoders, decoders and tokenizers from a folder or a hub name, checked for what they are used for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
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

from dataprune.errors import InvalidTypeError, InvalidValueError


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
