"""Prune with Accelerate: prepare(accelerator, pruner, loader) in the place of accelerator.prepare(loader).

Handwritten digits, a small network. Run: accelerate launch examples/accelerate_loop.py, or with python alone
"""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.accelerate import prepare

N_EPOCHS = 12

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
train, test = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

accelerator = Accelerator(gradient_accumulation_steps=2)
pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2))
loader = prepare(accelerator, pruner, DataLoader(train, batch_size=16, shuffle=True), n_epochs=N_EPOCHS)
model, optimizer = accelerator.prepare(model, optimizer)

for _ in range(N_EPOCHS):
    for index, (features, labels) in loader:  # begins the next epoch: chooses its examples
        with accelerator.accumulate(model):
            logits = model(features)
            losses = F.cross_entropy(logits, labels, reduction="none")
            accelerator.backward((losses * pruner.weights(index)).mean())
            optimizer.step()
            optimizer.zero_grad()
        pruner.observe(index, logits=logits, labels=labels)
pruner.close()

with torch.no_grad():
    logits = model(test.tensors[0].to(accelerator.device))
accuracy = (logits.argmax(1).cpu() == test.tensors[1]).float().mean().item()
accelerator.print(pruner.plan_)
accelerator.print(pruner.history_)
accelerator.print(f"test accuracy {accuracy:.3f}")
