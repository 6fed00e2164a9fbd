"""One rank of a run of several processes; started by `test_two_ranks.py`, writes what it saw as JSON.

Arguments: a folder, how often each run is interrupted, and cells such as ``trainer-0-4-bf16``.
"""

import json
import os
import sys
import traceback
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from loops import LOOPS
from torch.utils.data import TensorDataset

from dataprune.testing import check_integration
from dataprune.testing.integrations import Trace, make_run

# Before 5.18, Trainer could not resume several processes on a CPU: torch does not know its device "cpu:0" from a file.
RESUMES = tuple(map(int, version("transformers").split(".")[:2])) >= (5, 18)
N_EVEN = 36  # and 18: no rank's part of a batch is smaller than another's, so two ranks do what one process does


def describe(trace, run):
    pruner = run.pruner
    return {
        "kept": [record.n_kept for record in pruner.history_],
        "updates": [trace.updates[epoch] for epoch in range(run.n_epochs)],
        "recorded": [record.n_updates for record in pruner.history_],
        "rows": [[row for e, rows in trace.batches if e == epoch for row in rows] for epoch in range(run.n_epochs)],
        "rates": trace.rates,
        "scores": pruner.scorer_.scores_.tolist(),
        "counts": pruner.scorer_.store_.counts.tolist(),
        "weights": torch.cat([p.detach().flatten() for p in run.model.parameters()]).tolist(),
    }


def main(folder, n_interruptions, cells):
    rank, n_ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks > 1:
        torch.distributed.init_process_group("gloo")
    for cell in cells:
        name, n_workers, n_accumulation, precision = cell.split("-")
        settings = {"n_workers": int(n_workers), "n_accumulation": int(n_accumulation)}
        loop = partial(LOOPS[name], bf16=precision == "bf16")
        AcceleratorState._reset_state(reset_partial_state=True)
        (folder / cell).mkdir(exist_ok=True)
        run = make_run(folder / cell, **settings)
        run.dataset = TensorDataset(*(column[:N_EVEN] for column in run.dataset.tensors))
        found = describe(Trace.of(partial(loop, saving=False), run), run)
        if n_ranks > 1:
            try:
                can_resume = RESUMES or name != "trainer"
                check_integration(loop, n_interruptions=n_interruptions if can_resume else 0, **settings)
                found["fault"] = None
            except Exception:
                found["fault"] = traceback.format_exc()
        (folder / f"{cell}-{n_ranks}-{rank}.json").write_text(json.dumps(found))
    if n_ranks > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
