"""Small real parts for the training tests: data, models, a plain loop, and what a run left behind."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
from dataprune.data.forward import default_forward

N = 60
SCHEDULE = CyclicScheduler(keep_fraction=0.4, n_warmup_epochs=1, n_cycle_epochs=2)


def points(n=N, seed=0):
    """Three blobs that overlap; learnable, with easy and hard examples."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    return TensorDataset(centres[labels] + torch.randn(n, 4, generator=generator), labels)


def classifier(seed=0, p_dropout=0.2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(p_dropout), nn.Linear(16, 3))


def pruner(**changes):
    parts = {"scorer": EL2N(smoothing="ema_plus_std"), "selector": TopK(), "scheduler": SCHEDULE, **changes}
    return DynamicPruner(**parts)


def loader(data=None, batch_size=8, **keywords):
    return DataLoader(points() if data is None else data, batch_size, **{"shuffle": True, **keywords})


class Rows(Dataset):
    """Row i is (i, 0): with `index_forward`, the loss of example i is i."""

    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        return torch.tensor(float(row)), 0


def index_forward(model, batch):
    """Per-example losses that are the row numbers, with a gradient that leaves the weights alone."""
    x, _ = batch
    return {"loss": x + 0.0 * model(x.unsqueeze(-1)).squeeze(-1)}


def train_plainly(pruner, batches, model, optimizer, n_epochs, *, stop_after=None):
    """Run the README's loop; stop after that many batches in all. Returns the row numbers of each batch."""
    visited = []
    for epoch in range(max(0, pruner.epoch_), n_epochs):
        pruner.set_epoch(epoch)
        for index, (x, y) in batches:
            logits = model(x)
            loss = (F.cross_entropy(logits, y, reduction="none") * pruner.weights(index)).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=y)
            visited.append((epoch, index.tolist()))
            if len(visited) == stop_after:
                return visited
    return visited


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_run(pruner, model, other_pruner, other_model):
    """Bit for bit: scores, selections, visits, counts and weights."""
    store, other_store = pruner.scorer_.store_, other_pruner.scorer_.store_
    for name in ("scores", "counts", "last_epoch", "source"):
        assert getattr(store, name).tobytes() == getattr(other_store, name).tobytes(), name
    for name in ("indices_", "weights_", "n_epochs_trained_"):
        assert getattr(pruner, name).tobytes() == getattr(other_pruner, name).tobytes(), name
    for ours, theirs in zip(pruner.history_, other_pruner.history_, strict=True):
        for name in ("epoch", "n_asked", "n_kept", "n_updates", "n_scored", "metrics"):
            assert getattr(ours, name) == getattr(theirs, name), name
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other_model.state_dict()[name]), name


FIT_EPOCHS = 5


def fit_run(folder, *, resume=False, seed=0, ours=None, on_batch=None, **changes):
    """A run of `fit` with dropout, evaluation and checkpoints; `on_batch(pruner)` is called at each training batch."""
    ours, model = pruner() if ours is None else ours, classifier()
    torch.manual_seed(seed)

    def forward(model, batch):
        if on_batch is not None and model.training:
            on_batch(ours)
        return default_forward(model, batch)

    given = {"n_epochs": FIT_EPOCHS, "batch_size": 8, "learning_rate": 0.02, "n_accumulation": 2, **changes}
    evaluation = points(21, seed=9)
    ours.fit(
        points(), model=model, forward=forward, eval_dataset=evaluation, checkpoint_dir=folder, resume=resume, **given
    )
    return ours, model
