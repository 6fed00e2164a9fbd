"""Prune in a training loop of your own: handwritten digits, a small network, half of the data after two epochs.

Run: python examples/plain_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK

N_EPOCHS = 12

images, digits = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
train, test = TensorDataset(x[:1400], y[:1400]), TensorDataset(x[1400:], y[1400:])

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2))
loader = pruner.attach(DataLoader(train, batch_size=32, shuffle=True), n_epochs=N_EPOCHS)
print(pruner.plan_)

for epoch in range(N_EPOCHS):
    pruner.set_epoch(epoch)
    for index, (features, labels) in loader:
        logits = model(features)
        loss = (F.cross_entropy(logits, labels, reduction="none") * pruner.weights(index)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.observe(index, logits=logits, labels=labels)
pruner.close()

with torch.no_grad():
    accuracy = (model(test.tensors[0]).argmax(1) == test.tensors[1]).float().mean().item()
print(pruner.history_)
print(f"test accuracy {accuracy:.3f}")
hardest = pruner.scorer_.scores_.argsort()[::-1][:5]
print("hardest digits:", [(int(i), int(y[i])) for i in hardest])
