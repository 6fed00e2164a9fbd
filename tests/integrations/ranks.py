"""One rank of a real run of several processes; started by `test_distributed.py`, writes what it saw as JSON."""

import json
import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration
from datasets import Dataset
from torch import nn
from torch.distributed import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from dataprune import EL2N, Budget, CyclicScheduler, DynamicPruner, SoftPrune, TopK
from dataprune.integrations.accelerate import prepare
from dataprune.training.distributed import Ranks

N, ODD, N_EPOCHS, GLOBAL_BATCH = 48, 45, 4, 8
SCHEDULE = CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=2)


def points(n=N):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    return TensorDataset(F.one_hot(labels, 4).float() + torch.randn(n, 4, generator=generator), labels)


def report(pruner, visited, model):
    return {
        "kept": [record.n_kept for record in pruner.history_],
        "updates": [record.n_updates for record in pruner.history_],
        "planned": list(pruner.plan_.updates),
        "indices": pruner.indices_.tolist(),
        "scores": pruner.scorer_.scores_.tolist(),
        "counts": pruner.scorer_.store_.counts.tolist(),
        "trained": pruner.n_epochs_trained_.tolist(),
        "visited": visited,
        "weights": torch.cat([whole(p.detach()).flatten() for p in model.parameters()]).tolist(),
    }


def whole(parameter):
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def shard(model):
    """Each rank holds a part of each parameter (FSDP 2)."""
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for part in (model[0], model[2], model):
        fully_shard(part, mesh=mesh)
    return model


def plain(n_ranks, folder, *, refresh="observed", selector=None, resume_after=None, n=N, wrap=DistributedDataParallel):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    wrapped = wrap(model) if n_ranks > 1 else model
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.2)
    pruner = DynamicPruner(EL2N(), selector, SCHEDULE, refresh=refresh)

    def attach():
        loader = DataLoader(points(n), GLOBAL_BATCH // n_ranks, shuffle=True)
        return pruner.attach(loader, n_epochs=N_EPOCHS, model=wrapped)

    loader, visited, n_done = attach(), [], 0
    epoch = 0
    while epoch < N_EPOCHS:
        pruner.set_epoch(epoch)
        rows = visited[epoch] if len(visited) > epoch else []
        visited = [*visited[:epoch], rows]
        for index, (x, y) in loader:
            logits = wrapped(x)
            (F.cross_entropy(logits, y, reduction="none") * pruner.weights(index)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=y)
            rows += index.tolist()
            n_done += 1
            if n_done == resume_after:
                break
        else:
            epoch += 1
            continue
        pruner.save(folder / "pruner.safetensors")  # on all ranks
        if n_ranks > 1:
            torch.distributed.barrier()
        pruner = DynamicPruner(EL2N(), selector, SCHEDULE, refresh=refresh)
        loader = attach()
        pruner.load(folder / "pruner.safetensors")
    pruner.close()
    is_flat = isinstance(wrapped, FullyShardedDataParallel)
    with FullyShardedDataParallel.summon_full_params(wrapped) if is_flat else nullcontext():
        return report(pruner, visited, model)


def trainer(n_ranks, folder):
    from dataprune.integrations.huggingface import PruningTrainer

    rows = [{"input_ids": [2 + row % 9, 3 + row % 5, 4], "labels": row % 2} for row in range(N)]
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=20, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **sizes)
    )
    visited = []

    class Watching(PruningTrainer):
        def _observe(self, loss, outputs, batch, index):
            while len(visited) <= self.pruner.epoch_:
                visited.append([])
            visited[-1].extend(index.tolist())
            return super()._observe(loss, outputs, batch, index)

    pruner = DynamicPruner(EL2N(), TopK(), SCHEDULE)
    args = TrainingArguments(
        str(folder / "out"),
        num_train_epochs=N_EPOCHS,
        per_device_train_batch_size=GLOBAL_BATCH // n_ranks,
        learning_rate=0.01,
        save_strategy="epoch",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    run = Watching(model=model, args=args, train_dataset=Dataset.from_list(rows), pruner=pruner)
    run.train()
    return {**report(pruner, visited, model), "steps": run.state.global_step, "rate": run._get_learning_rate()}


def accelerated(n_ranks, folder, *, n_accumulation=1, n=N, resume_after=None, n_workers=0, **batches):
    """Epochs begin by themselves; batches of unequal lengths, as of texts, which are padded when they are made."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    config = DataLoaderConfiguration(**batches)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=n_accumulation, dataloader_config=config)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    batch_size = GLOBAL_BATCH if config.split_batches else GLOBAL_BATCH // n_ranks

    def attach():
        pruner = DynamicPruner(EL2N(), TopK(), SCHEDULE)
        loader = DataLoader(points(n), batch_size, shuffle=True, num_workers=n_workers, collate_fn=padded)
        return pruner, prepare(accelerator, pruner, loader, n_epochs=N_EPOCHS)

    pruner, loader = attach()
    visited, sizes, n_steps, n_done, epoch = [[] for _ in range(N_EPOCHS)], [], 0, 0, 0
    random_state = torch.get_rng_state()
    while epoch < N_EPOCHS:
        for index, (x, y) in loader:
            with accelerator.accumulate(wrapped):
                logits = wrapped(x[:, :4])
                accelerator.backward(F.cross_entropy(logits, y, reduction="none").mul(pruner.weights(index)).mean())
                optimizer.step()
                optimizer.zero_grad()
            pruner.observe(index, logits=logits, labels=y)
            visited[epoch] += index.tolist()
            sizes.append(len(index))
            n_steps += accelerator.sync_gradients
            n_done += 1
            if n_done == resume_after:
                break
        else:
            epoch += 1
            continue
        pruner.save(folder / "pruner.safetensors")
        accelerator.wait_for_everyone()
        pruner, loader = attach()
        pruner.load(folder / "pruner.safetensors")
    pruner.close()
    assert torch.equal(torch.get_rng_state(), random_state)
    return {**report(pruner, visited, model), "steps": n_steps, "sizes": sizes}


def padded(rows):
    """Make a batch whose width follows from its rows."""
    x, y = torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])
    return torch.cat([x, torch.zeros(len(rows), int(y.max()))], 1), y


def lightning(n_ranks, folder, *, resume_after=None, n=N, refresh="observed"):
    import lightning_parts as small
    from lightning.pytorch.callbacks import ModelCheckpoint

    ranks = {"devices": n_ranks, "strategy": "ddp" if n_ranks > 1 else "auto", "max_epochs": N_EPOCHS}

    def run(**settings):
        pruner = DynamicPruner(EL2N(), TopK(), SCHEDULE, refresh=refresh)
        loader = small.make_loader(small.points(n), batch_size=GLOBAL_BATCH // n_ranks)
        return small.run(pruner, module=small.Classifier(pruner), loader=loader, **ranks, **settings)

    if resume_after is None:
        run_, module, pruner = run()
    else:
        run(callbacks=[ModelCheckpoint(folder, "at", every_n_train_steps=resume_after)], enable_checkpointing=True)
        run_, module, pruner = run(resume=folder / "at.ckpt")
    visited = [[row for batch in batches for row in batch] for batches in module.visited.values()]
    return {**report(pruner, visited, module), "steps": run_.global_step}


def refused(n_ranks, folder):
    """What several processes cannot do is refused on each of them."""
    sentences = []

    def attempt(act):
        try:
            act()
        except ValueError as error:
            sentences.append(str(error))

    def pruner(keep_fraction=0.5):
        return DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=keep_fraction))

    loader = DataLoader(points(), 5, shuffle=True)
    attempt(lambda: pruner(Budget(seconds=9.0)).attach(loader, n_epochs=2))
    attempt(lambda: pruner().fit(points(), model=nn.Linear(4, 3), n_epochs=2))
    ranks, rank = Ranks.now(), torch.distributed.get_rank()
    ranks.check_agreement(np.array([1, 2]), np.ones(2, np.float32))
    attempt(lambda: ranks.check_agreement(np.array([1, 2 + rank]), np.ones(2, np.float32)))
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=True))
    attempt(lambda: prepare(accelerator, pruner(), loader, n_epochs=2))
    return {"sentences": sentences}


DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1}
ON_CPU = {"device_id": torch.device("cpu")}
MODES = {
    "plain": plain,
    "full": lambda n, folder: plain(n, folder, refresh="full"),
    "share": lambda n, folder: plain(n, folder, refresh=0.5),
    "weighted": lambda n, folder: plain(n, folder, selector=SoftPrune()),
    "resumed": lambda n, folder: plain(n, folder, resume_after=9),
    "odd": lambda n, folder: plain(n, folder, n=ODD),
    "fsdp": lambda n, folder: plain(n, folder, wrap=shard),
    "fsdp1": lambda n, folder: plain(n, folder, wrap=partial(FullyShardedDataParallel, use_orig_params=True, **ON_CPU)),
    # Two scoring batches of 128 for one rank, one and a rest for the other.
    "fsdp-full-odd": lambda n, folder: plain(n, folder, wrap=shard, refresh="full", n=257),
    "trainer": trainer,
    "accelerate": accelerated,
    "accelerate-odd": lambda n, folder: accelerated(n, folder, n_accumulation=2, n=ODD),
    "accelerate-odd-resumed": lambda n, folder: accelerated(n, folder, n_accumulation=2, n=ODD, resume_after=8),
    "accelerate-split": lambda n, folder: accelerated(n, folder, split_batches=True),
    "accelerate-dispatch": lambda n, folder: accelerated(n, folder, dispatch_batches=True, n_workers=2),
    "accelerate-dispatch-split-odd": lambda n, folder: accelerated(
        n, folder, dispatch_batches=True, split_batches=True, n_accumulation=2, n=ODD
    ),
    "accelerate-dispatch-odd-resumed": lambda n, folder: accelerated(
        n, folder, dispatch_batches=True, n_accumulation=2, n=ODD, resume_after=8
    ),
    "accelerate-uneven-odd": lambda n, folder: accelerated(n, folder, even_batches=False, n_accumulation=2, n=ODD),
    "accelerate-uneven-49": lambda n, folder: accelerated(n, folder, even_batches=False, n_accumulation=2, n=N + 1),
    "lightning": lightning,
    "lightning-full": lambda n, folder: lightning(n, folder, refresh="full"),
    "lightning-odd": lambda n, folder: lightning(n, folder, n=ODD),
    "lightning-resumed": lambda n, folder: lightning(n, folder, resume_after=9),
    "refused": refused,
}

if __name__ == "__main__":
    modes, folder = sys.argv[1].split(","), Path(sys.argv[2])
    rank, n_ranks = (int(os.environ[name]) if name in os.environ else given for name, given in DEFAULTS.items())
    if n_ranks > 1:
        torch.distributed.init_process_group("gloo")
    for mode in modes:
        place = folder / f"{mode}-{n_ranks}"
        place.mkdir(exist_ok=True)
        result = MODES[mode](n_ranks, place)
        (folder / f"{mode}-{n_ranks}-{rank}.json").write_text(json.dumps(result))
    if n_ranks > 1:
        torch.distributed.destroy_process_group()
