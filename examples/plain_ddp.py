"""Prune under DistributedDataParallel, in a loop of your own: two processes over gloo on the CPU, no torchrun needed.

Handwritten digits, a small network. Run: python examples/plain_ddp.py
"""

import os
import socket

import torch
from sklearn.datasets import load_digits
from torch import distributed
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK

N_EPOCHS, N_RANKS = 8, 2


def train(rank, port):
    """One process; all of them hold the same pruner and choose the same examples."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=N_RANKS)
    images, digits = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
    dataset = TensorDataset(x[:1400], y[:1400])

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2))
    # No DistributedSampler: each process gets its part of what is selected. batch_size is that of one process.
    loader = pruner.attach(DataLoader(dataset, batch_size=16, shuffle=True), n_epochs=N_EPOCHS)
    for epoch in range(N_EPOCHS):
        pruner.set_epoch(epoch)
        for index, (features, labels) in loader:
            logits = model(features)
            loss = (F.cross_entropy(logits, labels, reduction="none") * pruner.weights(index)).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=labels)
    pruner.close()  # the scores of all processes come together

    if rank == 0:
        accuracy = (network(x[1400:]).argmax(1) == y[1400:]).float().mean().item()
        print(pruner.history_)
        print(f"test accuracy {accuracy:.3f}, {pruner.plan_.n_updates} updates")
    distributed.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, (port,), nprocs=N_RANKS)
