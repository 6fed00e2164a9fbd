"""A search for an architecture on half of the data for its weights and half for its mixture, both pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader

from dataprune.data.files import read_json, write_json
from dataprune.data.forward import default_forward, with_precision
from dataprune.data.tasks import Task
from dataprune.errors import InvalidTypeError
from dataprune.models.supernet import SMALL_SUPERNET, SmallSupernet, SmallSupernetConfig
from dataprune.runs.compose import SEARCH, make_search
from dataprune.runs.config import RunConfig
from dataprune.training.pruner import DynamicPruner

ARCHITECTURE = "architecture.json"
MIXTURE_LEARNING_RATE = 3e-2


def search_architecture(
    net: SmallSupernet,
    train: Any,
    pruners: tuple[DynamicPruner, DynamicPruner],
    *,
    n_epochs: int,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    mixed_precision: str = "no",
    collate_fn: Any = None,
    seed: int = 0,
) -> list[str]:
    """Train weights and mixture in turns, each on what its own pruner keeps of its own half of the data.

    Parameters
    ----------
    net : SmallSupernet
        Trained in place.
    train : map-style data set
        Cut into halves at random; of an odd number of rows one is left out.
    pruners : tuple of DynamicPruner
        For the weights and for the mixture, of one schedule.
    n_epochs : int
        Epochs of each.
    batch_size : int, default=32
        Examples in a batch.
    learning_rate : float, default=3e-3
        Of the weights, constant; that of the mixture is ten times the default.
    mixed_precision : {"no", "bf16"}, default="no"
        Precision of the forward passes.
    collate_fn : callable, optional
        Makes a batch of a list of examples.
    seed : int, default=0
        Seed of the halves and of the orders.

    Returns
    -------
    list of str
        The operation of each edge.
    """
    half = len(train) // 2
    rows = np.random.default_rng([seed, 5]).permutation(len(train))
    mixture = [net.mixture]
    weights = [parameter for parameter in net.parameters() if parameter is not net.mixture]
    optimizers = torch.optim.AdamW(weights, lr=learning_rate), torch.optim.AdamW(mixture, lr=MIXTURE_LEARNING_RATE)
    loaders = [
        pruner.attach(
            DataLoader(_rows(train, np.sort(part)), batch_size=batch_size, shuffle=True, collate_fn=collate_fn),
            n_epochs=n_epochs,
        )
        for part, pruner in zip((rows[:half], rows[half : 2 * half]), pruners, strict=True)
    ]
    forward = with_precision(default_forward, mixed_precision)
    net.train()
    for epoch in range(n_epochs):
        for pruner in pruners:
            pruner.set_epoch(epoch)
        for pair in zip(*loaders, strict=True):  # halves of one size, pruned by one schedule
            for (index, batch), optimizer, pruner in zip(pair, optimizers, pruners, strict=True):
                signals = forward(net, batch)
                net.zero_grad()
                loss = (signals["loss"] * pruner.weights(index)).mean()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                pruner.observe(index, **signals)
    for pruner in pruners:
        pruner.close()
    return net.choose()


def _rows(train: Any, rows: np.ndarray[Any, Any]) -> Any:
    return train.select(rows) if isinstance(train, datasets.Dataset) else torch.utils.data.Subset(train, rows.tolist())


def found_network(
    config: RunConfig, supernet: Any, train: datasets.Dataset, *, task: Task, output_dir: Path
) -> tuple[SmallSupernet, str]:
    """Search for a run, or read what an earlier session of it has found; return the network and a sentence.

    Parameters
    ----------
    config : RunConfig
        The run's.
    supernet : nn.Module
        What ``--model`` names.
    train : datasets.Dataset
        Encoded.
    task : Task
        Knows how to make batches.
    output_dir : Path
        Gets ``architecture.json``.

    Returns
    -------
    network : SmallSupernet
        Of the operations that were found, with new weights.
    note : str
        What was found, and from how much.

    Raises
    ------
    InvalidTypeError
        If the model has no operations to choose from.
    """
    if not isinstance(supernet, SmallSupernet) or supernet.config.chosen is not None:
        raise InvalidTypeError(
            f"The recipe {SEARCH!r} searches in {SMALL_SUPERNET!r}, got the model {config.model!r}. "
            f"Pass --model {SMALL_SUPERNET}, or use the recipe's two pruners in a search of your own, from Python."
        )
    path = output_dir / ARCHITECTURE
    if path.exists():
        found = read_json(path)
    else:
        pruners = make_search(config)
        chosen = search_architecture(
            supernet,
            train,
            pruners,
            n_epochs=config.n_epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            mixed_precision=config.mixed_precision,
            collate_fn=task.collator(),
            seed=config.seed,
        )
        trained = [sum(record.n_trained for record in pruner.history_) for pruner in pruners]
        n_full = 2 * (len(train) // 2) * config.n_epochs
        found = {"chosen": chosen, "examples_trained": trained, "of_a_full_search": sum(trained) / n_full}
        write_json(path, found)
    torch.manual_seed(config.seed)
    settings = {name: getattr(supernet.config, name) for name in ("n_channels", "width", "id2label", "label2id")}
    return SmallSupernet(SmallSupernetConfig(**settings, chosen=found["chosen"])), (
        f"The search found {', '.join(found['chosen'])}, on {found['of_a_full_search']:.0%} of the examples of a full "
        "one; the run trains that network on all of them."
    )
