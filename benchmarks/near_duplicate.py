"""NearDuplicate on real texts: CPU seconds of all comparisons and of those inside clusters, and what the latter find.

The texts are distinct ones of TOPv2, drawn at random. Near copies are rows whose exact score is below -0.9.
Each cell is one line of results/near_duplicate.jsonl; finished cells are not run again:

    DATAPRUNE_DATA=DIR python benchmarks/near_duplicate.py
"""

from __future__ import annotations

import json
import os
import resource
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cells import cpu_name, read_lines
from numpy.typing import NDArray

from dataprune import NearDuplicate
from dataprune.data.reading import read_file

RESULTS = Path(__file__).parent / "results" / "near_duplicate.jsonl"
CELLS = ((12_500, None), (25_000, None), (50_000, None), (12_500, 100), (25_000, 150), (50_000, 200), (100_000, 300))


def scored(texts: list[str], n_clusters: int | None) -> tuple[NDArray[np.float32], float]:
    """Return scores, and the CPU seconds that they took."""
    started = time.process_time()
    scores = NearDuplicate(column=None, n_clusters=n_clusters).fit(texts).scores_
    return scores, time.process_time() - started


def main() -> None:
    """Run the cells that are missing."""
    done = {(line["n_texts"], line["n_clusters"]) for line in read_lines(RESULTS)}
    rows = read_file(Path(os.environ["DATAPRUNE_DATA"]) / "topv2" / "train.jsonl.gz")
    texts = sorted({" ".join(tokens) for tokens in rows["tokens"]})
    order = np.random.default_rng(0).permutation(len(texts))
    exact: dict[int, NDArray[np.float32]] = {}
    for n_texts, n_clusters in CELLS:
        if (n_texts, n_clusters) in done:
            continue
        some = [texts[row] for row in order[:n_texts]]
        scores, seconds = scored(some, n_clusters)
        line = {"n_texts": len(some), "n_clusters": n_clusters, "cpu_seconds": round(seconds, 1)}
        if n_clusters is None:
            exact[n_texts] = scores
        elif n_texts in exact:
            near = exact[n_texts] < -0.9
            line |= {"n_near_copies": int(near.sum()), "found": round(float((scores[near] < -0.9).mean()), 3)}
        line |= {
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "cpu": cpu_name(),
            "versions": {name: version(name) for name in ("dataprune", "scikit-learn", "scipy", "numpy")},
            "command": "python benchmarks/near_duplicate.py",
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line)


if __name__ == "__main__":
    main()
