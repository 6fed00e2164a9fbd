"""Every example has a stable index, and the index travels inside the batch.

Any side channel ("the indices that were handed out last") is wrong as soon as something looks ahead: a loader
with workers does, and Accelerate's does without. So the data set pairs each example with its index, and the
collate function keeps the pair together.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, default_collate

from dataprune.errors import InvalidTypeError


class Indexed(NamedTuple):
    """A batch together with the indices of its examples.

    It is a plain named tuple, so torch pins it, Accelerate moves it to the device, and a loop unpacks it.

    Parameters
    ----------
    index : Tensor
        Positions of the examples in the full, unpruned data set, shape (B,), int64.
    batch : object
        What the collate function made of the examples.

    Examples
    --------
    >>> import torch
    >>> index, batch = Indexed(torch.tensor([4, 0]), {"labels": torch.tensor([1, 0])})
    >>> index.tolist()
    [4, 0]
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    batch: Any


class IndexedDataset(Dataset[tuple[int, Any]]):
    """A map-style data set whose rows are pairs (index, example).

    Parameters
    ----------
    dataset : Dataset, datasets.Dataset or sequence
        Anything with ``__len__`` and ``__getitem__``. Its own ``__getitems__`` is used where it has one.

    Attributes
    ----------
    dataset : Dataset, datasets.Dataset or sequence
        The data set it was made from.

    Raises
    ------
    InvalidTypeError
        If `dataset` is iterable only, has no length, or is a mapping of splits.

    Examples
    --------
    >>> dataset = IndexedDataset(["play jazz", "book a table"])
    >>> len(dataset), dataset[1]
    (2, (1, 'book a table'))
    """

    def __init__(self, dataset: Any) -> None:
        if isinstance(dataset, Mapping):
            raise InvalidTypeError(
                f"IndexedDataset.dataset must be one data set, got {type(dataset).__name__} with the keys "
                f"{', '.join(map(repr, dataset))}. Pass one of its values."
            )
        has_rows = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if isinstance(dataset, IterableDataset) or not has_rows:
            raise InvalidTypeError(
                "IndexedDataset.dataset must have a length and rows that can be looked up by number "
                f"(__len__ and __getitem__), got {type(dataset).__name__}. "
                "Pass a map-style data set: pruning comes back to single examples, which a stream cannot."
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> tuple[int, Any]:
        row = self._row_number(index)
        return row, self.dataset[row]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[tuple[int, Any]]:
        """Return several rows at once, as torch's loader asks for them.

        Parameters
        ----------
        indices : sequence of int
            Row numbers, in the order wanted.

        Returns
        -------
        list of tuple of (int, object)
            One (index, example) for each of `indices`.

        Raises
        ------
        IndexError
            If a row number is out of range.
        """
        rows = [self._row_number(index) for index in indices]
        fetch_many = getattr(self.dataset, "__getitems__", None)
        examples = fetch_many(rows) if callable(fetch_many) else [self.dataset[row] for row in rows]
        return list(zip(rows, examples, strict=True))

    def _row_number(self, index: SupportsIndex) -> int:
        # Samplers hand out ints, numpy integers and 0-d tensors; only an int >= 0 may reach a score table.
        row = operator.index(index)
        n_examples = len(self.dataset)
        if not -n_examples <= row < n_examples:
            raise IndexError(f"index {row} is out of range for a data set of {n_examples} examples")
        return row % n_examples


class IndexedCollate:
    """Collate (index, example) pairs into an `Indexed` batch.

    Parameters
    ----------
    collate_fn : callable, optional
        Makes a batch from a list of examples; default is torch's ``default_collate``.

    Attributes
    ----------
    collate_fn : callable
        The function in use.

    Examples
    --------
    >>> collate = IndexedCollate()
    >>> index, batch = collate([(7, {"x": 1.5}), (2, {"x": 0.5})])
    >>> index.tolist(), batch["x"].tolist()
    ([7, 2], [1.5, 0.5])
    """

    def __init__(self, collate_fn: Callable[[list[Any]], Any] | None = None) -> None:
        self.collate_fn = default_collate if collate_fn is None else collate_fn

    def __call__(self, rows: Sequence[tuple[int, Any]]) -> Indexed:
        """Return the batch of `rows` with its indices.

        Parameters
        ----------
        rows : sequence of tuple of (int, object)
            What `IndexedDataset` returned, B rows.

        Returns
        -------
        Indexed
            ``index`` of shape (B,), int64, and ``batch`` from the collate function.
        """
        index = torch.tensor([row for row, _ in rows], dtype=torch.int64)  # (B,)
        return Indexed(index, self.collate_fn([example for _, example in rows]))
