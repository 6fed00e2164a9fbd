"""Tables of finished cells: means over seeds, paired differences to full data with 95 % intervals, counts, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from dataprune.runs.compare import paired_interval

BEGIN, END = "<!-- tables: written by nlu.py -->", "<!-- end of tables -->"
METRICS = {"frame_accuracy": "frame acc.", "span_f1": "span F1", "intent_accuracy": "intent acc."}
ABOUT_AS_MANY = 0.1  # by how much of a row's updates its partner's may differ
PARTS = ("train", "score", "select", "evaluate", "other")
Cells = Mapping[tuple[str, int], Mapping[str, Any]]


def with_tables(page: str, lines: Sequence[Mapping[str, Any]], suites: Mapping[str, Iterable[str]]) -> str:
    """Return a Markdown page with fresh tables between its two marks."""
    parts: list[str] = []
    for suite, methods in suites.items():
        cells = {(line["method"], line["seed"]): line for line in lines if line["suite"] == suite}
        names = [name for name in methods if any(method == name for method, _ in cells)]
        if names:
            tables = (_accuracy(cells, names), _effort(cells, names), _costs(cells, names))
            parts += [f"### {suite}", "", *(row for part in tables for row in (*part, ""))]
    return between_marks(page, BEGIN, END, parts)


def with_summary(page: str, lines: Sequence[Mapping[str, Any]], methods: Iterable[str]) -> str:
    """Return a Markdown page with a short table of one suite's `lines` between its two marks."""
    begin, end = "<!-- results: written by benchmarks/nlu.py -->", "<!-- end of results -->"
    cells = {(line["method"], line["seed"]): line for line in lines}
    rows = []
    for name in methods:
        mine = [cells[name, seed] for seed in seeds_of(cells, name)]
        if not mine:
            continue
        pairs = paired(cells, name)
        rows.append(
            [
                name,
                str(len(mine)),
                f"{100 * mean(map(_frames, mine)):.1f}",
                "" if name == "full" else interval([_frames(a) - _frames(b) for a, b in pairs]),
                f"{mean(line['n_updates'] for line in mine):,.0f}",
                f"{mean(a['cpu_seconds'] / b['cpu_seconds'] for a, b in pairs):.0%}",
            ]
        )
    short = table(["method", "seeds", "frame accuracy, %", "vs full (95 %)", "updates", "CPU time"], rows)
    return between_marks(page, begin, end, [*short, ""])


def draw_summary(lines: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """Draw one suite's accuracy against its CPU time as a share of that of full data with the same seed."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import PercentFormatter

    from dataprune.reporting import plot_pareto

    cells = {(line["method"], line["seed"]): line for line in lines}
    pairs = [pair for name in dict.fromkeys(name for name, _ in cells) for pair in paired(cells, name)]
    figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    plot_pareto(
        [line["method"] for line, _ in pairs],
        [line["cpu_seconds"] / full["cpu_seconds"] for line, full in pairs],
        [100 * line["metrics"]["test"]["frame_accuracy"] for line, _ in pairs],
        metric="frame accuracy, % (small: the seeds)",
        ax=ax,
    )
    ax.set(xlabel="CPU time against full data (dashed: Pareto front)")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _accuracy(cells: Cells, names: Sequence[str]) -> list[str]:
    first, *others = METRICS.values()
    heads = [first, "vs full", "vs random", *(head for title in others for head in (title, "vs full"))]
    chances, rows = [name for name, _ in cells if is_chance(name)], []
    for name in names:
        row = [name, str(len(seeds_of(cells, name)))]
        for metric in METRICS:
            values = [cells[name, seed]["metrics"]["test"][metric] for seed in seeds_of(cells, name)]
            full = paired(cells, name, _partner(cells, name, ("full", "full, float32")))
            pairs = [a["metrics"]["test"][metric] - b["metrics"]["test"][metric] for a, b in full]
            row += [f"{100 * mean(values):.2f}", interval(pairs)]
            if metric == next(iter(METRICS)):
                chance = paired(cells, name, _partner(cells, name, chances, same_updates=True))
                row.append(interval([_frames(a) - _frames(b) for a, b in chance]))
        rows.append(row)
    return table(["method", "seeds", *heads], rows)


def is_chance(name: str) -> bool:
    """Tell whether a method draws its examples anew, uniformly."""
    return name.startswith(("dynamic random", "recipe dynamic_random"))


def _partner(cells: Cells, name: str, among: Iterable[str], *, same_updates: bool = False) -> str:
    """Return which of some methods another is held against: one with all of its seeds, in its precision if there.

    The empty string if there is none, or `name` is one of them itself.
    """
    among, seeds = set(among), seeds_of(cells, name)
    mine = cells[name, seeds[0]]
    fitting = {
        other: cells[other, seeds[0]]
        for other in sorted(among)
        if name not in among and all((other, seed) in cells for seed in seeds)
    }
    if same_updates:
        n = mine["n_updates"]
        fitting = {other: line for other, line in fitting.items() if abs(line["n_updates"] - n) <= ABOUT_AS_MANY * n}

    def distance(other: str) -> tuple[bool, int]:
        line = fitting[other]
        is_other_precision = line["settings"].get("mixed_precision") != mine["settings"].get("mixed_precision")
        return is_other_precision, abs(line["n_updates"] - mine["n_updates"])

    return min(fitting, key=distance, default="")


def _frames(line: Mapping[str, Any]) -> float:
    return float(line["metrics"]["test"]["frame_accuracy"])


def _same_precision(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[float]:
    """Return the ratios of CPU time, of runs whose times compare."""
    return [
        a["cpu_seconds"] / b["cpu_seconds"]
        for a, b in pairs
        if a["settings"].get("mixed_precision") == b["settings"].get("mixed_precision")
    ]


def _effort(cells: Cells, names: Sequence[str]) -> list[str]:
    header = ["method", "updates", "tokens trained", "tokens scored", "compute", "CPU s", "CPU time"]
    rows = []
    for name in names:
        mine = [cells[name, seed] for seed in seeds_of(cells, name)]
        ratios = _same_precision([*paired(cells, name), *paired(cells, name, "full, float32")])
        counts = [mean(line[what] for line in mine) for what in ("n_updates", "tokens_trained", "tokens_scored")]
        total = mean(line["seconds"]["total"] for line in mine)
        shares = [mean(line["seconds"][part] for line in mine) / total for part in PARTS]
        rows.append(
            [
                name,
                *(f"{count:,.0f}" for count in counts),
                f"{mean(line['compute_fraction'] * line['settings']['n_epochs'] for line in mine):.1f} epochs",
                f"{mean(line['cpu_seconds'] for line in mine):.0f}",
                f"{mean(ratios):.0%}" if ratios else "",
                *(f"{share:.1%}" for share in shares),
                f"{total:.0f}",
            ]
        )
    return table([*header, *PARTS, "wall s"], rows)


def _costs(cells: Cells, names: Sequence[str]) -> list[str]:
    lines, observed = [], []
    for name in names:
        mine = [cells[name, seed] for seed in seeds_of(cells, name)]
        if mine[0]["settings"].get("refresh") == "observed":
            observed += [
                (line["seconds"]["score"] + line["seconds"]["select"]) / line["seconds"]["train"] for line in mine
            ]
        ratios = [ratio for line in mine for ratio in pass_costs(line["history"])]
        if ratios:
            lines.append(
                f"- {name}: a scoring pass over everything costs {mean(ratios):.3f} of a full training epoch "
                f"(at most {max(ratios):.3f})."
            )
    if observed:
        lines.append(
            f"- Observed scores: observing and selecting cost {max(observed):.2%} of the training time at most."
        )
    return lines


def pass_costs(history: Mapping[str, Sequence[str]]) -> list[float]:
    """Return the time of each scoring pass as a share of the run's mean full training epoch.

    What a batch policy looks at is no pass, and its epochs are not full.
    """
    if "left_out" in history:
        return []
    scored = [float(n) for n in history.get("scored", [])]
    kept = [int(n) for n in history["kept"]]
    full_epochs = [float(s) for s, n in zip(history["train_s"], kept, strict=True) if n == max(kept)]
    return [float(history["score_s"][epoch]) / mean(full_epochs) for epoch, n in enumerate(scored) if n > 0]


def interval(differences: Sequence[float]) -> str:
    """Return the mean of paired differences with its 95 % interval (Student's t), in points."""
    if len(differences) < 2:
        return f"{100 * mean(differences):+.2f}" if differences else ""
    middle, half = paired_interval(differences)
    return f"{100 * middle:+.2f} ± {100 * half:.2f}"


def seeds_of(cells: Cells, name: str) -> list[int]:
    """Return the seeds that a method was run with."""
    return sorted(seed for method, seed in cells if method == name)


def paired(cells: Cells, name: str, against: str = "full") -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the cells of a method beside those of another, seed by seed."""
    return [(cells[name, seed], cells[against, seed]) for seed in seeds_of(cells, name) if (against, seed) in cells]


def between_marks(page: str, begin: str, end: str, lines: Iterable[str]) -> str:
    """Return a Markdown page with other lines between two marks."""
    before, rest = page.split(begin)
    return "\n".join([before + begin, "", *lines, end + rest.split(end)[1]])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
