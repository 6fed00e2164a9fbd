"""``dataprune train``: one whole run, from a folder of data to a folder of results."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from dataprune.cli.errors import say
from dataprune.cli.options import (
    PRUNING,
    TRAINING,
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
    is_typed,
    to_arguments,
    to_pairs,
    to_refresh,
)
from dataprune.cli.printing import metric_text, print_json, print_plan, print_table
from dataprune.cli.settings import RunFileArgument, Settings, to_config
from dataprune.errors import TrainingInterrupted
from dataprune.runs.config import COMPOSITION, RunConfig


def train(  # numpydoc ignore=PR01
    ctx: typer.Context,
    run_file: RunFileArgument = None,
    *,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of data, or a hub name.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder or hub name of an encoder; of a decoder for causal-lm; for images small-cnn, small-supernet "
            "or module:name.",
        ),
    ] = None,
    output_dir: Annotated[str | None, typer.Option(metavar="DIR", help="New folder for the results.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="classification, joint-nlu, token-classification, multi-label, regression, causal-lm or "
            "image-classification; else guessed.",
        ),
    ] = RunConfig.task,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="A column's name where the guess is wrong: text=utterance; repeatable."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published method, see `dataprune methods`, instead of scorer, selector and scheduler.",
            rich_help_panel=PRUNING,
        ),
    ] = RunConfig.recipe,
    recipe_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the recipe: region=hard; repeatable.", rich_help_panel=PRUNING
        ),
    ] = None,
    scheduler: SchedulerName = COMPOSITION["scheduler"],
    keep_fraction: KeepFraction = COMPOSITION["keep_fraction"],
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT=AMOUNT",
            help="In the place of --keep-fraction: token_fraction=0.4 of the tokens, n_updates=500 or seconds=600.",
            rich_help_panel=PRUNING,
        ),
    ] = None,
    initial_keep_fraction: InitialKeepFraction = COMPOSITION["initial_keep_fraction"],
    n_levels: NLevels = COMPOSITION["n_levels"],
    n_warmup_epochs: NWarmupEpochs = COMPOSITION["n_warmup_epochs"],
    n_cycle_epochs: NCycleEpochs = COMPOSITION["n_cycle_epochs"],
    n_full_final_epochs: NFullFinalEpochs = COMPOSITION["n_full_final_epochs"],
    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How hard an example is, see `dataprune methods`; by default the task's error norm.",
            rich_help_panel=PRUNING,
        ),
    ] = RunConfig.scorer,
    scorer_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the scorer: smoothing=ema; repeatable.", rich_help_panel=PRUNING
        ),
    ] = None,
    selector: Annotated[
        str, typer.Option(metavar="NAME", help="Which to keep, see `dataprune methods`.", rich_help_panel=PRUNING)
    ] = COMPOSITION["selector"],
    selector_arg: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the selector: n_strata=20; repeatable.", rich_help_panel=PRUNING
        ),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of the groups, else the labels: a value per row or, for class-floor, a list; of tags the slot "
            "types. For submodular-mixture and --selector-arg by=groups.",
            rich_help_panel=PRUNING,
        ),
    ] = RunConfig.group_column,
    refresh: Refresh = COMPOSITION["refresh"],
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Start from the scores.safetensors of another run (--n-warmup-epochs may then be 0); for the recipe "
            "rho_loss the losses that `dataprune score` wrote, under a model of other data.",
            rich_help_panel=PRUNING,
        ),
    ] = RunConfig.scores,
    n_epochs: NEpochs = RunConfig.n_epochs,
    batch_size: BatchSize = RunConfig.batch_size,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=TRAINING)
    ] = RunConfig.learning_rate,
    lr_schedule: Annotated[
        str, typer.Option(metavar="NAME", help="linear, cosine or constant.", rich_help_panel=TRAINING)
    ] = RunConfig.lr_schedule,
    n_accumulation: NAccumulation = RunConfig.n_accumulation,
    max_grad_norm: Annotated[
        float, typer.Option(metavar="NORM", help="Clip gradients to it; 0 does not.", rich_help_panel=TRAINING)
    ] = RunConfig.max_grad_norm,
    mixed_precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="no, or bf16: faster on GPUs and on CPUs with AVX512-BF16 or AMX.",
            rich_help_panel=TRAINING,
        ),
    ] = RunConfig.mixed_precision,
    max_length_tokens: Annotated[
        int, typer.Option(metavar="N", help="Longer inputs are cut.", rich_help_panel=TRAINING)
    ] = RunConfig.max_length_tokens,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pixels that images are high and wide; by default their own, or 64.",
            rich_help_panel=TRAINING,
        ),
    ] = RunConfig.image_size,
    n_workers: Annotated[
        int, typer.Option(metavar="N", help="Loader processes.", rich_help_panel=TRAINING)
    ] = RunConfig.n_workers,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of weights, orders and selections.", rich_help_panel=TRAINING)
    ] = RunConfig.seed,
    setting: Settings = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Read the data, show the plan and stop.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", metavar="", help="Go on with the unfinished run in the folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on the examples that still matter, and save everything.

    Sentences, pairs, words, intents with slots, numbers, language models and images: the columns tell the task. Writes
    model/, history.csv, scores.safetensors, kept.parquet, run.json and run.toml, which repeats the run, to the output
    folder.

    For example: dataprune train --data atis/ --model encoder/ --output-dir run/ --keep-fraction 0.3
    """
    options = {
        **locals(),
        "columns": to_pairs("--column", column or [], example="text=utterance"),
        "budget": to_arguments("--budget", budget, example="token_fraction=0.4"),
        "scorer_args": to_arguments("--scorer-arg", scorer_arg, example="smoothing=ema"),
        "selector_args": to_arguments("--selector-arg", selector_arg, example="n_strata=20"),
        "recipe_args": to_arguments("--recipe-arg", recipe_arg, example="region=hard"),
        "refresh": to_refresh(refresh),
    }
    typed = {
        field.name: options[field.name]
        for field in fields(RunConfig)
        if is_typed(ctx, field.name) or is_typed(ctx, field.name.removesuffix("s"))
    }
    typed |= to_arguments("--set", setting, example="n_epochs=3")

    config = to_config(run_file, typed)

    from dataprune.runs.run import plan, run

    if dry_run:
        found, notes = plan(config)
        for note in notes:
            say(note, style="yellow")
        print_plan(found, as_json=as_json)
        return
    try:
        result = run(config, resume=resume, progress=sys.stderr.isatty())
    except TrainingInterrupted:
        raise TrainingInterrupted(
            f"Interrupted; the state is saved in {config.output_dir}. Go on with the same command and --resume."
        ) from None
    for note in result["notes"]:
        say(note, style="yellow")
    if as_json:
        print_json(result)
    else:
        _print_summary(result)


def _print_summary(result: dict[str, Any]) -> None:
    metrics, seconds, config = result["metrics"], result["seconds"], result["config"]
    names = list(metrics["valid"])
    print_table(
        f"Epoch {result['best_epoch'] + 1} of {config['n_epochs']}, the best on the valid split",
        ["", *metrics],
        [[name.replace("_", " "), *(metric_text(name, values[name]) for values in metrics.values())] for name in names],
        right=True,
    )
    n_full = result["n_examples"] * config["n_epochs"]
    print_table(
        "Trained on",
        ["examples", "of a full run", "tokens", "updates", "compute of a full run"],
        [
            [
                f"{result['examples_trained']:,}",
                f"{result['examples_trained'] / n_full:.0%}",
                f"{result['tokens_trained']:,}",
                f"{result['n_updates']:,}",
                f"{result['compute_fraction']:.0%}",
            ]
        ],
    )
    print_table("Seconds", list(seconds), [[f"{spent:,.1f}" for spent in seconds.values()]])
    scores = "scores.safetensors, " if Path(config["output_dir"], "scores.safetensors").exists() else ""
    typer.echo(f"{config['output_dir']} holds model/, history.csv, {scores}kept.parquet and run.json.")
