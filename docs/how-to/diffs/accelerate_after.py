import torch
from accelerate import Accelerator
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.integrations.accelerate import prepare

torch.manual_seed(0)
x = torch.randn(200, 4)
dataset = TensorDataset(x, (x[:, 0] > 0).long())
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5))
accelerator = Accelerator(cpu=True)
model, optimizer = accelerator.prepare(model, optimizer)
loader = DataLoader(dataset, batch_size=20, shuffle=True)
loader = prepare(accelerator, pruner, loader, n_epochs=4)
for epoch in range(4):
    for index, (inputs, labels) in loader:
        with accelerator.accumulate(model):
            logits = model(inputs)
            losses = F.cross_entropy(logits, labels, reduction="none")
            accelerator.backward((losses * pruner.weights(index)).mean())
            optimizer.step()
            optimizer.zero_grad()
        pruner.observe(index, logits=logits, labels=labels)
