"""The demo: full against pruned training of a small transformer on made-up sentences, with its baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerFast

from dataprune.data.counting import count_updates
from dataprune.data.synthetic import make_joint_nlu
from dataprune.data.tasks import JointNLUTask
from dataprune.errors import check_count
from dataprune.models import JointIntentSlotConfig, JointIntentSlotModel
from dataprune.scheduling.cyclic import CyclicScheduler
from dataprune.scoring.error_norm import JointEL2N
from dataprune.selection.random import RandomK
from dataprune.selection.ranked import TopK
from dataprune.training.evaluation import evaluate
from dataprune.training.pruner import DynamicPruner

FULL, PRUNED, RANDOM, FEWER = "full data", "hardest half", "random half", "full data, fewer epochs"
METHODS = (FULL, PRUNED, RANDOM, FEWER)
"""The two that are compared, and the baselines that pruning has to beat: both make as many updates as it does."""

BATCH_SIZE = 32
LEARNING_RATE = 2e-3
SCHEDULE = CyclicScheduler(keep_fraction=0.5, n_warmup_epochs=2)


@dataclass(frozen=True)
class DemoRun:
    """One finished run of the demo.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    seed : int
        Seed of data, weights and orders.
    frame_accuracy : float
        Share of test sentences whose intent and slots are all right, after the last epoch.
    seconds : float
        Training, scoring and selecting.
    examples_trained : int
        Over all epochs.
    n_updates : int
        Optimizer updates.
    redundant_dropped : float
        Share of the planted redundant examples that a pruned epoch left out, on average; 0 without pruned epochs.
    other_dropped : float
        The same share of the other, rightly labelled examples.
    mislabelled_kept : float
        Share of the planted mislabelled examples that a pruned epoch kept.
    """

    method: str
    seed: int
    frame_accuracy: float
    seconds: float
    examples_trained: int
    n_updates: int
    redundant_dropped: float
    other_dropped: float
    mislabelled_kept: float


def run_demo(
    *,
    n_seeds: int = 3,
    n_examples: int = 1500,
    n_epochs: int = 12,
    n_processes: int = 1,
    on_run: Callable[[DemoRun], object] | None = None,
) -> list[DemoRun]:
    """Train each method with each seed.

    Parameters
    ----------
    n_seeds : int, default=3
        Seeds from 0 on, at least 2: one run says nothing about chance.
    n_examples : int, default=1500
        Train examples.
    n_epochs : int, default=12
        Epochs, of which the first two are on all examples.
    n_processes : int, default=1
        Runs side by side, each with one thread: so small a model gains little from a second one.
    on_run : callable, optional
        Called with each finished run.

    Returns
    -------
    list of DemoRun
        By seed, then in the order of `METHODS`.

    Raises
    ------
    InvalidValueError
        If a number is out of range.
    """
    check_demo(n_seeds=n_seeds, n_examples=n_examples, n_epochs=n_epochs)
    check_count("demo", "n_processes", n_processes, minimum=1)
    cells = [(method, seed) for seed in range(n_seeds) for method in METHODS]
    train = partial(_train, n_examples=n_examples, n_epochs=n_epochs)
    runs = []
    with ExitStack() as stack:
        run_all: Callable[..., Iterable[DemoRun]] = map
        if n_processes > 1:
            pool = ProcessPoolExecutor(n_processes, get_context("spawn"), torch.set_num_threads, (1,))
            stack.callback(pool.shutdown, cancel_futures=True)
            run_all = pool.map
        for run in run_all(train, *zip(*cells, strict=True)):
            runs.append(run)
            if on_run is not None:
                on_run(run)
    return runs


def check_demo(*, n_seeds: int, n_examples: int, n_epochs: int) -> None:
    """Raise unless the sizes of a demo make sense.

    Parameters
    ----------
    n_seeds : int
        Seeds from 0 on, at least 2.
    n_examples : int
        Train examples, at least 100.
    n_epochs : int
        Epochs, at least one more than the warm-up.

    Raises
    ------
    InvalidValueError
        If one is too small.
    """
    check_count("demo", "n_seeds", n_seeds, minimum=2)
    check_count("demo", "n_examples", n_examples, minimum=100)
    check_count("demo", "n_epochs", n_epochs, minimum=SCHEDULE.n_warmup_epochs + 1)


@dataclass(frozen=True)
class MethodSummary:
    """One method of the demo over its seeds.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    frame_accuracy : float
        Mean over the seeds.
    spread : float
        Standard deviation over the seeds.
    difference : float
        Mean difference to full data with the same seed.
    difference_spread : float
        Standard deviation of that difference.
    seconds : float
        Mean.
    examples_trained : int
        Mean.
    saved : float
        Share of the examples of full data that were not trained on.
    """

    method: str
    frame_accuracy: float
    spread: float
    difference: float
    difference_spread: float
    seconds: float
    examples_trained: int
    saved: float


def summarise(runs: Sequence[DemoRun]) -> list[MethodSummary]:
    """Average each method over its seeds.

    Parameters
    ----------
    runs : sequence of DemoRun
        All methods, with the same seeds.

    Returns
    -------
    list of MethodSummary
        In the order of `METHODS`.
    """
    accuracy = {method: np.array([r.frame_accuracy for r in runs if r.method == method]) for method in METHODS}
    examples = {method: np.mean([r.examples_trained for r in runs if r.method == method]) for method in METHODS}
    return [
        MethodSummary(
            method,
            frame_accuracy=float(accuracy[method].mean()),
            spread=float(accuracy[method].std(ddof=1)),
            difference=float((accuracy[method] - accuracy[FULL]).mean()),
            difference_spread=float((accuracy[method] - accuracy[FULL]).std(ddof=1)),
            seconds=float(np.mean([r.seconds for r in runs if r.method == method])),
            examples_trained=int(examples[method]),
            saved=float(1 - examples[method] / examples[FULL]),
        )
        for method in METHODS
    ]


def conclude(runs: Sequence[DemoRun]) -> str:
    """Say in one sentence whether pruning paid, by the numbers alone.

    It paid if it is better than either baseline of as many updates, by more than the spread of the seeds.

    Parameters
    ----------
    runs : sequence of DemoRun
        All methods, with the same seeds.

    Returns
    -------
    str
        The sentence.
    """
    full, pruned, *_ = summaries = summarise(runs)
    rival = max(summaries[2:], key=lambda summary: summary.frame_accuracy)
    gains = [
        next(r.frame_accuracy for r in runs if (r.method, r.seed) == (PRUNED, run.seed)) - run.frame_accuracy
        for run in runs
        if run.method == rival.method
    ]
    gain, spread = float(np.mean(gains)), float(np.std(gains, ddof=1))
    verdict = "Pruning paid" if gain > spread else "Pruning did not pay"
    against = "below" if pruned.difference < 0 else "above"
    return (
        f"{verdict} here: with {1 - pruned.seconds / full.seconds:.0%} less time it ends "
        f"{100 * abs(pruned.difference):.1f} ± {100 * pruned.difference_spread:.1f} points {against} full data, and "
        f"{100 * abs(gain):.1f} ± {100 * spread:.1f} points {'above' if gain > 0 else 'below'} '{rival.method}', the "
        "better of the two simple ways to spend as many updates."
    )


def describe_selection(runs: Sequence[DemoRun]) -> str:
    """Say what the pruned runs did with the planted examples.

    Parameters
    ----------
    runs : sequence of DemoRun
        Those of `PRUNED` count.

    Returns
    -------
    str
        Two sentences.
    """
    pruned = [run for run in runs if run.method == PRUNED]
    dropped, others, mislabelled = (
        float(np.mean([getattr(run, name) for run in pruned]))
        for name in ("redundant_dropped", "other_dropped", "mislabelled_kept")
    )
    return (
        f"A pruned epoch left out {dropped:.0%} of the examples that were planted as redundant and {others:.0%} of the "
        f"others. It kept {mislabelled:.0%} of those planted with a wrong intent: to a score, wrong looks like hard."
    )


def make_tokenizer(sentences: list[list[str]], *, n_tokens: int = 1000) -> PreTrainedTokenizerFast:
    """Train a lower-casing WordPiece tokenizer.

    Parameters
    ----------
    sentences : list of list of str
        Words to learn the vocabulary from.
    n_tokens : int, default=1000
        Largest size of the vocabulary.

    Returns
    -------
    PreTrainedTokenizerFast
        With BERT's special tokens.

    Examples
    --------
    >>> make_tokenizer([["wake", "me"], ["wake", "up"]]).tokenize("Wake up")
    ['wake', 'up']
    """
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    backend = Tokenizer(models.WordPiece(unk_token=special["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=n_tokens, special_tokens=list(special.values()), show_progress=False)
    backend.train_from_iterator((" ".join(words) for words in sentences), trainer)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **special)  # type: ignore[no-untyped-call]


def _train(method: str, seed: int, *, n_examples: int, n_epochs: int) -> DemoRun:
    train = make_joint_nlu(n_examples, random_state=2 * seed)
    test = make_joint_nlu(n_examples // 2, noise_fraction=0.0, random_state=2 * seed + 1)
    tokenizer = make_tokenizer(train.dataset["tokens"][:])
    task = JointNLUTask(max_length_tokens=64).fit(train.dataset)
    torch.manual_seed(seed)
    encoder = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,  # so small a model does without, and trains a quarter faster
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = JointIntentSlotModel(
        JointIntentSlotConfig(encoder, intent_labels=task.labels_["intent"], slot_labels=task.labels_["slot"])
    )
    pruner, n_epochs = _make_pruner(method, len(train.dataset), n_epochs, seed)
    collate = task.collator(tokenizer)
    pruner.fit(
        task.encode(train.dataset, tokenizer),
        model=model,
        n_epochs=n_epochs,
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        collate_fn=collate,
    )
    metrics = evaluate(task.encode(test.dataset, tokenizer), model, metrics=task.metrics, collate_fn=collate)
    n_pruned = sum(record.n_kept < pruner.n_examples_ for record in pruner.history_)
    dropped = (n_epochs - pruner.n_epochs_trained_) / max(1, n_pruned)  # (n_examples,) share of the pruned epochs
    return DemoRun(
        method,
        seed,
        frame_accuracy=metrics["frame_accuracy"],
        seconds=sum(record.seconds[what] for record in pruner.history_ for what in ("train", "score", "select")),
        examples_trained=sum(record.n_kept for record in pruner.history_),
        n_updates=sum(record.n_updates for record in pruner.history_),
        redundant_dropped=float(dropped[train.is_redundant].mean()),
        other_dropped=float(dropped[~train.is_redundant & ~train.is_mislabelled].mean()),
        mislabelled_kept=float(1 - dropped[train.is_mislabelled].mean()),
    )


def _make_pruner(method: str, n_examples: int, n_epochs: int, seed: int) -> tuple[DynamicPruner, int]:
    if method == PRUNED:
        return DynamicPruner(JointEL2N(), TopK(), SCHEDULE, random_state=seed), n_epochs
    if method == RANDOM:
        return DynamicPruner(None, RandomK(), SCHEDULE, random_state=seed), n_epochs
    if method == FEWER:  # as many updates as the pruned runs make, to the nearest epoch
        n_updates = SCHEDULE.plan(n_examples, n_epochs, BATCH_SIZE).n_updates
        n_epochs = round(n_updates / count_updates(n_examples, BATCH_SIZE))
    return DynamicPruner(None, RandomK(), CyclicScheduler(keep_fraction=1.0), random_state=seed), n_epochs
