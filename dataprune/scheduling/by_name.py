"""Schedulers by the names that the command line knows."""

from __future__ import annotations

from typing import Any

from dataprune.errors import InvalidValueError, check_choice
from dataprune.scheduling.adaptive import SoftPruneScheduler
from dataprune.scheduling.base import Scheduler
from dataprune.scheduling.cyclic import ConstantScheduler, CyclicScheduler
from dataprune.scheduling.ramps import (
    CosineScheduler,
    ExponentialScheduler,
    InterleavedScheduler,
    LinearScheduler,
    StepScheduler,
)

SCHEDULERS: dict[str, type[Scheduler]] = {
    "constant": ConstantScheduler,
    "cyclic": CyclicScheduler,
    "linear": LinearScheduler,
    "cosine": CosineScheduler,
    "exponential": ExponentialScheduler,
    "step": StepScheduler,
    "interleaved": InterleavedScheduler,
    "soft-prune": SoftPruneScheduler,
}
"""Names of schedulers on the command line."""


def make_scheduler(owner: str, name: str, **settings: Any) -> Scheduler:
    """Build a scheduler by name, of the settings of all.

    Parameters
    ----------
    owner : str
        Function that the messages name.
    name : str
        A key of `SCHEDULERS`.
    **settings : object
        Parameters of any scheduler; one that this scheduler has not may only be given its default.

    Returns
    -------
    Scheduler
        The scheduler.

    Raises
    ------
    InvalidValueError
        If the name is unknown, or a setting belongs to other schedulers.

    Examples
    --------
    >>> make_scheduler("plan", "step", keep_fraction=0.3, n_levels=2)
    StepScheduler(keep_fraction=0.3, n_levels=2)
    """
    kind = SCHEDULERS[check_choice(owner, "scheduler", name, SCHEDULERS)]
    defaults = {key: value for each in SCHEDULERS.values() for key, value in each().get_params().items()}
    own = kind().get_params()
    for key, value in settings.items():
        if key not in own and value != defaults[key]:
            raise InvalidValueError(f"{owner}.{key} must be left out with the scheduler {name!r}, got {value!r}.")
    return kind(**{key: value for key, value in settings.items() if key in own})
