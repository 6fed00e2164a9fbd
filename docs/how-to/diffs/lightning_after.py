import lightning.pytorch as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.lightning import PruningCallback


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(4, 2)

    def training_step(self, batch):
        x, y = batch
        logits = self.network(x)
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "labels": y}

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


torch.manual_seed(0)
x = torch.randn(200, 4)
dataset = TensorDataset(x, (x[:, 0] > 0).long())
loader = DataLoader(dataset, batch_size=20, shuffle=True)
quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}

pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5))
trainer = pl.Trainer(max_epochs=4, callbacks=[PruningCallback(pruner)], **quiet)
trainer.fit(Classifier(), loader)
