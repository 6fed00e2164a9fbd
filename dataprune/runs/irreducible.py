"""The losses under a model of held-out data that the recipe ``rho_loss`` needs, from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataprune.data.fingerprint import fingerprint
from dataprune.data.score_files import read_note, read_scores
from dataprune.data.streaming import open_rows
from dataprune.errors import DataError, StateError
from dataprune.scoring.provenance import check_same_data
from dataprune.scoring.store import ScoreStore, read_provenance

if TYPE_CHECKING:
    import datasets

HOW = "Make them with `dataprune score --scorer loss --model RUN`, of a run on other data."
"""What to do where they are missing."""


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
        If it is a broken table, has other scores than losses, or those of a run on the rows themselves.

    Examples
    --------
    >>> irreducible_losses("missing.parquet")
    Traceback (most recent call last):
    dataprune.errors.DataError: The file of scores missing.parquet does not exist.
    """
    if _is_table(path):
        store = ScoreStore.load(path)
        losses, note = store.scores, store.provenance
    else:
        (_, losses), note = read_scores(path), read_note(path)
    scorer = note.get("scorer", "Loss()")
    if not scorer.startswith("Loss("):
        raise StateError(f"The recipe 'rho_loss' needs losses, but {path} has the scores of {scorer}.")
    if note.get("random_state") is not None:  # noted by a run, never by a scoring pass
        raise StateError(
            f"The recipe 'rho_loss' needs losses under a model of held-out data, but {path} has those of a run on its "
            f"own rows. {HOW}"
        )
    return losses


def losses_of_split(path: str, data: str, *, raw: datasets.Dataset, encoded: datasets.Dataset) -> NDArray[np.float32]:
    """Read the loss of each row of a train split.

    Parameters
    ----------
    path : str
        As for `irreducible_losses`.
    data : str
        Where the split is from.
    raw : datasets.Dataset
        The split as it was read; its ``source_row`` tells where each row stood.
    encoded : datasets.Dataset
        The same rows, tokenised: what a table's fingerprint is of.

    Returns
    -------
    ndarray of float32, shape (n_examples,)
        A loss for each row.

    Raises
    ------
    DataError
        If a row has none.
    StateError
        If the losses are of other data.
    """
    if _is_table(path):
        check_same_data(read_provenance(path), fingerprint(encoded))
        return irreducible_losses(path)
    note = read_note(path)
    if "data_fingerprint" in note:
        with open_rows(data) as (source, _):
            check_same_data(note, fingerprint(source))
    rows, losses = read_scores(path)
    wanted = np.asarray(raw["source_row"][:], np.int64)
    if (missing := np.setdiff1d(wanted, rows)).size:
        raise DataError(f"{path} has no score of row {missing[0]}. Score all rows of {data}.")
    return losses[np.searchsorted(rows, wanted)]


def _is_table(path: str) -> bool:
    return Path(path).suffix == ".safetensors"
