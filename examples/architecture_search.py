"""Search an architecture on half of the data: a DARTS-style supernet on handwritten digits, both of its sets pruned.

The weights of all operations learn on one half of the data, the mixture of the operations on the other (first order,
in turns). From the command line: dataprune train --recipe bilevel_architecture_search --model small-supernet.
Run: python examples/architecture_search.py
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from dataprune import ConstantScheduler, DynamicPruner, RandomK, recipes
from dataprune.data.forward import default_forward
from dataprune.models.supernet import SmallSupernet, SmallSupernetConfig
from dataprune.runs.searching import search_architecture

N_TRAIN, N_EPOCHS = 1400, 10


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return the data of the search, and of the test."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    return TensorDataset(x[:N_TRAIN], y[:N_TRAIN]), TensorDataset(x[N_TRAIN:], y[N_TRAIN:])


def network(chosen: list[str] | None = None) -> SmallSupernet:
    """Return the network of all operations, or of those that were chosen."""
    return SmallSupernet(SmallSupernetConfig(num_labels=10, chosen=chosen))


def accuracy(net: SmallSupernet, test: TensorDataset) -> float:
    """Return the share of the test images that are recognised."""
    with torch.no_grad():
        signals = default_forward(net.eval(), {"pixel_values": test.tensors[0], "labels": test.tensors[1]})
    return (signals["logits"].argmax(1) == signals["labels"]).float().mean().item()


def batch(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return a batch in the words of the model."""
    images, labels = zip(*rows, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}


if __name__ == "__main__":
    torch.manual_seed(0)
    train, test = digits()
    pruners = recipes.bilevel_architecture_search(keep_fraction=0.5)
    chosen = search_architecture(network(), train, pruners, n_epochs=N_EPOCHS, collate_fn=batch)
    print("chosen:", *chosen)
    for name, pruner in zip(("weights", "architecture"), pruners, strict=True):
        print(f"{name}: trained on {sum(r.n_trained for r in pruner.history_)} of {N_EPOCHS * N_TRAIN // 2} examples")
    net = network(chosen)
    everything = DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0))
    everything.fit(train, model=net, n_epochs=10, learning_rate=3e-3, collate_fn=batch)
    print(f"test accuracy of the network that was found: {accuracy(net, test):.3f}")
