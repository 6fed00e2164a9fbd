"""The parts of `PruningCallback` that its users never see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dataprune.data.forward import Forward, default_forward, signals_from_outputs
from dataprune.errors import InvalidValueError, NotFittedError, StateError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.precision import Precision

RESERVED = frozenset({"index", "loss", "losses", "weights"})
"""Entries of what training_step returns that are no signals by these names."""


class PruningLoader:
    """What `Trainer.fit` takes for the train loader; the pruner is attached to the user's loader when the run begins.

    Not before, for only then are the ranks known. And no `DataLoader`, for Lightning wraps the sampler of one in a
    `DistributedSampler`, which pads every epoch to the length of the first.
    """

    on_epoch: Callable[[int], None]

    def __init__(self, full_loader: DataLoader[Any], known: Mapping[str, Any], *, keeps_index: bool = False) -> None:
        self.full_loader = full_loader
        self.known = known
        self.keeps_index = keeps_index  # hands out the user's own batches
        self.attached: DataLoader[Any] | None = None
        self.n_batches = self.n_done = 0
        self._kept: dict[
            int, Tensor
        ] = {}  # by the batch's number in its epoch: right, however far anything looks ahead

    def take(self, attached: DataLoader[Any], on_epoch: Callable[[int], None]) -> None:
        """Hand out the batches of `attached` from now on; no epoch has begun, so that it has its full length."""
        self.attached, self.n_batches, self.on_epoch = attached, len(attached), on_epoch

    def __iter__(self) -> Iterator[Any]:
        # A generator: Lightning makes it early, and nothing is fetched before the epoch's examples are chosen.
        self._kept.clear()
        for number, indexed in enumerate(self._in_fit(), start=self.n_done):
            if self.keeps_index:
                self._kept[number] = indexed.index
            yield indexed.batch if self.keeps_index else indexed

    def take_index(self, number: int) -> Tensor:
        """Return the index of a batch that was handed out without it, once."""
        if number not in self._kept:
            raise StateError(
                f"PruningCallback has no index for batch {number} of the epoch, but for {sorted(self._kept)}. Pass the "
                "loader through its attach(), so that the index stays in the batch."
            )
        return self._kept.pop(number)

    def __len__(self) -> int:
        self._in_fit()
        return self.n_batches

    def _in_fit(self) -> DataLoader[Any]:
        if self.attached is None:
            raise NotFittedError(
                "The loader from PruningCallback.attach() works inside of Trainer.fit alone. Pass it there, with the "
                "callback in Trainer(callbacks=[...])."
            )
        return self.attached

    @property
    def sampler(self) -> PruningLoader:
        """Where Lightning announces each epoch, before it is counted and iterated."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""
        self.on_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Tell Lightning that a run may go on in mid-epoch; the state itself is the callback's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take nothing: see `state_dict`."""


def count_epochs(trainer: Trainer) -> int:
    """Return the epochs of a run, or raise if a Trainer asks for what pruning cannot do.

    Parameters
    ----------
    trainer : Trainer
        In ``fit``.

    Returns
    -------
    int
        ``max_epochs``.

    Raises
    ------
    InvalidValueError
        For a run that is not of whole epochs of one loader, or an accumulation that changes.
    """
    from lightning.pytorch.callbacks import GradientAccumulationScheduler

    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise InvalidValueError(
            f"Trainer.max_epochs must be at least 1, got {trainer.max_epochs}. The scheduler counts in epochs."
        )
    only = {"max_steps": -1, "overfit_batches": 0, "limit_train_batches": 1.0, "reload_dataloaders_every_n_epochs": 0}
    for name, wanted in only.items():
        value = getattr(trainer, name)
        if value != wanted or (name == "limit_train_batches" and isinstance(value, int)):  # 1 is one batch, 1.0 all
            raise InvalidValueError(
                f"Trainer.{name} must be left out with PruningCallback, got {value}. "
                "The pruner plans whole epochs of one loader; fast_dev_run cuts them, too."
            )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise InvalidValueError(
            "PruningCallback plans with one number of batches per update, got a GradientAccumulationScheduler. "
            "Use Trainer(accumulate_grad_batches=...)."
        )
    return trainer.max_epochs


def count_anew(trainer: Trainer, n_batches: int, *, n_done: int) -> None:
    """Tell Lightning how long the epoch is that begins: it counts once per run.

    Parameters
    ----------
    trainer : Trainer
        In ``fit``, before the epoch's first hook.
    n_batches : int
        Batches of the epoch on this rank, those before a resume included.
    n_done : int
        Batches of the epoch before a resume.
    """
    fit_loop = trainer.fit_loop
    fit_loop.max_batches = n_batches  # also what the progress bar shows
    if trainer.val_check_batch is not None and isinstance(trainer.val_check_interval, float):
        trainer.val_check_batch = max(1, int(n_batches * trainer.val_check_interval))
    if fit_loop.epoch_loop.restarted_on_train_batch_end and n_done == 0:
        # Saved after the last batch of the epoch before, which Lightning takes to have been as long as this one.
        fit_loop.epoch_loop.batch_progress.current.completed = n_batches
    # The first epoch's iterator was made, and counted, before its examples were chosen.
    iter(fit_loop._data_fetcher)  # type: ignore[arg-type]  # noqa: SLF001


def forward_in_precision(trainer: Trainer, forward: Forward | None) -> Forward:
    """Return `forward` as scoring passes call it: in the precision of training.

    Parameters
    ----------
    trainer : Trainer
        Whose precision it is.
    forward : callable or None
        ``forward(model, batch) -> dict`` of signals; None is `default_forward`.

    Returns
    -------
    callable
        Another forward.
    """
    forward = default_forward if forward is None else forward
    return partial(_forward_in, precision=trainer.precision_plugin, forward=forward)  # can be pickled


def _forward_in(model: nn.Module, batch: Any, *, precision: Precision, forward: Forward) -> dict[str, Tensor]:
    with precision.forward_context():
        return forward(model, precision.convert_input(batch))


def signals_of(outputs: Mapping[str, Any], requires: Collection[str], *, scorer: str) -> dict[str, Tensor]:
    """Return the signals in what training_step returned.

    Parameters
    ----------
    outputs : mapping of str to object
        ``logits``, ``labels`` (or ``<head>_logits``, ``<head>_labels``), ``losses`` (B,), or what else a scorer needs.
    requires : collection of str
        What this scorer needs. Its ``loss`` is ``losses``, by default that of the logits.
    scorer : str
        Name in the message.

    Returns
    -------
    dict of str to Tensor
        Signals by name.

    Raises
    ------
    InvalidValueError
        If one is missing.

    Examples
    --------
    >>> outputs = {"loss": torch.tensor(0.7), "logits": torch.zeros(2, 3), "labels": torch.tensor([0, 2])}
    >>> sorted(signals_of(outputs, {"logits", "labels"}, scorer="EL2N"))
    ['labels', 'logits']
    >>> signals_of(outputs, {"loss"}, scorer="Loss")["loss"]
    tensor([1.0986, 1.0986])
    """
    signals = {name: value for name, value in outputs.items() if name not in RESERVED and torch.is_tensor(value)}
    if "losses" in outputs:
        signals["loss"] = outputs["losses"]
    elif "loss" in requires and any(name.endswith("logits") for name in signals):
        signals |= signals_from_outputs(signals, signals)
    missing = set(requires) - {"index"} - signals.keys()
    if missing:
        names = ["losses" if name == "loss" else name for name in sorted(missing)]
        got = ", ".join(map(repr, outputs)) or "nothing"
        raise InvalidValueError(
            f"training_step must return {' and '.join(map(repr, names))} in its mapping for {scorer}, got only {got}. "
            "Return {'loss': ..., 'logits': ..., 'labels': ...}."
        )
    return signals
