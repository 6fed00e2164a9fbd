"""What happened in a run: plots, and one HTML page.

The plots take and return matplotlib axes; `write_report` puts the same plots on a page that needs only a browser. Both
need the extra ``report``: ``pip install 'dataprune[report]'``.
"""

from dataprune.reporting.classes import keep_rates, plot_keep_rates
from dataprune.reporting.comparing import plot_pareto
from dataprune.reporting.epochs import plot_kept_share, plot_score_quantiles, plot_time
from dataprune.reporting.page import write_report
from dataprune.reporting.run_folder import FinishedRun, read_run
from dataprune.reporting.scores import plot_cartography, plot_scores

__all__ = [
    "FinishedRun",
    "keep_rates",
    "plot_cartography",
    "plot_keep_rates",
    "plot_kept_share",
    "plot_pareto",
    "plot_score_quantiles",
    "plot_scores",
    "plot_time",
    "read_run",
    "write_report",
]
