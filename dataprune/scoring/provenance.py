"""Where scores come from, in words that a file can hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from dataprune.errors import StateError

PACKAGES = ("dataprune", "torch", "transformers", "numpy")
"""Packages whose versions are noted."""


def provenance(
    scorer: object,
    *,
    data_fingerprint: str,
    model: nn.Module | None = None,
    epoch: int | None = None,
    random_state: int | None = None,
) -> dict[str, Any]:
    """Describe how scores are made.

    Parameters
    ----------
    scorer : Scorer
        With its parameters.
    data_fingerprint : str
        From `dataprune.data.fingerprint.fingerprint`.
    model : nn.Module, optional
        The model whose view the newest scores are, where there is just one.
    epoch : int, optional
        Epoch, or number of the pass, of the newest scores.
    random_state : int, optional
        Seed of the run.

    Returns
    -------
    dict
        ``scorer``, ``data_fingerprint``, ``model_hash``, ``epoch``, ``random_state`` and ``versions``.

    Examples
    --------
    >>> note = provenance("EL2N()", data_fingerprint="5f")
    >>> note["data_fingerprint"], note["model_hash"], sorted(note["versions"])
    ('5f', None, ['dataprune', 'numpy', 'torch', 'transformers'])
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # dataprune itself, run from a folder that was never installed
            versions[package] = "unknown"
    return {
        "scorer": " ".join(str(scorer).split()),
        "data_fingerprint": data_fingerprint,
        "model_hash": None if model is None else model_hash(model),
        "epoch": epoch,
        "random_state": random_state,
        "versions": versions,
    }


def model_hash(model: nn.Module) -> str:
    """Hash the names, shapes and values of all parameters and buffers.

    Parameters
    ----------
    model : nn.Module
        Any model.

    Returns
    -------
    str
        Hexadecimal digest.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> before = model_hash(model)
    >>> _ = nn.init.zeros_(model.weight)
    >>> model_hash(model) == before
    False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not torch.is_tensor(tensor):  # a module's extra state
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def scorer_of(note: Mapping[str, Any]) -> str | None:
    """Return which scorer made some scores.

    Parameters
    ----------
    note : mapping of str to object
        From `provenance`.

    Returns
    -------
    str or None
        Name of its class; None where it is not noted.

    Examples
    --------
    >>> scorer_of(provenance("EL2N(smoothing='ema')", data_fingerprint="5f"))
    'EL2N'
    """
    return note["scorer"].partition("(")[0] if "scorer" in note else None


def check_same_data(note: dict[str, Any], data_fingerprint: str) -> None:
    """Raise if scores were made for other data; scores without a note are taken as they are.

    Parameters
    ----------
    note : dict
        From `provenance`.
    data_fingerprint : str
        Of the data set at hand.

    Raises
    ------
    StateError
        If the two fingerprints differ.

    Examples
    --------
    >>> check_same_data({"data_fingerprint": "5f"}, "5f")
    """
    saved = note.get("data_fingerprint", data_fingerprint)
    if saved != data_fingerprint:
        raise StateError(
            f"These scores were made for other data: their fingerprint is {saved[:12]}, the data set's is "
            f"{data_fingerprint[:12]}. Use the rows, the order and the encoding that were scored."
        )
