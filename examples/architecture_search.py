"""Search an architecture on half of the data: a DARTS-style supernet on handwritten digits, both of its sets pruned.

The weights of all operations learn on one half of the data, the mixture of the operations on the other (first order,
in turns). Run: python examples/architecture_search.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dataprune import DynamicPruner, recipes

N_CHANNELS, N_EPOCHS = 8, 10


def operations() -> nn.ModuleDict:
    """Return what an edge of the network may do."""
    return nn.ModuleDict(
        {
            "conv3": nn.Conv2d(N_CHANNELS, N_CHANNELS, 3, padding=1),
            "conv1": nn.Conv2d(N_CHANNELS, N_CHANNELS, 1),
            "pool": nn.AvgPool2d(3, stride=1, padding=1),
            "skip": nn.Identity(),
        }
    )


class Supernet(nn.Module):
    """Three edges, each a mixture of all operations, or the one that was chosen for it."""

    def __init__(self, chosen: list[str] | None = None) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, N_CHANNELS, 3, padding=1), nn.Linear(N_CHANNELS * 16, 10)
        self.edges = nn.ModuleList(operations() for _ in range(3))
        if chosen is not None:
            self.edges = nn.ModuleList(nn.ModuleDict({name: operations()[name]}) for name in chosen)
        self.mixture = nn.Parameter(torch.zeros(3, len(self.edges[0])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        for edge, mixture in zip(self.edges, self.mixture.softmax(-1), strict=True):
            x = F.relu(sum(share * operation(x) for share, operation in zip(mixture, edge.values(), strict=True)))
        return self.head(F.max_pool2d(x, 2).flatten(1))

    def choose(self) -> list[str]:
        """Return the heaviest operation of each edge."""
        return [list(edge)[int(best)] for edge, best in zip(self.edges, self.mixture.argmax(-1), strict=True)]


def search(
    sets: tuple[TensorDataset, TensorDataset], pruners: tuple[DynamicPruner, DynamicPruner], *, n_epochs: int = N_EPOCHS
) -> list[str]:
    """Train weights and mixture in turns, each on what its own pruner keeps, and return the operations chosen."""
    net = Supernet()
    weights = [parameter for name, parameter in net.named_parameters() if name != "mixture"]
    optimizers = torch.optim.AdamW(weights, lr=3e-3), torch.optim.AdamW([net.mixture], lr=3e-2)
    loaders = [
        pruner.attach(DataLoader(data, batch_size=32, shuffle=True), n_epochs=n_epochs)
        for data, pruner in zip(sets, pruners, strict=True)
    ]
    for epoch in range(n_epochs):
        for pruner in pruners:
            pruner.set_epoch(epoch)
        for pair in zip(*loaders, strict=True):  # halves of one size, pruned by one schedule
            for (index, (x, y)), optimizer, pruner in zip(pair, optimizers, pruners, strict=True):
                logits = net(x)
                loss = (F.cross_entropy(logits, y, reduction="none") * pruner.weights(index)).mean()
                net.zero_grad()
                loss.backward()
                optimizer.step()
                pruner.observe(index, logits=logits, labels=y)
    for pruner in pruners:
        pruner.close()
    return net.choose()


def digits() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Return the data of the weights, of the architecture, and of the test."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    return tuple(TensorDataset(x[part], y[part]) for part in (slice(700), slice(700, 1400), slice(1400, None)))


if __name__ == "__main__":
    torch.manual_seed(0)
    first, second, test = digits()
    pruners = recipes.bilevel_architecture_search(keep_fraction=0.5)
    chosen = search((first, second), pruners)
    print("chosen:", *chosen)
    for name, pruner in zip(("weights", "architecture"), pruners, strict=True):
        print(f"{name}: trained on {sum(r.n_trained for r in pruner.history_)} of {N_EPOCHS * 700} examples")
    net = Supernet(chosen)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(10):
        for x, y in DataLoader(first, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (net(test.tensors[0]).argmax(1) == test.tensors[1]).float().mean().item()
    print(f"test accuracy of the network that was found: {accuracy:.3f}")
