"""A small real run of Lightning with a pruner; also what `ranks.py` runs in two processes."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.lightning import PruningCallback

N, N_EPOCHS = 37, 4  # 10 batches of 4, the last one short: full epochs do not fill updates of 4 or 3 batches

NO_VALIDATION = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


def points(n=N, seed=0):
    """Three blobs that overlap; row i has its number in its last column, which the model does not look at."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    x = F.one_hot(labels, 4).float() + torch.randn(n, 4, generator=generator)
    return TensorDataset(torch.cat([x, torch.arange(n, dtype=torch.float32)[:, None]], 1), labels)


def make_pruner(**changes):
    parts = {"scorer": EL2N(), "selector": TopK(), "scheduler": CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=1)}
    return DynamicPruner(**(parts | changes))


class Classifier(LightningModule):
    """Linear decay of the learning rate over the planned updates."""

    def __init__(self, pruner, *, p_dropout=0.0, weighted=False, manual=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(p_dropout), nn.Linear(8, 3))
        self.pruner = pruner
        self.weighted = weighted
        self.automatic_optimization = not manual
        self.visited = {}

    def forward(self, x):
        return self.net(x[:, :4])

    def training_step(self, batch, batch_idx):
        index, (x, y) = batch
        self.visited.setdefault(self.current_epoch, []).append(index.tolist())
        logits = self(x)
        losses = F.cross_entropy(logits.float(), y, reduction="none")
        weights = self.pruner.weights(index, logits=logits, labels=y)
        loss = (losses * weights).mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.lr_schedulers().step()
        return {"loss": loss, "logits": logits, "labels": y} | ({"weights": weights} if self.weighted else {})

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        n_updates = self.pruner.plan_.n_updates
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / n_updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Bare(Classifier):
    """As users have it: its batches are those of their own loader."""

    def training_step(self, batch, batch_idx):
        return super().training_step((batch[0][:, 4].long(), batch), batch_idx)

    def train_dataloader(self):
        return make_loader()


class Late(Bare):
    """Its loader is asked for after `configure_optimizers`, so the plan is not there yet."""

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / 25)  # 10 + 3 x 5
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Estimating(Classifier):
    """Asks for the updates before the run, which makes Lightning load the data early."""

    def configure_optimizers(self):
        self.estimated = self.trainer.estimated_stepping_batches
        return super().configure_optimizers()


class Loaders(LightningDataModule):
    """Knows of no pruner."""

    def setup(self, stage):
        self.loader = make_loader()

    def train_dataloader(self):
        return self.loader


class Data(LightningDataModule):
    """Attaches its loader when Lightning asks for it."""

    def __init__(self, pruning):
        super().__init__()
        self.pruning = pruning

    def train_dataloader(self):
        return self.pruning.attach(make_loader())


def make_loader(data=None, **changes):
    return DataLoader(points() if data is None else data, **{"batch_size": 4, "shuffle": True, **changes})


def make_trainer(pruning, *, callbacks=(), **changes):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"max_epochs": N_EPOCHS, "accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    return Trainer(callbacks=[*callbacks, pruning], **(quiet | settings | changes))


def run(pruner=None, *, module=None, loader=None, val=None, known=None, resume=None, **trainer):
    """Train and return the Trainer, the module and the pruner."""
    pruner = make_pruner() if pruner is None else pruner
    module = Classifier(pruner) if module is None else module
    pruning = PruningCallback(pruner)
    trainer = make_trainer(pruning, **trainer)
    attached = pruning.attach(make_loader() if loader is None else loader, **(known or {}))
    trainer.fit(module, attached, val, ckpt_path=resume, weights_only=True if resume else None)
    return trainer, module, pruner
