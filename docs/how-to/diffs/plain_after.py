import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK

torch.manual_seed(0)
x = torch.randn(200, 4)
dataset = TensorDataset(x, (x[:, 0] > 0).long())
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5))
loader = DataLoader(dataset, batch_size=20, shuffle=True)
loader = pruner.attach(loader, n_epochs=4)
for epoch in range(4):
    pruner.set_epoch(epoch)
    for index, (inputs, labels) in loader:
        logits = model(inputs)
        losses = F.cross_entropy(logits, labels, reduction="none")
        (losses * pruner.weights(index)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.observe(index, logits=logits, labels=labels)
