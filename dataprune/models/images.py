# mypy: disallow-untyped-calls=False
# (transformers annotates its classes, but not every method that they call)
"""Models for images: a small network of our own, or any torch model by the name of what makes it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from dataprune.data.files import read_json, write_json
from dataprune.data.images import ImageClassificationTask
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.models.supernet import SMALL_SUPERNET, SmallSupernet

SMALL_CNN = "small-cnn"
"""What ``--model`` calls `SmallCNN`."""

MADE_BY, WEIGHTS = "made_by.json", "model.safetensors"


class SmallCNNConfig(PreTrainedConfig):
    """Configuration of `SmallCNN`.

    Parameters
    ----------
    n_channels : int, default=3
        1 for grey images, 3 for colour.
    width : int, default=32
        Channels after the first block; each of the next two has twice as many.
    **kwargs : Any
        What every `PreTrainedConfig` takes, such as ``id2label``.

    Examples
    --------
    >>> SmallCNNConfig(n_channels=1).width
    32
    """

    model_type = "dataprune-small-cnn"

    def __init__(self, *, n_channels: int = 3, width: int = 32, **kwargs: Any) -> None:
        self.n_channels = n_channels
        self.width = width
        super().__init__(**kwargs)


class SmallCNN(PreTrainedModel):
    """Three blocks of convolution, for small images of any size; 93,000 weights for grey images of 10 classes.

    A start for trying pruning out, no match for a pretrained model. Groups are normalised, not batches: an image's
    score does not depend on the others in its batch.

    Parameters
    ----------
    config : SmallCNNConfig
        Channels and classes.

    Examples
    --------
    >>> import torch
    >>> model = SmallCNN(SmallCNNConfig(n_channels=1, num_labels=10))
    >>> model(torch.zeros(2, 1, 8, 8)).logits.shape
    torch.Size([2, 10])
    """

    config_class = SmallCNNConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SmallCNNConfig) -> None:
        super().__init__(config)
        widths = [config.n_channels, config.width, 2 * config.width, 4 * config.width]
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU()]
            blocks.append(nn.MaxPool2d(2, ceil_mode=True))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], len(config.id2label or {}))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Leave torch's own initial weights as they are."""

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """Return the logits.

        Parameters
        ----------
        pixel_values : Tensor
            Shape (B, C, H, W).

        Returns
        -------
        ImageClassifierOutput
            ``logits`` (B, n_classes).
        """
        states: Tensor = self.blocks(pixel_values)  # (B, 4 * width, H / 8, W / 8)
        return ImageClassifierOutput(logits=self.head(states.mean((2, 3))))


OWN: dict[str, Any] = {SMALL_CNN: SmallCNN, SMALL_SUPERNET: SmallSupernet}
"""Networks of our own by the names that ``--model`` knows."""


def build_image_model(task: ImageClassificationTask, name_or_path: str | Path) -> nn.Module:
    """Make a model for a task on images, or load a saved one.

    Parameters
    ----------
    task : ImageClassificationTask
        A fitted task.
    name_or_path : str or Path
        ``small-cnn`` or ``small-supernet``; ``module:name`` of a function or class that makes a torch model (or of a
        model itself); or a folder that `save_model_of` wrote.

    Returns
    -------
    nn.Module
        New weights are drawn from torch's global generator (`torch.manual_seed`).

    Raises
    ------
    InvalidValueError
        If there is no such model.
    InvalidTypeError
        If it is no torch model.

    Notes
    -----
    A maker is called with those of ``n_classes`` (or ``num_classes``, also where it takes any keyword), ``n_channels``
    (or ``in_channels``, ``in_chans``) and ``image_size`` that it has parameters for. The current folder is searched
    too.

    Examples
    --------
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"image": [[[0, 255]], [[255, 0]]], "label": ["right", "left"]})
    >>> type(build_image_model(ImageClassificationTask().fit(rows), "small-cnn")).__name__
    'SmallCNN'
    """
    task.check_fitted("build_model")
    text, names = str(name_or_path), task.labels_[""]
    if text in OWN:
        labels = dict(enumerate(names))
        kind = OWN[text]
        made: nn.Module = kind(
            kind.config_class(
                n_channels=task.shape_[0], id2label=labels, label2id={name: i for i, name in labels.items()}
            )
        )
        return made
    folder = Path(text)
    if (folder / MADE_BY).is_file():
        model = make_model(task, read_json(folder / MADE_BY)["made_by"])
        load_model(model, folder / WEIGHTS)
        model.eval()
        return model
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        kinds = {kind.config_class.model_type: kind for kind in OWN.values()}
        if config.get("model_type") not in kinds:
            raise InvalidTypeError(
                f"The model {text!r} must be {', '.join(OWN)}, module:name or a folder that dataprune wrote, got one "
                f"of type {config.get('model_type')!r}. Write a function that makes it, and pass module:name."
            )
        saved: Any = kinds[config["model_type"]].from_pretrained(folder)
        if saved.config.num_labels != len(names) or saved.config.n_channels != task.shape_[0]:
            raise InvalidValueError(
                f"The model {text!r} is for {saved.config.num_labels} classes and {saved.config.n_channels} channels, "
                f"the data have {len(names)} and {task.shape_[0]}."
            )
        loaded: nn.Module = saved
        return loaded
    return make_model(task, text)


def make_model(task: ImageClassificationTask, made_by: str) -> nn.Module:
    """Import what makes a model, and call it.

    Parameters
    ----------
    task : ImageClassificationTask
        A fitted task.
    made_by : str
        ``module:name``.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    InvalidValueError
        If there is no such thing.
    InvalidTypeError
        If what it makes is no torch model.

    Examples
    --------
    >>> make_model(ImageClassificationTask(), "resnet")
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: The model of images must be 'small-cnn', 'module:name' or a folder that ...
    """
    module_name, _, name = made_by.partition(":")
    if not (module_name and name):
        raise InvalidValueError(
            f"The model of images must be 'small-cnn', 'module:name' or a folder that dataprune wrote, got {made_by!r}."
        )
    try:
        with _current_folder_importable():
            maker = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InvalidValueError(f"The model {made_by!r} cannot be imported: {error}.") from None
    try:
        model = maker if isinstance(maker, nn.Module) else maker(**_arguments(maker, task))
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"The model {made_by!r} cannot be made: {error}.") from error
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"{made_by!r} must make a torch.nn.Module, got {type(model).__name__}.")
    return model


def save_model_of(task_model: nn.Module, folder: Path, *, name_or_path: str | Path) -> None:
    """Write a model so that `build_model` loads it.

    Parameters
    ----------
    task_model : nn.Module
        Any model.
    folder : Path
        Made where it is missing.
    name_or_path : str or Path
        What the model was built from.
    """
    if isinstance(task_model, PreTrainedModel):
        task_model.save_pretrained(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(str(name_or_path)) / MADE_BY
    made_by = read_json(source)["made_by"] if source.is_file() else str(name_or_path)
    save_model(task_model, str(folder / WEIGHTS))
    write_json(folder / MADE_BY, {"made_by": made_by})


def _arguments(maker: Any, task: ImageClassificationTask) -> dict[str, int]:
    parameters = inspect.signature(maker).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    n_classes, (n_channels, height, _) = len(task.labels_[""]), task.shape_
    known = {"n_classes": n_classes, "num_classes": n_classes, "image_size": height}
    known |= dict.fromkeys(("n_channels", "in_channels", "in_chans"), n_channels)
    arguments = {name: value for name, value in known.items() if name in parameters}
    if takes_any and not {"n_classes", "num_classes"} & {*arguments}:
        arguments["num_classes"] = n_classes  # as the models of torchvision
    return arguments


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))
