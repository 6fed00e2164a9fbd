"""Prune inside of Lightning: a callback, and logits and labels in what training_step returns.

Handwritten digits, a small network. Run: python examples/lightning_module.py
"""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.lightning import PruningCallback


class Digits(pl.LightningModule):
    """A small network for images of 8 x 8 pixels."""

    def __init__(self, pruner):
        super().__init__()
        self.pruner = pruner
        self.network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

    def forward(self, images):
        return self.network(images)

    def training_step(self, batch):
        images, labels = batch
        logits = self(images)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits, "labels": labels}

    def validation_step(self, batch):
        images, labels = batch
        self.log("accuracy", (self(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        n_updates = self.pruner.plan_.n_updates  # trainer.estimated_stepping_batches counts full epochs
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=n_updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
train, test = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])

pl.seed_everything(0)
pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2))
trainer = pl.Trainer(max_epochs=12, callbacks=[PruningCallback(pruner)], accelerator="cpu", enable_progress_bar=False)
trainer.fit(Digits(pruner), DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=400))

print(pruner.plan_)
print(pruner.history_)
