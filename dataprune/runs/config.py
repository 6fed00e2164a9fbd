"""What a run follows from; light, for the command line reads its defaults here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COMPOSITION: dict[str, Any] = {
    "keep_fraction": 0.5,
    "n_warmup_epochs": 1,
    "n_cycle_epochs": 1,
    "n_full_final_epochs": 0,
    "scheduler": "cyclic",
    "initial_keep_fraction": 1.0,
    "n_levels": 3,
    "selector": "top-k",
    "refresh": "observed",
}
"""What a run without a recipe has where nothing else is said."""


@dataclass(frozen=True)
class RunConfig:
    """All that a run follows from; the words are those of the command line.

    The settings of `COMPOSITION` are None where a recipe decides, or of ``keep_fraction`` a budget.

    Parameters
    ----------
    data : str
        Folder, file or hub name, as `load_data` takes it.
    model : str
        Folder or hub name of an encoder, or of a decoder for ``causal-lm``; of images ``small-cnn``,
        ``small-supernet`` or ``module:name``.
    output_dir : str
        Folder for the results.
    task : str or None, default=None
        A key of `dataprune.data.tasks.TASKS`; guessed from the columns by default.
    columns : dict of str to str, default={}
        Role -> column name, where the guess is wrong.
    keep_fraction : float or None, default=0.5
        Share of the examples kept in pruned epochs; 1 trains on everything.
    budget : dict of str to float, default={}
        In its place: the one parameter of `Budget`.
    n_epochs : int, default=10
        Epochs, warm-up included.
    n_warmup_epochs : int or None, default=1
        First epochs on all examples.
    n_cycle_epochs : int or None, default=1
        Epochs on one selection.
    n_full_final_epochs : int or None, default=0
        Last epochs on all examples.
    scheduler : str or None, default="cyclic"
        A key of `dataprune.scheduling.by_name.SCHEDULERS`.
    initial_keep_fraction : float or None, default=1.0
        Where a ramp starts.
    n_levels : int or None, default=3
        Levels of the ``step`` scheduler.
    scorer : str or None, default=None
        A key of `SCORERS`; by default the task's error norm.
    scorer_args : dict of str to object, default={}
        The scorer's parameters by name.
    selector : str or None, default="top-k"
        A key of `SELECTORS`.
    selector_args : dict of str to object, default={}
        The selector's parameters by name.
    group_column : str or None, default=None
        Column that a selector's groups are read from: one value or a list per example; of a column of tags the types
        of slots. By default the classes.
    refresh : str, float or None, default="observed"
        Where scores come from, as in `DynamicPruner`.
    recipe : str or None, default=None
        A key of `dataprune.recipes.RECIPES`, in the place of scorer, selector and scheduler.
    recipe_args : dict of str to object, default={}
        The recipe's own parameters by name.
    scores : str or None, default=None
        File of scores to start from, ``scores.safetensors`` of another run on the same data; then no warm-up is needed.
        For the recipe ``rho_loss`` the losses under a model of other data, as `irreducible_losses` reads them.
    batch_size : int, default=32
        Examples in a batch.
    learning_rate : float, default=5e-5
        Peak learning rate.
    lr_schedule : str, default="linear"
        ``linear``, ``cosine`` or ``constant``.
    n_accumulation : int, default=1
        Batches per optimizer update.
    max_grad_norm : float, default=1.0
        Gradients are clipped to this norm; 0 leaves them as they are.
    mixed_precision : str, default="no"
        ``no`` or ``bf16``.
    max_length_tokens : int, default=128
        Longer inputs are cut.
    image_size : int or None, default=None
        Height and width that images are brought to; by default their own, or 64.
    n_workers : int, default=0
        Loader processes.
    seed : int, default=0
        Seed of weights, orders and selections.

    Examples
    --------
    >>> RunConfig(data="atis/", model="encoder/", output_dir="run/").keep_fraction
    0.5
    """

    data: str
    model: str
    output_dir: str
    task: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    keep_fraction: float | None = None
    budget: dict[str, Any] = field(default_factory=dict)
    n_epochs: int = 10
    n_warmup_epochs: int | None = None
    n_cycle_epochs: int | None = None
    n_full_final_epochs: int | None = None
    scheduler: str | None = None
    initial_keep_fraction: float | None = None
    n_levels: int | None = None
    scorer: str | None = None
    scorer_args: dict[str, Any] = field(default_factory=dict)
    selector: str | None = None
    selector_args: dict[str, Any] = field(default_factory=dict)
    group_column: str | None = None
    refresh: str | float | None = None
    recipe: str | None = None
    recipe_args: dict[str, Any] = field(default_factory=dict)
    scores: str | None = None
    batch_size: int = 32
    learning_rate: float = 5e-5
    lr_schedule: str = "linear"
    n_accumulation: int = 1
    max_grad_norm: float = 1.0
    mixed_precision: str = "no"
    max_length_tokens: int = 128
    image_size: int | None = None
    n_workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Fill in what was not given, unless a recipe or a budget decides it."""
        for name, default in ({} if self.recipe is not None else COMPOSITION).items():
            if getattr(self, name) is None and not (name == "keep_fraction" and self.budget):
                object.__setattr__(self, name, default)
