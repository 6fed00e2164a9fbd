"""What the recipes that choose once are compared with: layers and learning rate, chosen on the validation split.

A random 0.3 of the part, seed 100, which no cell has; 3 epochs; accuracy on the validation split after the last one.
One line per setting goes to results/static_settings.jsonl. The choice, by hand into static_scores.py: of each set's
rates the best, of the layers the fewest that come within two points of the best on both sets, for the comparison takes
246 cells:

    DATAPRUNE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/static_settings.py
"""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path

from cells import cpu_name, read_lines
from static_scores import N_EPOCHS, TRAINING, new_model, read_part

from dataprune import ConstantScheduler, DynamicPruner, RandomK
from dataprune.training.evaluation import evaluate

RESULTS = Path(__file__).parent / "results" / "static_settings.jsonl"
SEED = 100
LAYERS = (1, 2, 3)
RATES = (5e-4, 1e-3, 2e-3)
OUTER_RATES = (1.25e-4, 2.5e-4, 4e-3)  # of one layer: the best of the others were the outermost


def main() -> None:
    """Run what is missing."""
    done = {(line["data"], line["n_layers"], line["learning_rate"]) for line in read_lines(RESULTS)}
    for data in ("clinc150", "sst2"):
        for n_layers in LAYERS:
            part = read_part(data, n_layers=n_layers, test_split="valid")
            chosen = RandomK(keep_fraction=0.3, random_state=SEED).fit([0.0] * len(part.train)).indices_
            collate = part.task.collator(part.tokenizer)
            for rate in (*RATES, *(OUTER_RATES if n_layers == 1 else ())):
                if (data, n_layers, rate) in done:
                    continue
                start = time.process_time()
                model = new_model(part, SEED)
                DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=SEED).fit(
                    part.train.select(chosen),
                    model=model,
                    n_epochs=N_EPOCHS,
                    learning_rate=rate,
                    collate_fn=collate,
                    **TRAINING,
                )
                trained = time.process_time() - start
                line = {
                    "data": data,
                    "n_layers": n_layers,
                    "learning_rate": rate,
                    "metrics": {"valid": evaluate(part.test, model, metrics=part.task.metrics, collate_fn=collate)},
                    "cpu_seconds": {"train": round(trained, 1)},
                    "seed": SEED,
                    "versions": {name: version(name) for name in ("torch", "transformers")},
                    "hardware": {"cpu": cpu_name(), "n_threads": 1},
                }
                with RESULTS.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line))


if __name__ == "__main__":
    main()
