"""Dynamic pruning inside transformers' `Trainer`: one class name and one argument change."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import datasets
import torch
import transformers
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput, seed_worker

from dataprune.data.forward import check_not_encoder_decoder, signals_from_model
from dataprune.data.indexed import IndexedDataset
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.integrations._huggingface import (
    INDEX_KEY,
    PRUNER_FILE,
    TRAINER_STATE_FILE,
    IndexIntoMapping,
    PrunerCallback,
    check_arguments,
    find_checkpoint,
    recorded_outputs,
    run_length,
)
from dataprune.integrations.accelerate import attach_and_prepare
from dataprune.scoring.score_log import ScoreLog
from dataprune.scoring.store import ExampleStore
from dataprune.training.checks import check_losses, losses_of
from dataprune.training.pruner import DynamicPruner

Signals = Callable[[Any, Mapping[str, Any]], dict[str, Tensor]]


class PruningTrainer(Trainer):
    """Transformers' `Trainer`, trained on what a `DynamicPruner` selects.

    Everything else is Trainer's: optimizer, schedule, evaluation, logging, checkpoints, callbacks. The learning rate
    and the progress bar follow the planned updates, and ``train(resume_from_checkpoint=True)`` goes on, also in a fresh
    process, exactly where the last whole checkpoint was written.

    Parameters
    ----------
    model : PreTrainedModel or nn.Module, optional
        A model whose output has ``logits`` (``<head>_logits``) and a loss; or pass ``model_init``.
    args : TrainingArguments, optional
        As for Trainer; a copy is used. ``num_train_epochs`` must be a whole number; with ``max_steps`` the run has the
        fewest planned epochs that make so many updates, and the last one is cut short.
        ``optim`` is best left at its default, ``"adamw_torch_fused"``, which is fast on CPUs too.
    pruner : DynamicPruner
        Scorer, selector and scheduler. It starts anew with each `train` that does not resume.
    train_dataset : map-style data set
        The full train set.
    signals : callable, optional
        ``signals(outputs, batch) -> dict`` for models whose outputs are named otherwise: ``loss`` (B,), one value per
        example, and what the scorer requires. By default `signals_from_model`.
    scores : ExampleStore, optional
        Scores to start from, of the same data; a warm-up is not needed then.
    labels, groups, features, cost : array-like, optional
        What selectors may know of each example, as in `DynamicPruner.attach`.
    log : ScoreLog, optional
        Takes in the logits of the training pass as well.
    **trainer_arguments : object
        All other arguments of Trainer: ``eval_dataset``, ``data_collator``, ``compute_metrics``, ``callbacks`` ...

    Attributes
    ----------
    pruner : DynamicPruner
        ``pruner.history_`` has one record per epoch, with the evaluation's metrics.

    Raises
    ------
    InvalidTypeError
        If the train set is a stream, the model is an encoder-decoder, or an argument is of the wrong kind.
    InvalidValueError
        If the arguments ask for something that pruning cannot do.

    Notes
    -----
    When all loss weights are 1, the model's own loss is trained on; otherwise the weighted mean of ``signals``' losses,
    on the scale of the model's own.
    Accumulated batches count alike: their losses are averaged. (Many classification models take ``num_items_in_batch``
    and ignore it, and plain Trainer then adds up the gradients of accumulated batches: hence
    ``model_accepts_loss_kwargs = False``.) With accumulation the number of kept examples rises until its batches fill
    whole updates.

    Each epoch logs ``pruning/epoch``, ``kept``, ``keep_fraction``, ``score_seconds`` and, of the scores that it was
    selected by, ``score_p10``, ``score_p50`` and ``score_p90``. ``save_total_limit=1`` keeps two
    checkpoints: the older one goes only when the new one is whole. Several processes need one device each.

    Other subclasses of Trainer are pruned by inheriting from both: ``class PruningSFT(PruningTrainer, SFTTrainer)``.

    Examples
    --------
    >>> import tempfile
    >>> from datasets import Dataset
    >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
    >>> from dataprune import EL2N, CyclicScheduler, DynamicPruner
    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> model = BertForSequenceClassification(BertConfig(vocab_size=20, **sizes))
    >>> data = Dataset.from_dict({"input_ids": [[i, 2] for i in range(20)], "labels": [i % 2 for i in range(20)]})
    >>> pruner = DynamicPruner(EL2N(), scheduler=CyclicScheduler(keep_fraction=0.5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     args = TrainingArguments(folder, num_train_epochs=2, save_strategy="no", report_to="none", use_cpu=True)
    ...     trainer = PruningTrainer(model=model, args=args, train_dataset=data, pruner=pruner)
    ...     result = trainer.train()  # doctest: +ELLIPSIS
    {...}
    >>> result.global_step
    5
    >>> [record.n_kept for record in pruner.history_]
    [20, 10]
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        pruner: DynamicPruner,
        train_dataset: Any = None,
        signals: Signals | None = None,
        scores: ExampleStore | None = None,
        labels: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        features: ArrayLike | None = None,
        cost: ArrayLike | None = None,
        log: ScoreLog | None = None,
        **trainer_arguments: Any,
    ) -> None:
        if not isinstance(pruner, DynamicPruner):
            raise InvalidTypeError(f"PruningTrainer.pruner must be a DynamicPruner, got {type(pruner).__name__}.")
        # Before 5.6 the gradients of accumulated batches were divided by their number twice, and 5.2 has no _run_epoch.
        if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 6):
            raise ImportError("PruningTrainer needs transformers>=5.6. Run: pip install 'transformers>=5.6'")
        if train_dataset is not None and len(IndexedDataset(train_dataset)) == 0:
            raise InvalidValueError("PruningTrainer.train_dataset must have examples, got an empty data set.")
        args = TrainingArguments("tmp_trainer") if args is None else copy.copy(args)
        check_arguments(args)
        args.ignore_data_skip = True  # the sampler itself starts at the saved batch
        if args.save_total_limit == 1:
            args.save_total_limit = 2  # Trainer deletes the older one before the pruner's file makes the new one whole
        self.pruner = pruner
        self.signals = signals
        self._start: dict[str, Any] = {
            "scores": scores,
            "log": log,
            "labels": labels,
            "groups": groups,
            "features": features,
            "cost": cost,
        }
        self._checkpoint: Path | None = None
        self._epoch_offset = 0
        super().__init__(model, args, train_dataset=train_dataset, **trainer_arguments)
        self._check_model()
        self.model_accepts_loss_kwargs = False
        self.add_callback(PrunerCallback(self))

    def _check_model(self) -> None:
        if self.signals is not None:
            return
        try:
            check_not_encoder_decoder(cast("nn.Module", self.model))
        except InvalidTypeError as error:
            raise InvalidTypeError(str(error).replace("forward=...", "signals=...")) from None

    # ------------------------------------------------------------------ batches with their indices

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Attach the pruner and return the loader of what it selects; batches hold their indices as ``__index__``.

        The pruner's state starts anew.

        Returns
        -------
        DataLoader
            Prepared by Accelerate.

        Raises
        ------
        InvalidTypeError
            If `model_init` made an encoder-decoder.
        InvalidValueError
            If there is no train set, or the arguments do not go together.
        """
        args = self.args
        if self.train_dataset is None:
            raise InvalidValueError("PruningTrainer.train_dataset must be given to train, got None.")
        self._check_model()  # again: model_init makes a new one
        dataset, collate_fn = self.train_dataset, self.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="Training")
        else:
            collate_fn = self._get_collator_with_removed_columns(collate_fn, description="Training")
        full_loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=self._train_batch_size,
            shuffle=args.train_sampling_strategy != "sequential",
            collate_fn=collate_fn,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and torch.accelerator.is_available(),
            drop_last=args.dataloader_drop_last,
            worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
            multiprocessing_context=getattr(args, "dataloader_multiprocessing_context", None),
            prefetch_factor=args.dataloader_prefetch_factor,
            persistent_workers=args.dataloader_persistent_workers,
        )
        group_by_length = args.train_sampling_strategy == "group_by_length"
        prepared = attach_and_prepare(
            self.accelerator,
            self.pruner,
            full_loader,
            **run_length(args),
            n_accumulation=args.gradient_accumulation_steps,
            model=self.model,
            forward=None if self.signals is None else self._forward,
            **self._start,
            group_by_length=group_by_length,
            whole_updates=True,
            wrap_collate=IndexIntoMapping,
        )
        if group_by_length and self.pruner.lengths_ is None:
            raise InvalidValueError(
                "PruningTrainer.train_dataset must be a datasets.Dataset with a column 'input_ids' for "
                f"train_sampling_strategy='group_by_length', got {type(dataset).__name__}."
            )
        return prepared

    def _forward(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Scoring passes see what training sees."""
        return self._signals(model, model(**batch), batch)

    def _signals(self, model: nn.Module, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.signals is not None:
            return self.signals(outputs, batch)
        return signals_from_model(model, outputs, batch)

    # ------------------------------------------------------------------ one batch

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - Trainer's signature
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch; in training, the pruner observes it.

        Parameters
        ----------
        model : nn.Module
            The model in training or evaluation.
        inputs : dict
            The batch.
        return_outputs : bool, default=False
            Return the model's outputs too.
        num_items_in_batch : Tensor or int, optional
            Labels in all batches of the update, for ``compute_loss_func``.

        Returns
        -------
        Tensor or tuple of (Tensor, object)
            The loss, and the outputs if asked for.

        Raises
        ------
        InvalidValueError
            If the loss of an example is not finite, or a loss of the user's own cannot be weighted.
        """
        batch = {name: value for name, value in inputs.items() if name != INDEX_KEY}
        # Trainer pops the labels of what it is given (label smoothing, compute_loss_func); the signals need them.
        compute = partial(super().compute_loss, model, dict(batch), num_items_in_batch=num_items_in_batch)
        if not model.training:
            return compute(return_outputs=return_outputs)
        # Subclasses may make another forward pass for outputs that they are asked for.
        with recorded_outputs(model) as recorded:
            loss = cast("Tensor", compute(return_outputs=False))
        loss = self._observe(loss, self._signals(model, recorded[0], batch), batch, inputs.get(INDEX_KEY))
        return (loss, recorded[0]) if return_outputs else loss

    def _observe(
        self, loss: Tensor, signals: dict[str, Tensor], batch: Mapping[str, Any], index: Tensor | None
    ) -> Tensor:
        if index is None:
            raise InvalidValueError(
                f"PruningTrainer needs {INDEX_KEY!r} in each training batch, got {sorted(batch)}. "
                "Let its own get_train_dataloader() make the loader."
            )
        losses = losses_of(signals)  # (B,)
        check_losses(losses, index, epoch=self.pruner.epoch_)
        if not self.pruner.has_unit_weights:
            if self.compute_loss_func is not None or self.label_smoother is not None:
                raise InvalidValueError(
                    f"{type(self.pruner.selector_).__name__} weighs the loss of each example, which neither "
                    "compute_loss_func nor label_smoothing_factor gives. Leave them out and pass signals=... with "
                    "'loss' of shape (B,)."
                )
            # A model may average over tokens where `losses` adds up: weighted batches keep the scale of its own loss.
            scale = (loss / losses.mean().clamp(min=torch.finfo(losses.dtype).tiny)).detach()
            loss = scale * (losses * self.pruner.weights(index, **signals)).mean()
        self.pruner.observe(index, **signals)
        return loss

    # ------------------------------------------------------------------ epochs, updates and resume

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 - Trainer's signature
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, or go on from a checkpoint.

        Parameters
        ----------
        resume_from_checkpoint : str or bool, optional
            A checkpoint's folder; True takes the newest whole one in ``args.output_dir``.
        trial : object, optional
            As for Trainer.
        ignore_keys_for_eval : list of str, optional
            As for Trainer.

        Returns
        -------
        TrainOutput
            Updates, loss and metrics, as from Trainer.

        Raises
        ------
        StateError
            If there is no whole checkpoint, or it belongs to other data or another configuration.
        """
        self._checkpoint = find_checkpoint(resume_from_checkpoint, str(self.args.output_dir))
        self._epoch_offset = 0
        path = None if self._checkpoint is None else str(self._checkpoint)
        return super().train(path, trial=trial, ignore_keys_for_eval=ignore_keys_for_eval)

    def set_initial_training_values(
        self, args: TrainingArguments, dataloader: DataLoader[Any]
    ) -> tuple[int, int, int, int, int, int | None, int]:
        """Size the run by the pruner's plan, and put the pruner's state back on resume.

        Parameters
        ----------
        args : TrainingArguments
            The arguments in use.
        dataloader : DataLoader
            From `get_train_dataloader`; no epoch has started, so it has the length of a full epoch.

        Returns
        -------
        tuple
            Trainer's seven values: epochs, updates per full epoch, examples, examples trained, batch size, batches per
            full epoch, and updates of the run as planned.
        """
        values = super().set_initial_training_values(args, dataloader)
        _, n_updates_per_epoch, n_examples, _, batch_size, n_batches, _ = values
        plan = self.pruner.plan_
        if self._checkpoint is not None:
            self.pruner.load(self._checkpoint / PRUNER_FILE)
            first_epoch = self.pruner.epoch_
            if self.pruner.is_epoch_finished:
                first_epoch += 1  # the checkpoint of a finished epoch
            # Trainer takes all epochs for full ones, and so thinks that fewer were done.
            state = TrainerState.load_from_json(str(self._checkpoint / TRAINER_STATE_FILE))
            self._epoch_offset = first_epoch - state.global_step // n_updates_per_epoch
        n_trained = sum(plan.n_kept)
        return len(plan.n_kept), n_updates_per_epoch, n_examples, n_trained, batch_size, n_batches, plan.n_updates

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Make the learning-rate schedule; where the plan is only a bound, it follows the share of the epochs.

        Parameters
        ----------
        num_training_steps : int
            Updates planned.
        optimizer : torch.optim.Optimizer, optional
            As for Trainer.

        Returns
        -------
        LRScheduler
            Trainer's own.
        """
        schedule = super().create_scheduler(num_training_steps, optimizer)
        pruner = self.pruner
        # What is no LambdaLR follows metrics, not a number of updates.
        if self._created_lr_scheduler and isinstance(schedule, LambdaLR) and not pruner.plan_.exact:
            schedule.lr_lambdas = [
                lambda _, factor=factor: factor(pruner.progress() * num_training_steps)  # type: ignore[misc]
                for factor in schedule.lr_lambdas
            ]
        return schedule

    def _run_epoch(self, **values: Any) -> None:  # type: ignore[override]  # Trainer passes all by name
        """Run an epoch as long as it is: Trainer takes all for full ones, and ends updates by that length."""
        values["epoch"] += self._epoch_offset
        values["epochs_trained"] += self._epoch_offset
        if values["epoch"] >= self.pruner.n_epochs_:
            return  # a finished run was resumed
        loader = values["train_dataloader"]
        # Here the sampler selects; the later calls of Trainer and Accelerate change nothing.
        loader.set_epoch(values["epoch"])
        super()._run_epoch(**{**values, "steps_in_epoch": len(loader)})  # type: ignore[no-untyped-call]
