"""What pruning kept and saved, and against what."""

from __future__ import annotations

from dataclasses import dataclass

from dataprune.reporting.run_folder import FinishedRun


@dataclass(frozen=True)
class Fact:
    """One figure of a headline.

    Parameters
    ----------
    title : str
        What it is.
    value : str
        The figure.
    detail : str
        What it is made of.
    """

    title: str
    value: str
    detail: str


def headline(run: FinishedRun, baseline: FinishedRun | None) -> tuple[list[Fact], list[str]]:
    """Say what pruning kept and saved, and against what.

    Parameters
    ----------
    run : FinishedRun
        The run.
    baseline : FinishedRun or None
        Its run on full data; without one, time and updates are held against the plan of full data.

    Returns
    -------
    facts : list of Fact
        Figures.
    remarks : list of str
        What one has to know to read them.
    """
    metric, n_updates = run.metric.replace("_", " "), run.summary["n_updates"]
    where = f"{metric} on the {run.split} split"
    compute = Fact(
        "Compute",
        f"{run.summary['compute_fraction']:.0%}",
        "of as many epochs on full data, in tokens; a scored token counts a third of a trained one",
    )
    if not run.prunes:
        facts = [
            Fact("Result", _result(run), where),
            Fact("Time", f"{run.seconds:,.1f} s", "the whole run"),
            compute,
        ]
        return facts, ["No epoch of this run left examples out: it is a run on full data."]
    if baseline is None:
        saved = _saved(run.seconds, run.seconds_full)
        facts = [
            Fact("Result", _result(run), f"{where}; that of full data is not known"),
            Fact("Time saved, estimated", saved, f"{run.seconds:,.1f} s; full data about {run.seconds_full:,.1f} s"),
            Fact(
                "Updates saved",
                _saved(n_updates, run.n_updates_full),
                f"{n_updates:,} made; the plan of full data has {run.n_updates_full:,}",
            ),
            compute,
        ]
        remark = (
            "No run on full data was given: nobody knows what it would have reached, and its time is estimated from "
            "this run's seconds per token. For a measured answer, train once with --keep-fraction 1 and name both "
            f"folders: dataprune report {run.path} FULL_RUN."
        )
        return facts, [remark]
    difference = run.result - baseline.result
    points = f"{100 * difference:+.2f} points" if run.is_share else f"{difference:+.4g}"
    has_ratio = run.is_share and baseline.result > 0
    facts = [
        Fact(
            "Accuracy kept" if "accuracy" in run.metric else "Result kept" if has_ratio else "Difference",
            f"{run.result / baseline.result:.1%}" if has_ratio else points,
            f"{_result(run)} against {_result(baseline)} ({points}), {where}",
        ),
        Fact(
            "Time saved",
            _saved(run.seconds, baseline.seconds),
            f"{run.seconds:,.1f} s against {baseline.seconds:,.1f} s, scoring and selecting included",
        ),
        Fact(
            "Updates saved",
            _saved(n_updates, baseline.summary["n_updates"]),
            f"{n_updates:,} against {baseline.summary['n_updates']:,}",
        ),
        compute,
    ]
    remarks = [
        f"The baseline is {baseline.name}: {len(baseline.history)} epochs on all {baseline.n_examples:,} examples."
    ]
    if len(baseline.history) != len(run.history):
        remarks.append(f"This run has {len(run.history)} epochs: the two differ in more than the pruning.")
    if baseline.config["seed"] != run.config["seed"]:
        remarks.append(f"Their seeds differ ({run.config['seed']} and {baseline.config['seed']}).")
    return facts, remarks


def _result(run: FinishedRun) -> str:
    return f"{run.result:.2%}" if run.is_share else f"{run.result:.4g}"


def _saved(spent: float, full: float) -> str:
    share = 1 - spent / full
    return f"{share:.0%}" if share >= 0 else f"none: {-share:.0%} more"
