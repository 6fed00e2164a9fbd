"""From judged labels to the lines of a review: which words belong together, what is suggested, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataprune.data.label_units import LabelUnits
from dataprune.data.review import ReviewLine, row_texts
from dataprune.data.tasks import Task
from dataprune.errors import DataError
from dataprune.scoring.label_errors import LabelErrors

if TYPE_CHECKING:
    import datasets

FURTHER = ("I-", "E-")
"""What tags of the further words of a span begin with."""


def review_lines(
    task: Task,
    dataset: datasets.Dataset,
    units: Mapping[str, LabelUnits],
    errors: Mapping[str, LabelErrors],
    *,
    why: str,
) -> list[ReviewLine]:
    """Make a line of each suspect, the worst first.

    Suspicious words that stand side by side, and the spans that they are in, are one line; its score is that of the
    worst word. The suggested tags of a line fit together: a span begins with ``B-``.

    Parameters
    ----------
    task : Task
        Knows the columns.
    dataset : datasets.Dataset
        The rows.
    units : mapping of str to LabelUnits
        Head -> labels.
    errors : mapping of str to LabelErrors
        Head -> what was found out about them.
    why : str
        What the scores are.

    Returns
    -------
    list of ReviewLine
        Lines whose suggestion is the given label are left out.

    Raises
    ------
    DataError
        If a tag has a space in it: tags of several words could not be told apart.
    """
    texts = row_texts(dataset, {role: task.column(role) for role in task.read_roles})
    source_rows = dataset["source_row"][:] if "source_row" in dataset.column_names else range(len(dataset))
    lines = []
    for head, unit in units.items():
        found = errors[head]
        tokens = None if unit.words is None else dataset[task.column("tokens")][:]
        for places, new in _groups(unit, found):
            given = [unit.names[label] for label in unit.labels[places]]
            suggested = [*new]
            if given == suggested:
                continue
            row = int(unit.rows[places[0]])
            worst = places[int(np.argmax(np.where(found.is_suspect[places], found.scores[places], -np.inf)))]
            words, which = "", ""
            if tokens is not None and unit.words is not None:
                first, last = int(unit.words[places[0]]), int(unit.words[places[-1]])
                numbers = str(first) if first == last else f"{first}-{last}"
                words = f"{numbers}: {' '.join(tokens[row][first : last + 1])}"
                which = f"{tokens[row][int(unit.words[worst])]!r}: "
            lines.append(
                ReviewLine(
                    source_row=int(source_rows[row]),
                    column=unit.column,
                    words=words,
                    given_label=" ".join(given),
                    suggested_label=" ".join(suggested),
                    text=texts[row],
                    why=which + _reason(unit, found, int(worst), why),
                    score=round(float(found.scores[worst]), 4),
                )
            )
    return sorted(lines, key=lambda line: (-line.score, line.source_row))


def _reason(unit: LabelUnits, found: LabelErrors, place: int, why: str) -> str:
    given, other = int(unit.labels[place]), int(found.suggested[place])
    p = found.probabilities[place]
    margin = "" if found.cutoff is None else f" {-found.scores[place]:.1f}, suspect up to {-found.cutoff:.1f}"
    return f"{why}{margin}; probability of {unit.names[given]} {p[given]:.0%}, of {unit.names[other]} {p[other]:.0%}"


def _groups(unit: LabelUnits, found: LabelErrors) -> Iterator[tuple[NDArray[np.int64], Sequence[str]]]:
    """Yield the places of labels that make one line, and the suggested names."""
    names, words = unit.names, unit.words
    if words is None:
        for place in np.flatnonzero(found.is_suspect):
            yield np.array([place]), [names[found.suggested[place]]]
        return
    spaced = next((name for name in names if len(name.split()) != 1), None)
    if spaced is not None:
        raise DataError(f"Tags in column {unit.column!r} must have no spaces in them to be reviewed, got {spaced!r}.")
    starts = _span_starts(unit)
    span = np.cumsum(starts) - 1
    is_doubtful = np.zeros(len(starts), bool)
    is_doubtful[np.isin(span, span[found.is_suspect])] = True
    likeliest = np.where(found.is_suspect, found.suggested, found.probabilities.argmax(-1))
    doubtful = np.flatnonzero(is_doubtful)
    cuts = np.flatnonzero(~_follows(unit, doubtful[:-1], doubtful[1:])) + 1
    for places in np.split(doubtful, cuts) if len(doubtful) else []:
        before = places[0] - 1
        has_before = before >= 0 and bool(_follows(unit, places[0:1] - 1, places[0:1])[0])
        previous = names[unit.labels[before]] if has_before else "O"
        new = []
        for place in places:
            name = names[likeliest[place]]
            if name.startswith("I-") and (previous[2:] != name[2:] or previous[:2] not in {"B-", "I-"}):
                name = f"B-{name[2:]}"
            new.append(name)
            previous = name
        yield places, new


def _follows(unit: LabelUnits, places: NDArray[np.int64], next_places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which labels are those of the next word of the same row."""
    assert unit.words is not None  # noqa: S101 - for the type checker
    adjacent = unit.words[next_places] == unit.words[places] + 1
    return np.asarray((unit.rows[places] == unit.rows[next_places]) & adjacent)


def _span_starts(unit: LabelUnits) -> NDArray[np.bool_]:
    """Say where a span begins; words outside of spans are spans of their own."""
    names = [unit.names[label] for label in unit.labels]
    places = np.arange(len(names))
    goes_on = np.zeros(len(names), bool)
    goes_on[1:] = _follows(unit, places[:-1], places[1:])
    for place in np.flatnonzero(goes_on):
        name, previous = names[place], names[place - 1]
        goes_on[place] = name.startswith(FURTHER) and previous != "O" and previous[2:] == name[2:]
    return ~goes_on
