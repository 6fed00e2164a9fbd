"""From a batch to signals: what scorers, the loop and the metrics need to know of one forward pass.

A *forward* is any function ``forward(model, batch) -> dict[str, Tensor]`` that returns ``loss`` of shape (B,), one
value per example, and the signals it was computed from: ``logits`` and ``labels``, or with several heads
``<head>_logits`` and ``<head>_labels``. The losses themselves stand in `dataprune.data.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from dataprune.data.losses import (
    IGNORED_LABEL,
    binary_cross_entropy_per_example,
    check_labels,
    cross_entropy_per_example,
    squared_error_per_example,
)
from dataprune.errors import InvalidTypeError, InvalidValueError, check_choice

__all__ = [
    "IGNORED_LABEL",
    "PRECISIONS",
    "Forward",
    "check_labels",
    "check_not_encoder_decoder",
    "cross_entropy_per_example",
    "default_forward",
    "emulates_bf16",
    "is_causal",
    "model_device",
    "signals_from_model",
    "signals_from_outputs",
    "unwrapped",
    "with_precision",
]

Forward = Callable[[nn.Module, Any], dict[str, Tensor]]

PRECISIONS = ("no", "bf16")
"""Values of ``mixed_precision``: float32 throughout, or bfloat16 where autocast allows it."""


def signals_from_outputs(
    outputs: Mapping[str, Any], batch: Mapping[str, Any], *, problem_type: str | None = None
) -> dict[str, Tensor]:
    """Pair each head's logits with its labels and add the loss of each example.

    Parameters
    ----------
    outputs : mapping of str to Tensor
        A model's output: ``logits``, or ``<head>_logits`` of several heads; other entries are ignored.
    batch : mapping of str to Tensor
        What the model was given, with ``labels`` or ``<head>_labels``.
    problem_type : str, optional
        What Hugging Face's ``config.problem_type`` says of ``logits``. By default the labels tell: integers (B,) or
        (B, T) are classes; floats or bools of the logits' shape (B, C), C at least 2, are multi-label data; floats (B,)
        with logits (B,) or (B, 1) are regression.

    Returns
    -------
    dict of str to Tensor
        The logits, the labels, and ``loss`` (B,): the sum over the heads.

    Raises
    ------
    InvalidTypeError
        If labels are neither integer classes nor, by their shape, clearly something else.
    InvalidValueError
        If no head has both logits and labels, or labels are out of range.

    Examples
    --------
    >>> outputs = {"intent_logits": torch.zeros(1, 2), "slot_logits": torch.zeros(1, 3, 4)}
    >>> batch = {"intent_labels": torch.tensor([1]), "slot_labels": torch.tensor([[0, 3, -100]])}
    >>> signals_from_outputs(outputs, batch)["loss"]
    tensor([3.4657])
    """
    signals: dict[str, Tensor] = {}
    losses = []
    for key, logits in outputs.items():
        if key != "logits" and not key.endswith("_logits"):
            continue
        labels_key = key.removesuffix("logits") + "labels"
        if not torch.is_tensor(logits) or batch.get(labels_key) is None:
            continue
        labels = batch[labels_key]
        losses.append(_losses(logits, labels, labels_key, problem_type if key == "logits" else None))
        signals |= {key: logits, labels_key: labels}
    if not losses:
        raise InvalidValueError(
            "A batch must hold 'labels' (or '<head>_labels') for the model's 'logits', "
            f"got a batch of {sorted(batch)} and outputs of {sorted(outputs)}. Pass forward=... for other models."
        )
    signals["loss"] = torch.stack(losses).sum(0)  # (B,)
    return signals


def _losses(logits: Tensor, labels: Tensor, name: str, problem_type: str | None) -> Tensor:
    if problem_type is None and (labels.dtype.is_floating_point or labels.dtype == torch.bool):
        # (B, 1) with (B, 1) may be either, so it stays an error that asks for the problem type.
        if labels.shape == logits.shape and logits.dim() == 2 and logits.shape[1] > 1:
            problem_type = "multi_label_classification"
        elif labels.dtype != torch.bool and labels.dim() == 1 and logits.shape in {labels.shape, (*labels.shape, 1)}:
            problem_type = "regression"
    if problem_type == "multi_label_classification":
        return binary_cross_entropy_per_example(logits, labels, name=name)
    if problem_type == "regression":
        return squared_error_per_example(logits, labels)
    # Elsewhere than on the CPU the look at the values would wait for the device, whose kernels check too.
    if labels.device.type == "cpu" or labels.dtype.is_floating_point or labels.dtype == torch.bool:
        check_labels(labels, logits.shape[-1], name=name)
    return cross_entropy_per_example(logits, labels)


def default_forward(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Run a model on an ``(x, y)`` batch or a Hugging Face mapping and return its signals.

    For classes (one per example or per token), several classes at once, numbers, and decoder-only language models.

    Parameters
    ----------
    model : nn.Module
        Returns logits, or an object with ``logits`` (``<head>_logits``) fields.
    batch : tuple or mapping
        ``(x, y)``, or a mapping whose ``labels`` / ``<head>_labels`` are held back from the model.

    Returns
    -------
    dict of str to Tensor
        ``loss`` (B,), logits and labels, see `signals_from_model`.

    Raises
    ------
    InvalidTypeError
        If the batch has another form, the model is an encoder-decoder, or labels are of an unclear kind.
    InvalidValueError
        If labels are missing or out of range.

    Examples
    --------
    >>> signals = default_forward(nn.Linear(3, 2), (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)))
    >>> {name: tuple(signal.shape) for name, signal in signals.items()}
    {'logits': (4, 2), 'labels': (4,), 'loss': (4,)}
    """
    check_not_encoder_decoder(model)
    if isinstance(batch, Mapping):
        inputs = {k: v for k, v in batch.items() if k != "labels" and not k.endswith("_labels")}
        outputs = model(**inputs)
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        x, y = batch
        outputs, batch = model(x), {"labels": y}
    else:
        raise InvalidTypeError(
            f"A batch must be an (x, y) pair or a mapping, got {type(batch).__name__}. "
            "Pass forward=... for other batches."
        )
    return signals_from_model(model, outputs, batch)


def signals_from_model(model: nn.Module, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the signals of `outputs`, as `signals_from_outputs`, with what is known of the model itself.

    Parameters
    ----------
    model : nn.Module
        The model that made the outputs. ``config.problem_type``, if set, decides what its labels are.
    outputs : Tensor or mapping of str to Tensor
        Logits, or a mapping that holds them.
    batch : mapping of str to Tensor
        What the model was given, with ``labels`` or ``<head>_labels``.

    Returns
    -------
    dict of str to Tensor
        ``loss`` (B,), logits and labels. Of a causal language model position t predicts token t + 1, so its signals are
        the views ``logits[:, :-1]`` and ``labels[:, 1:]``; labels of -100 (prompt, padding) do not count.

    Raises
    ------
    InvalidTypeError
        If the model is an encoder-decoder, or returned something else.
    InvalidValueError
        If labels are missing or out of range.

    Examples
    --------
    >>> signals_from_model(nn.Linear(1, 2), torch.zeros(1, 2), {"labels": torch.tensor([1])})["loss"]
    tensor([0.6931])
    """
    check_not_encoder_decoder(model)
    if torch.is_tensor(outputs):
        outputs = {"logits": outputs}
    if not isinstance(outputs, Mapping):
        raise InvalidTypeError(
            f"The model must return logits or a mapping that holds them, got {type(outputs).__name__}. "
            "Pass forward=... for other models."
        )
    if is_causal(model):
        logits, labels = outputs.get("logits"), batch.get("labels")
        if logits is not None and labels is not None:
            outputs, batch = {"logits": logits[:, :-1]}, {"labels": labels[:, 1:]}  # (B, T - 1, V), (B, T - 1)
    problem_type = getattr(getattr(unwrapped(model), "config", None), "problem_type", None)
    return signals_from_outputs(outputs, batch, problem_type=problem_type)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside `DistributedDataParallel`, ``torch.compile`` or PEFT's adapters.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    nn.Module
        The inner model, or `model` itself.

    Examples
    --------
    >>> unwrapped(nn.DataParallel(nn.Linear(1, 2)))
    Linear(in_features=1, out_features=2, bias=True)
    """
    inner = model
    while isinstance(deeper := getattr(inner, "_orig_mod", getattr(inner, "module", None)), nn.Module):
        inner = deeper  # in any order: DDP around a compiled model, or the other way round
    get_base_model: Any = getattr(inner, "get_base_model", None)
    has_adapters = hasattr(inner, "peft_config") and get_base_model is not None
    return cast("nn.Module", get_base_model()) if has_adapters else inner  # the name of PEFT's own class tells no task


def is_causal(model: nn.Module) -> bool:
    """Return whether the logits of `model` are one token ahead of its labels, as in a decoder-only language model.

    Parameters
    ----------
    model : nn.Module
        Any model; Hugging Face's are told by the name of their class.

    Returns
    -------
    bool
        True for a causal language model.

    Examples
    --------
    >>> is_causal(nn.Linear(2, 2))
    False
    """
    name = type(unwrapped(model)).__name__
    # XLM and XLNet take labels that stand where the logits do.
    return name.endswith(("ForCausalLM", "LMHeadModel")) and name not in {"XLMWithLMHeadModel", "XLNetLMHeadModel"}


def check_not_encoder_decoder(model: nn.Module) -> None:
    """Raise if `model` is an encoder-decoder, or another model whose labels are no class, number or next token.

    Parameters
    ----------
    model : nn.Module
        Any model; only Hugging Face's are refused.

    Raises
    ------
    InvalidTypeError
        For encoder-decoder models, and for those of text with images or sound.

    Examples
    --------
    >>> check_not_encoder_decoder(nn.Linear(2, 2))
    """
    inner = unwrapped(model)
    name = type(inner).__name__
    is_encoder_decoder = getattr(getattr(inner, "config", None), "is_encoder_decoder", False)
    if is_encoder_decoder or name.endswith("ForConditionalGeneration"):
        kind = "Seq2Seq" if is_encoder_decoder else "multimodal"
        raise InvalidTypeError(
            f"The model must be a classifier, got the {kind} model {name}. "
            "Use an encoder with a classification head, or pass forward=... that returns 'loss' per example."
        )


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    torch.device
        The CPU for a model without parameters.

    Examples
    --------
    >>> model_device(nn.Linear(1, 1))
    device(type='cpu')
    """
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def with_precision(forward: Forward, mixed_precision: str) -> Forward:
    """Return `forward` under autocast, for training and scoring alike.

    Parameters
    ----------
    forward : callable
        ``forward(model, batch) -> dict`` of signals.
    mixed_precision : {"no", "bf16"}
        ``no`` returns `forward` itself.

    Returns
    -------
    callable
        Another forward.

    Raises
    ------
    InvalidValueError
        If `mixed_precision` is unknown.

    Examples
    --------
    >>> forward = with_precision(default_forward, "bf16")
    >>> batch = torch.zeros(1, 3), torch.tensor([0])
    >>> signals = forward(nn.Linear(3, 2), batch)
    >>> signals["logits"].dtype, signals["loss"].dtype
    (torch.bfloat16, torch.float32)
    """
    if check_choice("fit()", "mixed_precision", mixed_precision, PRECISIONS) == "no":
        return forward
    return partial(_autocast_forward, forward=forward)  # can be pickled, unlike a function in here


def _autocast_forward(model: nn.Module, batch: Any, *, forward: Forward) -> dict[str, Tensor]:
    with torch.autocast(model_device(model).type, dtype=torch.bfloat16):
        return forward(model, batch)


def emulates_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 has no instructions of its own on a device, so that it is slower than float32.

    Parameters
    ----------
    device : torch.device
        Where the model is.

    Returns
    -------
    bool
        True for an x86 CPU without AVX512-BF16 and AMX; False for all others, and where torch cannot tell.

    Examples
    --------
    >>> emulates_bf16(torch.device("cuda"))
    False
    """
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return found.get("architecture") == "x86_64" and not (found.get("avx512_bf16") or found.get("amx_bf16"))
