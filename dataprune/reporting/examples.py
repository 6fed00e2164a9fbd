"""The examples of a run: their texts and classes, and the tables that a report shows of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.data.review import REVIEW_FORMATS, read_review
from dataprune.errors import DataPruneError
from dataprune.reporting.run_folder import FinishedRun

N_ROWS = 100
LONGEST_TEXT = 300


@dataclass(frozen=True)
class ExampleData:
    """What the data say of each train example.

    Parameters
    ----------
    note : str
        Where it comes from, or why it is not there.
    texts : list of str or None, default=None
        The text of each example.
    classes : dict of str to list, default={}
        What the classes are (``class``, ``intent``, ``slot type``) -> the class of each example, or all of its classes.
    """

    note: str
    texts: list[str] | None = None
    classes: dict[str, list[Any]] = field(default_factory=dict)


def read_examples(run: FinishedRun) -> ExampleData:
    """Load the data that a run was trained on, to show texts and classes beside its numbers.

    Parameters
    ----------
    run : FinishedRun
        The run.

    Returns
    -------
    ExampleData
        Without texts where the data are gone or are others by now; the note says so.
    """
    from dataprune.runs.run import data_of_run, load_data_of_run

    config = run.config
    without = "Texts and classes are left out:"
    try:
        data = load_data_of_run(run.summary)
    except (DataPruneError, OSError) as error:
        return ExampleData(f"{without} {error}")
    train, roles = data.splits["train"], data.columns
    rows = np.asarray(train["source_row"][:], np.int64)
    if not np.array_equal(rows, run.kept["source_row"].to_numpy()):
        here = f"{config['data']} has {len(train):,} train rows now"
        return ExampleData(f"{without} {here}, other than the {run.n_examples:,} of the run.")
    note = f"Texts are those that {config['data']} has now."
    changed = _changed_since(data_of_run(run.summary), run.path / "run.json")
    if changed is not None:
        note += f" The file {changed} is newer than the run: check that its rows are still the same."
    texts = _texts(train, roles)
    classes: dict[str, list[Any]] = {}
    for role, title in (("label", "class"), ("intent", "intent")):
        if role in roles and not str(train.features[roles[role]].dtype).startswith(("float", "double")):
            classes[title] = _names(train, roles[role])
    if "slots" in roles:
        types = [
            sorted({tag.partition("-")[2] or tag for tag in tags} - {"O"}) for tags in _names(train, roles["slots"])
        ]
        classes["slot type"] = types
    return ExampleData(note, texts, classes)


def _texts(train: Any, roles: dict[str, str]) -> list[str] | None:
    """Return what to show of each example: its text, its prompt and response, or the path of its image."""
    from dataprune.data.language import CausalLMTask

    if CausalLMTask.fits(roles):
        return CausalLMTask(columns=roles).texts(train)
    column = roles.get("text", roles.get("tokens", roles.get("image")))
    if column is None or not ({"text", "tokens"} & {*roles} or train.features[column].dtype == "string"):
        return None  # pixels
    return [one if isinstance(one, str) else " ".join(map(str, one)) for one in train[column][:]]


def _names(dataset: Any, column: str) -> list[Any]:
    feature = dataset.features[column]
    names = getattr(getattr(feature, "feature", feature), "names", None)

    def name(value: Any) -> Any:
        if isinstance(value, list):
            return [name(one) for one in value]
        return str(value if names is None else names[value])

    return [name(value) for value in dataset[column][:]]


def _changed_since(data: Path | None, run_file: Path) -> Path | None:
    if data is None:  # of the hub
        return None
    files = sorted(data.iterdir()) if data.is_dir() else [data]
    written = run_file.stat().st_mtime
    return next((file for file in files if file.is_file() and file.stat().st_mtime > written), None)


@dataclass(frozen=True)
class Table:
    """Rows for a page.

    Parameters
    ----------
    name : str
        For ids.
    title : str
        Heading.
    note : str
        What its rows are, and how many there are.
    columns : tuple of str
        Headings.
    rows : list of tuple
        Texts and numbers; None is shown as a dash.
    """

    name: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def example_tables(run: FinishedRun, examples: ExampleData) -> list[Table]:
    """Choose the examples worth a look.

    Parameters
    ----------
    run : FinishedRun
        The run.
    examples : ExampleData
        Their texts.

    Returns
    -------
    list of Table
        Hardest; never pruned and always pruned, where epochs were pruned; never learned and most forgotten, where the
        run kept its dynamics. Each has at most `N_ROWS` rows and says of how many.
    """
    scores = run.kept["score"].to_numpy(np.float64)
    choices: dict[str, tuple[NDArray[Any], str]] = {}
    if np.isfinite(scores).any():
        hardest = _by(-scores)[: int(np.isfinite(scores).sum())]
        choices["Hardest"] = hardest, "scored examples, highest last score first"
    if run.prunes:
        always, never = np.flatnonzero(run.kept_share >= 1), np.flatnonzero(run.kept_share <= 0)
        kept = always[_by(-scores[always])]
        choices["Never pruned"] = kept, "examples that every pruned epoch trained on, hardest first"
        pruned = never[_by(scores[never])]
        choices["Always pruned"] = pruned, "examples that no pruned epoch trained on, easiest first"
    if run.dynamics is not None:
        lost = np.flatnonzero(run.dynamics.never_learned)
        lost = lost[_by(run.dynamics.confidence[lost])]
        choices["Never learned"] = lost, "examples that no visit predicted right, least confident first"
        events = run.dynamics.n_forgetting_events
        forgotten = np.flatnonzero(events > 0)
        forgotten = forgotten[_by(-events[forgotten])]
        choices["Most forgotten"] = forgotten, "examples that were predicted right and then wrong, most often first"
    if not np.isfinite(scores).any():  # there is no order
        choices = {title: (rows, text.partition(",")[0]) for title, (rows, text) in choices.items()}
    return [_table(run, examples, title, rows, text=text) for title, (rows, text) in choices.items()]


def suspects_table(run: FinishedRun) -> Table | None:
    """Show the labels that are probably wrong, where the run's folder has a review of them.

    Parameters
    ----------
    run : FinishedRun
        The run; ``dataprune suspects`` may have written ``suspects.csv`` or ``suspects.jsonl`` into its folder.

    Returns
    -------
    Table or None
        The worst first, at most `N_ROWS`; None without such a file.
    """
    paths = [run.path / f"suspects{ending}" for ending in REVIEW_FORMATS]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    lines = sorted(read_review(path), key=lambda line: -line.score)
    n = f"{len(lines):,}" if len(lines) <= N_ROWS else f"The first {N_ROWS} of {len(lines):,}"
    what = "label that is" if len(lines) == 1 else "labels that are"
    note = f"{n} {what} probably wrong, from {path.name}, the most suspicious first."
    shown = lines[:N_ROWS]
    columns: dict[str, list[Any]] = {
        "text": [_shorten(line.text) for line in shown],
        "words": [line.words or None for line in shown],
        "given": [line.given_label for line in shown],
        "suggested": [line.suggested_label for line in shown],
        "score": [finite(line.score) for line in shown],
        "why": [line.why for line in shown],
        "source row": [line.source_row for line in shown],
    }
    if not any(columns["words"]):  # labels of whole texts
        del columns["words"]
    return Table("suspects", "Suspects", note, tuple(columns), list(zip(*columns.values(), strict=True)))


def _by(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.argsort(values, kind="stable")


def _table(run: FinishedRun, examples: ExampleData, title: str, rows: NDArray[Any], *, text: str) -> Table:
    shown = rows[:N_ROWS]
    all_of = f"{len(rows):,}" if len(rows) <= N_ROWS else f"The first {N_ROWS} of {len(rows):,}"
    columns: dict[str, list[Any]] = {}
    if examples.texts is not None:
        columns["text"] = [_shorten(examples.texts[row]) for row in shown]
    for what, names in examples.classes.items():
        if what != "slot type":
            columns[what] = [names[row] for row in shown]
    columns["score"] = [finite(value) for value in run.kept["score"].to_numpy(np.float64)[shown].tolist()]
    columns["epochs trained"] = run.kept["n_epochs_trained"].to_numpy()[shown].tolist()
    if run.dynamics is not None:
        columns["confidence"] = [finite(value) for value in run.dynamics.confidence[shown].tolist()]
        columns["forgotten"] = run.dynamics.n_forgetting_events[shown].tolist()
    columns["source row"] = run.kept["source_row"].to_numpy()[shown].tolist()
    note = f"{all_of} {text}." if len(rows) else f"There are no {text.partition(',')[0]}."
    return Table(
        title.lower().replace(" ", "-"), title, note, tuple(columns), list(zip(*columns.values(), strict=True))
    )


def finite(value: Any) -> Any:
    """Return a value for a table: None where it is no finite number.

    Parameters
    ----------
    value : object
        A number, or a text.

    Returns
    -------
    object
        The value, or None.

    Examples
    --------
    >>> finite(float("nan")), finite(3), finite("a")
    (None, 3, 'a')
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
