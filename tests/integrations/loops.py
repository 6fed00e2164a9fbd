"""One small run, written once for each way to train: `train_fn` for `check_integration`, as a user would write it.

Each takes ``bf16``, and ``saving=False`` for a run without checkpoints, and runs in one process or, but `fit`, in two.
"""

from contextlib import nullcontext
from functools import partial
from itertools import product

import torch
from accelerate import Accelerator
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from dataprune.integrations.accelerate import prepare
from dataprune.integrations.huggingface import PruningTrainer
from dataprune.integrations.lightning import PruningCallback
from dataprune.training.distributed import Ranks

LEARNING_RATE = 0.05


def full_loader(run):
    return DataLoader(run.dataset, run.batch_size, shuffle=True, num_workers=run.n_workers)


def linear_decay(optimizer, n_updates):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / n_updates)


def train_plainly(run, *, bf16=False, saving=True):
    """`attach` and a loop of one's own; the state is saved after each update."""
    pruner, model = run.pruner, run.model
    loader = pruner.attach(full_loader(run), n_epochs=run.n_epochs, n_accumulation=run.n_accumulation, model=model)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = linear_decay(optimizer, pruner.plan_.n_updates)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    ranks = Ranks.now()
    wrapped = DistributedDataParallel(model) if ranks.size > 1 else model
    if run.resume:
        pruner.load(run.folder / "pruner.safetensors")
        for name, state in torch.load(run.folder / "parts.pt").items():
            parts[name].load_state_dict(state)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if bf16 else nullcontext
    for epoch in range(max(pruner.epoch_, 0), run.n_epochs):
        pruner.set_epoch(epoch)
        for index, (x, y) in loader:
            with autocast():
                logits = wrapped(x)
            losses = F.cross_entropy(logits.float(), y, reduction="none")
            ((losses * pruner.weights(index)).mean() / run.n_accumulation).backward()
            pruner.observe(index, logits=logits, labels=y)
            if pruner.n_observed_batches_ % run.n_accumulation and not pruner.is_epoch_finished:
                continue
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if saving:
                if ranks.rank == 0:
                    torch.save({name: part.state_dict() for name, part in parts.items()}, run.folder / "parts.pt")
                pruner.save(run.folder / "pruner.safetensors")
    pruner.close()


def train_by_fit(run, *, bf16=False, saving=True):
    """The ready-made loop."""
    run.pruner.fit(
        run.dataset,
        model=run.model,
        n_epochs=run.n_epochs,
        batch_size=run.batch_size,
        learning_rate=LEARNING_RATE,
        n_accumulation=run.n_accumulation,
        n_workers=run.n_workers,
        mixed_precision="bf16" if bf16 else "no",
        checkpoint_dir=run.folder if saving else None,
        resume=run.resume,
    )


def train_with_accelerate(run, *, bf16=False, saving=True):
    """`prepare`; the pruner's file is written beside each `save_state`."""
    accelerator = Accelerator(
        cpu=True, mixed_precision="bf16" if bf16 else "no", gradient_accumulation_steps=run.n_accumulation
    )
    pruner = run.pruner
    loader = prepare(accelerator, pruner, full_loader(run), n_epochs=run.n_epochs, model=run.model)
    optimizer = torch.optim.AdamW(run.model.parameters(), LEARNING_RATE)
    schedule = linear_decay(optimizer, pruner.plan_.n_updates * accelerator.num_processes)
    model, optimizer, schedule = accelerator.prepare(run.model, optimizer, schedule)
    if run.resume:
        accelerator.load_state(str(run.folder / "accelerate"))
        pruner.load(run.folder / "pruner.safetensors")
    for _ in range(max(pruner.epoch_, 0), run.n_epochs):
        for index, (x, y) in loader:
            with accelerator.accumulate(model):
                logits = model(x)
                losses = F.cross_entropy(logits, y, reduction="none")
                accelerator.backward((losses * pruner.weights(index)).mean())
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=y)
            if saving and accelerator.sync_gradients:
                accelerator.save_state(str(run.folder / "accelerate"))
                pruner.save(run.folder / "pruner.safetensors")
    pruner.close()


class WithLoss(nn.Module):
    """What Trainer wants of a model."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, labels):
        logits = self.model(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def train_with_trainer(run, *, bf16=False, saving=True):
    """`PruningTrainer`, with a checkpoint after each update."""
    settings = {
        "num_train_epochs": run.n_epochs,
        "per_device_train_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.n_accumulation,
        "dataloader_num_workers": run.n_workers,
        "learning_rate": LEARNING_RATE,
        "bf16": bf16,
        "save_strategy": "steps" if saving else "no",
        "save_steps": 1,
        "save_total_limit": 2,
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    trainer = PruningTrainer(
        model=WithLoss(run.model),
        args=TrainingArguments(str(run.folder), **settings),
        train_dataset=[{"x": x, "labels": y} for x, y in run.dataset],
        pruner=run.pruner,
    )
    trainer.train(resume_from_checkpoint=run.resume)


class LitClassifier(LightningModule):
    """What Lightning wants of a model."""

    def __init__(self, model, pruner):
        super().__init__()
        self.model, self.pruner = model, pruner

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch):
        x, y = batch
        logits = self(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "labels": y}

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), LEARNING_RATE)
        schedule = linear_decay(optimizer, self.pruner.plan_.n_updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_with_lightning(run, *, bf16=False, saving=True):
    """`PruningCallback`, with a checkpoint after each update."""
    pruning = PruningCallback(run.pruner)
    newest = ModelCheckpoint(run.folder, filename="newest", every_n_train_steps=1, enable_version_counter=False)
    checkpoints = [newest] if saving else []
    trainer = Trainer(
        max_epochs=run.n_epochs,
        accumulate_grad_batches=run.n_accumulation,
        precision="bf16-mixed" if bf16 else "32-true",
        callbacks=[pruning, *checkpoints],
        enable_checkpointing=saving,
        accelerator="cpu",
        devices=Ranks.now().size,
        strategy="ddp" if Ranks.now().size > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    resume_from = {"ckpt_path": run.folder / "newest.ckpt", "weights_only": True} if run.resume else {}
    trainer.fit(LitClassifier(run.model, run.pruner), full_loader(run), **resume_from)


LOOPS = {
    "plain": train_plainly,
    "fit": train_by_fit,
    "trainer": train_with_trainer,
    "accelerate": train_with_accelerate,
    "lightning": train_with_lightning,
}

MATRIX = list(product(LOOPS, (0, 2), (1, 4), (False, True)))  # integration, workers, accumulation, bfloat16
# Two opposite cells each: any two values of any two columns meet in one of them.
PAIRWISE = [
    *(("plain", 0, 1, False), ("plain", 2, 4, True)),
    *(("fit", 0, 1, True), ("fit", 2, 4, False)),
    *(("trainer", 0, 4, False), ("trainer", 2, 1, True)),
    *(("accelerate", 0, 4, True), ("accelerate", 2, 1, False)),
    *(("lightning", 0, 4, True), ("lightning", 2, 1, False)),
]
