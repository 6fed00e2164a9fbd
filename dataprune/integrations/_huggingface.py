"""The parts of `PruningTrainer` that its users never see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.training.history import QUANTILES

if TYPE_CHECKING:
    from dataprune.integrations.huggingface import PruningTrainer

INDEX_KEY = "__index__"
"""Entry of a batch that holds the indices of its examples; the model never sees it."""

PRUNER_FILE = "pruner.safetensors"
"""The last file of a checkpoint; a checkpoint without it was not written whole."""

TRAINER_STATE_FILE = "trainer_state.json"


class IndexIntoMapping:
    """Collate into one mapping, for Trainer hands batches on as mappings."""

    def __init__(self, collate_fn: Callable[[list[Any]], Any]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        index, batch = self.collate_fn(rows)
        if not isinstance(batch, Mapping):
            raise InvalidTypeError(
                "PruningTrainer.data_collator must return a mapping of the model's arguments, "
                f"got {type(batch).__name__}."
            )
        return {**batch, INDEX_KEY: index}


class PrunerCallback(TrainerCallback):
    """What the pruner does beside the batches; it comes after all other callbacks."""

    def __init__(self, trainer: PruningTrainer) -> None:
        self.trainer = trainer

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self.trainer.pruner.save(Path(str(args.output_dir), f"checkpoint-{state.global_step}", PRUNER_FILE))

    def on_evaluate(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,  # noqa: ARG002
        control: TrainerControl,  # noqa: ARG002
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if metrics is None or not self.trainer.is_in_train or self.trainer.pruner.epoch_ < 0:
            return  # evaluated by hand, or before the first epoch
        seconds = sum(value for name, value in metrics.items() if name.endswith("_runtime"))
        left_out = ("epoch", "_runtime", "_per_second")
        values = {n: v for n, v in metrics.items() if isinstance(v, Real) and not n.endswith(left_out)}
        self.trainer.pruner.log_evaluation(values, seconds=seconds)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        pruner = self.trainer.pruner
        record = pruner.history_[-1]
        should_log = control.should_log
        self.trainer.log(
            {
                "pruning/epoch": record.epoch,
                "pruning/kept": record.n_kept,
                "pruning/keep_fraction": record.n_kept / pruner.n_examples_,
                "pruning/score_seconds": record.seconds["score"],
                **{
                    f"pruning/{name}": value
                    for name, value in zip(QUANTILES, record.score_quantiles or [], strict=False)
                },
            }
        )
        control.should_log = should_log  # logging clears it, and Trainer has yet to log the epoch's loss

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self.trainer.pruner.close()


@contextmanager
def recorded_outputs(model: nn.Module) -> Iterator[list[Any]]:
    """Record what `model` returns inside the block.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Yields
    ------
    list
        The outputs, in the order of the calls.

    Examples
    --------
    >>> import torch
    >>> model = nn.Linear(1, 2)
    >>> with recorded_outputs(model) as recorded:
    ...     output = model(torch.zeros(1, 1))
    >>> recorded[0] is output
    True
    """
    outputs: list[Any] = []
    hook = model.register_forward_hook(lambda module, inputs, output: outputs.append(output))  # noqa: ARG005
    try:
        yield outputs
    finally:
        hook.remove()


def run_length(args: TrainingArguments) -> dict[str, Any]:
    """Return how long a run is, as an argument of `DynamicPruner.attach`; ``max_steps`` wins, as in Trainer.

    Parameters
    ----------
    args : TrainingArguments
        As for Trainer.

    Returns
    -------
    dict of str to object
        ``n_updates`` or ``n_epochs``.

    Raises
    ------
    InvalidValueError
        For broken epochs.

    Examples
    --------
    >>> run_length(TrainingArguments("out", num_train_epochs=4, use_cpu=True))
    {'n_epochs': 4}
    """
    if args.max_steps > 0:
        return {"n_updates": args.max_steps}
    if args.num_train_epochs < 1 or args.num_train_epochs != int(args.num_train_epochs):
        raise InvalidValueError(
            f"PruningTrainer.args.num_train_epochs must be a whole number of at least 1, got {args.num_train_epochs!r}."
        )
    return {"n_epochs": int(args.num_train_epochs)}


def check_arguments(args: TrainingArguments) -> None:
    """Raise if `args` ask for what pruning cannot do.

    Parameters
    ----------
    args : TrainingArguments
        As for Trainer.

    Raises
    ------
    InvalidValueError
        For broken epochs, packing, more than one device, or an unknown sampling strategy.

    Examples
    --------
    >>> check_arguments(TrainingArguments("out", num_train_epochs=4, use_cpu=True))
    """
    run_length(args)
    if args.n_gpu > 1:
        raise InvalidValueError(
            f"PruningTrainer needs a process per device, got one for {args.n_gpu}. "
            "Start it with torchrun, or with CUDA_VISIBLE_DEVICES=0."
        )
    for option in ("packing", "padding_free"):  # of TRL
        if getattr(args, option, False):
            raise InvalidValueError(
                f"PruningTrainer.args.{option} must be left out, got True. "
                "A row then holds several examples, which cannot be scored or left out one by one."
            )
    strategies = ("random", "sequential", "group_by_length")
    if args.train_sampling_strategy not in strategies:
        raise InvalidValueError(
            f"PruningTrainer.args.train_sampling_strategy must be one of {', '.join(map(repr, strategies))}, "
            f"got {args.train_sampling_strategy!r}."
        )


def find_checkpoint(resume_from: str | bool | None, output_dir: str) -> Path | None:  # noqa: FBT001 - as Trainer's
    """Return the checkpoint's folder that `Trainer.train`'s ``resume_from_checkpoint`` means.

    True means the newest whole one: Trainer's own rule takes the highest number, even if that folder is half-written.
    """
    if resume_from is None or resume_from is False:
        return None
    if resume_from is not True:
        if not Path(resume_from, PRUNER_FILE).is_file():
            raise StateError(
                f"The checkpoint {resume_from} has no {PRUNER_FILE}: it was not written whole, or not by "
                "PruningTrainer. Take another one; train(resume_from_checkpoint=True) finds the newest whole one."
            )
        return Path(resume_from)
    whole = [path.parent for path in Path(output_dir).glob(f"checkpoint-*/{PRUNER_FILE}")]
    if not whole:
        raise StateError(f"No whole checkpoint is in {output_dir}. Train without resume_from_checkpoint first.")
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))
