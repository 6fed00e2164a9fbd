"""Several processes, one selection: who this rank is, and how what the ranks saw comes together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataprune.errors import InvalidValueError
from dataprune.scheduling.base import Scheduler
from dataprune.scheduling.budget import Budget
from dataprune.scoring.score_log import ScoreLog
from dataprune.scoring.store import ExampleStore, Visits


@dataclass(frozen=True)
class Ranks:
    """The processes that train one model together; a single one where torch.distributed is not in use.

    Parameters
    ----------
    rank : int, default=0
        This process, from 0.
    size : int, default=1
        Processes.

    Examples
    --------
    >>> Ranks.now()
    Ranks(rank=0, size=1)
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def now(cls) -> Ranks:
        """Return what torch.distributed says.

        Returns
        -------
        Ranks
            This process and how many there are.
        """
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def gather(self, rows: Tensor) -> list[Tensor]:
        """Return the rows of every rank; all ranks must call it.

        Parameters
        ----------
        rows : Tensor
            Shape (n, ...) on the CPU; n may differ from rank to rank.

        Returns
        -------
        list of Tensor
            By rank, on the CPU.
        """
        if self.size == 1:
            return [rows]
        device = torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
        counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(self.size)]
        torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=device))
        n_rows = [int(count) for count in counts]
        padded = torch.zeros((max(n_rows), *rows.shape[1:]), dtype=rows.dtype, device=device)
        padded[: len(rows)] = rows.to(device)
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(parts, padded)
        return [part[:n].cpu() for part, n in zip(parts, n_rows, strict=True)]

    def merge(self, store: ExampleStore) -> None:
        """Count in `store` what every rank observed since the last time; all ranks must call it.

        Parameters
        ----------
        store : ExampleStore
            One table per rank; they are equal afterwards.
        """
        if self.size == 1:
            return
        notes = store.take_notes()
        parts = [
            self.gather(torch.from_numpy(np.ascontiguousarray(column)))
            for column in (notes.index, notes.values, notes.epoch, notes.source)
        ]
        # In the order of arrival, for the first visit of an epoch counts: padding repeats an example in the last batch.
        order = torch.argsort(torch.cat([torch.arange(len(part)) for part in parts[0]]), stable=True)
        store.count_notes(Visits(*(torch.cat(column)[order].numpy() for column in parts)))

    def check_agreement(self, indices: NDArray[np.int64], weights: NDArray[np.float32]) -> None:
        """Raise unless every rank selected the same; all ranks must call it.

        Parameters
        ----------
        indices : ndarray of int64, shape (n_kept,)
            Selected rows.
        weights : ndarray of float32, shape (n_kept,)
            Their loss weights.

        Raises
        ------
        InvalidValueError
            If they differ.
        """
        if self.size == 1:
            return
        parts = (np.ascontiguousarray(indices).tobytes(), np.ascontiguousarray(weights).tobytes())
        digest = hashlib.blake2b(b"".join(parts), digest_size=8).digest()
        ours = torch.tensor([int.from_bytes(digest, signed=True)])
        if len({int(theirs) for theirs in self.gather(ours)}) > 1:
            raise InvalidValueError(
                "The ranks selected different examples. Give every rank the same data set in the same order, and the "
                "same pruner."
            )


def check_ranks(ranks: Ranks, *, log: ScoreLog | None, scheduler: Scheduler) -> None:
    """Raise if a run of several processes asks for what they cannot do together.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    log : ScoreLog or None
        Where the training pass is logged.
    scheduler : Scheduler
        A budget of seconds goes by each rank's own clock.

    Raises
    ------
    InvalidValueError
        If there is more than one rank, and a log or a budget of seconds.

    Examples
    --------
    >>> from dataprune import CyclicScheduler
    >>> check_ranks(Ranks(), log=None, scheduler=CyclicScheduler())
    """
    if ranks.size == 1:
        return
    if log is not None:
        raise InvalidValueError(
            f"A ScoreLog is written by one process, got {ranks.size}. Leave log=... out: the scores are merged."
        )
    budget = scheduler.keep_fraction
    if isinstance(budget, Budget) and budget.seconds is not None:
        raise InvalidValueError(
            f"{budget!r} goes by the clock of one process, got {ranks.size}. Use n_updates or token_fraction."
        )
