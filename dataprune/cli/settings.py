"""Settings of a run from a file and from options, for the commands that train."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any

from typer import Argument, Option

from dataprune.cli.errors import UsageError, wrong_usage
from dataprune.errors import DataPruneError, InvalidValueError, check_choice
from dataprune.runs.config import COMPOSITION, RunConfig

RunFileArgument = Annotated[
    str | None,
    Argument(metavar="RUN.TOML", help="Settings as a file, such as a run writes; options replace them."),
]
Settings = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="Any setting by its name in a run file; repeatable."),
]


def to_config(run_file: str | None, typed: Mapping[str, Any]) -> RunConfig:
    """Return the checked settings of a run.

    Parameters
    ----------
    run_file : str or None
        Path of a run file.
    typed : mapping of str to object
        What the user typed; it replaces what the file says.

    Returns
    -------
    RunConfig
        In range, and its parts go together.

    Raises
    ------
    UsageError
        If something is missing, unknown or out of range; a mistake in the file is told with its line.
    """
    from dataprune.runs.run import check_config
    from dataprune.runs.run_file import RunFile, checked_setting, read_run_file

    with wrong_usage():
        file = RunFile() if run_file is None else read_run_file(run_file)
        settings = {**_without_replaced(file.settings, typed), **typed}
        names = {field.name: field.default is field.default_factory is MISSING for field in fields(RunConfig)}
        for name in settings:
            check_choice("train", "set", name, names)
        for name, value in typed.items():
            if value is not None:  # --set n=none is its default, where that is None
                settings[name] = checked_setting(name, value, owner=f"train.{name}")
        for name, is_required in names.items():
            if is_required and settings.get(name) is None:
                raise UsageError(f"Missing option '--{name.replace('_', '-')}'.")
        config = RunConfig(**settings)
        try:
            check_config(config)
        except DataPruneError as error:
            raise InvalidValueError(file.explain(str(error), overridden=typed.keys())) from None
    return config


def _without_replaced(settings: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a run file says in the place of which the user typed something else.

    A typed recipe takes over what composes a run, but for parameters of its own that are not a plain run's defaults: a
    run writes all of its settings into its file.
    """
    from dataprune.recipes import RECIPES
    from dataprune.runs.compose import PRUNING

    replaced = {"keep_fraction"} if typed.get("budget") else {"budget"} if "keep_fraction" in typed else set()
    if typed.get("recipe") in RECIPES:
        takes = inspect.signature(RECIPES[typed["recipe"]].make).parameters
        replaced |= {name for name in PRUNING if name not in takes or settings.get(name) == COMPOSITION.get(name)}
    return {name: value for name, value in settings.items() if name not in replaced}
