"""Lightning: a callback that takes over the train loader."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from typing_extensions import override

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning_utilities.core.apply_func import apply_to_collection
except ImportError as error:
    raise ImportError("PruningCallback needs lightning. Run: pip install 'dataprune[lightning]'") from error

from dataprune.data.indexed import Indexed
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.integrations._lightning import (
    PruningLoader,
    count_anew,
    count_epochs,
    forward_in_precision,
    signals_of,
)
from dataprune.training.pruner import DynamicPruner


class PruningCallback(Callback):
    """Lightning's `Trainer`, trained on what a `DynamicPruner` selects.

    It takes over the train loader that ``fit`` is given, or that of a data module; ``training_step`` returns a mapping
    with what the scorer needs. For weighted selections, and for what the pruner is to know of the examples, pass the
    loader through `attach`: each batch is then ``Indexed(index, batch)``.

    Parameters
    ----------
    pruner : DynamicPruner
        Scorer, selector and scheduler; ``pruner.history_`` has one record per epoch, with the metrics of validation.

    Attributes
    ----------
    pruner : DynamicPruner
        ``pruner.plan_`` is there from ``configure_optimizers`` on, unless the loader is the module's own.

    Raises
    ------
    InvalidTypeError
        If `pruner` is no DynamicPruner.
    ImportError
        If lightning is not installed.

    Notes
    -----
    ``training_step`` returns

    - ``loss``: what is trained on, a scalar;
    - ``logits`` and ``labels``, or ``<head>_logits`` and ``<head>_labels``: as the scorer requires;
    - ``losses``, shape (B,): for scorers of the loss, unless it is that of the logits and the labels;
    - ``weights``, shape (B,): ``pruner.weights(index)``, where the selection weighs examples. ``loss`` must be the
      weighted one; the index comes with loaders passed through `attach`.

    Lightning announces an epoch, the pruner selects, and the epoch's length is counted anew: progress bar,
    accumulation and ``val_check_interval`` follow it. ``trainer.estimated_stepping_batches`` takes all epochs for full
    ones; size learning-rate schedules by ``pruner.plan_.n_updates``.

    Each epoch logs ``pruning/kept``, ``pruning/keep_fraction`` and ``pruning/score_seconds``. Checkpoints hold the
    pruner's state, as tensors, numbers and strings.

    Examples
    --------
    >>> import torch
    >>> from dataprune import CyclicScheduler, DynamicPruner, RandomK
    >>> pruning = PruningCallback(DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5)))
    >>> trainer = Trainer(max_epochs=2, callbacks=[pruning], logger=False)  # then trainer.fit(module, loader)
    """

    def __init__(self, pruner: DynamicPruner) -> None:
        if not isinstance(pruner, DynamicPruner):
            raise InvalidTypeError(f"PruningCallback.pruner must be a DynamicPruner, got {type(pruner).__name__}.")
        self.pruner = pruner
        self._trainer: Trainer | None = None  # the one in fit
        self._loader: PruningLoader | None = None
        self._state: dict[str, Any] | None = None  # of a checkpoint, until the loader is there
        self._metrics_before: dict[str, Tensor] = {}
        self._clock = 0.0

    def attach(self, loader: DataLoader[Any], **known: Any) -> PruningLoader:
        """Return what ``Trainer.fit`` takes for the train loader, or ``train_dataloader()`` returns.

        It hands ``training_step`` the index of each batch, which weighted selections need.
        The pruner itself is attached when the run begins; its state starts anew. Epochs, accumulation and ranks are the
        Trainer's.

        Parameters
        ----------
        loader : DataLoader
            Over the full data set; batch_size is that of one process.
        **known : object
            ``forward``, ``scores``, ``labels``, ``cost`` and others, as for `DynamicPruner.attach`. ``model`` is the
            LightningModule by default.

        Returns
        -------
        iterable
            Yields ``Indexed(index, batch)`` inside of ``fit``.

        Raises
        ------
        InvalidTypeError
            If `loader` is no DataLoader.
        """
        if not isinstance(loader, DataLoader):
            raise InvalidTypeError(f"PruningCallback.attach() needs a torch DataLoader, got {type(loader).__name__}.")
        self._loader = PruningLoader(loader, known)
        if self._trainer is not None:
            self._begin(self._trainer, self._loader)
        return self._loader

    # ------------------------------------------------------------------ before the run

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer, self._state = (trainer if stage == "fit" else None), None
        if stage != "fit":
            return
        if self._loader is not None and self._loader.keeps_index:
            self._loader = None  # of an earlier fit
        if self._loader is not None:  # attached before fit
            self._begin(trainer, self._loader)
        else:
            self._take_loader(trainer, is_own=False)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._loader is None and trainer.train_dataloader is None:
            self._take_loader(trainer, is_own=True)

    def _take_loader(self, trainer: Trainer, *, is_own: bool) -> None:
        """Attach the loader that Lightning was given, or the module's own, which is set up later."""
        source = trainer.fit_loop._data_source  # noqa: SLF001
        if isinstance(source.instance, LightningModule) is not is_own:
            return
        loader = source.dataloader()
        if isinstance(loader, DataLoader):
            loader = self._loader = PruningLoader(loader, {}, keeps_index=True)
            self._begin(trainer, loader)
        self._check_loader(loader)
        source.instance = loader

    def _check_loader(self, loader: object) -> None:
        if self._loader is None or loader is not self._loader:
            raise InvalidValueError(
                "PruningCallback needs one train loader, or that which its attach() returned, got "
                f"{type(loader).__name__}. Call trainer.fit(module, callback.attach(loader)), or "
                "return callback.attach(loader) from train_dataloader()."
            )

    def _begin(self, trainer: Trainer, loader: PruningLoader) -> None:
        given = {"model": trainer.lightning_module, **loader.known}
        given["forward"] = forward_in_precision(trainer, given.get("forward"))
        n_epochs, n_accumulation = count_epochs(trainer), trainer.accumulate_grad_batches
        attached = self.pruner.attach(loader.full_loader, n_epochs=n_epochs, n_accumulation=n_accumulation, **given)
        loader.take(attached, on_epoch=partial(self._start_epoch, trainer, loader))
        self._restore()

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_loader(trainer.train_dataloader)

    # ------------------------------------------------------------------ during the run

    def _start_epoch(self, trainer: Trainer, loader: PruningLoader, epoch: int) -> None:
        pruner = self.pruner
        if epoch > 0 and pruner.epoch_ < 0:
            raise StateError(
                f"The run begins at epoch {epoch}, but no pruner's state of epoch {epoch - 1} was loaded. Resume from "
                "a checkpoint that was saved with PruningCallback, or begin with a new Trainer."
            )
        pruner.sampler_.set_epoch(epoch)
        loader.n_batches, loader.n_done = pruner.n_batches, pruner.n_observed_batches_
        count_anew(trainer, pruner.n_batches, n_done=pruner.n_observed_batches_)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        pruner, loader = self.pruner, self._loader
        assert loader is not None  # noqa: S101 - for the type checker; see on_train_start
        if not loader.keeps_index and not isinstance(batch, Indexed):
            raise InvalidTypeError(
                f"PruningCallback needs batches that are Indexed(index, batch), got {type(batch).__name__}. "
                "Let transfer_batch_to_device and on_after_batch_transfer return them as such."
            )
        if not pruner.has_unit_weights and "weights" not in outputs:
            weighing = type(pruner.batch_policy if pruner.policy_at_work else pruner.selector_).__name__
            first = "Pass the loader through PruningCallback.attach(), for the index. " if loader.keeps_index else ""
            raise InvalidValueError(
                f"{weighing} weighs the loss of each example, but training_step returned no 'weights'. {first}"
                "Multiply the losses with weights = pruner.weights(index, logits=..., labels=...), and return these."
            )
        scorer = pruner.scorer_
        requires = frozenset() if scorer is None or pruner.refresh == "full" else scorer.requires
        index = loader.take_index(batch_idx).to(pl_module.device) if loader.keeps_index else batch.index
        pruner.observe(index, **signals_of(outputs, requires, scorer=type(scorer).__name__))

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics_before, self._clock = dict(trainer.callback_metrics), time.perf_counter()

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._trainer is None or trainer.sanity_checking:
            return
        # Metrics of training stand beside those of this validation, which are new objects.
        before, after = self._metrics_before, trainer.callback_metrics
        metrics = {name: float(value) for name, value in after.items() if before.get(name) is not value}
        self.pruner.log_evaluation(metrics, seconds=time.perf_counter() - self._clock)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        record = self.pruner.history_[-1]
        figures = {
            "pruning/kept": float(record.n_kept),
            "pruning/keep_fraction": record.n_kept / self.pruner.n_examples_,
            "pruning/score_seconds": record.seconds["score"],
        }
        pl_module.log_dict(figures, sync_dist=True)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pruner.close()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = None
        if self._loader is not None:
            self._loader.attached = None  # with its workers

    # ------------------------------------------------------------------ save and resume

    @override
    def state_dict(self) -> dict[str, Any]:
        if not hasattr(self.pruner, "plan_"):
            return {}  # not attached yet
        # Tensors are all that Lightning loads with weights_only=True.
        state: dict[str, Any] = apply_to_collection(self.pruner.state_dict(), np.ndarray, torch.from_numpy)
        return state

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if self._trainer is None:
            return  # validate, test and predict load checkpoints too
        self._state = apply_to_collection(dict(state_dict), Tensor, Tensor.numpy)
        self._restore()

    def _restore(self) -> None:
        if self._state is not None and self._loader is not None and self._loader.attached is not None:
            self.pruner.load_state_dict(self._state)
            self._state = None
