"""`import dataprune` stays light, and every public name is there."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dataprune

ROOT = Path(dataprune.__file__).parents[1]
HEAVY = (
    *("transformers", "datasets", "accelerate", "lightning", "sklearn"),
    *("typer", "pandas", "matplotlib", "rich", "safetensors"),
)


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_importing_dataprune_loads_torch_and_nothing_heavy_and_none_of_its_own_modules():
    loaded = run("import sys, dataprune; print(*sorted({*sys.modules}))").split()
    assert "torch" in loaded
    assert not {*HEAVY} & {*loaded}
    assert not [name for name in loaded if name.startswith("dataprune.")]


@pytest.mark.parametrize("name", dataprune.__all__)
def test_every_public_name_resolves_and_is_documented(name):
    public = getattr(dataprune, name)
    assert public.__name__ == name
    assert public.__doc__


def test_every_name_lives_where_the_lazy_table_says():
    assert set(dataprune._MODULE_OF) == set(dataprune.__all__)
    for name, module in dataprune._MODULE_OF.items():
        assert getattr(importlib.import_module(f"dataprune.{module}"), name) is getattr(dataprune, name)
    assert set(dataprune.__all__) <= set(dir(dataprune))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dataprune' has no attribute 'EL3N'"):
        _ = dataprune.EL3N
