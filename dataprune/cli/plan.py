"""``dataprune plan``: what a run will do, before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from dataprune.cli.errors import wrong_usage
from dataprune.cli.options import (
    AsJson,
    BatchSize,
    InitialKeepFraction,
    KeepFraction,
    NAccumulation,
    NCycleEpochs,
    NEpochs,
    NFullFinalEpochs,
    NLevels,
    NWarmupEpochs,
    Refresh,
    SchedulerName,
    to_refresh,
)
from dataprune.cli.printing import print_plan
from dataprune.runs.config import COMPOSITION, RunConfig


def plan(  # numpydoc ignore=PR01
    *,
    n_examples: Annotated[int, typer.Option(metavar="N", help="Rows of the train set.")],
    n_epochs: NEpochs = RunConfig.n_epochs,
    batch_size: BatchSize = RunConfig.batch_size,
    scheduler: SchedulerName = COMPOSITION["scheduler"],
    keep_fraction: KeepFraction = COMPOSITION["keep_fraction"],
    initial_keep_fraction: InitialKeepFraction = COMPOSITION["initial_keep_fraction"],
    n_levels: NLevels = COMPOSITION["n_levels"],
    n_warmup_epochs: NWarmupEpochs = COMPOSITION["n_warmup_epochs"],
    n_cycle_epochs: NCycleEpochs = COMPOSITION["n_cycle_epochs"],
    n_full_final_epochs: NFullFinalEpochs = COMPOSITION["n_full_final_epochs"],
    refresh: Refresh = COMPOSITION["refresh"],
    n_accumulation: NAccumulation = RunConfig.n_accumulation,
    as_json: AsJson = False,
) -> None:
    """Show what a run will do: examples, updates and compute of each epoch, with a bar for the examples.

    Needs no data and no model: what pruning would save, before anything starts.

    For example: dataprune plan --n-examples 100000 --n-epochs 10 --keep-fraction 0.3
    """
    from dataprune.scheduling.by_name import make_scheduler

    with wrong_usage():
        found = make_scheduler(
            "plan",
            scheduler,
            keep_fraction=keep_fraction,
            initial_keep_fraction=initial_keep_fraction,
            n_levels=n_levels,
            n_warmup_epochs=n_warmup_epochs,
            n_cycle_epochs=n_cycle_epochs,
            n_full_final_epochs=n_full_final_epochs,
        ).plan(n_examples, n_epochs, batch_size, n_accumulation=n_accumulation, refresh=to_refresh(refresh))
    print_plan(found, as_json=as_json)
