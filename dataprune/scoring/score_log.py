"""The log of a training pass: each example's logits, so that one run gives every score later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataprune.data.files import naming_what_failed, read_tensors, write_tensors
from dataprune.data.forward import cross_entropy_per_example
from dataprune.errors import InvalidValueError, StateError, check_count
from dataprune.scoring.base import BatchScorer, as_index
from dataprune.scoring.provenance import check_same_data, provenance

_FORMAT = "dataprune.ScoreLog/1"
_SHARD = re.compile(r"epoch-(\d+)-shard-(\d+)\.safetensors")
_FLOAT16_MIN = float(np.finfo(np.float16).min)

ScorerT = TypeVar("ScorerT", bound=BatchScorer)


class LoggedVisits(NamedTuple):
    """Part of an epoch, as it was logged.

    Attributes
    ----------
    epoch : int
        From 0.
    index : ndarray of int64, shape (n,)
        Rows of the full data set.
    logits : ndarray of float16, shape (n, C)
        Logits minus the largest of their example: at most 0.
    labels : ndarray of int32, shape (n,)
        Labels.
    """

    epoch: int
    index: NDArray[np.int64]  # type: ignore[assignment]  # hides tuple.index
    logits: NDArray[np.float16]
    labels: NDArray[np.int32]


class ScoreLog:
    """Append-only log of what a classifier says of each example while it trains.

    `update` takes notes; every `n_rows_per_shard` rows, at the change of an epoch and at `close` they become one file,
    whole or absent. A folder holds one run: opened again it can be read, and goes on with the epochs that follow.
    `replay` feeds the log to any scorer of logits and labels. Costs 2 C + 12 bytes per example and epoch on disk.

    Parameters
    ----------
    folder : str or Path
        The log's own folder; made if missing.
    n_examples : int
        Rows of the full data set.
    n_rows_per_shard : int, default=65536
        Rows held in memory before a file is written; what a kill loses at most. Lower it for many classes.

    Attributes
    ----------
    n_classes : int or None
        Width of the logits; None while nothing is logged.
    data_fingerprint : str or None
        Whose log it is, as `DynamicPruner` notes it; None if nobody has said.

    Raises
    ------
    OutputError
        If the folder could not be made.
    StateError
        If it holds a log of other data, or a damaged one.

    Notes
    -----
    The largest logit of an example is subtracted before its logits become float16. Softmax, margins and predictions do
    not change by that, and nothing overflows: an entry has a relative error of at most 2^-11 (or 3e-8, if it is below
    6e-5), and stops at -65504, where the probability is 0. A margin is one entry: it has that error and keeps its sign
    (below 3e-8 it becomes a tie). The level of the logits is lost.

    Call `flush` whenever a checkpoint is saved: then a run that goes on from the checkpoint leaves no gap. What it
    repeats stands in the log twice and counts once, for a table of scores counts the first visit of an epoch.

    Examples
    --------
    >>> import tempfile
    >>> from dataprune.scoring.dynamics import AUM
    >>> with tempfile.TemporaryDirectory() as folder, ScoreLog(folder, 2) as log:
    ...     log.update(torch.tensor([1, 0]), epoch=0, logits=torch.eye(2), labels=torch.tensor([0, 0]))
    ...     log.replay(AUM()).aum_
    array([-1.,  1.], dtype=float32)
    """

    def __init__(self, folder: str | Path, n_examples: int, *, n_rows_per_shard: int = 65536) -> None:
        self.folder = Path(folder)
        self.n_examples = check_count("ScoreLog", "n_examples", n_examples, minimum=1)
        self.n_rows_per_shard = check_count("ScoreLog", "n_rows_per_shard", n_rows_per_shard, minimum=1)
        self.n_classes: int | None = None
        self.data_fingerprint: str | None = None
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []
        self._n_pending = self._epoch = 0
        self._is_begun = False
        with naming_what_failed(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        shards = self._shards()
        self._n_shards = 1 + max((number for _, _, number in shards), default=-1)
        self._first_epoch = 1 + max((epoch for _, epoch, _ in shards), default=-1)  # that may be logged now
        if shards:
            self._read(shards[0][0])  # is it a log, and of these data?

    def update(self, index: Tensor, *, epoch: int, logits: Tensor, labels: Tensor) -> None:
        """Note one batch of the training pass; changes no tensor, and waits for the device only to write a file.

        Parameters
        ----------
        index : Tensor
            Shape (B,), rows of the full data set.
        epoch : int
            From 0.
        logits : Tensor
            Shape (B, C), any floating dtype.
        labels : Tensor
            Shape (B,), integer classes.

        Raises
        ------
        InvalidTypeError
            If the index holds no integers.
        InvalidValueError
            If shapes do not belong together, the number of classes changes, or an index written now is out of range.
        OutputError
            If a file could not be written.
        StateError
            If the folder holds the epoch already; its first visit would count, and this one be ignored.
        """
        index, epoch = as_index(index), check_count("ScoreLog", "epoch", epoch)
        if logits.dim() != 2 or not len(logits) == len(index) == len(labels) or labels.dim() != 1:
            raise InvalidValueError(
                "ScoreLog.update() needs logits (B, C) and labels (B,) for an index (B,), "
                f"got {tuple(logits.shape)}, {tuple(labels.shape)} and {tuple(index.shape)}."
            )
        self.n_classes = self.n_classes or logits.shape[1]
        if logits.shape[1] != self.n_classes:
            raise InvalidValueError(f"This log holds logits of {self.n_classes} classes, but got {logits.shape[1]}.")
        if epoch < self._first_epoch:
            raise StateError(
                f"The log in {self.folder} holds a run whose next epoch is {self._first_epoch}, got {epoch}. Log "
                "another run to another folder; the same one goes on from a pruner's saved state, or after resume()."
            )
        if epoch != self._epoch:
            self.flush()
        self._epoch = self._first_epoch = epoch
        self._is_begun = True
        z = logits.detach().to(torch.float32)
        z = (z - z.amax(-1, keepdim=True)).clamp(min=_FLOAT16_MIN).to(torch.float16)  # at most 0: no overflow
        self._pending.append((index.detach().clone(), z, labels.detach().to(torch.int32, copy=True)))
        self._n_pending += len(index)
        if self._n_pending >= self.n_rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write what was noted and is not yet in a file; call it when a checkpoint is saved.

        Raises
        ------
        InvalidValueError
            If an index is out of range; the notes are dropped.
        OutputError
            If the file could not be written; the notes stay.
        """
        if not self._n_pending:
            return
        index, logits, labels = (torch.cat(part).cpu().numpy() for part in zip(*self._pending, strict=True))
        if index.min() < 0 or index.max() >= self.n_examples:
            self._pending, self._n_pending = [], 0
            raise InvalidValueError(
                f"An index must be in [0, {self.n_examples}), got {index.min()} to {index.max()}. "
                "Pass positions in the full data set, not in a subset."
            )
        path = self.folder / f"epoch-{self._epoch:05d}-shard-{self._n_shards:06d}.safetensors"
        settings = {
            "format": _FORMAT,
            "n_examples": self.n_examples,
            "data_fingerprint": self.data_fingerprint,
        }
        write_tensors(path, {"index": index, "logits": logits, "labels": labels}, settings)
        self._pending, self._n_pending = [], 0
        self._n_shards += 1

    def begin(self) -> None:
        """Say that what follows is another run than what was logged so far; `DynamicPruner.attach` calls it."""
        if self._is_begun:
            self._first_epoch, self._is_begun = self._epoch + 1, False

    def resume(self, epoch: int = 0) -> None:
        """Let the run that the folder holds go on; a `DynamicPruner` calls it when its state is loaded.

        Parameters
        ----------
        epoch : int, default=0
            Where it goes on. What it repeats counts once.

        Examples
        --------
        >>> import tempfile
        >>> batch = {"logits": torch.eye(2), "labels": torch.tensor([0, 0])}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ScoreLog(folder, 2) as log:
        ...         log.update(torch.tensor([1, 0]), epoch=0, **batch)
        ...     with ScoreLog(folder, 2) as log:
        ...         log.resume()
        ...         log.update(torch.tensor([1, 0]), epoch=0, **batch)
        """
        self._first_epoch = check_count("ScoreLog", "epoch", epoch)

    def note_data(self, data_fingerprint: str | None) -> None:
        """Note which data the log is of, for the files that follow; `DynamicPruner` calls it.

        Parameters
        ----------
        data_fingerprint : str or None
            From `dataprune.data.fingerprint.fingerprint`; None is not known, and changes nothing.

        Raises
        ------
        StateError
            If the log is of other data.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, ScoreLog(folder, 2) as log:
        ...     log.note_data("5f")
        ...     log.note_data("3e")
        Traceback (most recent call last):
        dataprune.errors.StateError: These scores were made for other data: their fingerprint is 5f, the data set's ...
        """
        if data_fingerprint is not None and self.data_fingerprint is not None:
            check_same_data({"data_fingerprint": self.data_fingerprint}, data_fingerprint)
        self.data_fingerprint = self.data_fingerprint or data_fingerprint

    def close(self) -> None:
        """Write what is left; the log may be used further."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()  # after an error, too: what was logged is true

    def read(self) -> Iterator[LoggedVisits]:
        """Yield the log in the order of the epochs, one file at a time.

        Yields
        ------
        LoggedVisits
            Part of an epoch.

        Raises
        ------
        StateError
            If a file is damaged or belongs to another log.
        """
        self.flush()
        for path, epoch, _ in self._shards():
            arrays = self._read(path)
            yield LoggedVisits(epoch, arrays["index"], arrays["logits"], arrays["labels"])

    def replay(self, scorer: ScorerT) -> ScorerT:
        """Give a scorer the whole log as if it had watched the run.

        Parameters
        ----------
        scorer : BatchScorer
            One that needs ``logits`` and ``labels``, or ``loss`` (their cross entropy); it is reset.

        Returns
        -------
        BatchScorer
            The scorer.

        Raises
        ------
        InvalidValueError
            If the scorer needs other signals, or a score is NaN.
        StateError
            If a file is damaged or belongs to another log.

        Examples
        --------
        >>> import tempfile
        >>> from dataprune import EL2N
        >>> with tempfile.TemporaryDirectory() as folder, ScoreLog(folder, 1) as log:
        ...     log.update(torch.tensor([0]), epoch=0, logits=torch.zeros(1, 2), labels=torch.tensor([1]))
        ...     log.replay(EL2N(smoothing="mean")).scores_.round(4)
        array([0.7071], dtype=float32)
        """
        scorer.reset(self.n_examples)
        for epoch, index, logits, labels in self.read():
            signals = {"logits": torch.from_numpy(logits).float(), "labels": torch.from_numpy(labels).long()}
            signals["loss"] = cross_entropy_per_example(signals["logits"], signals["labels"])
            scorer.set_epoch(epoch)
            scorer.update(torch.from_numpy(index), **signals)
            scorer.store_.flush()  # notes of the whole log would fill the memory
        if self.data_fingerprint is not None:
            scorer.store_.provenance = provenance(
                scorer, data_fingerprint=self.data_fingerprint, epoch=int(scorer.store_.last_epoch.max())
            )
        return scorer

    def _shards(self) -> list[tuple[Path, int, int]]:
        found = [(path, _SHARD.fullmatch(path.name)) for path in self.folder.iterdir()]
        numbered = [(path, int(match[1]), int(match[2])) for path, match in found if match]
        return sorted(numbered, key=lambda shard: shard[1:])

    def _read(self, path: Path) -> dict[str, NDArray[Any]]:
        arrays, settings = read_tensors(path)
        if settings.get("format") != _FORMAT:
            raise StateError(f"The file {path} is no part of a log that this version of dataprune can read.")
        if settings["n_examples"] != self.n_examples:
            raise StateError(
                f"The log in {self.folder} was written for {settings['n_examples']} examples, "
                f"but this data set has {self.n_examples}."
            )
        self.note_data(settings.get("data_fingerprint"))
        n_classes = arrays["logits"].shape[1]
        if n_classes != (self.n_classes or n_classes):
            raise StateError(f"The log in {self.folder} holds logits of {self.n_classes} and of {n_classes} classes.")
        self.n_classes = n_classes
        return arrays
