"""Images from files: a folder with one subfolder per class, or arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from dataprune.errors import DataError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
"""Endings of files that are images, in any case."""

IMAGES, LABELS = ("images", "image", "x", "data"), ("labels", "label", "y", "target")
"""Names of arrays; with ``_train`` and the like behind them where a file holds several splits."""


def read_image_folder(folder: Path) -> datasets.Dataset | None:
    """List the images of a folder with one subfolder per class.

    Parameters
    ----------
    folder : Path
        Images anywhere below ``folder/CLASS/``; other files are passed over.

    Returns
    -------
    datasets.Dataset or None
        Columns ``image`` (paths) and ``label`` (names of the subfolders), sorted; None if there is no image.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "cat").mkdir()
    ...     _ = (Path(folder) / "cat" / "1.png").write_bytes(b"")
    ...     read_image_folder(Path(folder))["label"][:]
    ['cat']
    """
    paths, labels = [], []
    for subfolder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = sorted(path for path in subfolder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
        paths += [str(path) for path in found]
        labels += [subfolder.name] * len(found)
    return datasets.Dataset.from_dict({"image": paths, "label": labels}) if paths else None


def read_arrays(path: Path, split_of: dict[str, str]) -> dict[str, datasets.Dataset]:
    """Read images and labels from an ``.npz`` file.

    Parameters
    ----------
    path : Path
        Arrays ``images`` (n, height, width), with a last or second axis of 1, 3 or 4 channels where there are any, and
        ``labels`` (n,); ``x`` and ``y`` do too. With ``_train``, ``_test`` ... behind the names, several splits.
    split_of : dict of str to str
        Name that a split may have -> its name here.

    Returns
    -------
    dict of str to datasets.Dataset
        Split -> columns ``image`` and ``label``; ``train`` where the names tell no split.

    Raises
    ------
    DataError
        If the file is broken, or the arrays are missing or do not fit each other.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", images=np.zeros((3, 8, 8), np.uint8), labels=[0, 1, 0])
    ...     read_arrays(Path(folder, "a.npz"), {})["train"].num_rows
    3
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name.lower(): file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as arrays: {str(error).splitlines()[0].rstrip('.')}.") from None
    found: dict[str, datasets.Dataset] = {}
    for ending, split in {"": "train", **{f"_{word}": split for word, split in split_of.items()}}.items():
        images, labels = (
            next((arrays[name + ending] for name in names if name + ending in arrays), None)
            for names in (IMAGES, LABELS)
        )
        if images is not None and labels is not None:
            found.setdefault(split, _to_dataset(images, labels, path))
    if not found:
        raise DataError(
            f"{path} must hold the arrays 'images' and 'labels' (or 'x_train', 'y_train' and the like), got "
            f"{', '.join(map(repr, arrays)) or 'none'}."
        )
    return found


def _to_dataset(images: NDArray[Any], labels: NDArray[Any], path: Path) -> datasets.Dataset:
    labels = labels.reshape(-1) if labels.shape == (len(labels), 1) else labels
    if images.ndim not in {3, 4} or labels.shape != (len(images),):
        raise DataError(
            f"{path} must hold images (n, height, width) or (n, height, width, channels) and labels (n,), got "
            f"{images.shape} and {labels.shape}."
        )
    if not (labels.dtype.kind in "iubU" or (labels.dtype.kind == "f" and np.array_equal(labels, labels.round()))):
        raise DataError(f"{path} must hold labels that are whole numbers or texts, got {labels.dtype}.")
    if images.dtype not in {np.dtype(np.uint8), np.dtype(np.float32)}:
        images = images.astype(np.float32)
    kind = datasets.Array2D if images.ndim == 3 else datasets.Array3D
    values = labels.tolist()
    features = {
        "image": kind(shape=images.shape[1:], dtype=str(images.dtype)),
        "label": datasets.Value("string" if isinstance(next(iter(values), ""), str) else "int64"),
    }
    return datasets.Dataset.from_dict({"image": images, "label": values}, features=datasets.Features(features))
