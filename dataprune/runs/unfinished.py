"""A folder for what several training runs have done so far."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dataprune.data.files import naming_what_failed, read_json, read_tensors, write_json, write_tensors
from dataprune.errors import StateError

SETTINGS, ARRAYS = "unfinished.json", "done.safetensors"


class Unfinished:
    """What several training runs have done so far, kept in a folder.

    Parameters
    ----------
    folder : str or Path
        Made with the first run, if it is missing.
    settings : mapping of str to object
        All that decides what the runs do, as JSON can hold it.
    resume : bool
        Go on with what is in the folder, if there is anything.

    Raises
    ------
    StateError
        If the folder holds something of somebody else's, or work that is not to be resumed or has other settings.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     work = Unfinished(f"{parent}/work", {"seed": 0}, resume=False)
    ...     work.of_run(0)["checkpoint_dir"].mkdir()
    ...     work.save({"p": np.ones(2)}, n_done=1)
    ...     p = np.zeros(2)
    ...     n_done = Unfinished(f"{parent}/work", {"seed": 0}, resume=True).load_into({"p": p})
    >>> n_done, p
    (1, array([1., 1.]))
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.folder, self.resume, self._settings = Path(folder), resume, dict(settings)
        if (self.folder / SETTINGS).exists():
            if (self.folder / ARRAYS).exists() or any(self.folder.glob("run-*/checkpoint-*")):
                self._check_same()
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise StateError(f"{folder} is in the way: unfinished work is kept under that name. Move it.")

    def _check_same(self) -> None:
        if not self.resume:
            raise StateError(f"The folder {self.folder} holds unfinished work. Resume it, or delete that folder.")
        saved = read_json(self.folder / SETTINGS)
        for name in {**self._settings, **saved}:
            was, is_now = saved.get(name), self._settings.get(name)
            if was != is_now:
                raise StateError(
                    f"The work in {self.folder} was started with {name}={was!r}, now it is {is_now!r}. "
                    "Delete that folder to start anew."
                )

    def of_run(self, number: int) -> dict[str, Any]:
        """Return the arguments with which `DynamicPruner.fit` keeps a run here, and goes on with it.

        Parameters
        ----------
        number : int
            Which run, from 0.

        Returns
        -------
        dict of str to object
            ``checkpoint_dir`` and ``resume``.

        Raises
        ------
        OutputError
            If the folder cannot be written to.
        """
        with naming_what_failed(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTINGS, self._settings)
        return {"checkpoint_dir": self.folder / f"run-{number}", "resume": self.resume}

    def save(self, arrays: Mapping[str, NDArray[Any]], *, n_done: int) -> None:
        """Keep what the first runs gave; their checkpoints are not needed any more.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Of all runs, filled as far as they are done.
        n_done : int
            Runs that are done, at least 1.
        """
        write_tensors(self.folder / ARRAYS, {f"of {name}": array for name, array in arrays.items()}, {"n_done": n_done})
        shutil.rmtree(self.folder / f"run-{n_done - 1}")

    def load_into(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """Fill arrays with what the runs that are done gave.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            As in `save`.

        Returns
        -------
        int
            Runs that are done.
        """
        if not (self.folder / ARRAYS).exists():
            return 0
        saved, settings = read_tensors(self.folder / ARRAYS)
        for name, array in arrays.items():
            array[...] = saved[f"of {name}"]
        return int(settings["n_done"])
