"""The order in which one epoch visits the kept examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from dataprune.data.batching import shuffled_order


class PruningSampler(Sampler[int]):
    """Hand out the selected rows of the full data set, anew shuffled in each epoch.

    Iterating changes nothing: any number of iterators, interleaved or abandoned, give the same order. Selections arrive
    through `select` only.

    Parameters
    ----------
    n_examples : int
        Rows of the full data set.
    shuffle : bool, default=True
        Shuffle each epoch; otherwise rows come in their own order.
    random_state : int, default=0
        Seed; the order of an epoch follows from it and the epoch alone.
    lengths : ndarray of int64, shape (n_examples,), optional
        Lengths in tokens: batches then hold examples of like length.
    batch_size : int, default=1
        Examples in a batch, of all ranks together.
    on_epoch : callable, optional
        Called with an epoch that the loader announces and that is still to come; makes the selection.
    part : tuple of (int or None, int), default=(0, 1)
        This rank, and how many there are: it hands out this rank's part of each batch; None in the place of the rank
        is all parts together. The last batch is padded with the first examples of the epoch until all parts are as
        large.
    drop_last : bool, default=False
        Leave out what does not fill a batch of all ranks.

    Attributes
    ----------
    epoch : int
        Epoch of the selection; -1 before the first.
    indices : ndarray of int64, shape (n_kept,)
        Selected rows.
    pads : bool
        True; where it is set to False, the parts of the last batch may differ by one example, and it is padded only
        where it has fewer examples than there are ranks.

    Examples
    --------
    >>> sampler = PruningSampler(4)
    >>> sampler.select(0, np.array([1, 3]))
    >>> sorted(sampler), len(sampler)
    ([1, 3], 2)
    """

    def __init__(
        self,
        n_examples: int,
        *,
        shuffle: bool = True,
        random_state: int = 0,
        lengths: NDArray[np.int64] | None = None,
        batch_size: int = 1,
        on_epoch: Callable[[int], None] | None = None,
        part: tuple[int | None, int] = (0, 1),
        drop_last: bool = False,
    ) -> None:
        self.shuffle = shuffle
        self.random_state = random_state
        self.lengths = lengths
        self.batch_size = batch_size
        self.on_epoch = on_epoch
        self.part = part
        self.drop_last = drop_last
        self.pads = True
        self.epoch = -1
        self.indices: NDArray[np.int64] = np.arange(n_examples)
        self.n_skipped_batches = 0

    def select(self, epoch: int, indices: NDArray[np.int64], *, n_skipped_batches: int = 0) -> None:
        """Take over the rows of an epoch.

        Parameters
        ----------
        epoch : int
            From 0.
        indices : ndarray of int64, shape (n_kept,)
            Rows of the full data set.
        n_skipped_batches : int, default=0
            Batches of this epoch that were done before a resume.
        """
        self.epoch = epoch
        self.indices = indices
        self.n_skipped_batches = n_skipped_batches

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch, as loaders announce it; an epoch at or below the current one is ignored.

        Accelerate announces epochs late and, after a resume, from its own counter.

        Parameters
        ----------
        epoch : int
            From 0.
        """
        if epoch > self.epoch and self.on_epoch is not None:
            self.on_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        order = self.indices
        if self.shuffle:
            rng = np.random.default_rng([self.random_state, max(self.epoch, 0), 1])
            order = shuffled_order(self.indices, rng, lengths=self.lengths, batch_size=self.batch_size)
        n_rows, n_padded = self._count_rows()
        order = np.resize(order[:n_rows], n_padded) if n_rows else order[:0]
        order = order[self.n_skipped_batches * self.batch_size :]
        rank, n_ranks = self.part
        return iter((order if rank is None else order[rank::n_ranks]).tolist())

    def __len__(self) -> int:
        rank, n_ranks = self.part
        n_left = max(0, self._count_rows()[1] - self.n_skipped_batches * self.batch_size)
        return n_left if rank is None else len(range(rank, n_left, n_ranks))

    def _count_rows(self) -> tuple[int, int]:
        """Return how many rows of the selection an epoch of all ranks has, and how many with the padding."""
        n_rows, n_ranks = len(self.indices), self.part[1]
        if n_ranks > 1 and self.drop_last:
            n_rows = n_rows // self.batch_size * self.batch_size
        n_in_last = n_rows % self.batch_size
        needs_padding = self.pads or 0 < n_in_last < n_ranks  # for each rank needs an example to make the batch with
        return n_rows, -(-n_rows // n_ranks) * n_ranks if needs_padding else n_rows
