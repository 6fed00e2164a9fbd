"""A small real run of PruningTrainer; as a script, it is killed and resumed in processes of its own."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.huggingface import PRUNER_FILE, PruningTrainer

N_EXAMPLES = 37  # 10 batches of 4, the last one short: full epochs do not fill updates of 4 or 3 batches


def make_rows(n_examples=N_EXAMPLES):
    """Token 1 tells the row, for tests that want to know which example they see."""
    lengths = [3 + (7 * i) % 5 for i in range(n_examples)]
    return {
        "input_ids": [[1, 2 + i, *[(i * j) % 50 for j in range(2, n)]] for i, n in enumerate(lengths)],
        "labels": [i % 3 for i in range(n_examples)],
        "text": [f"row {i}" for i in range(n_examples)],
        "length": lengths,
    }


def make_dataset(n_examples=N_EXAMPLES):
    return Dataset.from_dict(make_rows(n_examples))


def pad(examples):
    width = max(len(example["input_ids"]) for example in examples)
    ids = [example["input_ids"] + [0] * (width - len(example["input_ids"])) for example in examples]
    input_ids = torch.tensor(ids)
    assert all(set(example) <= {"input_ids", "labels"} for example in examples)  # the model takes no other columns
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 0).long(),
        "labels": torch.tensor([example["labels"] for example in examples]),
    }


def make_model(*, dropout=0.1):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForSequenceClassification(config)


def make_args(folder, **changes):
    settings = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,  # torch warns where there is no device to pin for
    }
    return TrainingArguments(str(folder), **(settings | changes))


def make_pruner(**changes):
    parts = {"scorer": EL2N(), "selector": TopK(), "scheduler": CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=1)}
    return DynamicPruner(**(parts | changes))


def make_trainer(
    folder, *, model=None, pruner=None, train_dataset=None, callbacks=(), signals=None, evaluated=False, **args
):
    return PruningTrainer(
        model=make_model() if model is None else model,
        args=make_args(folder, **args),
        train_dataset=make_dataset() if train_dataset is None else train_dataset,
        eval_dataset=make_dataset(12) if evaluated else None,
        data_collator=pad,
        pruner=make_pruner() if pruner is None else pruner,
        callbacks=list(callbacks),
        signals=signals,
    )


class Selections(TrainerCallback):
    """What was selected in each epoch that this process trained in."""

    def __init__(self):
        self.by_epoch = {}

    def on_step_end(self, args, state, control, **_):
        self.by_epoch[self.pruner.epoch_] = self.pruner.indices_.tolist()


def run(folder, *, resume=False, callbacks=(), **args):
    selections = Selections()
    trainer = make_trainer(folder, callbacks=[selections, *callbacks], **args)
    selections.pruner = trainer.pruner
    trainer.train(resume_from_checkpoint=resume)
    return trainer, selections.by_epoch


class KillAt(TrainerCallback):
    """A real kill -9: after the backward pass of an update, or while its checkpoint is still half-written."""

    def __init__(self, update, *, in_save):
        self.update = update
        self.in_save = in_save

    def _kill(self, state, here):
        if here and state.global_step == self.update:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_pre_optimizer_step(self, args, state, control, **_):
        self._kill(state, not self.in_save)

    def on_save(self, args, state, control, **_):
        self._kill(state, self.in_save)


def in_a_process_of_its_own(work):
    """Fork, so that transformers is imported once for all; return how the process ended."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_write(folder, *, resume, **args):
    trainer, selections = run(folder, resume=resume, **args)
    trainer.model.save_pretrained(Path(folder, "final"))
    trainer.pruner.save(Path(folder, "final", PRUNER_FILE))
    Path(folder, "final", "selections.json").write_text(json.dumps(selections))


if __name__ == "__main__":
    torch.set_num_threads(1)
    top, settings, kills = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    ends = [in_a_process_of_its_own(lambda: run_and_write(top / "whole", resume=False, **settings))]
    for name, (update, in_save) in kills.items():
        killer = KillAt(update, in_save=in_save)
        ends += [
            in_a_process_of_its_own(lambda: run(top / name, callbacks=[killer], **settings)),  # noqa: B023 - runs now
            in_a_process_of_its_own(lambda: run_and_write(top / name, resume=True, **settings)),  # noqa: B023
        ]
    sys.stdout.write(json.dumps(ends))
