"""One class per image, from files or arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name

from dataprune.data.base import Task
from dataprune.data.metrics import measure_classes
from dataprune.errors import DataError, MissingPackageError, check_count

if TYPE_CHECKING:
    import datasets

CHANNELS = (1, 3, 4)
"""Sizes that an axis of channels may have."""

N_LOOKED_AT = 1000
"""Evenly spaced images that sizes, means and deviations are learned from."""

DEFAULT_SIZE = 64
"""Height and width where the images have several sizes."""


class ImageClassificationTask(Task):
    """One label per image.

    Images are files (paths), arrays, or what `datasets` calls an image. They are brought to one size and one number of
    channels, and normalised channel by channel. Signals: ``logits`` (B, C) and ``labels`` (B,). Metrics: ``accuracy``
    (main) and ``macro_f1``.

    Parameters
    ----------
    columns : mapping of str to str or None, default=None
        Column names of the roles ``image`` and ``label``; None means these names.
    image_size : int or None, default=None
        Height and width in pixels; None keeps the size of the train images, or is 64 where they have several.

    Attributes
    ----------
    labels_ : dict of str to list of str
        ``{"": sorted names}``.
    unseen_labels_ : dict of str to list of str
        ``{"": names that the train set lacks}``.
    shape_ : list of int
        Channels (1 for grey, 3 for colour), height and width.
    mean_ : list of float
        Mean of each channel in the train set.
    std_ : list of float
        Standard deviation of each channel in the train set.

    Notes
    -----
    `encode` holds all pixels in memory, a byte each, or 4 for arrays of floats. Sizes, means and deviations come from
    at most 1,000 evenly spaced train images. There is no augmentation. Where tokens are counted, an image is one.

    Examples
    --------
    >>> from datasets import Dataset
    >>> train = Dataset.from_dict({"image": [[[0, 255]], [[255, 0]]], "label": ["right", "left"]})
    >>> task = ImageClassificationTask().fit(train)
    >>> task.labels_, task.shape_, task.mean_
    ({'': ['left', 'right']}, [1, 1, 2], [127.5])
    """

    name: ClassVar[str] = "image-classification"
    main_metric: ClassVar[str] = "accuracy"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    heads: ClassVar[dict[str, str]] = {"": "label"}
    learned: ClassVar[tuple[str, ...]] = ("shape_", "mean_", "std_")

    shape_: list[int]
    mean_: list[float]
    std_: list[float]

    def __init__(self, *, columns: Mapping[str, str] | None = None, image_size: int | None = None) -> None:
        super().__init__(columns=columns)
        self.image_size = image_size

    def fit(self, train: datasets.Dataset) -> Self:  # noqa: D102 - inherited
        if self.image_size is not None:
            check_count("ImageClassificationTask", "image_size", self.image_size, minimum=1)
        self.check_columns(train)
        labels, column = train.with_format(None)[self.column("label")][:], self.column("label")
        row_names = train["source_row"][:] if "source_row" in train.column_names else range(len(train))
        names = self.read_labels("", labels, train.features[column], rows={}, row_names=row_names)
        self.learn({"label": names}, train)
        return self

    def learn(self, rows: Mapping[str, list[Any]], train: datasets.Dataset) -> None:  # noqa: D102 - inherited
        super().learn(rows, train)
        looked_at = np.unique(np.linspace(0, len(train) - 1, num=min(len(train), N_LOOKED_AT), dtype=int))
        found = train.with_format(None).select(looked_at.tolist())[self.column("image")]
        images = [to_array(image) for image in found]
        sizes = {image.shape[1:] for image in images}
        height, width = sizes.pop() if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE)
        if self.image_size is not None:
            height = width = self.image_size
        self.shape_ = [3 if any(len(image) > 1 for image in images) else 1, height, width]
        pixels = np.stack([resized(image, self.shape_) for image in images]).astype(np.float64)  # (n, C, H, W)
        self.mean_ = pixels.mean((0, 2, 3)).tolist()
        self.std_ = np.maximum(pixels.std((0, 2, 3)), 1e-6).tolist()

    def check_inputs(self, role: str, values: Sequence[Any], *, row_names: Sequence[int]) -> None:
        """Pass: `to_array` checks each image as it reads it.

        Parameters
        ----------
        role : str
            Not used.
        values : sequence
            Not used.
        row_names : sequence of int
            Not used.
        """

    def encode_rows(self, rows: Mapping[str, list[Any]], tokenizer: Any) -> dict[str, Any]:  # noqa: ARG002, D102
        pixels = np.stack([resized(to_array(image), self.shape_) for image in rows["image"]])  # (n, C, H, W)
        return {"pixel_values": pixels.reshape(len(pixels), -1), "labels": rows["label"]}

    def encode(self, dataset: datasets.Dataset, tokenizer: Any = None) -> datasets.Dataset:  # noqa: D102 - inherited
        return super().encode(dataset, tokenizer).with_format("numpy")

    def collator(self, tokenizer: Any = None) -> Callable[[Sequence[Mapping[str, Any]]], Any]:  # noqa: ARG002, D102
        return ImageCollate(self.shape_, self.mean_, self.std_)

    def metrics(self, signals: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:  # noqa: D102 - inherited
        return measure_classes(signals)


class ImageCollate:
    """Stack encoded images into one batch ``(x, y)``, normalised.

    Parameters
    ----------
    shape : sequence of int
        Channels, height and width.
    mean : sequence of float
        Of each channel.
    std : sequence of float
        Of each channel.

    Examples
    --------
    >>> collate = ImageCollate([1, 1, 2], mean=[1.0], std=[2.0])
    >>> x, y = collate([{"pixel_values": [1, 3], "labels": 7}])
    >>> x.tolist(), y.tolist()
    ([[[[0.0, 1.0]]]], [7])
    """

    def __init__(self, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        self.shape = shape
        self.mean = mean
        self.std = std

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
        """Return the batch of `examples`.

        Parameters
        ----------
        examples : sequence of mapping
            Rows of `ImageClassificationTask.encode`.

        Returns
        -------
        x : Tensor of float32, shape (B, C, H, W)
            Images.
        y : Tensor of int64, shape (B,)
            Class ids.
        """
        pixels = np.stack([np.asarray(example["pixel_values"], np.float32) for example in examples])
        x = torch.from_numpy(pixels).view(-1, *self.shape)  # (B, C, H, W)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))  # (C, 1, 1)
        return (x - mean) / std, torch.tensor([int(example["labels"]) for example in examples])

    def __repr__(self) -> str:
        return f"ImageCollate({self.shape!r}, mean={self.mean!r}, std={self.std!r})"


def to_array(image: Any) -> NDArray[Any]:
    """Return an image of any kind as pixels.

    Parameters
    ----------
    image : str, PIL.Image, mapping, ndarray or list
        A path, an opened image, what `datasets` stores (``bytes`` or ``path``), or pixels (H, W), (H, W, C) or
        (C, H, W) with 1, 3 or 4 channels.

    Returns
    -------
    ndarray of uint8 or float32, shape (C, H, W)
        1 channel for grey, 3 for colour; transparency is left out.

    Raises
    ------
    DataError
        If the file is missing or no image, or the pixels have another shape.
    MissingPackageError
        If a file is to be read and Pillow is not installed.

    Examples
    --------
    >>> to_array([[0, 255]]).tolist()
    [[[0, 255]]]
    """
    if isinstance(image, str):
        return _opened(image, image)
    if isinstance(image, Mapping):
        content, path = image.get("bytes"), image.get("path")
        return _opened(path, path) if content is None else _opened(io.BytesIO(content), path or "in the data")
    if hasattr(image, "convert"):
        return _from_pillow(image)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[-1] in CHANNELS:
        pixels = pixels.transpose(2, 0, 1)
    elif pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[0] not in CHANNELS or pixels.dtype == object:
        raise DataError(
            f"An image must be (height, width) pixels, with 1, 3 or 4 channels or none, got {pixels.shape}."
        )
    is_bytes = pixels.dtype.kind in "iu" and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 255
    return pixels[:3].astype(np.uint8 if is_bytes else np.float32)  # the fourth channel is transparency


def _opened(source: Any, name: Any) -> NDArray[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError(
            "Images in files need Pillow, which is not installed. Run: pip install 'dataprune[vision]'"
        ) from None
    try:
        with Image.open(source) as image:
            return _from_pillow(image)
    except FileNotFoundError:
        raise DataError(f"The image {name} does not exist.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"The image {name} cannot be read: {str(error).rstrip('.')}.") from None


def _from_pillow(image: Any) -> NDArray[Any]:
    is_grey = image.mode in {"1", "L", "LA", "I", "I;16", "F"}
    pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
    return pixels[None] if is_grey else pixels.transpose(2, 0, 1)


def resized(image: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an image in another size and with another number of channels.

    Parameters
    ----------
    image : ndarray, shape (C, H, W)
        Grey or colour.
    shape : sequence of int
        Channels, height and width to come to.

    Returns
    -------
    ndarray of the same dtype, with that shape
        `image` itself if nothing changes; else grey as three equal channels, or the mean of the colours.

    Examples
    --------
    >>> resized(np.array([[[0, 100]]], np.uint8), [3, 1, 1]).tolist()
    [[[50]], [[50]], [[50]]]
    """
    if len(image) != shape[0]:
        image = np.repeat(image, 3, 0) if shape[0] == 3 else image.mean(0, keepdims=True).astype(image.dtype)
    if image.shape[1:] == (shape[1], shape[2]):
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]  # (1, C, H, W)
    found = F.interpolate(pixels, (shape[1], shape[2]), mode="bilinear", antialias=True)[0].numpy()
    return (found.round() if image.dtype == np.uint8 else found).astype(image.dtype)
