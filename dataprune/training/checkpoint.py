"""Checkpoints of `DynamicPruner.fit`: a folder counts only if its last file is there; nothing is unpickled."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dataprune.data.files import naming_what_failed, read_json, write_atomically, write_json
from dataprune.errors import StateError
from dataprune.training.evaluation import BestModel
from dataprune.training.state import check_settings

if TYPE_CHECKING:
    from dataprune.training.pruner import DynamicPruner

MODEL, OPTIMIZER, LOOP, PRUNER = "model.safetensors", "optimizer.safetensors", "loop.json", "pruner.safetensors"
CHECKPOINT = "checkpoint-[0-9][0-9][0-9][0-9]-*"
"""Pattern of ours: the folder may hold those of transformers' Trainer, ``checkpoint-500``."""


class Checkpoints:
    """The newest state of a run, in a folder of its own inside `folder`.

    Parameters
    ----------
    folder : str or Path
        Made if missing.
    model : nn.Module
        The model in training.
    optimizer : torch.optim.Optimizer
        Its optimizer.
    pruner : DynamicPruner
        An attached pruner.
    best : BestModel
        The best weights so far.
    settings : mapping of str to str
        Name to `describe_setting` of what decides the updates and is not the pruner's.
    """

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        pruner: DynamicPruner,
        best: BestModel,
        *,
        settings: Mapping[str, str],
    ) -> None:
        self.folder = Path(folder)
        self.model = model
        self.optimizer = optimizer
        self.pruner = pruner
        self.best = best
        self.settings = dict(settings)
        self._best_epoch_on_disk = -1  # of this run: the folder may hold files of another one
        with naming_what_failed(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def save(self) -> Path:
        """Write a checkpoint, the pruner's file last, then drop the older ones.

        Returns
        -------
        Path
            Its folder.
        """
        n_batches = self.pruner.n_observed_batches_
        path = self.folder / f"checkpoint-{self.pruner.epoch_:04d}-{n_batches:06d}"
        shutil.rmtree(path, ignore_errors=True)  # left half-written by a run that was killed
        with naming_what_failed(path):
            path.mkdir()
        _write_torch(path / MODEL, self.model.state_dict())
        tensors, rest = _split(self.optimizer.state_dict())
        _write_torch(path / OPTIMIZER, tensors)
        best = {"epoch": self.best.epoch, "value": self.best.value}
        loop = {"settings": self.settings, "optimizer": rest, "random": _random_state(), "best": best}
        write_json(path / LOOP, loop)
        if self.best.weights is not None:
            best_file = self.folder / f"best-{self.best.epoch:04d}.safetensors"
            if self._best_epoch_on_disk != self.best.epoch:
                _write_torch(best_file, self.best.weights)
                self._best_epoch_on_disk = self.best.epoch
        self.pruner.save(path / PRUNER)
        for old in self.folder.glob(CHECKPOINT):
            if old != path:
                shutil.rmtree(old)
        left_half_written = self.folder.glob(".best-*.part")
        for old in [*self.folder.glob("best-*.safetensors"), *left_half_written]:
            if old.name != f"best-{self.best.epoch:04d}.safetensors":
                old.unlink()
        return path

    def clear(self) -> None:
        """Delete what an earlier run left in the folder: a later resume must not take it for this run's."""
        for old in self.folder.glob(CHECKPOINT):
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """Return the newest checkpoint whose last file is there.

        Returns
        -------
        Path or None
            Its folder.
        """
        whole = [path for path in self.folder.glob(CHECKPOINT) if (path / PRUNER).exists()]
        return max(whole, key=lambda path: path.name, default=None)

    def load_newest(self) -> None:
        """Put the newest whole checkpoint back, if there is one.

        Raises
        ------
        StateError
            If a file is damaged, or the checkpoint belongs to another model, other data or another configuration.
        """
        path = self.newest()
        if path is None:
            return
        self.pruner.load(path / PRUNER)  # first: it says what belongs to another run
        loop = read_json(path / LOOP)
        check_settings(loop.get("settings", {}), self.settings)  # earlier versions noted none
        try:
            self.model.load_state_dict(_read_torch(path / MODEL))
            self.optimizer.load_state_dict(_join(_read_torch(path / OPTIMIZER), loop["optimizer"]))
        except (RuntimeError, ValueError, KeyError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"The checkpoint {path} belongs to another model or optimizer: {error}") from None
        best = loop["best"]
        if best["epoch"] >= 0:
            self.best.epoch, self.best.value = best["epoch"], best["value"]
            self._best_epoch_on_disk = best["epoch"]
            self.best.weights = _read_torch(self.folder / f"best-{best['epoch']:04d}.safetensors")
        _set_random_state(loop["random"])


def _write_torch(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    # Tied parameters share memory, which safetensors refuses: each name gets a copy of its own.
    separate: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        shared = tensor.data_ptr() in seen
        separate[name] = tensor.detach().clone() if shared else tensor.detach().contiguous()
        seen.add(tensor.data_ptr())
    write_atomically(path, lambda part: save_file(separate, part))


def _read_torch(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StateError(
            f"The file {path} is damaged or missing: {error}. Delete its folder to start afresh."
        ) from None
    return tensors


def _split(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors by ``<parameter>.<name>`` and what JSON can hold."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, entries in state["state"].items():
        for name, value in entries.items():
            if torch.is_tensor(value):
                tensors[f"{parameter}.{name}"] = value
            else:
                numbers.setdefault(str(parameter), {})[name] = value
    groups = [{k: v.item() if torch.is_tensor(v) else v for k, v in group.items()} for group in state["param_groups"]]
    return tensors, {"numbers": numbers, "param_groups": groups}


def _join(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(parameter): dict(entries) for parameter, entries in rest["numbers"].items()}
    for key, value in tensors.items():
        parameter, name = key.split(".", 1)
        state.setdefault(int(parameter), {})[name] = value
    return {"state": state, "param_groups": rest["param_groups"]}


def _random_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the user's own state
    state: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), [int(key) for key in keys], *rest],
        "torch": torch.get_rng_state().tolist(),
    }
    if torch.cuda.is_available():
        state["cuda"] = [device.tolist() for device in torch.cuda.get_rng_state_all()]
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(torch.tensor(state["torch"], dtype=torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.tensor(device, dtype=torch.uint8) for device in state["cuda"]])
