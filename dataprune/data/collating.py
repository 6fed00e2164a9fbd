"""Batches of encoded examples, padded to the longest of each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dataprune.data.forward import IGNORED_LABEL


class PadCollate:
    """Pad encoded examples on the right and stack them into one batch.

    Other columns than those of `pad_values` and labels stay behind (``length``, ``source_row``): no model takes them.

    Parameters
    ----------
    pad_values : mapping of str to int
        What each input column is padded with, such as ``{"input_ids": 0, "attention_mask": 0}``.

    Examples
    --------
    >>> collate = PadCollate({"input_ids": 0})
    >>> batch = collate([{"input_ids": [5, 6], "labels": 1}, {"input_ids": [7], "labels": 0}])
    >>> batch["input_ids"].tolist(), batch["labels"].tolist()
    ([[5, 6], [7, 0]], [1, 0])
    """

    def __init__(self, pad_values: Mapping[str, int]) -> None:
        self.pad_values = pad_values

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return the batch of `examples`.

        Parameters
        ----------
        examples : sequence of mapping
            Rows of `Task.encode`.

        Returns
        -------
        dict of str to Tensor
            (B, T) for columns of lists, (B,) for columns of numbers; int64, and float32 for labels with a point.
        """
        batch = {}
        for column in examples[0]:
            if column not in self.pad_values and not column.endswith("labels"):
                continue
            values = [example[column] for example in examples]
            if hasattr(values[0], "__len__"):
                pad = self.pad_values.get(column, IGNORED_LABEL)
                longest = max(map(len, values))
                values = [[*row, *[pad] * (longest - len(row))] for row in values]
            first = values[0][0] if isinstance(values[0], list) else values[0]
            dtype = torch.float32 if isinstance(first, float) else torch.int64
            batch[column] = torch.tensor(values, dtype=dtype)  # (B,) or (B, T)
        return batch

    def __repr__(self) -> str:
        return f"PadCollate({dict(self.pad_values)!r})"
