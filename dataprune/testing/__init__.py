"""Checks that a scorer, a selector, a scheduler or a training loop keeps its contract; run them on your own.

Each takes one of them, tries it out on small made-up data, and raises `AssertionError` with one sentence at the first
broken rule. They need no test framework::

    from dataprune.testing import check_scorer

    def test_my_scorer_keeps_the_contract():
        check_scorer(MyScorer())
"""

from dataprune.testing.common import unchanged_random_state
from dataprune.testing.dataset_scorers import check_dataset_scorer
from dataprune.testing.integrations import IntegrationRun, check_integration
from dataprune.testing.schedulers import check_scheduler
from dataprune.testing.scorers import check_scorer
from dataprune.testing.selectors import check_selector

__all__ = [
    "IntegrationRun",
    "check_dataset_scorer",
    "check_integration",
    "check_scheduler",
    "check_scorer",
    "check_selector",
    "unchanged_random_state",
]
