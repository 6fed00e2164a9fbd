"""Published methods by name, each a few lines of composition: ``recipes.infobatch(n_epochs=10)`` returns a pruner.

`RECIPES` holds them all; ``dataprune methods`` lists them, ``dataprune train --recipe NAME`` runs one.
"""

from dataprune.recipes._registry import RECIPES, Recipe
from dataprune.recipes.dynamic import (
    bilevel_architecture_search,
    dynamic_random,
    epsilon_greedy,
    infobatch,
    ir_dro,
    nlu_data_diets,
    rho_loss,
    selective_backprop,
    swiftlearn,
    ucb,
)
from dataprune.recipes.once import cartography, ccs, data_diet, forgetting_events, sexism_data_diet
from dataprune.recipes.static import (
    active_inheritance,
    deft_ucs,
    metadata_pruning,
    perplexity_pruning,
    scdp,
    smart,
)

__all__ = [
    "RECIPES",
    "Recipe",
    "active_inheritance",
    "bilevel_architecture_search",
    "cartography",
    "ccs",
    "data_diet",
    "deft_ucs",
    "dynamic_random",
    "epsilon_greedy",
    "forgetting_events",
    "infobatch",
    "ir_dro",
    "metadata_pruning",
    "nlu_data_diets",
    "perplexity_pruning",
    "rho_loss",
    "scdp",
    "selective_backprop",
    "sexism_data_diet",
    "smart",
    "swiftlearn",
    "ucb",
]
