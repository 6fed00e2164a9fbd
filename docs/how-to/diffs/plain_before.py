import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(200, 4)
dataset = TensorDataset(x, (x[:, 0] > 0).long())
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

loader = DataLoader(dataset, batch_size=20, shuffle=True)
for epoch in range(4):
    for inputs, labels in loader:
        logits = model(inputs)
        losses = F.cross_entropy(logits, labels, reduction="none")
        losses.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
