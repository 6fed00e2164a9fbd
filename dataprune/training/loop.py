"""The ready-made loop behind `DynamicPruner.fit`: read it from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dataprune.data.forward import Forward, default_forward, emulates_bf16, with_precision
from dataprune.data.indexed import Indexed, IndexedDataset
from dataprune.errors import InvalidTypeError, InvalidValueError, TrainingInterrupted, check_choice, check_positive
from dataprune.scoring.provenance import model_hash
from dataprune.scoring.score_log import ScoreLog
from dataprune.scoring.scoring_pass import keeping_modes, to_device
from dataprune.scoring.store import ExampleStore
from dataprune.training.checkpoint import Checkpoints
from dataprune.training.checks import check_gradient, check_losses, losses_of
from dataprune.training.evaluation import BestModel, evaluate
from dataprune.training.interrupt import InterruptFlag
from dataprune.training.progress import progress_bar
from dataprune.training.state import describe_setting

if TYPE_CHECKING:
    from dataprune.training.pruner import DynamicPruner

OWNER = "DynamicPruner.fit()"

logger = logging.getLogger("dataprune")

LR_SCHEDULES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "constant": lambda progress: 1.0,  # noqa: ARG005
}
"""Factor on the learning rate at a progress in [0, 1]; the progress follows the plan, not the full data."""


def train(
    pruner: DynamicPruner,
    dataset: Any,
    *,
    model: nn.Module,
    n_epochs: int,
    batch_size: int,
    forward: Forward | None,
    optimizer: torch.optim.Optimizer | None,
    learning_rate: float,
    lr_schedule: str | Callable[[float], float],
    n_accumulation: int,
    max_grad_norm: float | None,
    mixed_precision: str,
    collate_fn: Callable[[list[Any]], Any] | None,
    n_workers: int,
    group_by_length: bool,
    eval_dataset: Any,
    metrics: Callable[..., Mapping[str, float]] | None,
    best_metric: str | None,
    callbacks: Sequence[Callable[[DynamicPruner], object]],
    scores: ExampleStore | None,
    log: ScoreLog | None,
    known: Mapping[str, Any],
    checkpoint_dir: str | Path | None,
    resume: bool,
    progress: bool,
) -> None:
    """Train `model` on what `pruner` selects; see `DynamicPruner.fit` for the parameters."""
    _check(dataset, model=model, max_grad_norm=max_grad_norm, checkpoint_dir=checkpoint_dir, resume=resume)
    lr_factor = lr_schedule if callable(lr_schedule) else lr_schedule_named(lr_schedule)
    forward = with_precision(default_forward if forward is None else forward, mixed_precision)
    accelerator = _accelerator()
    model = model.to(accelerator.device)  # not prepared: Accelerate would patch the precision of earlier runs into it
    if mixed_precision == "bf16" and emulates_bf16(accelerator.device):
        logger.warning("This CPU has no bfloat16 instructions: mixed_precision='bf16' is slower here than 'no'.")
    if optimizer is None:
        check_positive(OWNER, "learning_rate", learning_rate)
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
    full = DataLoader(dataset, batch_size, shuffle=True, collate_fn=collate_fn, num_workers=n_workers)
    loader = pruner.attach(
        full,
        n_epochs=n_epochs,
        n_accumulation=n_accumulation,
        model=model,
        forward=forward,
        scores=scores,
        log=log,
        **known,
        group_by_length=group_by_length,
    )
    loop = _Loop(
        pruner=pruner,
        model=model,
        loader=accelerator.prepare(loader),
        optimizer=optimizer,
        # As torch's own schedulers do: a second fit, or a resume, must not start from the rate that the first ended at.
        peak_rates=[group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups],
        lr_factor=lr_factor,
        forward=pruner.scorer_.wrap_forward(forward)
        if pruner.scorer_ and (pruner.observes or pruner.batch_policy)
        else forward,
        max_grad_norm=math.inf if max_grad_norm is None else max_grad_norm,
    )
    measure = partial(
        evaluate, forward=forward, metrics=metrics, collate_fn=collate_fn, batch_size=batch_size, n_workers=n_workers
    )
    best = BestModel(best_metric)
    checkpoints = None
    if checkpoint_dir is not None:
        settings = {
            "learning_rate": loop.peak_rates if len(loop.peak_rates) > 1 else loop.peak_rates[0],
            "lr_schedule": lr_schedule,
            "max_grad_norm": max_grad_norm,
            "mixed_precision": mixed_precision,
            "best_metric": best_metric,
        }
        described = {name: describe_setting(value) for name, value in settings.items()}
        checkpoints = Checkpoints(checkpoint_dir, model, optimizer, pruner, best, settings=described)
        checkpoints.load_newest() if resume else checkpoints.clear()
    if log is not None and resume:  # also of a run that ended before its first checkpoint
        log.resume(_first_epoch(pruner))

    with keeping_modes(model), InterruptFlag() as interrupt, progress_bar(progress, pruner) as show:
        for epoch in range(_first_epoch(pruner), n_epochs):
            pruner.set_epoch(epoch)
            for _update in loop.updates(epoch):
                show()
                if interrupt.is_set and not pruner.is_epoch_finished:  # a finished epoch is evaluated first
                    raise _interrupted(checkpoints)
            if eval_dataset is not None:
                start = time.perf_counter()
                values = measure(eval_dataset, model)
                pruner.log_evaluation(values, seconds=time.perf_counter() - start)
                best.update(values, epoch, model)
            for callback in callbacks:
                callback(pruner)
            if interrupt.is_set:
                raise _interrupted(checkpoints)
            if checkpoints is not None:
                checkpoints.save()
    best.restore(model)
    pruner.best_epoch_ = best.epoch
    pruner.close()
    if pruner.scorer_ is not None:
        pruner.scorer_.store_.provenance["model_hash"] = model_hash(model)


@dataclass(frozen=True)
class _LookedAt:
    """A batch that went forward without gradients, so that a policy could choose of it."""

    index: Tensor
    signals: dict[str, Tensor]
    weights: Tensor

    @property
    def weights_of_chosen(self) -> Tensor:
        """Weights for a mean over the chosen: those of the batch are for a mean over all of it."""
        chosen = self.weights[self.weights > 0]
        return chosen * (len(chosen) / len(self.weights))


@dataclass(frozen=True)
class _Loop:
    """What one epoch needs."""

    pruner: DynamicPruner
    model: nn.Module
    loader: DataLoader[Any]
    optimizer: torch.optim.Optimizer
    peak_rates: list[float]
    lr_factor: Callable[[float], float]
    forward: Forward
    max_grad_norm: float

    def updates(self, epoch: int) -> Iterator[None]:
        """Train on the selection of `epoch` and yield after each optimizer update."""
        pruner, n_accumulation = self.pruner, self.pruner.n_accumulation_
        self._set_learning_rate()
        self._zero_grad()  # what earlier training left
        self.model.train()
        policy = pruner.batch_policy if pruner.policy_at_work else None
        for index, batch in self.loader:
            looked_at = None
            if policy is not None and policy.leaves_out:
                looked_at = self._look(index, batch)
                index, batch = self._chosen(looked_at)  # noqa: PLW2901 - the rest of the batch is never trained on
            signals = self.forward(self.model, batch)
            losses = losses_of(signals)  # (B,)
            check_losses(losses, index, epoch=epoch)
            if pruner.scorer_ is not None and not pruner.passes_add_signals:
                pruner.scorer_.check_signals(signals)  # also where only scoring passes count: not after the warm-up
            start = pruner.n_observed_batches_ // n_accumulation * n_accumulation
            window = min(n_accumulation, pruner.n_batches - start)  # the last window of an epoch may be shorter
            weights = pruner.weights(index, **signals) if looked_at is None else looked_at.weights_of_chosen
            ((losses * weights).mean() / window).backward()  # type: ignore[no-untyped-call]
            pruner.observe(index, **signals) if looked_at is None else pruner.observe(
                looked_at.index, **looked_at.signals
            )
            if pruner.n_observed_batches_ < start + window:
                continue
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
            check_gradient(norm, index, epoch=epoch)
            self.optimizer.step()
            self._zero_grad()
            self._set_learning_rate()
            yield

    def _look(self, index: Tensor, batch: Any) -> _LookedAt:
        start = time.perf_counter()
        with keeping_modes(self.model), torch.no_grad():
            self.model.eval()
            signals = self.forward(self.model, batch)
        weights = self.pruner.weights(index, **signals)
        self.pruner.log_left_out(index, weights, seconds=time.perf_counter() - start)
        return _LookedAt(index, signals, weights)

    def _chosen(self, looked_at: _LookedAt) -> Indexed:
        # Collated anew: what is padding in the batch depends on what else is in it.
        rows = looked_at.index[looked_at.weights > 0].tolist()
        index, batch = self.loader.collate_fn([self.loader.dataset[row] for row in rows])
        device = looked_at.index.device
        return Indexed(to_device(index, device), to_device(batch, device))

    def _zero_grad(self) -> None:
        self.optimizer.zero_grad()
        self.model.zero_grad()  # parameters that the optimizer leaves out would pile up and distort the clipping

    def _set_learning_rate(self) -> None:
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * self.lr_factor(self.pruner.progress())


def lr_schedule_named(name: str) -> Callable[[float], float]:
    """Return a factor on the learning rate by its name.

    Parameters
    ----------
    name : {"linear", "cosine", "constant"}
        The schedule.

    Returns
    -------
    callable
        Maps progress in [0, 1] to the factor.

    Raises
    ------
    InvalidValueError
        If the name is unknown.

    Examples
    --------
    >>> lr_schedule_named("linear")(0.25)
    0.75
    """
    return LR_SCHEDULES[check_choice(OWNER, "lr_schedule", name, LR_SCHEDULES)]


def _check(
    dataset: Any, *, model: nn.Module, max_grad_norm: float | None, checkpoint_dir: str | Path | None, resume: bool
) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"{OWNER} needs model=... as a torch.nn.Module, got {type(model).__name__}.")
    if len(IndexedDataset(dataset)) == 0:
        raise InvalidValueError(f"{OWNER} needs a data set with examples, got an empty one.")
    if max_grad_norm is not None:
        check_positive(OWNER, "max_grad_norm", max_grad_norm)
    if resume and checkpoint_dir is None:
        raise InvalidValueError(f"{OWNER} needs checkpoint_dir=... to resume, got None.")


def _accelerator() -> Accelerator:
    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise InvalidValueError(
            f"{OWNER} runs in one process, got {accelerator.num_processes}. Start it without a distributed launcher."
        )
    return accelerator


def _first_epoch(pruner: DynamicPruner) -> int:
    if pruner.epoch_ < 0:
        return 0
    return pruner.epoch_ + 1 if pruner.is_epoch_finished else pruner.epoch_


def _interrupted(checkpoints: Checkpoints | None) -> TrainingInterrupted:
    if checkpoints is None:
        return TrainingInterrupted("Training was interrupted; nothing was saved, for fit() had no checkpoint_dir.")
    path = checkpoints.save()
    return TrainingInterrupted(
        f"Training was interrupted; its state is in {path}. Call fit(..., resume=True) to go on."
    )
