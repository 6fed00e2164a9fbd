"""Accelerate: one call in the place of ``accelerator.prepare(loader)``."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader

from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.training.pruner import DynamicPruner


def prepare(
    accelerator: Accelerator,
    pruner: DynamicPruner,
    loader: DataLoader[Any],
    *,
    n_epochs: int,
    **known: Any,
) -> DataLoader[Any]:
    """Attach a pruner to a loader and let Accelerate prepare it; in one process or in many.

    Call ``pruner.set_epoch(epoch)`` on every process at an epoch's start, and `weights` and `observe` as in a loop of
    your own. Accelerate fetches a batch ahead and fills the last batches of an epoch from its start; both are right, as
    the index travels in the batch.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Its ``gradient_accumulation_steps`` are planned with.
    pruner : DynamicPruner
        The pruner; its state starts anew. Beside ``accelerator.save_state`` call ``pruner.save`` on every process.
    loader : DataLoader
        Over the full data set, not prepared yet; batch_size is that of one process.
    n_epochs : int
        Length of the run.
    **known : object
        ``model``, ``scores``, ``labels``, ``cost`` and others, as for `DynamicPruner.attach`.

    Returns
    -------
    DataLoader
        Yields ``Indexed(index, batch)`` on the accelerator's device.

    Raises
    ------
    InvalidTypeError
        If an argument is of the wrong kind.
    InvalidValueError
        If Accelerate would split or dispatch batches, or leave the last ones uneven.

    Examples
    --------
    >>> import torch
    >>> from dataprune import CyclicScheduler, RandomK
    >>> accelerator = Accelerator(cpu=True)
    >>> pruner = DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5))
    >>> loader = prepare(accelerator, pruner, DataLoader(torch.zeros(8, 2), 4, shuffle=True), n_epochs=2)
    >>> pruner.set_epoch(0)
    >>> [tuple(batch.shape) for index, batch in loader]
    [(4, 2), (4, 2)]
    """
    if not isinstance(accelerator, Accelerator):
        raise InvalidTypeError(f"prepare() needs an accelerate.Accelerator, got {type(accelerator).__name__}.")
    if not isinstance(pruner, DynamicPruner):
        raise InvalidTypeError(f"prepare() needs a DynamicPruner, got {type(pruner).__name__}.")
    for name, wanted in (("split_batches", False), ("dispatch_batches", False), ("even_batches", True)):
        if bool(getattr(accelerator, name)) is not wanted:
            raise InvalidValueError(
                f"Accelerator.{name} must be {wanted}, got {not wanted}: every process makes as many whole batches of "
                "its own. Leave it out of the DataLoaderConfiguration."
            )
    attached = pruner.attach(
        loader,
        n_epochs=n_epochs,
        n_accumulation=accelerator.gradient_accumulation_steps,
        shard=False,  # Accelerate does
        **known,
    )
    prepared: DataLoader[Any] = accelerator.prepare(attached)
    return prepared
