"""The state of a pruner as a file, and whether it belongs to a run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from dataprune.data.files import read_tensors, write_tensors
from dataprune.errors import StateError

STATE_VERSION = 1
ARRAYS = ("indices", "weights", "n_epochs_trained")
STATE_KEYS = frozenset(
    {
        *ARRAYS,
        "version",
        "epoch",
        "n_observed_batches",
        "store",
        "settings",
        "history",
        "n_examples",
        "fingerprint",
    }
)
LONGEST_SHOWN = 100
"""Characters of a list or array that a part's `repr` surely shows whole."""

_STORE = "store."


def describe_setting(value: object) -> str:
    """Say what a setting is, the same in every process, so that any difference shows.

    Parameters
    ----------
    value : object
        A part, with its parameters, or a plain value.

    Returns
    -------
    str
        Its ``repr``, without the addresses of functions; scikit-learn's shortens long parameters, whose hash follows.

    Examples
    --------
    >>> from dataprune import KeepAlways
    >>> describe_setting(KeepAlways(indices=[3])), describe_setting(0.5)
    ('KeepAlways(indices=[3])', '0.5')
    >>> long, other = (KeepAlways(indices=[*range(99), last]) for last in (99, 200))
    >>> repr(long) == repr(other), describe_setting(long) == describe_setting(other)
    (True, False)
    """
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    get_params: Any = getattr(value, "get_params", dict)
    for name, parameter in get_params().items():
        if isinstance(parameter, list | tuple | np.ndarray | Tensor):
            values = parameter.tolist() if isinstance(parameter, np.ndarray | Tensor) else parameter
            if len(whole := repr(values)) > LONGEST_SHOWN:
                text += f", {name} {hashlib.sha256(whole.encode()).hexdigest()[:12]}"
    return text


def check_state(state: Mapping[str, Any], *, n_examples: int, fingerprint: str, settings: Mapping[str, str]) -> None:
    """Raise unless a state belongs to a run of these data and settings.

    Parameters
    ----------
    state : mapping
        From `DynamicPruner.state_dict`.
    n_examples : int
        Rows of the attached data set.
    fingerprint : str
        Hash of the attached data set.
    settings : mapping of str to str
        Name to ``repr`` of all that decides what a run does.

    Raises
    ------
    StateError
        If keys are missing, or something differs; the message names both.

    Examples
    --------
    >>> check_state({"version": 1}, n_examples=1, fingerprint="", settings={})
    Traceback (most recent call last):
    dataprune.errors.StateError: A DynamicPruner's state must have all of its keys, this one lacks epoch, ...
    """
    missing = sorted(STATE_KEYS - set(state))
    if missing:
        raise StateError(f"A DynamicPruner's state must have all of its keys, this one lacks {', '.join(missing)}.")
    if state["version"] != STATE_VERSION:
        raise StateError(f"This state has version {state['version']}, this dataprune reads {STATE_VERSION}.")
    if state["n_examples"] != n_examples:
        raise StateError(
            f"This state was saved for {state['n_examples']} examples, but the attached dataset has {n_examples}."
        )
    if state["fingerprint"] != fingerprint:
        raise StateError(
            f"This state was saved for other data: its {n_examples} examples differ from the attached ones. "
            "Resume with the data set of the first run, in the same order."
        )
    check_settings({**dict.fromkeys(settings), **state["settings"]}, settings)


def check_settings(saved: Mapping[str, str | None], ours: Mapping[str, str]) -> None:
    """Raise unless saved settings are those of a run.

    Parameters
    ----------
    saved : mapping of str to str or None
        Name to `describe_setting`; None for what was not noted, as a setting may be only where it is used.
    ours : mapping of str to str
        The same of the run.

    Raises
    ------
    StateError
        At the first that differs; the message names both.

    Examples
    --------
    >>> check_settings({"batch_size": "8"}, {"batch_size": "16"})
    Traceback (most recent call last):
    dataprune.errors.StateError: This state was saved with batch_size=8, but this run has 16.
    """
    for name, value in saved.items():
        now = ours.get(name)
        if value != now and value != re.sub(r", \w+ [0-9a-f]{12}", "", now or ""):  # earlier versions noted no hashes
            raise StateError(f"This state was saved with {name}={value}, but this run has {now}.")


def write_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state to one safetensors file, atomically.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.
    state : mapping
        From `DynamicPruner.state_dict`.
    """
    arrays = {name: state[name] for name in ARRAYS}
    rest = {name: value for name, value in state.items() if name not in ARRAYS}
    if rest["store"] is not None:
        columns = {name: value for name, value in rest["store"].items() if isinstance(value, np.ndarray)}
        arrays |= {_STORE + name: column for name, column in columns.items()}
        rest["store"] = {name: value for name, value in rest["store"].items() if name not in columns}
    write_tensors(path, arrays, rest)


def read_state(path: str | Path) -> dict[str, Any]:
    """Read what `write_state` wrote; nothing is unpickled.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        What `DynamicPruner.load_state_dict` takes.

    Raises
    ------
    StateError
        If the file is missing, damaged or not ours.

    Examples
    --------
    >>> read_state("missing.safetensors")
    Traceback (most recent call last):
    dataprune.errors.StateError: The file missing.safetensors does not exist.
    """
    arrays, state = read_tensors(path)
    if isinstance(state.get("store"), dict):
        state["store"] |= {name.removeprefix(_STORE): a for name, a in arrays.items() if name.startswith(_STORE)}
    return {**state, **{name: array for name, array in arrays.items() if not name.startswith(_STORE)}}
