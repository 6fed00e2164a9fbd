"""Run `fit` in child processes that end by a signal: `python run_and_die.py SCENARIOS.json`.

Everything is imported once; each scenario is a fork, so a process of its own that is truly killed.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from training_parts import fit_run, pruner

from dataprune import WeightedK
from dataprune.errors import TrainingInterrupted
from dataprune.training import loop  # noqa: F401 - here once, not in every child

PARTS = {"observed": {}, "full": {"refresh": "full", "selector": WeightedK()}}


def child(scenario):
    """Train until the scenario's signal; leave a message if the signal can be caught."""
    folder = Path(scenario["folder"])
    if "file" in scenario:
        real_fsync, n_files = os.fsync, []

        def fsync(handle):
            n_files.append(handle)
            if len(n_files) == scenario["file"]:  # written, but not yet moved into its place
                os.kill(os.getpid(), signal.SIGKILL)
            real_fsync(handle)

        os.fsync = fsync

    def on_batch(ours):
        if [ours.epoch_, ours.n_observed_batches_] != scenario.get("batch"):
            return
        if scenario["signal"] == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        os.killpg(os.getpgid(0), signal.SIGINT)  # as a terminal does: to the loader's workers too

    os.setsid()
    try:
        fit_run(folder, ours=pruner(**PARTS[scenario["parts"]]), on_batch=on_batch, n_workers=scenario["n_workers"])
        message = "the run came to its end"
    except TrainingInterrupted as error:
        message = str(error)
    (folder / "message.txt").write_text(message)


def main():
    """Run the scenarios one after the other and print how each ended."""
    torch.set_num_threads(1)
    importlib.import_module("torch.distributed.tensor")  # Accelerate and AdamW import much at their first use
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    for scenario in json.loads(Path(sys.argv[1]).read_text()):
        pid = os.fork()
        if pid == 0:
            try:
                child(scenario)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
