"""``dataprune methods``: what there is to choose from."""

from __future__ import annotations

from dataclasses import asdict

from dataprune.cli.options import AsJson
from dataprune.cli.printing import print_json, print_table


def methods(*, as_json: AsJson = False) -> None:  # numpydoc ignore=PR01
    """List the scorers, selectors, schedulers, batch policies and recipes.

    A scorer says how hard an example is, a selector which ones to keep, a scheduler how many in which epoch, a batch
    policy what of a batch is trained on; a recipe is a published method, made of these. The names are those of options:
    `train` takes all but the scorers of the rows alone and keep-together, which are for `score` and `select`.

    For example: dataprune methods --json
    """
    from dataprune.runs.catalogue import list_methods

    found = list_methods()
    if as_json:
        print_json([asdict(method) for method in found])
        return
    for kind in ("scorer", "selector", "scheduler"):
        here = [method for method in found if method.kind == kind]
        rows = [[m.class_name, m.option or "-", m.summary.replace("``", "")] for m in here]
        print_table(f"{kind}s", ["class", f"--{kind}", "what it does"], rows)
    policies = [[m.class_name, m.summary.replace("``", "")] for m in found if m.kind == "batch policy"]
    print_table("batch policies", ["class, in Python or a recipe", "what it does"], policies)
    recipes = [method for method in found if method.kind == "recipe"]
    rows = [[m.option or "-", m.when or "-", f"{m.summary} Costs: {m.cost}. {m.source}."] for m in recipes]
    print_table("recipes", ["--recipe", "kind", "what it does, costs beside the training, and where it is from"], rows)
