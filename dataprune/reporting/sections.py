"""The parts of the page: each with its plots, and tables that say the same in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataprune.reporting.classes import keep_rates, plot_keep_rates
from dataprune.reporting.comparing import chance_remark, comparable, find_baseline, group_runs, plot_pareto
from dataprune.reporting.epochs import plot_kept_share, plot_score_quantiles, plot_time
from dataprune.reporting.examples import ExampleData, Table, finite
from dataprune.reporting.figures import to_svg
from dataprune.reporting.run_folder import FinishedRun
from dataprune.reporting.scores import N_SHOWN, plot_cartography, plot_scores


@dataclass(frozen=True)
class Picture:
    """A plot on the page.

    Parameters
    ----------
    svg : str
        An ``<svg>`` element.
    caption : str
        What to see in it.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Parameters
    ----------
    name : str
        Its anchor.
    title : str
        Heading.
    remarks : list of str
        Paragraphs.
    pictures : list of Picture
        Plots.
    tables : list of Table
        Tables.
    """

    name: str
    title: str
    remarks: list[str]
    pictures: list[Picture]
    tables: list[Table]


def compare_section(run: FinishedRun, runs: Sequence[FinishedRun]) -> Section:
    """Show several runs against each other.

    Parameters
    ----------
    run : FinishedRun
        The run that the details are of.
    runs : sequence of FinishedRun
        All, that run among them.

    Returns
    -------
    Section
        With plots and tables.
    """
    methods = group_runs([other for other in runs if comparable(run, other)])
    baseline = find_baseline(run, runs)
    full = next((method for method in methods if baseline in method.runs), None)
    remarks = [
        f"The details below are those of {run.name}.",
        f"{chance_remark(methods)} Seconds compare where the runs had the same machine to themselves.",
    ]
    others = [other.name for other in runs if not comparable(run, other)]
    if others:
        remarks.append(f"Left out, for they were not measured on the same data as {run.name}: {', '.join(others)}.")
    names = [method.name for method in methods for _ in method.runs]
    flat = [one for method in methods for one in method.runs]
    metric, unit, scale = run.metric.replace("_", " "), *((", %", 100) if run.is_share else ("", 1))
    svg = to_svg(
        lambda ax: plot_pareto(
            names, [one.seconds for one in flat], [one.result for one in flat], metric=metric, ax=ax
        ),
        name="pareto",
        label=f"{metric} against seconds of {len(methods)} methods, with the Pareto front; the table has the figures",
    )
    rows = [
        (
            method.name,
            len(method.runs),
            round(scale * method.result, 2),
            None if method.spread is None else round(scale * method.spread, 2),
            *((round(scale * (method.result - full.result), 2),) if full else ()),
            round(method.seconds, 1),
            *((round(100 * method.seconds / full.seconds),) if full else ()),
            round(method.n_updates),
        )
        for method in methods
    ]
    columns = (
        *("method", "runs", f"{metric}{unit}", "±"),
        *((f"difference to {full.name}",) if full else ()),
        "seconds",
        *((f"time of {full.name}, %",) if full else ()),
        "updates",
    )
    better = "Higher" if run.is_share else "Lower"
    caption = f"{better} is better, further left is quicker. Off the front: another is as good and as quick, or better."
    note = f"All {len(flat)} runs, by method: runs that differ in nothing but the seed are one."
    table = Table("methods", "Methods", note, columns, rows)
    return Section("compare", "Runs compared", remarks, [Picture(svg, caption)], [table])


def time_section(run: FinishedRun) -> Section:
    """Show where the time of a run went.

    Parameters
    ----------
    run : FinishedRun
        The run.

    Returns
    -------
    Section
        With plots and tables.
    """
    seconds = run.summary["seconds"]
    total = seconds["total"]
    rows = [(what, round(spent, 2), round(100 * spent / total, 1)) for what, spent in seconds.items()]
    svg = to_svg(
        lambda ax: plot_time(run.history, ax=ax),
        name="time",
        label="seconds of each epoch, by what they were spent on; the table has the sums",
    )
    caption = "Seconds of each epoch. Scoring includes what observing costs."
    note = "The whole run by the clock; other is loading, tokenising and saving."
    table = Table("seconds", "Where the time went", note, ("part", "seconds", "share, %"), rows)
    return Section("time", "Time", [], [Picture(svg, caption)], [table])


def kept_section(run: FinishedRun) -> Section:
    """Show what each epoch kept.

    Parameters
    ----------
    run : FinishedRun
        The run.

    Returns
    -------
    Section
        With plots and tables.
    """
    svg = to_svg(
        lambda ax: plot_kept_share(run.history, run.n_examples, ax=ax),
        name="kept",
        label="share of the examples kept in each epoch; the table has the figures",
    )
    history = {str(name): run.history[name].to_numpy() for name in run.history if not str(name).endswith("_s")}
    history["epoch"] = history["epoch"] + 1
    rows = list(zip(*(map(finite, column.tolist()) for column in history.values()), strict=True))
    best = run.summary["best_epoch"] + 1
    note = f"Measured on the valid split; epoch {best} was the best and is the model that was saved."
    columns = tuple(str(name).replace("_", " ") for name in history)
    table = Table("epochs", "Epoch by epoch", note, columns, rows)
    caption = "Blue epochs left examples out, grey ones did not."
    return Section("kept", "Kept in each epoch", [], [Picture(svg, caption)], [table])


def scores_section(run: FinishedRun, examples: ExampleData) -> Section:
    """Show how the scores are distributed, and the data map.

    Parameters
    ----------
    run : FinishedRun
        The run.
    examples : ExampleData
        For the texts of the points.

    Returns
    -------
    Section
        With plots and tables.
    """
    scores, pictures, remarks = run.kept["score"].to_numpy(np.float64), [], []
    if np.isfinite(scores).any():
        svg = to_svg(
            lambda ax: plot_scores(scores, kept=run.kept["kept"] if run.prunes else None, ax=ax),
            name="scores",
            label="how the last scores of the examples are distributed",
        )
        pictures.append(Picture(svg, "The last score of every example; higher means harder."))
        low, first, third, high = np.quantile(scores[np.isfinite(scores)], [0, 0.25, 0.75, 1])
        remarks.append(
            f"The last scores run from {low:.3g} to {high:.3g}; half of them lie between {first:.3g} and {third:.3g}."
        )
        if "score_p50" in run.history:
            svg = to_svg(
                lambda ax: plot_score_quantiles(run.history, ax=ax),
                name="quantiles",
                label="median, 10 and 90 % quantile of the scores that each epoch was selected by",
            )
            pictures.append(Picture(svg, "The scores that each epoch was selected by."))
    else:
        remarks.append("This run had no scores: its selector needs none.")
    store = run.dynamics
    if store is not None:
        svg = to_svg(
            lambda ax: plot_cartography(
                store.variability, store.confidence, correctness=store.correctness, texts=examples.texts, ax=ax
            ),
            name="map",
            label="data map: confidence against variability of each example; the tables of examples have figures",
            size=(4.6, 3.6),
        )
        sampled = f" {N_SHOWN:,} of them are drawn at random." if run.n_examples > N_SHOWN else ""
        caption = (
            f"Each point is an example.{sampled} Top left: learned early. Right: the model wavered. Bottom left: never "
            "learned; look there for wrong labels. Examples that were pruned early have few visits."
        )
        pictures.append(Picture(svg, caption))
    else:
        remarks.append(
            "There is no data map: it needs a scorer that keeps training dynamics, such as --scorer confidence, aum or "
            "forgetting."
        )
    return Section("scores", "Scores", remarks, pictures, [])


def classes_section(run: FinishedRun, examples: ExampleData) -> Section:
    """Show how much of each class was kept.

    Parameters
    ----------
    run : FinishedRun
        A run that left examples out.
    examples : ExampleData
        For the classes.

    Returns
    -------
    Section
        With plots and tables.
    """
    overall = float(np.nanmean(run.kept_share))
    pictures, tables = [], []
    for what, classes in examples.classes.items():
        rates = keep_rates(classes, run.kept_share)
        if len(rates) == 0:  # no sentence has a slot
            continue
        name = what.replace(" ", "-")
        svg = to_svg(
            lambda ax, rates=rates: plot_keep_rates(rates, overall=overall, ax=ax),  # type: ignore[misc]
            name=name,
            label=f"share of each {what} that pruned epochs kept; the table has the figures",
            size=(4.6, 0.9 + 0.22 * min(len(rates), 24)),
        )
        pictures.append(Picture(svg, f"Each {what}; dashed: all examples, {overall:.0%}. Orange ones were kept less."))
        percents = [(100 * rates[name].to_numpy()).round(1).tolist() for name in ("share", "keep_rate")]
        rows = list(zip(map(str, rates.index), rates["n_examples"].tolist(), *percents, strict=True))
        columns = (what, "examples", "share of the data, %", "kept in pruned epochs, %")
        title, note = f"Each {what}", f"All {len(rows)}, least kept first."
        tables.append(Table(f"rates-{name}", title, note, columns, rows))
    remark = "Pruning shifts the mix of classes that the model sees: those kept less than the others are seen less."
    return Section("classes", "Classes", [remark], pictures, tables)
