"""Accelerate: one call in the place of ``accelerator.prepare(loader)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from dataprune.data.indexed import Indexed
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.training.attaching import checked_batch_size, with_changes
from dataprune.training.pruner import DynamicPruner


class PreparedLoader:
    """What `prepare` returns: each time it is iterated it hands out an epoch, on the accelerator's device.

    It begins the next epoch by itself, when the one before is observed to its end; after a resume it first hands out
    the rest of the epoch that was saved. A loop that leaves epochs early calls ``pruner.set_epoch(epoch)`` itself.

    Parameters
    ----------
    loader : DataLoader
        Prepared by Accelerate.
    pruner : DynamicPruner
        Attached to it.

    Raises
    ------
    StateError
        When iterating, if the loader began an epoch that was left before its end.

    Examples
    --------
    >>> import torch
    >>> from dataprune import CyclicScheduler, RandomK
    >>> pruner = DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5))
    >>> loader = prepare(Accelerator(cpu=True), pruner, DataLoader(torch.zeros(8, 2), 2, shuffle=True), n_epochs=2)
    >>> for epoch in range(2):
    ...     for index, batch in loader:
    ...         pruner.observe(index)
    ...     print(epoch, pruner.epoch_, len(loader))
    0 0 4
    1 1 2
    """

    # No DataLoader: Accelerate would shard it once more, were it given to accelerator.prepare().
    def __init__(self, loader: DataLoader[Any], pruner: DynamicPruner) -> None:
        self.loader = loader
        self.pruner = pruner
        self._iterated = self._begun = -1  # epochs: the last that was handed out, and that was begun here

    def __iter__(self) -> Iterator[Indexed]:
        self._begin_epoch()
        self._iterated = self.pruner.epoch_
        self.loader.set_epoch(self.pruner.epoch_)  # type: ignore[attr-defined]  # its own count begins at 0 after a resume
        yield from self.loader

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, as `DynamicPruner.set_epoch`.

        Parameters
        ----------
        epoch : int
            From 0.
        """
        self.pruner.set_epoch(epoch)

    def _begin_epoch(self) -> None:
        pruner = self.pruner
        epoch = pruner.epoch_
        if epoch >= 0:
            if epoch != self._iterated or epoch == pruner.n_epochs_ - 1:
                return  # somebody else began or loaded it, or there is no other
            n_done = pruner.n_observed_batches_
            if n_done < pruner.n_batches:
                if epoch == self._begun and n_done > 0:
                    raise StateError(
                        f"Epoch {epoch} was left after {n_done} of its {pruner.n_batches} batches. Call "
                        "pruner.set_epoch(epoch) at the start of each epoch, or observe all of its batches."
                    )
                return
        pruner.set_epoch(epoch + 1)
        self._begun = epoch + 1


def prepare(
    accelerator: Accelerator,
    pruner: DynamicPruner,
    loader: DataLoader[Any],
    *,
    n_epochs: int,
    **known: Any,
) -> PreparedLoader:
    """Attach a pruner to a loader and let Accelerate prepare it; in one process or in many.

    Then call `weights` and `observe` as in a loop of your own. Each time that the loader is iterated is an epoch.
    Accelerate fetches a batch ahead; that is right, as the index travels in the batch.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Its ``gradient_accumulation_steps`` are planned with; see the notes for the ways in which it makes batches.
    pruner : DynamicPruner
        The pruner; its state starts anew. Beside ``accelerator.save_state`` call ``pruner.save`` on every process.
    loader : DataLoader
        Over the full data set, not prepared yet; batch_size is that of one process, or, with ``split_batches``, of all.
    n_epochs : int
        Length of the run.
    **known : object
        ``model``, ``scores``, ``labels``, ``cost`` and others, as for `DynamicPruner.attach`.

    Returns
    -------
    PreparedLoader
        Yields ``Indexed(index, batch)`` on the accelerator's device.

    Raises
    ------
    InvalidTypeError
        If an argument is of the wrong kind.
    InvalidValueError
        If batches cannot be split evenly, or processes share batches.

    Notes
    -----
    The pruner itself deals each batch of all processes out among them, so that each makes as many batches, and a run
    resumes in mid-epoch with the padding that it would have had.

    - ``even_batches=True``: the last batch is padded with examples of the epoch's start, by less than one per process.
    - ``even_batches=False``: it is dealt out as it is, so that parts differ by one example. No process is left without
      a batch: where fewer examples are left than processes, they are padded to one each. ``join_uneven_inputs`` has
      nothing to do.
    - ``dispatch_batches=True``: the first process loads the batches of all, and sends each its part; padded as above,
      for Accelerate knows no uneven batches there. Batches must hold tensors alone.

    Examples
    --------
    >>> import torch
    >>> from dataprune import CyclicScheduler, RandomK
    >>> accelerator = Accelerator(cpu=True)
    >>> pruner = DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5))
    >>> loader = prepare(accelerator, pruner, DataLoader(torch.zeros(8, 2), 4, shuffle=True), n_epochs=2)
    >>> [tuple(batch.shape) for index, batch in loader]
    [(4, 2), (4, 2)]
    """
    if not isinstance(accelerator, Accelerator):
        raise InvalidTypeError(f"prepare() needs an accelerate.Accelerator, got {type(accelerator).__name__}.")
    if not isinstance(pruner, DynamicPruner):
        raise InvalidTypeError(f"prepare() needs a DynamicPruner, got {type(pruner).__name__}.")
    prepared = attach_and_prepare(
        accelerator,
        pruner,
        loader,
        n_epochs=n_epochs,
        n_accumulation=accelerator.gradient_accumulation_steps,
        **known,
    )
    return PreparedLoader(prepared, pruner)


def attach_and_prepare(
    accelerator: Accelerator,
    pruner: DynamicPruner,
    loader: DataLoader[Any],
    *,
    wrap_collate: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
    **known: Any,
) -> DataLoader[Any]:
    """Attach a pruner to a loader, and return Accelerate's loader of what it selects, with this process's batches.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Says how batches are made.
    pruner : DynamicPruner
        Its sampler deals the batches out.
    loader : DataLoader
        Over the full data set.
    wrap_collate : callable, optional
        Maps what makes `Indexed` batches to what makes those that the loader yields.
    **known : object
        As for `DynamicPruner.attach`.

    Returns
    -------
    DataLoader
        Accelerate's.

    Raises
    ------
    InvalidValueError
        If batches cannot be split evenly, or processes share batches.

    Examples
    --------
    >>> import torch
    >>> from dataprune import EL2N
    >>> loader = DataLoader(torch.zeros(8, 2), 4, shuffle=True)
    >>> len(attach_and_prepare(Accelerator(cpu=True), DynamicPruner(EL2N()), loader, n_epochs=2))
    2
    """
    n_ranks = accelerator.num_processes
    parallelism = accelerator.parallelism_config
    if n_ranks > 1 and parallelism is not None and parallelism.non_data_parallel_size > 1:
        raise InvalidValueError(
            f"DynamicPruner needs a batch of its own for each of the {n_ranks} processes, got tensor, context or "
            f"sequence parallelism, in which {parallelism.non_data_parallel_size} share one. Use data parallelism."
        )
    if accelerator.split_batches:
        batch_size = checked_batch_size(loader)
        if batch_size % n_ranks:
            raise InvalidValueError(
                f"DataLoader.batch_size must be a multiple of the {n_ranks} processes with split_batches=True, got "
                f"{batch_size}."
            )
        loader = with_changes(loader, batch_size=batch_size // n_ranks)
    is_dispatched = n_ranks > 1 and bool(accelerator.dispatch_batches)
    attached = pruner.attach(loader, shard=not is_dispatched, **known)
    if wrap_collate is not None:
        attached.collate_fn = wrap_collate(attached.collate_fn)
    if is_dispatched:  # whole batches of all processes, for those of several lengths could not be put together
        attached = with_changes(attached, batch_size=pruner.batch_size_)
    else:
        pruner.sampler_.pads = accelerator.even_batches
    prepared: DataLoader[Any] = prepare_data_loader(
        attached,
        accelerator.device,
        num_processes=n_ranks if is_dispatched else 1,  # the sampler deals out already
        process_index=accelerator.process_index if is_dispatched else 0,
        split_batches=is_dispatched,
        put_on_device=accelerator.device_placement,
        rng_types=list(accelerator.rng_types),
        dispatch_batches=is_dispatched,
        non_blocking=accelerator.non_blocking,
    )
    if is_dispatched:  # Accelerate leaves the generator out, and the loader would draw from the global random state
        prepared.base_dataloader.generator = attached.generator  # type: ignore[attr-defined]
    return prepared
