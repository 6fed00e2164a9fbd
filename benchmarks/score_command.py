"""``dataprune score`` and ``dataprune select`` on a file of a million short texts: memory, CPU time, seconds.

    python benchmarks/score_command.py            # 1,000,000 texts; adds two lines to results/score_command.jsonl
    python benchmarks/score_command.py --n-texts 250000

The texts are those of ``tfidf.py``, in JSON lines with two more columns. The real commands run as processes of their
own; peak memory and CPU time are what the system counted for each (``wait4``). Mapped pages of the scratch files count
as memory, though the system can take them back.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import sklearn
from tfidf import cpu, make_texts

RESULTS = Path(__file__).parent / "results" / "score_command.jsonl"


def write_texts(path: Path, n_texts: int, seed: int) -> None:
    """Write texts as JSON lines."""
    with path.open("w") as file:
        for row, text in enumerate(make_texts(n_texts, seed)):
            file.write(json.dumps({"id": row, "text": text, "source": f"file {row % 100}"}) + "\n")


def run(words: list[str]) -> dict[str, float]:
    """Run a command and return what the system counted for it."""
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "dataprune", *words], os.environ)
    _, status, used = os.wait4(process, 0)
    if status:
        raise SystemExit(f"dataprune {' '.join(words)} failed.")
    return {
        "peak_mib": round(used.ru_maxrss / 1024),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    """Run both commands once and add a line for each to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-texts", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data, scores, kept = (f"{folder}/{name}" for name in ("texts.jsonl", "scores.parquet", "kept.jsonl"))
        write_texts(Path(data), options.n_texts, options.seed)
        commands = {
            "score": ["score", data, "--scorer", "tfidf-distance", "--output", scores],
            "select": ["select", data, "--scores", scores, "--keep-fraction", "0.3", "--output", kept],
        }
        for name, words in commands.items():
            line = {
                "command": f"dataprune {' '.join(words)}".replace(f"{folder}/", ""),
                "n_texts": options.n_texts,
                "file_mib": round(Path(data).stat().st_size / 2**20),
                **run(words),
                "seed": options.seed,
                "hardware": {"cpu": cpu(), "n_threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count()},
                "versions": {
                    "python": platform.python_version(),
                    "numpy": np.__version__,
                    "pyarrow": pa.__version__,
                    "scikit-learn": sklearn.__version__,
                },
            }
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(f"{name}: {json.dumps(line)}")


if __name__ == "__main__":
    main()
