"""DynamicPruner: wires a scorer, a selector and a scheduler into any training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dataprune.data.batching import example_lengths
from dataprune.data.counting import count_to_keep, count_updates, round_up_to_updates
from dataprune.data.fingerprint import fingerprint
from dataprune.data.forward import Forward, default_forward
from dataprune.data.indexed import IndexedCollate, IndexedDataset
from dataprune.errors import InvalidValueError, NotFittedError, check_count
from dataprune.scheduling.base import Decision, Scheduler
from dataprune.scheduling.cyclic import CyclicScheduler
from dataprune.scoring.base import BatchScorer, DatasetScorer, Scorer, as_index
from dataprune.scoring.provenance import check_same_data, provenance
from dataprune.scoring.score_log import ScoreLog
from dataprune.scoring.scoring_pass import scoring_pass
from dataprune.scoring.store import PASS, ExampleStore
from dataprune.selection.base import Selector, take_rows
from dataprune.selection.batch import BatchPolicy
from dataprune.selection.ranked import TopK
from dataprune.training.attaching import (
    check_log,
    check_parts,
    check_rules,
    checked_batch_size,
    known_columns,
    log_signals,
    plan_run,
    shuffles,
    with_changes,
)
from dataprune.training.budgets import cost_budget
from dataprune.training.distributed import Ranks, check_ranks
from dataprune.training.fixed_scores import scorer_at_work
from dataprune.training.history import EpochRecord, PruningHistory, score_quantiles
from dataprune.training.sampler import PruningSampler
from dataprune.training.state import STATE_VERSION, check_state, describe_setting, read_state, write_state

SCORING_BATCH_SIZE = 128  # no gradients are kept, so a scoring batch may be larger than a training batch


class DynamicPruner(BaseEstimator):
    """Decide, while a model trains, which examples still matter, and train on those.

    One call (`fit`), or your own loop (`attach`, then `set_epoch`, `weights` and `observe` in it), or
    `dataprune.integrations.huggingface.PruningTrainer`.

    Parameters
    ----------
    scorer : Scorer, optional
        How hard an example is. Not needed by selectors that ignore scores. A `DatasetScorer` is fitted once, on the
        data set given; if it is fitted already, its scores are taken.
    selector : Selector, optional
        Which examples to keep, given the scores and a number; by default `TopK`.
    scheduler : Scheduler, optional
        How many to keep, and when to choose anew; by default ``CyclicScheduler()``.
    batch_policy : BatchPolicy, optional
        What of each batch is trained on, and with what weight, by the scorer's score of that moment; at work between
        the scheduler's warm-up and its full final epochs. With ``ConstantScheduler(keep_fraction=1.0)`` it works alone.
    refresh : {"observed", "full"} or float, default="observed"
        Where scores come from: the training pass itself (free); a scoring pass over all examples at each selection (the
        seed paper); or a share in (0, 1): the training pass, and a scoring pass over the share that is stalest.
    random_state : int, default=0
        Seed of selections and orders.

    Attributes
    ----------
    history_ : PruningHistory
        One record per epoch: asked, kept, updates, seconds, metrics.
    plan_ : Plan
        What the run does, known before it starts.
    scorer_ : BatchScorer or None
        The scorer at work; ``scorer_.scores_`` are the current scores.
    indices_ : ndarray of int64, shape (n_kept,)
        Rows of the current epoch, sorted.
    weights_ : ndarray of float32, shape (n_kept,)
        Their loss weights.
    n_epochs_trained_ : ndarray of int32, shape (n_examples,)
        Epochs that each example was trained in. What a batch policy leaves out is subtracted in `fit` alone; in other
        loops it goes through the model with weight 0, and counts as trained.
    epoch_ : int
        Current epoch; -1 before the first.
    best_epoch_ : int
        Epoch whose weights `fit` put back; -1 without an evaluation.

    Notes
    -----
    Scores of the training pass are taken in train mode (dropout is active) and at the model's state of that moment; a
    pruned example keeps its old score until it is seen again. ``refresh="full"`` removes both at the price of one
    forward pass per selection, a share in between limits how old a score can get.

    References
    ----------
    Attendu and Corbeil 2023, *NLU on Data Diets*, arXiv 2306.03208.

    Examples
    --------
    >>> import torch
    >>> from dataprune import EL2N, CyclicScheduler, DynamicPruner, TopK
    >>> data = [(torch.tensor([float(i % 2), 1.0]), i % 2) for i in range(40)]
    >>> pruner = DynamicPruner(EL2N(), TopK(), CyclicScheduler(keep_fraction=0.5))
    >>> pruner = pruner.fit(data, model=torch.nn.Linear(2, 2), n_epochs=3, batch_size=10)
    >>> [record.n_kept for record in pruner.history_]
    [40, 20, 20]
    """

    def __init__(
        self,
        scorer: Scorer | None = None,
        selector: Selector | None = None,
        scheduler: Scheduler | None = None,
        *,
        batch_policy: BatchPolicy | None = None,
        refresh: str | float = "observed",
        random_state: int = 0,
    ) -> None:
        self.scorer = scorer
        self.selector = selector
        self.scheduler = scheduler
        self.batch_policy = batch_policy
        self.refresh = refresh
        self.random_state = random_state

    # ------------------------------------------------------------------ before the run

    def attach(
        self,
        loader: DataLoader[Any],
        *,
        n_epochs: int | None = None,
        n_updates: int | None = None,
        n_accumulation: int = 1,
        model: nn.Module | None = None,
        forward: Forward | None = None,
        scores: ExampleStore | None = None,
        labels: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        features: ArrayLike | None = None,
        cost: ArrayLike | None = None,
        log: ScoreLog | None = None,
        group_by_length: bool = False,
        whole_updates: bool = False,
        shard: bool = True,
    ) -> DataLoader[Any]:
        """Return a loader of the same data and batches that visits what the pruner selects.

        Call `set_epoch` at each epoch's start, `weights` for the loss, and `observe` after each forward pass.

        Parameters
        ----------
        loader : DataLoader
            The loader over the full data set; workers, collate function and pinning are taken over.
        n_epochs : int, optional
            Length of the run; or `n_updates`.
        n_updates : int, optional
            Length of the run in optimizer updates: the scheduler plans the fewest epochs that make them, ``n_epochs_``,
            and the last one is cut short, to a random part of its selection (the first part, if the loader does not
            shuffle).
        n_accumulation : int, default=1
            Batches per optimizer update.
        model : nn.Module, optional
            The model in training; needed when `refresh` makes scoring passes.
        forward : callable, optional
            ``forward(model, batch) -> dict`` of signals for scoring passes; by default `default_forward`.
        scores : ExampleStore, optional
            Scores to start from, of the same data; a warm-up is not needed then.
        labels : array-like, shape (n_examples,), optional
            Class of each example, for selectors that balance classes.
        groups : array-like, shape (n_examples,), optional
            Group of each example, for selectors that know groups; for `ClassFloor` also a list of several.
        features : array-like, shape (n_examples, D), optional
            Where each example lies, for selectors that look for coverage.
        cost : array-like, shape (n_examples,), optional
            What training on each example costs, for selectors that count it; by default its length in tokens, if known.
        log : ScoreLog, optional
            Takes in the logits of the training pass as well, so that one run gives every score later.
        group_by_length : bool, default=False
            Shuffle so that batches hold examples of like length, where lengths are known.
        whole_updates : bool, default=False
            Raise the number kept until its batches fill whole updates (`PruningTrainer` needs it).
        shard : bool, default=True
            Under torch.distributed the loader yields this rank's part of each epoch, padded by up to one example per
            rank. With False it yields what is padded alike, but whole, for something else to shard.

        Returns
        -------
        DataLoader
            Yields ``Indexed(index, batch)``.

        Raises
        ------
        InvalidTypeError
            If a part is of the wrong kind, or the loader's data is a stream.
        InvalidValueError
            If parameters do not go together, or the loader has a sampler of its own.
        """
        self._ranks = Ranks.now()
        check_parts(
            scorer=self.scorer,
            selector=self._selector,
            scheduler=self._scheduler,
            batch_policy=self.batch_policy,
            refresh=self.refresh,
            random_state=self.random_state,
            model=model,
            scores=scores,
            log=log,
        )
        batch_size = checked_batch_size(loader) * self._ranks.size  # of all ranks together
        dataset = IndexedDataset(loader.dataset)
        n_examples = len(dataset)
        if n_examples == 0:
            raise InvalidValueError("DynamicPruner.attach() needs a data set with examples, got an empty one.")
        self.n_examples_ = n_examples
        self.n_accumulation_ = check_count("DynamicPruner", "n_accumulation", n_accumulation, minimum=1)
        self.batch_size_, self.whole_updates_, self.drop_last_ = batch_size, whole_updates, loader.drop_last
        self.selector_: Selector = clone(self._selector)
        check_log(log, n_examples=n_examples)
        self._n_updates = n_updates
        # A run of `n_updates` may end before the last of the epochs that the scheduler counts with.
        self.scheduler_, self._n_scheduled_epochs, self.plan_ = plan_run(
            clone(self._scheduler),
            n_epochs,
            n_updates,
            n_examples=n_examples,
            batch_size=batch_size,
            n_accumulation=n_accumulation,
            drop_last=loader.drop_last,
            whole_updates=whole_updates,
            refresh=self.refresh if self.makes_passes else "observed",
        )
        self.n_epochs_ = len(self.plan_.n_kept)
        self.fingerprint_ = fingerprint(loader.dataset)
        if log is not None:
            log.note_data(self.fingerprint_)
            log.begin()
        if scores is not None:
            check_same_data(scores.provenance, self.fingerprint_)
        self.scorer_: BatchScorer | None = scorer_at_work(self.scorer, loader.dataset, model=model)
        self.lengths_ = example_lengths(loader.dataset)
        check_ranks(self._ranks, log=log, scheduler=self.scheduler_)
        self._cost_budget = cost_budget(
            self.scheduler_,
            cost,
            self.lengths_,
            n_examples=n_examples,
            batch_size=batch_size,
            whole_updates=whole_updates,
        )
        self._known = known_columns(
            self._selector,
            n_examples,
            labels=labels,
            groups=groups,
            features=features,
            cost=np.maximum(self.lengths_, 1) if cost is None and self.lengths_ is not None else cost,
        )
        self._check_smallest_selection()
        if scores is not None and self.scorer_ is not None:
            self.scorer_.store_.load_state_dict(scores.state_dict())
            self.scorer_.store_.restart()
        elif (
            self.plan_.reselects[0]
            and self.refresh != "full"
            and self._selector.uses_scores
            and not isinstance(self.scorer, DatasetScorer)
        ):
            raise InvalidValueError(
                f"{type(self._scheduler).__name__}.n_warmup_epochs must be at least 1 when nothing is scored yet, "
                "got 0. Add a warm-up epoch, pass scores=..., or use refresh='full'."
            )
        if self.scorer_ is not None:
            self.scorer_.store_.holds_notes = self._ranks.size > 1
            self.scorer_.store_.provenance = provenance(
                self.scorer, data_fingerprint=self.fingerprint_, random_state=self.random_state
            )
        self.history_ = PruningHistory()
        self.indices_: NDArray[np.int64] = np.arange(n_examples)
        self.weights_: NDArray[np.float32] = np.ones(n_examples, np.float32)
        self.n_epochs_trained_: NDArray[np.int32] = np.zeros(n_examples, np.int32)
        self.epoch_ = -1
        self.n_observed_batches_ = 0
        self._log = log
        self.sampler_ = PruningSampler(
            n_examples,
            shuffle=shuffles(loader),
            random_state=self.random_state,
            lengths=self.lengths_ if group_by_length else None,
            batch_size=batch_size,
            on_epoch=self.set_epoch,
            part=(self._ranks.rank if shard else None, self._ranks.size),
            drop_last=loader.drop_last,
        )
        self._scoring_pass: Callable[..., Any] | None = None  # of data and model: not held, and pickled, without need
        if self.makes_passes and self.scorer_ is not None:
            self._scoring_pass = partial(
                scoring_pass,
                loader.dataset,
                cast("nn.Module", model),  # check_parts
                forward=self.scorer_.wrap_forward(default_forward if forward is None else forward),
                with_gradients=self.scorer_.needs_gradients,
                batch_size=max(batch_size, SCORING_BATCH_SIZE),
                collate_fn=loader.collate_fn,
                n_workers=loader.num_workers,
            )
        self._weight_table: Tensor | None = None
        self._generator = torch.Generator()  # without its own, every iter(loader) draws from the global random state
        self._clock = time.perf_counter()
        return with_changes(
            loader,
            dataset=dataset,
            sampler=self.sampler_,
            collate_fn=IndexedCollate(loader.collate_fn),
            generator=self._generator,
        )

    @property
    def makes_passes(self) -> bool:
        """Whether selections are preceded by scoring passes."""
        return self.scorer is not None and self.refresh != "observed" and self._selector.uses_scores

    @property
    def observes(self) -> bool:
        """Whether the training pass scores."""
        return self.scorer_ is not None and self.refresh != "full"

    @property
    def passes_add_signals(self) -> bool:
        """Whether scores come from scoring passes alone, whose forward gives more signals than that of training."""
        is_wrapped = type(self.scorer_).wrap_forward is not BatchScorer.wrap_forward if self.scorer_ else False
        return self.refresh == "full" and is_wrapped

    @property
    def _selector(self) -> Selector:
        return TopK() if self.selector is None else self.selector

    @property
    def _scheduler(self) -> Scheduler:
        return CyclicScheduler() if self.scheduler is None else self.scheduler

    # ------------------------------------------------------------------ during the run

    def set_epoch(self, epoch: int) -> None:
        """Start an epoch: choose its examples, where the scheduler says so.

        Parameters
        ----------
        epoch : int
            From 0; the current one again changes nothing.

        Raises
        ------
        NotFittedError
            Before `attach`.
        InvalidValueError
            If the epoch lies before the current one or behind the last, no example was observed in the last epoch, or
            a score is NaN.
        """
        self._check_attached()
        epoch = check_count("DynamicPruner", "epoch", epoch)
        if epoch == self.epoch_:
            return
        if not self.epoch_ < epoch < self.n_epochs_:
            raise InvalidValueError(
                f"DynamicPruner.epoch must be in [{self.epoch_}, {self.n_epochs_}), got {epoch}. "
                "Epochs do not go back; attach() starts a new run."
            )
        if self.epoch_ >= 0 and self.n_observed_batches_ == 0:
            raise InvalidValueError(
                f"Epoch {epoch} started but no example was observed in epoch {self.epoch_}. "
                "Call pruner.observe(index, logits=..., labels=...) after each forward pass."
            )
        self._merge_ranks()
        scores = self._scores()  # raises for a NaN score, before anything changes
        decision = self.scheduler_.decide(epoch, self._n_scheduled_epochs, scores=scores, history=self.history_)
        n_keep, share = self._count_to_keep(decision)
        record = EpochRecord(epoch=epoch, n_asked=n_keep, n_kept=n_keep)
        if self.whole_updates_:
            n_keep = round_up_to_updates(n_keep, self.n_examples_, self.batch_size_, self.n_accumulation_)
        if self.scorer_ is not None:
            self.scorer_.set_epoch(epoch)
            self.scorer_.store_.provenance["epoch"] = epoch
        if n_keep == self.n_examples_ and share is None:
            self.indices_, self.weights_ = np.arange(n_keep), np.ones(n_keep, np.float32)
        elif decision.reselect or n_keep != len(self.indices_):
            if self.makes_passes:
                scores = self._refresh_scores(epoch, record)
            start = time.perf_counter()
            selector = self.selector_.set_params(random_state=[self.random_state, epoch, 3])
            if share is None or self._cost_budget is None:
                selector.fit(scores, n_keep=n_keep, **self._known)
            else:
                self._cost_budget.select(selector, scores, self._known, share)
                record.n_asked = len(selector.indices_)
            self._check_batches(len(selector.indices_))
            self._ranks.check_agreement(selector.indices_, selector.weights_)
            self.indices_, self.weights_ = selector.indices_, selector.weights_
            record.seconds["select"] = time.perf_counter() - start
        self._cut_last_epoch(epoch)
        if self.scorer_ is not None:
            record.score_quantiles = score_quantiles(scores)
        record.n_kept = len(self.indices_)
        self.n_epochs_trained_[self.indices_] += 1
        self._begin(epoch, n_observed_batches=0)
        if self.lengths_ is not None:
            record.n_tokens = int(self.lengths_[self.indices_].sum())
        self.history_.records.append(record)
        self._clock = time.perf_counter()

    def _count_to_keep(self, decision: Decision) -> tuple[int, float | None]:
        """Return how many examples to keep, or, where the selection itself finds that, the share of their cost."""
        if self._cost_budget is None or decision.keep_fraction == 1.0:
            return count_to_keep(self.n_examples_, decision.keep_fraction), None
        if not decision.reselect and len(self.indices_) < self.n_examples_:
            return len(self.indices_), None
        share = self._cost_budget.share(decision, self.scheduler_, n_epochs=self.n_epochs_, history=self.history_)
        return (self.n_examples_, None) if share == 1.0 else (0, share)

    def _cut_last_epoch(self, epoch: int) -> None:
        """Leave what the last updates of a run of `n_updates` take."""
        if self._n_updates is None or epoch < self.n_epochs_ - 1:
            return
        places = np.arange(len(self.indices_))
        if self.sampler_.shuffle:
            places = np.random.default_rng([self.random_state, epoch, 5]).permutation(places)
        places = np.sort(places[: self.plan_.n_kept[-1]])
        self.indices_, self.weights_ = self.indices_[places], self.weights_[places]

    def _check_smallest_selection(self) -> None:
        """Raise now, not after a warm-up, if the fewest that the plan keeps are too few."""
        n_kept = self.plan_.n_kept
        self._check_batches(min(n_kept))
        if self.plan_.exact:
            whole = n_kept if self._n_updates is None else n_kept[:-1] or n_kept  # the last is cut after the choice
            check_rules(self._selector, self._known, n_examples=self.n_examples_, n_keep=min(whole))

    def _check_batches(self, n_kept: int) -> None:
        """Raise if an epoch has no batch; where the counts follow from the run, not before it."""
        if self.drop_last_ and n_kept < self.batch_size_:
            raise InvalidValueError(
                f"The loader's drop_last=True drops the only batch of an epoch that keeps {n_kept} "
                f"examples, for a batch has {self.batch_size_}. Keep more, or use drop_last=False."
            )

    def _begin(self, epoch: int, *, n_observed_batches: int) -> None:
        self.epoch_, self.n_observed_batches_, self._weight_table = epoch, n_observed_batches, None
        self._has_unit_weights = bool((self.weights_ == 1.0).all())
        self._generator.manual_seed(int(np.random.default_rng([self.random_state, max(epoch, 0), 2]).integers(2**63)))
        self.sampler_.select(epoch, self.indices_, n_skipped_batches=n_observed_batches)

    def _merge_ranks(self) -> None:
        if self.scorer_ is not None:
            self._ranks.merge(self.scorer_.store_)

    def _scores(self) -> NDArray[np.float32]:
        if self.scorer_ is None:
            return np.zeros(self.n_examples_, np.float32)
        return self.scorer_.scores_

    def _refresh_scores(self, epoch: int, record: EpochRecord) -> NDArray[np.float32]:
        assert self.scorer_ is not None  # noqa: S101 - for the type checker
        assert self._scoring_pass is not None  # noqa: S101
        start = time.perf_counter()
        rows = np.arange(self.n_examples_)
        store = self.scorer_.store_
        if isinstance(self.refresh, float):
            n_stale = count_to_keep(self.n_examples_, self.refresh)
            stalest_first = np.lexsort((store.last_epoch, store.counts > 0))  # the never seen before any other
            rows = np.sort(stalest_first[:n_stale])
        self.scorer_.set_epoch(epoch, source=PASS)
        rank, n_ranks = self._ranks.rank, self._ranks.size
        # As many for each rank: where a model is sharded over them (FSDP), all must make as many forward passes.
        shared = np.resize(rows, -(-len(rows) // n_ranks) * n_ranks)
        for index, signals in self._scoring_pass(indices=shared[rank::n_ranks]):
            self.scorer_.update(index, **signals)
        self._merge_ranks()
        self.scorer_.set_epoch(epoch)
        record.n_scored = len(rows)
        if self.lengths_ is not None:
            record.n_tokens_scored = int(self.lengths_[rows].sum())
        scores = self.scorer_.scores_
        record.seconds["score"] += time.perf_counter() - start
        return scores

    def observe(self, index: Tensor, **signals: Tensor) -> None:
        """Take in the signals of one training batch; free scores, and the pruner's only clock.

        Call it once per batch, in every `refresh` mode. Changes no gradient, no tensor and no random state, and never
        waits for the device.

        Parameters
        ----------
        index : Tensor
            Shape (B,), as it came with the batch.
        **signals : Tensor
            What the scorer requires, such as ``logits`` (B, C) and ``labels`` (B,).

        Raises
        ------
        NotFittedError
            Before `set_epoch`.
        InvalidValueError
            If a signal is missing.
        """
        self._check_started()
        start = time.perf_counter()
        if self.scorer_ is not None and self.observes:
            self.scorer_.update(index, **signals)
        if self._log is not None:
            log_signals(self._log, index, epoch=self.epoch_, signals=signals)
        self.n_observed_batches_ += 1
        record = self.history_[-1]
        n_whole, rest = divmod(self.n_observed_batches_, self.n_accumulation_)
        record.n_updates = n_whole + int(rest > 0 and self.n_observed_batches_ >= self.n_batches)
        # Training ends with the last batch observed: what comes between two epochs is evaluation or saving.
        record.seconds["train"] += start - self._clock
        self._clock = time.perf_counter()
        record.seconds["score"] += self._clock - start

    def weights(self, index: Tensor, **signals: Tensor) -> Tensor:
        """Return the loss weights of a batch; 1 for every selector that does not reweigh.

        Call it before `observe`.

        Parameters
        ----------
        index : Tensor
            Shape (B,), as it came with the batch.
        **signals : Tensor
            For a batch policy: what the scorer requires, such as ``logits`` (B, C) and ``labels`` (B,).

        Returns
        -------
        Tensor
            Shape (B,), float32, on the device of `index`; 0 for what a batch policy leaves out.

        Raises
        ------
        NotFittedError
            Before `set_epoch`.
        InvalidValueError
            If a signal is missing that a batch policy needs.
        """
        self._check_started()
        index = as_index(index)
        weights = self._selected_weights(index)
        return weights * self._policy_weights(index, signals) if self.policy_at_work else weights

    @property
    def policy_at_work(self) -> bool:
        """Whether a batch policy decides in the current epoch."""
        scheduler = self.scheduler_
        last = self._n_scheduled_epochs - scheduler.n_full_final_epochs
        return self.batch_policy is not None and scheduler.n_warmup_epochs <= self.epoch_ < last

    def _policy_weights(self, index: Tensor, signals: Mapping[str, Tensor]) -> Tensor:
        scorer, policy = self.scorer_, self.batch_policy
        assert scorer is not None  # noqa: S101 - for the type checker; see check_parts
        assert policy is not None  # noqa: S101
        scorer.check_signals(signals)
        with torch.no_grad():
            scores = scorer.score_batch(index=index, **signals)
        seed = np.random.default_rng([self.random_state, self.epoch_, self.n_observed_batches_, 4]).integers(2**63)
        return policy.weigh(scores, generator=torch.Generator().manual_seed(int(seed)))

    def _selected_weights(self, index: Tensor) -> Tensor:
        if self._has_unit_weights:
            return torch.ones(len(index), device=index.device)
        if self._weight_table is None or self._weight_table.device != index.device:
            table = torch.zeros(self.n_examples_)
            table[torch.from_numpy(self.indices_)] = torch.from_numpy(self.weights_)
            self._weight_table = table.to(index.device)
        return self._weight_table[index]

    @property
    def has_unit_weights(self) -> bool:
        """Whether every loss weight of the current epoch is 1."""
        self._check_started()
        return self._has_unit_weights and not self.policy_at_work

    def log_left_out(self, index: Tensor, weights: Tensor, *, seconds: float = 0.0) -> None:
        """Note in the history that a loop looked at a batch without gradients, and trains on a part of it.

        Parameters
        ----------
        index : Tensor
            Shape (B,), as it came with the batch.
        weights : Tensor
            Shape (B,), from `weights`: rows of weight 0 are left out.
        seconds : float, default=0.0
            Wall-clock of the look.

        Raises
        ------
        NotFittedError
            Before `set_epoch`.
        """
        self._check_started()
        record, rows = self.history_[-1], as_index(index).cpu().numpy()
        left_out = rows[weights.cpu().numpy() == 0]
        self.n_epochs_trained_[left_out] -= 1
        record.n_scored += len(rows)
        record.n_left_out += len(left_out)
        if self.lengths_ is not None:
            record.n_tokens_scored = (record.n_tokens_scored or 0) + int(self.lengths_[rows].sum())
            record.n_tokens_left_out = (record.n_tokens_left_out or 0) + int(self.lengths_[left_out].sum())
        record.seconds["score"] += seconds
        self._clock += seconds  # the rest of the batch's time is training

    def progress(self) -> float:
        """Return the share of the planned optimizer updates that are done, for learning-rate schedules.

        Where the plan is only a bound, it is the share of the epochs: batches count by their part of the epoch.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        NotFittedError
            Before `attach`.
        """
        self._check_attached()
        if not self.plan_.exact:
            begun = self.n_observed_batches_ / self.n_batches if self.epoch_ >= 0 else 0.0
            return (max(self.epoch_, 0) + begun) / self.n_epochs_
        done = sum(record.n_updates for record in self.history_)
        return min(1.0, done / self.plan_.n_updates) if self.plan_.n_updates else 1.0

    @property
    def n_batches(self) -> int:
        """Batches of the current epoch, those before a resume included."""
        self._check_started()
        return count_updates(len(self.indices_), self.batch_size_, drop_last=self.drop_last_)

    @property
    def is_epoch_finished(self) -> bool:
        """Whether every batch of the current epoch was observed."""
        return self.n_observed_batches_ == self.n_batches

    def log_evaluation(self, metrics: Mapping[str, float], *, seconds: float = 0.0) -> None:
        """Note the evaluation of the current epoch in the history.

        Parameters
        ----------
        metrics : mapping of str to float
            Name to value.
        seconds : float, default=0.0
            Wall-clock of the evaluation.

        Raises
        ------
        NotFittedError
            Before `set_epoch`.
        """
        self._check_started()
        record = self.history_[-1]
        record.metrics |= {name: float(value) for name, value in metrics.items()}
        record.seconds["evaluate"] += seconds
        self._clock += seconds  # in mid-epoch it would count as training too

    def close(self) -> None:
        """End the run: check the scores of its last epoch, and write what is left of a log.

        Raises
        ------
        NotFittedError
            Before `set_epoch`.
        InvalidValueError
            If a score of the last epoch is NaN.
        """
        self._check_started()
        if self._log is not None:
            self._log.close()
        self._merge_ranks()
        self._scores()

    def export(self, dataset: Any) -> Any:
        """Return the rows of `dataset` that are selected now.

        Parameters
        ----------
        dataset : datasets.Dataset, torch Dataset, ndarray, DataFrame or list
            Rows in the order of the attached data set.

        Returns
        -------
        same kind as `dataset`
            The kept rows.

        Raises
        ------
        NotFittedError
            Before `attach`.
        InvalidValueError
            If `dataset` has another length.
        """
        self._check_attached()
        if len(dataset) != self.n_examples_:
            raise InvalidValueError(
                f"DynamicPruner.export() needs the {self.n_examples_} examples that were attached, got {len(dataset)}."
            )
        return take_rows(dataset, self.indices_)

    # ------------------------------------------------------------------ save and resume

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later `load_state_dict` needs to go on: arrays, numbers, strings, lists and dictionaries.

        In a run of several processes all of them must call it, or `save`, which writes on the first one.

        Returns
        -------
        dict
            Copies; the position is the number of batches observed in the current epoch.

        Raises
        ------
        NotFittedError
            Before `attach`.
        """
        self._check_attached()
        self._merge_ranks()
        return {
            "version": STATE_VERSION,
            "epoch": self.epoch_,
            "n_observed_batches": self.n_observed_batches_,
            "indices": self.indices_.copy(),
            "weights": self.weights_.copy(),
            "n_epochs_trained": self.n_epochs_trained_.copy(),
            "store": None if self.scorer_ is None else self.scorer_.store_.state_dict(),
            "settings": self._describe_settings(),
            "history": self.history_.to_list(),
            "n_examples": self.n_examples_,
            "fingerprint": self.fingerprint_,
        }

    def _describe_settings(self) -> dict[str, str]:
        settings = {
            "scorer": self.scorer,
            "selector": self._selector,
            "scheduler": self._scheduler,
            **({} if self.batch_policy is None else {"batch_policy": self.batch_policy}),
            "refresh": self.refresh,
            "random_state": self.random_state,
            "n_epochs": self.n_epochs_,
            **({} if self._n_updates is None else {"n_updates": self._n_updates}),
            "batch_size": self.batch_size_,
            "n_accumulation": self.n_accumulation_,
            "shuffle": self.sampler_.shuffle,
            "group_by_length": self.sampler_.lengths is not None,
            "drop_last": self.drop_last_,
            "whole_updates": self.whole_updates_,
        }
        return {name: describe_setting(value) for name, value in settings.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; call `attach` with the same data first.

        Parameters
        ----------
        state : mapping
            From `state_dict`.

        Raises
        ------
        NotFittedError
            Before `attach`.
        StateError
            If keys are missing, or the state belongs to other data or another configuration.
        """
        self._check_attached()
        settings = self._describe_settings()
        check_state(state, n_examples=self.n_examples_, fingerprint=self.fingerprint_, settings=settings)
        if self.scorer_ is not None:
            self.scorer_.store_.load_state_dict(state["store"])
            self.scorer_.set_epoch(state["epoch"])
        if self._log is not None:
            self._log.resume(max(0, state["epoch"]))
        self.indices_ = np.asarray(state["indices"], np.int64).copy()
        self.weights_ = np.asarray(state["weights"], np.float32).copy()
        self.n_epochs_trained_ = np.asarray(state["n_epochs_trained"], np.int32).copy()
        self.history_ = PruningHistory.from_list(state["history"])
        self._begin(state["epoch"], n_observed_batches=state["n_observed_batches"])
        self._clock = time.perf_counter()

    def save(self, path: str | Path) -> None:
        """Write the state to one safetensors file, atomically.

        Parameters
        ----------
        path : str or Path
            The file; its folder must exist.

        Raises
        ------
        NotFittedError
            Before `attach`.
        """
        state = self.state_dict()
        if self._log is not None:
            self._log.flush()  # before the state: a run that goes on from it leaves no gap in the log
        if self._ranks.rank == 0:
            write_state(path, state)

    def load(self, path: str | Path) -> Self:
        """Go on from a file that `save` wrote; nothing is unpickled.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        self
            The pruner.

        Raises
        ------
        NotFittedError
            Before `attach`.
        StateError
            If the file is missing or damaged, or belongs to other data or another configuration.
        """
        self._check_attached()
        self.load_state_dict(read_state(path))
        return self

    # ------------------------------------------------------------------ the ready-made loop

    def fit(
        self,
        dataset: Any,
        *,
        model: nn.Module,
        n_epochs: int,
        batch_size: int = 32,
        forward: Forward | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        learning_rate: float = 5e-5,
        lr_schedule: str | Callable[[float], float] = "linear",
        n_accumulation: int = 1,
        max_grad_norm: float | None = 1.0,
        mixed_precision: str = "no",
        collate_fn: Callable[[list[Any]], Any] | None = None,
        n_workers: int = 0,
        group_by_length: bool = True,
        eval_dataset: Any = None,
        metrics: Callable[..., Mapping[str, float]] | None = None,
        best_metric: str | None = None,
        callbacks: Sequence[Callable[[DynamicPruner], object]] = (),
        scores: ExampleStore | None = None,
        labels: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        features: ArrayLike | None = None,
        cost: ArrayLike | None = None,
        log: ScoreLog | None = None,
        checkpoint_dir: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
    ) -> Self:
        """Train `model` on what the pruner selects: a whole run in one call.

        Parameters
        ----------
        dataset : map-style data set
            The full train set; batches are made by `collate_fn`.
        model : nn.Module
            Trained in place, on the device that Accelerate finds.
        n_epochs : int
            Epochs, warm-up included.
        batch_size : int, default=32
            Examples in a batch.
        forward : callable, optional
            ``forward(model, batch) -> dict`` with ``loss`` (B,) and the scorer's signals; by default `default_forward`.
        optimizer : torch.optim.Optimizer, optional
            Over the model's parameters; by default fused AdamW at `learning_rate`.
        learning_rate : float, default=5e-5
            Peak learning rate of the default optimizer.
        lr_schedule : {"linear", "cosine", "constant"} or callable, default="linear"
            Factor on the learning rate, from 1 down to its target over the planned updates; a callable maps progress in
            [0, 1] to the factor.
        n_accumulation : int, default=1
            Batches per optimizer update; the rest of an epoch makes an update of its own.
        max_grad_norm : float or None, default=1.0
            Gradients are clipped to this norm; None leaves them.
        mixed_precision : {"no", "bf16"}, default="no"
            Precision of training, scoring and evaluation. On a CPU without bfloat16 instructions ``bf16`` is the slower
            one, and a warning is logged.
        collate_fn : callable, optional
            Makes a batch of a list of examples; by default torch's.
        n_workers : int, default=0
            Loader processes.
        group_by_length : bool, default=True
            Batches of examples of like length, where lengths are known.
        eval_dataset : map-style data set, optional
            Evaluated after each epoch; the best epoch's weights are put back at the end.
        metrics : callable, optional
            Maps an iterable of signals, one per batch, to named values; by default accuracy, of classes, and loss.
        best_metric : str, optional
            What "best" means; by default the first metric. ``loss`` is minimised, any other maximised.
        callbacks : sequence of callable, default=()
            Called with the pruner after each epoch.
        scores : ExampleStore, optional
            Scores to start from, of the same data.
        labels : array-like, shape (n_examples,), optional
            Class of each example, for selectors that balance classes.
        groups : array-like, shape (n_examples,), optional
            Group of each example, for selectors that know groups; for `ClassFloor` also a list of several.
        features : array-like, shape (n_examples, D), optional
            Where each example lies, for selectors that look for coverage.
        cost : array-like, shape (n_examples,), optional
            What training on each example costs, for selectors that count it; by default its length in tokens, if known.
        log : ScoreLog, optional
            Takes in the logits of the training pass as well, so that one run gives every score later.
        checkpoint_dir : str or Path, optional
            A checkpoint is written here after each epoch and at Ctrl-C. Without `resume`, those of an earlier run are
            deleted.
        resume : bool, default=False
            Go on from the newest whole checkpoint, if there is one, with the learning rate, schedule, clipping and
            precision that it was saved with.
        progress : bool, default=False
            Show a progress bar on standard error.

        Returns
        -------
        self
            The pruner; ``history_`` tells what happened.

        Raises
        ------
        InvalidTypeError
            If an argument is of the wrong kind.
        InvalidValueError
            If an argument is out of range, or a loss or gradient is not finite; the weights are then those before it.
        StateError
            If a checkpoint belongs to other data or another configuration.
        TrainingInterrupted
            At Ctrl-C, after the state was saved.
        """
        from dataprune.training.loop import train

        train(
            self,
            dataset,
            model=model,
            n_epochs=n_epochs,
            batch_size=batch_size,
            forward=forward,
            optimizer=optimizer,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            n_accumulation=n_accumulation,
            max_grad_norm=max_grad_norm,
            mixed_precision=mixed_precision,
            collate_fn=collate_fn,
            n_workers=n_workers,
            group_by_length=group_by_length,
            eval_dataset=eval_dataset,
            metrics=metrics,
            best_metric=best_metric,
            callbacks=callbacks,
            scores=scores,
            log=log,
            known={"labels": labels, "groups": groups, "features": features, "cost": cost},
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            progress=progress,
        )
        return self

    def _check_attached(self) -> None:
        if not hasattr(self, "sampler_"):
            raise NotFittedError("DynamicPruner is not attached yet. Call attach(loader, n_epochs=...) or fit() first.")

    def _check_started(self) -> None:
        self._check_attached()
        if self.epoch_ < 0:
            raise NotFittedError("No epoch has started yet. Call pruner.set_epoch(0) before the first batch.")
