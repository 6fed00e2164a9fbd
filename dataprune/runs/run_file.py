"""Run files: a run's settings as TOML, in the words of `RunConfig`; every run writes its own."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tomli_w

from dataprune.data.files import write_atomically
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.runs.config import COMPOSITION, RunConfig

KINDS = {str: "a text", int: "a whole number", float: "a number", dict: "a table"}


@dataclass(frozen=True)
class RunFile:
    """What a run file says, and where.

    Parameters
    ----------
    path : str, default=""
        The file.
    settings : dict of str to object, default={}
        Settings of `RunConfig` that it has.
    lines : dict of str to int, default={}
        Setting to the line that it is on, from 1.
    """

    path: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def explain(self, message: str, *, overridden: Collection[str] = ()) -> str:
        """Return a message about a setting with the line that it is on.

        Parameters
        ----------
        message : str
            What the library says of a setting.
        overridden : collection of str, default=()
            Settings that come from elsewhere.

        Returns
        -------
        str
            The message itself if it is of no setting of this file.

        Examples
        --------
        >>> RunFile("run.toml", lines={"n_epochs": 3}).explain("train.n_epochs must be at least 1, got 0.")
        'run.toml, line 3: n_epochs must be at least 1, got 0.'
        """
        found = re.match(r"[\w.()]+\.(\w+) must", message)
        names = [found[1], f"{found[1]}s"] if found else []  # --recipe-arg sets recipe_args
        name = next((name for name in names if name in self.lines and name not in overridden), None)
        if found is None or name is None:
            return message
        return f"{self.path}, line {self.lines[name]}: {name} must{message[found.end() :]}"


def read_run_file(path: str | Path) -> RunFile:
    """Read and check a run file.

    Parameters
    ----------
    path : str or Path
        TOML with settings of `RunConfig`; paths in it start from the current folder, as on the command line.

    Returns
    -------
    RunFile
        Settings and their lines.

    Raises
    ------
    StateError
        If the file is missing or no TOML.
    InvalidValueError
        If it has an unknown setting.
    InvalidTypeError
        If a setting is of the wrong kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors write the mark
        settings = tomllib.loads(text)
    except FileNotFoundError:
        raise StateError(f"The run file {path} does not exist.") from None
    except ValueError as error:
        raise StateError(f"The run file {path} is no TOML: {error}.") from None
    lines = _find_lines(text)
    hints = get_type_hints(RunConfig)
    for name, value in settings.items():
        where = f"{path}, line {lines.get(name, 1)}"
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else f" Settings are {', '.join(hints)}."
            raise InvalidValueError(f"{where}: there is no setting {name!r}.{meant}")
        settings[name] = checked_setting(name, value, owner=f"{where}: {name}")
    return RunFile(str(path), _without_defaults(settings), lines)


def _without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the defaults that earlier versions wrote where a recipe or a budget decides."""
    decided = set(COMPOSITION) if "recipe" in settings and settings.keys() >= COMPOSITION.keys() else set()
    decided |= {"keep_fraction"} if settings.get("budget") else set()
    return {name: value for name, value in settings.items() if not (name in decided and value == COMPOSITION[name])}


def write_run_file(path: str | Path, config: RunConfig) -> None:
    """Write all settings of a run, atomically.

    Parameters
    ----------
    path : str or Path
        The file.
    config : RunConfig
        The settings; None, which TOML lacks, is left out.

    Examples
    --------
    >>> import tempfile
    >>> config = RunConfig(data="atis/", model="encoder/", output_dir="run/", scorer_args={"smoothing": "ema"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_run_file(f"{folder}/run.toml", config)
    ...     RunConfig(**read_run_file(f"{folder}/run.toml").settings) == config
    True
    """
    text = tomli_w.dumps(_without_none(asdict(config)))
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }


def checked_setting(name: str, value: Any, *, owner: str) -> Any:
    """Return the value of a setting as its kind, or raise.

    Parameters
    ----------
    name : str
        A field of `RunConfig`.
    value : object
        What the user wrote.
    owner : str
        What the message names.

    Returns
    -------
    object
        A whole number as a float, where the setting is one.

    Raises
    ------
    InvalidTypeError
        If it is of another kind.

    Examples
    --------
    >>> checked_setting("learning_rate", 1, owner="learning_rate")
    1.0
    """
    hint = get_type_hints(RunConfig)[name]
    hints = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [kind for kind in (get_origin(hint) or hint for hint in hints) if kind in KINDS]
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        raise InvalidTypeError(f"{owner} must be {' or '.join(KINDS[kind] for kind in kinds)}, got {value!r}.")
    return value


def _find_lines(text: str) -> dict[str, int]:
    """Return the first line of each key outside of tables, and of each table."""
    lines: dict[str, int] = {}
    table = False
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\s*([\w-]+)", line)
        key = re.match(r"\s*\"?([\w-]+)\"?\s*[=.]", line)
        table = table or header is not None
        if header or (key and not table):
            lines.setdefault((header or key)[1], number)  # type: ignore[index]
    return lines
