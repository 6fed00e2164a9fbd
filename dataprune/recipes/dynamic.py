"""Recipes that choose while a model trains; each returns a `DynamicPruner`."""

from __future__ import annotations

from typing import Any

from dataprune.errors import check_choice, check_count
from dataprune.recipes._registry import recipe
from dataprune.scheduling.adaptive import SoftPruneScheduler
from dataprune.scheduling.cyclic import ConstantScheduler, CyclicScheduler
from dataprune.scoring.error_norm import EL2N, JointEL2N
from dataprune.scoring.information import ReducibleLoss
from dataprune.scoring.uncertainty import Loss
from dataprune.selection.batch import BatchTopK, RobustWeights, SelectiveBackprop
from dataprune.selection.random import EpsilonGreedy, RandomK
from dataprune.selection.ranked import TopK
from dataprune.selection.unbiased import SoftPrune
from dataprune.training.pruner import DynamicPruner

FREE = "none: scores of the training pass"


def _all_epochs(n_warmup_epochs: int = 0, n_full_final_epochs: int = 0) -> ConstantScheduler:
    """Leave the epochs whole: a batch policy works inside them."""
    return ConstantScheduler(
        keep_fraction=1.0, n_warmup_epochs=n_warmup_epochs, n_full_final_epochs=n_full_final_epochs
    )


@recipe("dynamic", cost="a scoring pass per cycle", source="Attendu & Corbeil 2023, arXiv 2306.03208")
def nlu_data_diets(
    *,
    task: str = "joint",
    keep_fraction: float = 0.5,
    n_warmup_epochs: int = 2,
    n_cycle_epochs: int = 2,
    random_state: int = 0,
) -> DynamicPruner:
    """Warm up on everything, then score all, keep the hardest, train, in cycles (the seed paper).

    Parameters
    ----------
    task : {"joint", "sentence"}, default="joint"
        Joint intent and slots (joint EL2N, moving average plus deviation), or single sentences (the newest EL2N).
    keep_fraction : float, default=0.5
        Share kept; the paper swept 0.1 to 0.9.
    n_warmup_epochs : int, default=2
        The paper's tau, swept from 1 to 6.
    n_cycle_epochs : int, default=2
        The paper's T, swept from 1 to 5.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> nlu_data_diets(keep_fraction=0.2).refresh
    'full'
    """
    joint = check_choice("nlu_data_diets", "task", task, ("joint", "sentence")) == "joint"
    return DynamicPruner(
        JointEL2N(smoothing="ema_plus_std") if joint else EL2N(),
        TopK(),
        CyclicScheduler(keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_cycle_epochs=n_cycle_epochs),
        refresh="full",
        random_state=random_state,
    )


@recipe("dynamic", cost="none", source="Raju et al. 2021, arXiv 2111.12621")
def dynamic_random(*, keep_fraction: float = 0.5, n_cycle_epochs: int = 1, random_state: int = 0) -> DynamicPruner:
    """Draw anew, uniformly, each cycle: the baseline to beat.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share kept.
    n_cycle_epochs : int, default=1
        Epochs on one draw.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> dynamic_random().selector
    RandomK()
    """
    scheduler = CyclicScheduler(keep_fraction=keep_fraction, n_warmup_epochs=0, n_cycle_epochs=n_cycle_epochs)
    return DynamicPruner(None, RandomK(), scheduler, random_state=random_state)


@recipe("dynamic", cost=FREE, source="Raju et al. 2021, arXiv 2111.12621 (constants not read)")
def epsilon_greedy(
    *,
    keep_fraction: float = 0.5,
    epsilon: float = 0.1,
    n_warmup_epochs: int = 1,
    n_cycle_epochs: int = 1,
    random_state: int = 0,
) -> DynamicPruner:
    """Keep the highest moving averages of the loss, and a share at random so that nothing is forgotten.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share kept.
    epsilon : float, default=0.1
        Share of the kept that is drawn; our own constant.
    n_warmup_epochs : int, default=1
        First epochs on all examples, which give each a loss.
    n_cycle_epochs : int, default=1
        Epochs on one selection.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> epsilon_greedy().scorer
    Loss(smoothing='ema')
    """
    scheduler = CyclicScheduler(
        keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_cycle_epochs=n_cycle_epochs
    )
    return DynamicPruner(Loss(smoothing="ema"), EpsilonGreedy(epsilon=epsilon), scheduler, random_state=random_state)


@recipe("dynamic", cost=FREE, source="Raju et al. 2021, arXiv 2111.12621 (constants not read)")
def ucb(
    *,
    keep_fraction: float = 0.5,
    std_bonus: float = 1.0,
    n_warmup_epochs: int = 1,
    n_cycle_epochs: int = 1,
    random_state: int = 0,
) -> DynamicPruner:
    """Keep the highest upper confidence bounds: moving average of the loss plus a bonus for its spread.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share kept.
    std_bonus : float, default=1.0
        Standard deviations that are added; the paper adds the variance.
    n_warmup_epochs : int, default=1
        First epochs on all examples, which give each a loss.
    n_cycle_epochs : int, default=1
        Epochs on one selection.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> ucb(std_bonus=2.0).scorer
    Loss(smoothing='ema_plus_std', std_bonus=2.0)
    """
    scheduler = CyclicScheduler(
        keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_cycle_epochs=n_cycle_epochs
    )
    return DynamicPruner(
        Loss(smoothing="ema_plus_std", std_bonus=std_bonus), TopK(), scheduler, random_state=random_state
    )


@recipe("dynamic", cost=FREE, source="Qin et al. 2024, arXiv 2303.04947")
def infobatch(*, n_epochs: int, drop_fraction: float = 0.5, random_state: int = 0) -> DynamicPruner:
    """Drop half of the examples below the mean loss at random, weigh the other half double; end on all.

    Parameters
    ----------
    n_epochs : int
        Length of the run: the last eighth of it is on all examples (delta = 0.875).
    drop_fraction : float, default=0.5
        The paper's r.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> infobatch(n_epochs=16).scheduler
    SoftPruneScheduler(n_full_final_epochs=2)
    """
    check_count("infobatch", "n_epochs", n_epochs, minimum=1)
    scheduler = SoftPruneScheduler(drop_fraction=drop_fraction, n_full_final_epochs=n_epochs - int(0.875 * n_epochs))
    return DynamicPruner(Loss(), SoftPrune(max_weight=None), scheduler, random_state=random_state)


@recipe("dynamic", cost="a scoring pass now and then", source="Hajimolahoseini et al. 2023, arXiv 2311.15134")
def swiftlearn(
    *, keep_fraction: float = 0.1, n_warmup_epochs: int = 1, n_cycle_epochs: int = 2, random_state: int = 0
) -> DynamicPruner:
    """Drop about 90 % after a warm-up, by an importance that is measured anew now and then.

    Parameters
    ----------
    keep_fraction : float, default=0.1
        Share kept.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    n_cycle_epochs : int, default=2
        Epochs between two measurements; our own constant.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Notes
    -----
    The paper's own importance measure was not read; here it is EL2N.

    Examples
    --------
    >>> swiftlearn().scheduler.keep_fraction
    0.1
    """
    scheduler = CyclicScheduler(
        keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, n_cycle_epochs=n_cycle_epochs
    )
    return DynamicPruner(EL2N(), TopK(), scheduler, refresh="full", random_state=random_state)


@recipe("dynamic", cost="none", source="Chen et al. 2024, arXiv 2402.14270")
def ir_dro(
    *, temperature: float = 1.0, reduction: str = "sum", n_warmup_epochs: int = 0, random_state: int = 0
) -> DynamicPruner:
    """Train on all, each with the weight softmax(loss / temperature) inside its batch.

    Parameters
    ----------
    temperature : float, default=1.0
        The paper's lambda; 1 is the default of its code.
    reduction : {"sum", "mean"}, default="sum"
        The loss of an example with a label per token; for language models the paper takes the mean.
    n_warmup_epochs : int, default=0
        First epochs without weights.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> ir_dro(temperature=0.5).batch_policy
    RobustWeights(temperature=0.5)
    """
    return DynamicPruner(
        Loss(reduction=reduction),
        scheduler=_all_epochs(n_warmup_epochs),
        batch_policy=RobustWeights(temperature=temperature),
        random_state=random_state,
    )


@recipe("dynamic", cost="a forward pass over each batch", source="Jiang et al. 2019, arXiv 1910.00762")
def selective_backprop(
    *,
    keep_fraction: float = 0.5,
    n_warmup_epochs: int = 0,
    n_full_final_epochs: int = 0,
    random_state: int = 0,
) -> DynamicPruner:
    """Train on a draw by the loss from each batch.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share of each batch (Composer's constant).
    n_warmup_epochs : int, default=0
        First epochs on whole batches; Composer starts after half of the run.
    n_full_final_epochs : int, default=0
        Last epochs on whole batches; Composer ends after nine tenths.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> selective_backprop(keep_fraction=0.3).batch_policy
    SelectiveBackprop(keep_fraction=0.3)
    """
    return DynamicPruner(
        Loss(),
        scheduler=_all_epochs(n_warmup_epochs, n_full_final_epochs),
        batch_policy=SelectiveBackprop(keep_fraction=keep_fraction),
        random_state=random_state,
    )


@recipe(
    "dynamic",
    cost="a held-out model; a forward pass over each batch",
    source="Mindermann et al. 2022, arXiv 2206.07137",
)
def rho_loss(irreducible_loss: Any, *, keep_fraction: float = 0.1, random_state: int = 0) -> DynamicPruner:
    """Train on the tenth of each large batch with the most loss beyond that of a model of held-out data.

    Parameters
    ----------
    irreducible_loss : array-like, shape (n_examples,)
        ``Loss().fit(train, model=held_out_model).scores_``.
    keep_fraction : float, default=0.1
        Share of each batch; the paper picks 32 of 320.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> rho_loss([0.1, 0.2, 0.3]).batch_policy
    BatchTopK()
    """
    return DynamicPruner(
        ReducibleLoss(irreducible_loss),
        scheduler=_all_epochs(),
        batch_policy=BatchTopK(keep_fraction=keep_fraction),
        random_state=random_state,
    )


@recipe("dynamic", cost="none beside the search", source="our own; Tu et al. 2023 was not found")
def bilevel_architecture_search(
    *, keep_fraction: float = 0.5, n_warmup_epochs: int = 1, random_state: int = 0
) -> tuple[DynamicPruner, DynamicPruner]:
    """Make two pruners for a DARTS-style search: one for the weights' data, one for the architecture's.

    Parameters
    ----------
    keep_fraction : float, default=0.5
        Share kept of each set.
    n_warmup_epochs : int, default=1
        First epochs on all examples.
    random_state : int, default=0
        Seed; the second pruner has the next one.

    Returns
    -------
    tuple of DynamicPruner
        For the weights and for the architecture: attach each to a loader of its own half of the data.

    Examples
    --------
    >>> weights, architecture = bilevel_architecture_search()
    >>> weights.scorer, architecture.scorer
    (EL2N(), EL2N())
    """

    def pruner(seed: int) -> DynamicPruner:  # each with parts of its own: what is set on one stays there
        scheduler = CyclicScheduler(keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs)
        return DynamicPruner(EL2N(), TopK(), scheduler, random_state=seed)

    return pruner(random_state), pruner(random_state + 1)
