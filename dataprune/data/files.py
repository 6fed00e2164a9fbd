"""Files that are whole or absent: each is written beside its place and then moved there."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataprune.errors import OutputError, StateError


@contextmanager
def naming_what_failed(path: str | Path) -> Iterator[None]:
    """Put what keeps `path` from being written into one sentence.

    Parameters
    ----------
    path : str or Path
        The file or folder that the block writes.

    Yields
    ------
    None
        Control, while the block writes.

    Raises
    ------
    OutputError
        If the disk is full, the folder may not be written, or the like.

    Examples
    --------
    >>> with naming_what_failed("/dev/null/run"):
    ...     Path("/dev/null/run").mkdir()
    Traceback (most recent call last):
    dataprune.errors.OutputError: /dev/null/run could not be written: Not a directory. ...
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OutputError):
            raise
        # safetensors and pyarrow put the system's error into a text of their own
        code = getattr(error, "errno", None) or next(
            map(int, re.findall(r"(?:os error|code:) (\d+)", str(error))), None
        )
        reason = os.strerror(code) if code else str(error)
        raise OutputError(
            f"{path} could not be written: {reason}. Make room there, or choose another folder."
        ) from error


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, and move it into place.

    Parameters
    ----------
    path : str or Path
        The file to make or replace; its folder must exist.
    write : callable
        Called with the temporary path.

    Raises
    ------
    OutputError
        If the disk is full, the folder may not be written, or the like.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(f"{folder}/a.txt", lambda part: part.write_text("whole"))
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    with naming_what_failed(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o666 & ~mask)  # mkstemp's files are the owner's alone
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, atomically.

    Parameters
    ----------
    path : str or Path
        The file.
    value : object
        Anything that `json` can write.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_json(f"{folder}/a.json", {"seed": 0})
    ...     read_json(f"{folder}/a.json")
    {'seed': 0}
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    object
        What it holds.

    Raises
    ------
    StateError
        If the file is missing or damaged.

    Examples
    --------
    >>> read_json("missing.json")
    Traceback (most recent call last):
    dataprune.errors.StateError: The file missing.json does not exist.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StateError(f"The file {path} does not exist.") from None
    except ValueError as error:
        raise StateError(f"The file {path} is damaged: {error}.") from None


def write_tensors(path: str | Path, arrays: Mapping[str, NDArray[Any]], settings: Mapping[str, object]) -> None:
    """Write arrays and JSON-able settings to one safetensors file, atomically.

    Parameters
    ----------
    path : str or Path
        The file.
    arrays : mapping of str to ndarray
        Any shapes and numeric dtypes.
    settings : mapping
        Anything that `json` can write; kept in the file's metadata.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(f"{folder}/a.safetensors", {"x": np.arange(2)}, {"epoch": 1})
    ...     read_tensors(f"{folder}/a.safetensors")
    ({'x': array([0, 1])}, {'epoch': 1})
    """
    from safetensors.numpy import save_file

    # safetensors writes the buffer as it lies in memory: a transposed or sliced array would come back scrambled.
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {"dataprune": json.dumps(settings)}
    write_atomically(path, lambda part: save_file(whole, part, metadata=metadata))


def read_tensors(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays.
    settings : dict
        The settings.

    Raises
    ------
    StateError
        If the file is missing, damaged, or not ours.

    Examples
    --------
    >>> read_tensors("missing.safetensors")
    Traceback (most recent call last):
    dataprune.errors.StateError: The file missing.safetensors does not exist.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise StateError(f"The file {path} does not exist.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        settings = json.loads(metadata["dataprune"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StateError(f"The file {path} is damaged or was not written by dataprune: {error}.") from None
    return arrays, settings
