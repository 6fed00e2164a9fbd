"""The losses under a model of held-out data that the recipe ``rho_loss`` needs, from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dataprune.data.fingerprint import fingerprint
from dataprune.data.score_files import read_note, read_scores
from dataprune.data.streaming import open_rows
from dataprune.errors import DataError, StateError
from dataprune.scoring.provenance import check_same_data, scorer_of
from dataprune.scoring.store import ScoreStore

if TYPE_CHECKING:
    import datasets

HOW = "Make them with `dataprune score --scorer loss --model RUN`, of a run on other data."
"""What to do where they are missing."""


def is_table(path: str) -> bool:
    """Tell whether a file is one that `ScoreStore.save` wrote, rather than a file of rows.

    Parameters
    ----------
    path : str
        Its name.

    Returns
    -------
    bool
        By the ending.

    Examples
    --------
    >>> is_table("losses.safetensors"), is_table("losses.parquet")
    (True, False)
    """
    return Path(path).suffix == ".safetensors"


def irreducible_losses(path: str) -> NDArray[np.float32]:
    """Read the losses of a file, whatever rows they are of.

    Parameters
    ----------
    path : str
        What ``dataprune score --scorer loss`` wrote, or a table that `ScoreStore.save` wrote.

    Returns
    -------
    ndarray of float32, shape (n_losses,)
        In the order of their rows.

    Raises
    ------
    DataError
        If the file is missing or broken, or lacks a column.
    StateError
        If it is a broken table, or its note tells of other scores than losses, of means over tokens, or of a run on the
        rows themselves.

    Examples
    --------
    >>> irreducible_losses("missing.parquet")
    Traceback (most recent call last):
    dataprune.errors.DataError: The file of scores missing.parquet does not exist.
    """
    if is_table(path):
        store = ScoreStore.load(path)
        losses, note = store.scores, store.provenance
    else:
        (_, losses), note = read_scores(path), read_note(path)
    _check_note(path, note)
    return losses


def _check_note(path: str, note: Mapping[str, Any]) -> None:
    needs = "The recipe 'rho_loss' needs"
    if scorer_of(note) not in {"Loss", None}:
        raise StateError(f"{needs} losses, but {path} has the scores of {scorer_of(note)}. {HOW}")
    if "reduction='mean'" in note.get("scorer", ""):
        raise StateError(f"{needs} the sum of an example's losses, as it trains by it, but {path} has their means.")
    if note.get("random_state") is not None:  # noted by a run, never by a scoring pass
        raise StateError(
            f"{needs} losses under a model of held-out data, but {path} has those of a run on its own rows. {HOW}"
        )


def losses_of_rows(path: str, data: str, train: datasets.Dataset) -> NDArray[np.float32]:
    """Read the loss of each row of a train split from a file of rows.

    Parameters
    ----------
    path : str
        What ``dataprune score --scorer loss`` wrote.
    data : str
        Where the split is from.
    train : datasets.Dataset
        The split as it was read; its ``source_row`` tells where each row stood.

    Returns
    -------
    ndarray of float32, shape (n_examples,)
        A loss for each row.

    Raises
    ------
    DataError
        If a row has none, or one that is not finite.
    StateError
        If the losses are of other data.
    """
    with open_rows(data) as (source, _):
        check_same_data(read_note(path), fingerprint(source))
        rows, losses = read_scores(path, len(source))
    finite = np.isfinite(losses)
    wanted = np.asarray(train["source_row"][:], np.int64)
    if (missing := np.setdiff1d(wanted, rows[finite])).size:
        raise DataError(f"{path} must have a finite loss of each row, got none of row {missing[0]}.")
    return losses[np.searchsorted(rows, wanted)]
