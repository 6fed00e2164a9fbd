"""Review files: doubtful labels that a person goes through, and the corrected data set that comes out."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataprune.data.files import write_atomically
from dataprune.data.roles import find_columns
from dataprune.errors import DataError, InvalidValueError

if TYPE_CHECKING:
    import datasets

DECISIONS = ("", "accept", "keep", "drop", "own")
"""What a person may write; nothing is as ``keep``, and ``own`` may be left out where there is an own label."""

REVIEW_FORMATS = (".csv", ".jsonl")
"""Endings of review files."""

ALWAYS_FILLED = ("source_row", "column", "words", "given_label", "suggested_label", "text")
"""Columns that a review cannot do without."""

WORDS = re.compile(r"(\d+)(?:-(\d+))?: ")

N_SHOWN = 12
"""Known labels that a message lists."""

LONGEST_TEXT = 60
"""Of a text in a message."""

PAIR_MARK = " ||| "
"""Between the two texts of a pair."""


@dataclass(frozen=True)
class ReviewLine:
    """One doubtful label, and what a person decided.

    Parameters
    ----------
    source_row : int
        Row in the data, counted from 0.
    column : str
        Column of the data that holds the label.
    words : str
        Which words it is of, where each word has a label, such as ``"3-4: new york"``, counted from 0; else empty.
    given_label : str
        The label in the data; those of several words are separated by spaces.
    suggested_label : str
        What the models think instead.
    text : str
        Text of the row; of a pair, both.
    why : str
        What speaks against the label.
    score : float
        How much; higher = more suspicious.
    decision : str, default=""
        One of `DECISIONS`.
    own_label : str, default=""
        Another label than the two.

    Examples
    --------
    >>> line = ReviewLine(7, "intent", "", "PlayMusic", "SearchWork", "find a song", "", 2.5, decision="accept")
    >>> line.new_label
    'SearchWork'
    """

    source_row: int
    column: str
    words: str
    given_label: str
    suggested_label: str
    text: str
    why: str
    score: float
    decision: str = ""
    own_label: str = ""

    @property
    def new_label(self) -> str | None:
        """The label to write into the data; None where it stays, or the row goes."""
        if self.own_label:
            return self.own_label
        return self.suggested_label if self.decision == "accept" else None


COLUMNS = (
    *("decision", "own_label", "given_label", "suggested_label", "words"),
    *("text", "why", "score", "column", "source_row"),
)
"""In the order of the file: what a person writes and compares comes first."""


def check_review_path(path: str | Path) -> None:
    """Raise unless a review file can be written under that name.

    Parameters
    ----------
    path : str or Path
        File to make; its ending says the format.

    Raises
    ------
    InvalidValueError
        If the ending is unknown, the folder around it is missing, or a folder of that name exists.

    Examples
    --------
    >>> check_review_path("suspects.txt")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The review file suspects.txt must end in .csv or .jsonl.
    """
    path = Path(path)
    if path.suffix not in REVIEW_FORMATS:
        raise InvalidValueError(f"The review file {path} must end in {' or '.join(REVIEW_FORMATS)}.")
    if not path.parent.is_dir():
        raise InvalidValueError(f"The folder {path.parent} does not exist. Make it first, or choose another.")
    if path.is_dir():
        raise InvalidValueError(f"{path} is a folder that exists already. Choose another name.")


def check_undecided(path: str | Path) -> None:
    """Raise if there is a file of that name that somebody has worked on.

    Parameters
    ----------
    path : str or Path
        Review file to write.

    Raises
    ------
    InvalidValueError
        If it is there, and has decisions or is no review.

    Examples
    --------
    >>> check_undecided("missing.csv")
    """
    if not Path(path).exists():
        return
    try:
        is_decided = any(line.decision or line.own_label for line in read_review(path))
    except DataError as error:
        raise InvalidValueError(f"{path} exists and is no review ({error}) Choose another name.") from None
    if is_decided:
        raise InvalidValueError(f"The review {path} has decisions in it. Apply them, or choose another name.")


def write_review(path: str | Path, lines: Sequence[ReviewLine]) -> None:
    """Write a review file, atomically.

    Parameters
    ----------
    path : str or Path
        ``.csv``, for spreadsheets, or ``.jsonl``, one object a line.
    lines : sequence of ReviewLine
        In the order of the file.

    Raises
    ------
    InvalidValueError
        If the path is no good, see `check_review_path`.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_review(f"{folder}/a.csv", [ReviewLine(7, "label", "", "good", "bad", "what a waste", "", 2.5)])
    ...     print(Path(folder, "a.csv").read_text("utf-8-sig"), end="")
    decision,own_label,given_label,suggested_label,words,text,why,score,column,source_row
    ,,good,bad,,what a waste,,2.5,label,7
    """
    check_review_path(path)
    rows = [{name: asdict(line)[name] for name in COLUMNS} for line in lines]

    def write(part: Path) -> None:
        if Path(path).suffix == ".jsonl":
            part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            return
        # Without the mark, spreadsheets take the file for one in the local code page.
        with part.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def read_review(path: str | Path) -> list[ReviewLine]:
    """Read a review file that a person may have edited.

    Parameters
    ----------
    path : str or Path
        From `write_review`. Rows may be removed and sorted; a CSV file may come back with semicolons.

    Returns
    -------
    list of ReviewLine
        Its lines.

    Raises
    ------
    DataError
        If the file is missing or broken, or a decision is unknown or contradicts itself; the message names the line.

    Examples
    --------
    >>> read_review("missing.csv")
    Traceback (most recent call last):
    dataprune.errors.DataError: The review file missing.csv does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"The review file {path} does not exist.")
    if path.suffix not in REVIEW_FORMATS:
        raise DataError(f"The review file {path} must end in {' or '.join(REVIEW_FORMATS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"The review file {path} is not in UTF-8. Save it as 'CSV UTF-8'.") from None
    rows = _json_rows(text, path) if path.suffix == ".jsonl" else _csv_rows(text, path)
    return [_line(row, number=number, path=path) for number, row in rows]


def _json_rows(text: str, path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise DataError(f"Line {number} of {path} is not valid JSON ({error.msg}).") from None
            if not isinstance(rows[-1][1], dict):
                raise DataError(f"Line {number} of {path} must be a JSON object.")
    return rows


def _csv_rows(text: str, path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    header = text.partition("\n")[0]
    # Where the decimal point is a comma, spreadsheets separate by semicolons.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if header.count(";") > 1 else ",")
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"Line {reader.line_num} of {path} cannot be read: {error}.") from None


def _line(row: Mapping[str, Any], *, number: int, path: Path) -> ReviewLine:
    place = f"Line {number} of {path}"
    missing = [name for name in ALWAYS_FILLED if row.get(name) is None]
    if missing:
        raise DataError(f"{place} has no {missing[0]!r}. Keep the columns that `dataprune suspects` wrote.")
    try:
        source_row, score = int(row["source_row"]), float(str(row.get("score") or "nan").replace(",", "."))
    except (TypeError, ValueError):
        raise DataError(
            f"{place} must have numbers as 'source_row' and 'score', got {row['source_row']!r} and {row['score']!r}."
        ) from None
    decision, own_label, why = (str(row.get(name) or "").strip() for name in ("decision", "own_label", "why"))
    if decision.lower() not in DECISIONS:
        raise DataError(
            f"{place} must have one of {', '.join(DECISIONS[1:])} or nothing as its decision, got {decision!r}. "
            "A label of your own goes into 'own_label'."
        )
    line = ReviewLine(
        source_row=source_row,
        **{name: str(row[name]) for name in ALWAYS_FILLED if name != "source_row"},
        why=why,
        score=score,
        decision=decision.lower(),
        own_label=own_label,
    )
    if line.decision == "own" and not line.own_label:
        raise DataError(f"{place} has the decision 'own', but no 'own_label'. Fill it in.")
    if line.own_label and line.decision not in {"", "own"}:
        raise DataError(f"{place} has the decision {line.decision!r} and an 'own_label' as well. Clear one of them.")
    return line


def apply_review(
    dataset: datasets.Dataset,
    lines: Sequence[ReviewLine],
    *,
    columns: Mapping[str, str] | None = None,
    place: str = "the data",
) -> tuple[datasets.Dataset, dict[str, int]]:
    """Return the corrected data set.

    Every line has to fit the data, those without a decision, too: a review of other rows changes nothing.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows that were reviewed, as they were read from their file: `LoadedData.splits` may have fewer.
    lines : sequence of ReviewLine
        From `read_review`.
    columns : mapping of str to str, optional
        Role -> column, where the names are not common ones.
    place : str, default="the data"
        What messages call the data.

    Returns
    -------
    dataset : datasets.Dataset
        The same columns; dropped rows are gone.
    counts : dict of str to int
        How many labels were ``corrected``, how many rows ``dropped``, how many lines ``kept`` the label.

    Raises
    ------
    DataError
        If a line's row, text or given label is not that of the data, two lines change the same label, or a new label is
        none of the column's; the message names the row.

    Examples
    --------
    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"text": ["fine", "dull"], "label": ["good", "good"]})
    >>> line = ReviewLine(1, "label", "", "good", "bad", "dull", "", 2.5, decision="own", own_label="good")
    >>> apply_review(rows, [line])[1]
    {'corrected': 1, 'dropped': 0, 'kept': 0}
    """
    roles = find_columns(dataset, columns, place=place)
    reviewed = _Reviewed(dataset, roles, place)
    dropped: set[int] = set()
    n_corrected = n_kept = 0
    for line in lines:
        labels = reviewed.check(line)
        if line.decision == "drop":
            dropped.add(line.source_row)
        elif line.new_label is None:
            n_kept += 1
        else:
            reviewed.change(line, labels)
            n_corrected += 1
    corrected = reviewed.corrected().select([row for row in range(len(dataset)) if row not in dropped])
    return corrected, {"corrected": n_corrected, "dropped": len(dropped), "kept": n_kept}


class _Reviewed:
    """A data set, and the changes that a review makes to it."""

    def __init__(self, dataset: datasets.Dataset, roles: Mapping[str, str], place: str) -> None:
        self.dataset, self.tags, self.place = dataset, roles.get("slots"), place
        self.texts = _texts(dataset, roles)
        self.names: dict[str, list[list[str]]] = {}  # column -> names of the labels of each row
        self.new: dict[str, dict[int, dict[int, str]]] = {}  # column -> row -> position -> new name

    def check(self, line: ReviewLine) -> slice:
        """Raise unless a line fits the data, and return which labels of its row it is of."""
        dataset, place, row, column = self.dataset, self.place, line.source_row, line.column
        if not 0 <= row < len(dataset):
            raise DataError(f"The review has a row {row}, but {place} has {len(dataset)} rows. Is it of other data?")
        if column not in dataset.column_names:
            raise DataError(f"The review has a column {column!r}, but {place} has {', '.join(dataset.column_names)}.")
        if _plain(line.text) not in self.texts[row]:
            there = min(self.texts[row], key=len, default="")
            raise DataError(
                f"Row {row} of {place} has another text than the review: {_short(there)!r} there, "
                f"{_short(line.text)!r} here. Apply a review to the data that it was made of."
            )
        if column not in self.names:
            self.names[column] = [self._names(column, value) for value in dataset[column][:]]
        labels = self.names[column][row]
        span = _span(line, n_words=len(labels), place=place)
        given = " ".join(labels[span])
        if given != line.given_label:
            raise DataError(
                f"Row {row} of {place} has the label {given!r} in {column!r}"
                f"{f' for {line.words!r}' if line.words else ''}, but {line.given_label!r} in the review. "
                "Apply a review to the data that it was made of, once."
            )
        return span

    def change(self, line: ReviewLine, span: slice) -> None:
        """Take in the new label of a checked line."""
        row, column = line.source_row, line.column
        new = (line.new_label or "").split() if line.words else [line.new_label or ""]
        if len(new) != span.stop - span.start:
            raise DataError(
                f"The new label of row {row} must have one tag for each word of {line.words!r}, got {' '.join(new)!r}."
            )
        known = self._known(column)
        for name in new:
            if name not in known:
                some = ", ".join(sorted(known)[:N_SHOWN]) + (", ..." if len(known) > N_SHOWN else "")
                raise DataError(
                    f"The new label of row {row} must be one of those in column {column!r} ({some}), got {name!r}."
                )
        changes = self.new.setdefault(column, {}).setdefault(row, {})
        if not changes.keys().isdisjoint(range(span.start, span.stop)):
            raise DataError(f"The review changes {column!r} of row {row} twice. Remove one of the lines.")
        changes.update(zip(range(span.start, span.stop), new, strict=True))

    def corrected(self) -> datasets.Dataset:
        """Return the data set with all changes."""
        dataset = self.dataset
        for column, rows in self.new.items():
            values = list(dataset[column][:])
            for row, changes in rows.items():
                names = [changes.get(position, name) for position, name in enumerate(self.names[column][row])]
                values[row] = self._value(column, values[row], names)
            order, feature = dataset.column_names, dataset.features[column]
            dataset = dataset.remove_columns(column).add_column(column, values, feature=feature).select_columns(order)
        return dataset

    def _inner(self, column: str) -> Any:
        feature = self.dataset.features[column]
        return getattr(feature, "feature", feature)  # of a list: the type of its members

    def _names(self, column: str, value: Any) -> list[str]:
        if isinstance(value, str) and column == self.tags:
            return value.split()
        names = getattr(self._inner(column), "names", None)
        return [str(one if names is None else names[one]) for one in (value if isinstance(value, list) else [value])]

    def _known(self, column: str) -> set[str]:
        names = {name for labels in self.names[column] for name in labels}
        names |= {*(getattr(self._inner(column), "names", None) or ())}
        # The first and the further words of a span: one of the two may not occur.
        kinds = {name[2:] for name in names if name[:2] in {"B-", "I-"}} if column == self.tags else set()
        return names | {f"{part}-{kind}" for kind in kinds for part in "BI"}

    def _value(self, column: str, old: Any, names: list[str]) -> Any:
        """Return labels as the column holds them."""
        if isinstance(old, str) and column == self.tags:
            return " ".join(names)
        inner = self._inner(column)
        ids, kind = getattr(inner, "names", None), str(getattr(inner, "dtype", ""))
        values: list[Any] = names
        if ids is not None:
            values = [ids.index(name) for name in names]
        elif kind == "bool":
            values = [name == "True" for name in names]
        elif "int" in kind:
            values = [int(name) for name in names]
        return values if isinstance(old, list) else values[0]


def row_texts(dataset: datasets.Dataset, roles: Mapping[str, str]) -> list[str]:
    """Return the text of each row, as a review shows it.

    Parameters
    ----------
    dataset : datasets.Dataset
        The rows.
    roles : mapping of str to str
        Role -> column: ``text``, with ``text_pair`` for pairs, or ``tokens``.

    Returns
    -------
    list of str
        Words are joined by spaces, pairs by a mark.

    Examples
    --------
    >>> import datasets
    >>> row_texts(datasets.Dataset.from_dict({"a": ["one"], "b": ["two"]}), {"text": "a", "text_pair": "b"})
    ['one ||| two']
    """
    used = [roles[role] for role in ("text", "text_pair") if role in roles] or [roles["tokens"]]
    parts = [[v if isinstance(v, str) else " ".join(v) for v in dataset[column][:]] for column in used]
    return [PAIR_MARK.join(values) for values in zip(*parts, strict=True)]


def _texts(dataset: datasets.Dataset, roles: Mapping[str, str]) -> list[set[str]]:
    """Return the texts that each row may be shown by: its text, the pair, the words."""
    ways = [{role} for role in ("text", "tokens") if role in roles]
    ways += [{"text", "text_pair"}] if {"text", "text_pair"} <= roles.keys() else []
    shown = [row_texts(dataset, {role: roles[role] for role in way}) for way in ways]
    return [{_plain(text) for text in texts} for texts in zip(*shown, strict=True)] or [set()] * len(dataset)


def _plain(text: str) -> str:
    return " ".join(text.split())  # spreadsheets change the ends of lines


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _span(line: ReviewLine, *, n_words: int, place: str) -> slice:
    if not line.words:
        return slice(0, n_words)
    found = WORDS.match(line.words)
    if not found:
        raise DataError(
            f"The review must say which words of row {line.source_row}, such as '3-4: new york', got {line.words!r}."
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < n_words:
        raise DataError(
            f"The review is of the words {line.words!r} of row {line.source_row}, but that row of {place} has "
            f"{n_words} words."
        )
    return slice(first, last + 1)
