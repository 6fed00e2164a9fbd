"""What `prepare` refuses."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader

from dataprune import CyclicScheduler, DynamicPruner, RandomK
from dataprune.errors import InvalidTypeError, InvalidValueError
from dataprune.integrations.accelerate import prepare

LOADER = DataLoader(torch.zeros(8, 2), 4, shuffle=True)


def pruner():
    return DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=0.5))


@pytest.mark.parametrize(("name", "value"), [("split_batches", True), ("even_batches", False)])
def test_batches_that_are_cut_otherwise_are_refused(name, value):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**{name: value}))
    with pytest.raises(InvalidValueError, match=rf"Accelerator\.{name} must be {not value}, got {value}"):
        prepare(accelerator, pruner(), LOADER, n_epochs=2)


def test_arguments_of_the_wrong_kind_are_named():
    with pytest.raises(InvalidTypeError, match=r"needs an accelerate\.Accelerator, got DynamicPruner"):
        prepare(pruner(), pruner(), LOADER, n_epochs=2)
    with pytest.raises(InvalidTypeError, match="needs a DynamicPruner, got DataLoader"):
        prepare(Accelerator(cpu=True), LOADER, pruner(), n_epochs=2)


def test_what_attach_refuses_is_refused_here_too():
    with pytest.raises(InvalidValueError, match="n_epochs must be at least 1"):
        prepare(Accelerator(cpu=True), pruner(), LOADER, n_epochs=0)
