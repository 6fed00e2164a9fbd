"""Evaluation after each epoch, and the best model so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dataprune.data.forward import Forward
from dataprune.errors import InvalidValueError
from dataprune.scoring.scoring_pass import scoring_pass


def evaluate(
    dataset: Any,
    model: nn.Module,
    *,
    forward: Forward | None = None,
    metrics: Callable[[Iterable[Mapping[str, Tensor]]], Mapping[str, float]] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    batch_size: int = 64,
    n_workers: int = 0,
) -> dict[str, float]:
    """Evaluate `model` on `dataset`, in eval and inference mode.

    Parameters
    ----------
    dataset : map-style data set
        Rows to evaluate on.
    model : nn.Module
        Its training mode stays as it is.
    forward : callable, optional
        ``forward(model, batch) -> dict`` of signals; by default `default_forward`.
    metrics : callable, optional
        Maps an iterable of signals, one per batch, to named values; by default `default_metrics`.
    collate_fn : callable, optional
        Makes a batch of a list of examples.
    batch_size : int, default=64
        Examples in a batch.
    n_workers : int, default=0
        Loader processes.

    Returns
    -------
    dict of str to float
        Values by name.

    Raises
    ------
    InvalidValueError
        If the data set is empty.

    Examples
    --------
    >>> data = [(torch.tensor([1.0, 0.0]), 0), (torch.tensor([1.0, 0.0]), 1)]
    >>> evaluate(data, nn.Identity())["accuracy"]
    0.5
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise InvalidValueError("The data set to evaluate on must have examples, got an empty one. Leave it out.")
    passes = scoring_pass(
        dataset, model, forward=forward, collate_fn=collate_fn, batch_size=batch_size, n_workers=n_workers
    )
    compute = default_metrics if metrics is None else metrics
    return {name: float(value) for name, value in compute(signals for _, signals in passes).items()}


def default_metrics(signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Compute accuracy, where logits and labels are given, and mean loss.

    Parameters
    ----------
    signals : iterable of mapping
        One per batch: ``loss`` (B,), and ``logits`` (..., C) with ``labels`` (...).

    Returns
    -------
    dict of str to float
        ``accuracy`` over the labels that count, if there are any and they are classes, and ``loss``.

    Examples
    --------
    >>> default_metrics([{"loss": torch.tensor([1.0, 3.0])}])
    {'loss': 2.0}
    """
    n_right = n_labels = n_examples = 0
    total_loss = 0.0
    for batch in signals:
        total_loss += float(batch["loss"].double().sum())
        n_examples += len(batch["loss"])
        if {"logits", "labels"} <= batch.keys() and _are_classes(batch["labels"], batch["logits"]):
            counted = batch["labels"] >= 0
            n_right += int(((batch["logits"].argmax(-1) == batch["labels"]) & counted).sum())
            n_labels += int(counted.sum())
    accuracy = {"accuracy": n_right / n_labels} if n_labels else {}
    return {**accuracy, "loss": total_loss / max(1, n_examples)}


def _are_classes(labels: Tensor, logits: Tensor) -> bool:
    """Tell one class per row of the logits from a number, and from several classes at once."""
    has_kind = not labels.is_floating_point() and labels.dtype != torch.bool
    return has_kind and labels.shape == logits.shape[:-1] and logits.shape[-1] > 1


class BestModel:
    """Keep the weights of the epoch that evaluated best.

    Parameters
    ----------
    metric : str, optional
        What "best" means; by default the first metric. ``loss`` is minimised, any other maximised.

    Attributes
    ----------
    epoch : int
        Best epoch so far; -1 before the first evaluation.
    value : float
        Its metric.
    weights : dict of str to Tensor, or None
        Its weights, on the CPU.

    Examples
    --------
    >>> model, best = nn.Linear(1, 1), BestModel()
    >>> best.update({"accuracy": 0.5}, 0, model)
    >>> best.update({"accuracy": 0.4}, 1, model)
    >>> best.epoch
    0
    """

    def __init__(self, metric: str | None = None) -> None:
        self.metric = metric
        self.epoch = -1
        self.value = float("nan")
        self.weights: dict[str, Tensor] | None = None

    def update(self, metrics: Mapping[str, float], epoch: int, model: nn.Module) -> None:
        """Take over the weights of `model` if they evaluate better than any before; the earlier of equals stays.

        Parameters
        ----------
        metrics : mapping of str to float
            Values by name.
        epoch : int
            From 0.
        model : nn.Module
            The model that was evaluated.

        Raises
        ------
        InvalidValueError
            If there are no values, or the metric is not among them.
        """
        if not metrics:
            raise InvalidValueError("DynamicPruner.fit() needs metrics=... that returns at least one value, got none.")
        name = self.metric or next(iter(metrics))
        if name not in metrics:
            raise InvalidValueError(f"DynamicPruner.best_metric must be one of {', '.join(metrics)}, got {name!r}.")
        sign = -1.0 if name == "loss" else 1.0
        is_better = math.isnan(self.value) or sign * metrics[name] > sign * self.value  # any number beats NaN
        if self.weights is not None and not is_better:
            return
        self.epoch, self.value = epoch, metrics[name]
        self.weights = {key: tensor.detach().to("cpu", copy=True) for key, tensor in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        """Put the best weights back; without an evaluation nothing changes.

        Parameters
        ----------
        model : nn.Module
            The model of `update`.
        """
        if self.weights is not None:
            with torch.no_grad():
                model.load_state_dict(self.weights)
