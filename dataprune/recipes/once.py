"""Recipes that choose once, by scores of early or whole training; mostly a `DynamicPruner` whose warm-up gives them.

The warm-up is what the scores are of; the run goes on with what was chosen. To train a new model from the start, as the
papers do, train it on ``torch.utils.data.Subset(dataset, pruner.indices_)`` of such a run, which one epoch after the
warm-up ends.
"""

from __future__ import annotations

from dataprune.errors import check_choice
from dataprune.recipes._registry import recipe
from dataprune.scheduling.cyclic import ConstantScheduler
from dataprune.scoring.base import Scorer
from dataprune.scoring.dynamics import AUM, Confidence, Forgetting, Variability
from dataprune.scoring.error_norm import EL2N
from dataprune.scoring.gradient_norm import GraNd
from dataprune.scoring.gradient_variance import VarianceOfGradients
from dataprune.scoring.information import PVI
from dataprune.selection.balanced import ClassFloor
from dataprune.selection.base import Selector
from dataprune.selection.ranked import BothEnds, TopK
from dataprune.selection.stratified import StratifiedK
from dataprune.training.pruner import DynamicPruner
from dataprune.training.static import StaticPruner

ANEW = "for a new model the first one's epochs too"
FREE, PASS = f"none in one run; {ANEW}", f"one scoring pass; {ANEW}"


def _once(
    scorer: Scorer,
    selector: Selector,
    *,
    keep_fraction: float,
    n_warmup_epochs: int,
    random_state: int,
    refresh: str = "observed",
) -> DynamicPruner:
    scheduler = ConstantScheduler(keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs)
    return DynamicPruner(scorer, selector, scheduler, refresh=refresh, random_state=random_state)


@recipe("static", cost=PASS, source="Paul, Ganguli & Dziugaite 2021, arXiv 2107.07075")
def data_diet(
    *, score: str = "el2n", keep_fraction: float = 0.5, n_warmup_epochs: int = 1, random_state: int = 0
) -> DynamicPruner:
    """Choose the hardest by EL2N or GraNd early in training, once.

    Parameters
    ----------
    score : {"el2n", "grand"}, default="el2n"
        Error norm, or gradient norm over all parameters.
    keep_fraction : float, default=0.5
        Share kept; the paper keeps half of CIFAR-10 without loss.
    n_warmup_epochs : int, default=1
        Epochs before the scores are taken; the paper takes EL2N at 10 to 20 of 200.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Notes
    -----
    The paper averages over ten runs and trains a new model: ``pruner.scorer.partial_fit(dataset, model=...)`` with a
    model of each, then ``StaticPruner(pruner.scorer, TopK(keep_fraction=0.5)).fit_transform(dataset)``.

    Examples
    --------
    >>> data_diet(score="grand").scorer
    GraNd(smoothing='mean')
    """
    scorers = {"el2n": EL2N, "grand": GraNd}
    scorer = scorers[check_choice("data_diet", "score", score, scorers)](smoothing="mean")
    return _once(
        scorer,
        TopK(),
        keep_fraction=keep_fraction,
        n_warmup_epochs=n_warmup_epochs,
        random_state=random_state,
        refresh="full",
    )


@recipe("static", cost=FREE, source="Toneva et al. 2019, arXiv 1812.05159")
def forgetting_events(*, keep_fraction: float = 0.7, n_warmup_epochs: int = 5, random_state: int = 0) -> DynamicPruner:
    """Keep the most often forgotten and those never learned; what is never forgotten goes first.

    Parameters
    ----------
    keep_fraction : float, default=0.7
        Share kept; the paper drops 30 % of CIFAR-10.
    n_warmup_epochs : int, default=5
        Epochs that are counted in; the paper counts over a whole run.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> forgetting_events().scorer
    Forgetting()
    """
    return _once(
        Forgetting(), TopK(), keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, random_state=random_state
    )


@recipe("static", cost=FREE, source="Zheng et al. 2023, arXiv 2210.15809")
def ccs(
    *, keep_fraction: float = 0.3, cutoff_fraction: float = 0.1, n_warmup_epochs: int = 3, random_state: int = 0
) -> DynamicPruner:
    """Drop the likely mislabelled, then spread the budget evenly over strata of the score.

    Parameters
    ----------
    keep_fraction : float, default=0.3
        Share kept.
    cutoff_fraction : float, default=0.1
        Share of the lowest margins dropped first, the paper's beta; it is searched there for each budget.
    n_warmup_epochs : int, default=3
        Epochs that the margins are averaged over.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> ccs().selector
    StratifiedK(cutoff_fraction=0.1)
    """
    return _once(
        AUM(),
        StratifiedK(cutoff_fraction=cutoff_fraction),
        keep_fraction=keep_fraction,
        n_warmup_epochs=n_warmup_epochs,
        random_state=random_state,
    )


@recipe("static", cost=FREE, source="Swayamdipta et al. 2020, arXiv 2009.10795")
def cartography(
    *, region: str = "ambiguous", keep_fraction: float = 0.33, n_warmup_epochs: int = 3, random_state: int = 0
) -> DynamicPruner:
    """Keep a region of the data map: ambiguous, hard, or easy examples.

    Parameters
    ----------
    region : {"ambiguous", "hard", "easy"}, default="ambiguous"
        Of high variability, of low confidence, or of high confidence.
    keep_fraction : float, default=0.33
        Share kept, as in the paper.
    n_warmup_epochs : int, default=3
        Epochs that the map is drawn from.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner
        Not attached yet.

    Examples
    --------
    >>> cartography(region="easy").selector
    BothEnds(hard_fraction=0.0)
    """
    regions: dict[str, tuple[Scorer, Selector]] = {
        "ambiguous": (Variability(), TopK()),
        "hard": (Confidence(), TopK()),
        "easy": (Confidence(), BothEnds(hard_fraction=0.0)),
    }
    scorer, selector = regions[check_choice("cartography", "region", region, regions)]
    return _once(
        scorer, selector, keep_fraction=keep_fraction, n_warmup_epochs=n_warmup_epochs, random_state=random_state
    )


@recipe("static", cost=PASS, source="Bandyopadhyay et al. 2024, arXiv 2406.04892 (abstract read)")
def sexism_data_diet(
    *,
    score: str = "el2n",
    keep_fraction: float = 0.5,
    n_min: int = 50,
    n_warmup_epochs: int = 1,
    random_state: int = 0,
) -> DynamicPruner | StaticPruner:
    """Keep the hardest with a floor for each class, so that pruning does not erase a minority.

    Parameters
    ----------
    score : {"el2n", "pvi", "vog"}, default="el2n"
        The paper's three scores.
    keep_fraction : float, default=0.5
        Share kept.
    n_min : int, default=50
        Examples of each class that stay, or all of a smaller class; our own constant.
    n_warmup_epochs : int, default=1
        Epochs before the scores are taken.
    random_state : int, default=0
        Seed.

    Returns
    -------
    DynamicPruner or StaticPruner
        Not attached yet, or not fitted; it needs ``labels=...``. PVI and VoG are of models that are trained already:
        with them it is a `StaticPruner`, whose ``scorer`` is fitted first.

    Examples
    --------
    >>> sexism_data_diet(n_min=10).selector
    ClassFloor(n_min=10, selector=TopK())
    """
    scorers = {"el2n": EL2N, "pvi": PVI, "vog": VarianceOfGradients}
    scorer = scorers[check_choice("sexism_data_diet", "score", score, scorers)]()
    if not isinstance(scorer, EL2N):
        floor = ClassFloor(TopK(), n_min=n_min, keep_fraction=keep_fraction, random_state=random_state)
        return StaticPruner(scorer, floor)
    return _once(
        scorer,
        ClassFloor(TopK(), n_min=n_min),
        keep_fraction=keep_fraction,
        n_warmup_epochs=n_warmup_epochs,
        random_state=random_state,
        refresh="full",
    )
