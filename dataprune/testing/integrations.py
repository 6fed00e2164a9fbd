"""The contract of a training loop that a pruner was built into."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import Dataset, TensorDataset

from dataprune.scheduling.cyclic import CyclicScheduler
from dataprune.scoring.base import BatchScorer
from dataprune.selection.ranked import TopK
from dataprune.testing.common import require
from dataprune.training.distributed import Ranks
from dataprune.training.pruner import DynamicPruner

N_EXAMPLES = 37  # 10 batches, the last one short: full epochs do not fill updates of 4 batches
BATCH_SIZE = 4
N_EPOCHS = 4  # of 37, 19, 19 and 37 examples
_SCALE = 64.0  # a power of two: rows / 64 are exact in bfloat16, too


@dataclass
class IntegrationRun:
    """What `check_integration` hands to a training function: train this, as you would train your own.

    Parameters
    ----------
    pruner : DynamicPruner
        Not attached yet.
    model : nn.Module
        Maps ``x`` (B, 3) to logits (B, 3); wrap it in what your framework needs.
    dataset : torch Dataset
        37 rows ``(x, y)``, with ``x`` (3,) and a class in 0 ... 2.
    folder : Path
        Where checkpoints go.
    resume : bool, default=False
        Whether to go on from the newest checkpoint in `folder`.
    n_epochs : int, default=4
        Length of the run.
    batch_size : int, default=4
        Examples in a batch of this process.
    n_accumulation : int, default=1
        Batches per optimizer update.
    n_workers : int, default=0
        Loader processes.

    Examples
    --------
    >>> run = IntegrationRun(DynamicPruner(), nn.Linear(3, 3), TensorDataset(torch.zeros(37, 3)), Path("out"))
    >>> run.n_epochs, run.resume
    (4, False)
    """

    pruner: DynamicPruner
    model: nn.Module
    dataset: Dataset[Any]
    folder: Path
    resume: bool = False
    n_epochs: int = N_EPOCHS
    batch_size: int = BATCH_SIZE
    n_accumulation: int = 1
    n_workers: int = 0


def check_integration(
    train_fn: Callable[[IntegrationRun], object],
    *,
    n_accumulation: int = 1,
    n_workers: int = 0,
    final_learning_rate: float = 0.0,
    n_interruptions: int = 3,
) -> None:
    """Raise unless a training function prunes right: run it on your own loop, whatever its framework.

    Checked: each batch is observed once, with its own index; each selected example is trained on once per epoch; no
    gradient is left over from the epoch before; the updates are those planned; the learning rate ends at its target; a
    run that is interrupted and resumed ends bit for bit as the uninterrupted one. Not checked: that the loss is
    multiplied with ``pruner.weights(index)``.

    Call it in every process of a distributed run (``torchrun``), after torch.distributed is set up, to check a loop for
    several: together they then train once on each selected example, up to the padding of an epoch's last batch.

    Parameters
    ----------
    train_fn : callable
        ``train_fn(run)`` trains ``run.model`` on ``run.dataset`` with ``run.pruner``, for ``run.n_epochs``, in batches
        of ``run.batch_size``, and observes ``logits`` and ``labels``. It makes its own loader, optimizer and schedule,
        writes checkpoints into ``run.folder``, at least one per epoch, and, if ``run.resume``, goes on from the newest
        one. See `IntegrationRun`.
    n_accumulation : int, default=1
        Batches per optimizer update.
    n_workers : int, default=0
        Loader processes.
    final_learning_rate : float, default=0.0
        Where the learning rate must end.
    n_interruptions : int, default=3
        How often the run is interrupted and resumed, after numbers of batches that are spread over the epochs after the
        first; 0 for a loop without checkpoints.

    Raises
    ------
    AssertionError
        If a rule is broken; one sentence says which.

    Notes
    -----
    The model is watched by hooks: ``x`` tells the row, and so do the logits. An interruption is an exception in the
    forward pass, as of a process that dies; what comes back is a fresh model and a fresh pruner.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> def train(run):
    ...     loader = run.pruner.attach(DataLoader(run.dataset, run.batch_size, shuffle=True), n_epochs=run.n_epochs)
    ...     optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    ...     for epoch in range(run.n_epochs):
    ...         run.pruner.set_epoch(epoch)
    ...         for index, (x, y) in loader:
    ...             optimizer.zero_grad()
    ...             nn.functional.cross_entropy(run.model(x), y).backward()
    ...             optimizer.step()
    >>> check_integration(train, final_learning_rate=0.1, n_interruptions=0)
    Traceback (most recent call last):
    dataprune.errors.InvalidValueError: Epoch 1 started but no example was observed in epoch 0. Call pruner.observe...
    """
    settings = {"n_accumulation": n_accumulation, "n_workers": n_workers}
    with _shared_folder() as folder:
        whole = make_run(folder, **settings)
        trace = Trace.of(train_fn, whole)
        check_trace(trace, whole.pruner, final_learning_rate=final_learning_rate)
    n_batches = len(trace.batches)
    first = sum(epoch == 0 for epoch, _ in trace.batches)  # before that, a loop may have saved nothing
    for at in np.unique(np.linspace(first, n_batches - 1, n_interruptions + 1).round().astype(int)[1:]).tolist():
        with _shared_folder() as folder:
            Trace.of(train_fn, make_run(folder, **settings), interrupt_at=at)
            _wait_for_all()  # before one reads what another is still writing
            resumed = make_run(folder, resume=True, **settings)
            rest = Trace.of(train_fn, resumed)
            _check_resumed(rest, resumed, trace, whole, at)


def _wait_for_all() -> None:
    if Ranks.now().size > 1:
        torch.distributed.barrier()


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """Make a temporary folder, the same one on all ranks."""
    ranks = Ranks.now()
    with tempfile.TemporaryDirectory() as own:
        folders = [own]
        if ranks.size > 1:
            torch.distributed.broadcast_object_list(folders)
        yield Path(folders[0])
        _wait_for_all()


def make_run(folder: Path, **settings: Any) -> IntegrationRun:
    """Return a fresh run, equal to any other; in several processes each has its share of a batch."""
    settings = {"batch_size": max(1, BATCH_SIZE // Ranks.now().size), **settings}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _RowModel()
    scheduler = CyclicScheduler(keep_fraction=0.5, n_cycle_epochs=1, n_full_final_epochs=1)
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(N_EXAMPLES)
    x = torch.cat([rows[:, None].float(), torch.randn(N_EXAMPLES, 2, generator=generator)], 1)
    return IntegrationRun(
        DynamicPruner(_RowScorer(), TopK(), scheduler), model, TensorDataset(x, rows % 3), folder, **settings
    )


class _RowModel(nn.Module):
    """A linear classifier whose first logit tells the row."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1] / _SCALE, self.linear(x[:, 1:])], 1)  # (B, 3)


class _RowScorer(BatchScorer):
    """The score of a row is its number, by its logits; so the later rows are kept, if the indices are right."""

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({"logits", "labels"})

    def reset(self, n_examples: int) -> _RowScorer:
        super().reset(n_examples)
        self.observed_: list[tuple[int, list[int], list[int]]] = []  # epoch, index, rows by the logits
        return self

    def score_batch(self, **signals: Tensor) -> Tensor:
        scores = signals["logits"][:, 0].float() * _SCALE
        self.observed_.append((self.epoch_, signals["index"].tolist(), scores.round().int().tolist()))
        return scores


class _InterruptionError(RuntimeError):
    """Ends a run as a crash would."""


@dataclass
class Trace:
    """What a run did, as its model and its optimizer saw it."""

    interrupt_at: int | None = None
    batches: list[tuple[int, list[int]]] = field(default_factory=list)  # epoch and rows, in training
    weights: list[bytes] = field(default_factory=list)  # before each batch
    selected: dict[int, list[int]] = field(default_factory=dict)  # by epoch
    left_over: set[int] = field(default_factory=set)  # epochs whose first gradient was added to another
    updates: Counter[int] = field(default_factory=Counter)  # by epoch
    observed: list[tuple[int, list[int], list[int]]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # at the run's end
    was_interrupted: bool = False

    @classmethod
    def of(
        cls, train_fn: Callable[[IntegrationRun], object], run: IntegrationRun, *, interrupt_at: int | None = None
    ) -> Trace:
        """Run `train_fn` and return what it did; it dies in batch `interrupt_at`, from 0."""
        trace = cls(interrupt_at)
        with trace._watching(run):
            try:
                train_fn(run)
            except Exception:
                if not trace.was_interrupted:  # frameworks may raise another one in its place
                    raise
        scorer = getattr(run.pruner, "scorer_", None)
        if not isinstance(scorer, _RowScorer):
            raise AssertionError("train_fn must attach run.pruner: run.pruner.attach(loader, n_epochs=run.n_epochs).")
        trace.observed = scorer.observed_
        return trace

    @contextmanager
    def _watching(self, run: IntegrationRun) -> Iterator[None]:
        parameters = list(run.model.parameters())
        hooks: list[Any] = []
        optimizers: list[torch.optim.Optimizer] = []
        epochs_with_gradient: set[int] = set()

        def on_forward(model: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            if not model.training:
                return  # evaluation, or a scoring pass
            if len(self.batches) == self.interrupt_at:
                self.was_interrupted = True
                raise _InterruptionError(f"interrupted before batch {self.interrupt_at}")
            if len(hooks) == 2:  # now, for a framework may have changed the parameters' type before
                hooks.extend(p.register_hook(on_gradient(p)) for p in parameters)  # type: ignore[no-untyped-call]
            epoch = run.pruner.epoch_
            self.selected.setdefault(epoch, run.pruner.indices_.tolist())
            x = inputs[0] if inputs else named["x"]
            self.batches.append((epoch, x[:, 0].round().int().tolist()))
            self.weights.append(torch.cat([p.detach().flatten() for p in parameters]).float().cpu().numpy().tobytes())

        def on_gradient(parameter: Tensor) -> Callable[[Tensor], None]:
            def note(gradient: Tensor) -> None:  # noqa: ARG001 - called before it is added to the old one
                epoch = run.pruner.epoch_
                if epoch in epochs_with_gradient:
                    return
                if parameter is parameters[0]:  # the last that autograd comes to
                    epochs_with_gradient.add(epoch)
                if parameter.grad is not None and bool(parameter.grad.any()):
                    self.left_over.add(epoch)

            return note

        def on_update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            mine = {id(parameter) for parameter in parameters}
            if any(id(parameter) in mine for group in optimizer.param_groups for parameter in group["params"]):
                optimizers[:] = [optimizer]
                self.updates[run.pruner.epoch_] += 1

        hooks += [
            run.model.register_forward_pre_hook(on_forward, with_kwargs=True),
            register_optimizer_step_post_hook(on_update),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        self.rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]


def check_trace(trace: Trace, pruner: DynamicPruner, *, final_learning_rate: float) -> None:
    """Raise unless a whole run did what its pruner planned."""
    for epoch, index, rows in trace.observed:
        require(
            index == rows,
            f"pruner.observe() must get the index that came with its batch, but in epoch {epoch} the signals of the "
            f"examples {rows} came with the index {index}",
        )
    for epoch in range(pruner.n_epochs_):
        trained = [rows for e, rows in trace.batches if e == epoch]
        observed = [rows for e, _, rows in trace.observed if e == epoch]
        require(
            trained == observed,
            f"pruner.observe() must be called once for each training batch, but epoch {epoch} trained on "
            f"{len(trained)} batches and observed {len(observed)}",
        )
        _check_rows([row for rows in trained for row in rows], trace.selected.get(epoch, []), epoch, pruner)
    for epoch in range(pruner.n_epochs_):
        require(
            epoch not in trace.left_over,
            f"No gradient must be left when epoch {epoch} begins, but its first was added to that of earlier batches; "
            "step the optimizer after the last batch of an epoch, even if it does not fill the accumulation, then "
            "set the gradients to zero",
        )
    for epoch, planned in enumerate(pruner.plan_.updates):
        done = trace.updates[epoch]
        require(done == planned, f"Epoch {epoch} must make the {planned} updates that were planned, but made {done}")
    off = [rate for rate in trace.rates if not math.isclose(rate, final_learning_rate, rel_tol=1e-6, abs_tol=1e-9)]
    require(
        not off,
        f"The learning rate must end at {final_learning_rate:g}, got {off}; size its schedule by the "
        f"{pruner.plan_.n_updates} updates of pruner.plan_.n_updates",
    )


def _check_rows(trained: list[int], selected: list[int], epoch: int, pruner: DynamicPruner) -> None:
    ranks, n_rows = Ranks.now(), len(selected)
    trained = torch.cat(ranks.gather(torch.tensor(trained, dtype=torch.int64))).tolist()  # of all ranks
    if pruner.drop_last_:
        n_rows = n_rows // pruner.batch_size_ * pruner.batch_size_
    n_padding = -n_rows % pruner.batch_size_ if ranks.size > 1 else 0
    require(
        len(set(trained)) == n_rows and set(trained) <= set(selected) and len(trained) <= n_rows + n_padding,
        f"Epoch {epoch} must train once on each of the {n_rows} examples that were selected, but trained on "
        f"{len(trained)}, {len(set(trained) & set(selected))} of them selected and different",
    )


def _check_resumed(rest: Trace, resumed: IntegrationRun, trace: Trace, whole: IntegrationRun, at: int) -> None:
    where = f"interrupted in epoch {trace.batches[at][0]}, before batch {at} of {len(trace.batches)}"
    n_rest = len(rest.batches)
    require(
        n_rest < len(trace.batches),
        f"train_fn(run) with run.resume must go on from what it saved in run.folder, but a run that was {where} began "
        "anew",
    )
    begin = len(trace.batches) - n_rest
    require(
        n_rest > 0 and rest.batches == trace.batches[begin:],
        f"A resumed run must end as the uninterrupted one does, but the last {n_rest} batches of one that was {where} "
        "held other examples; load the pruner's state after attach(), and begin at pruner.epoch_",
    )
    before = [number for number, weights in enumerate(trace.weights) if weights == rest.weights[0]]
    require(
        begin in before,
        f"A resumed run must go on behind its last update, but one that was {where} went on with batch {begin}, and "
        f"with the weights from before batch {before[0]}"
        if before
        else f"A resumed run must go on with the weights that it saved, but one that was {where} went on with others",
    )
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    require(
        all(torch.equal(ours[name], theirs[name]) for name in theirs),
        f"A resumed run must end with the weights of the uninterrupted one, but one that was {where} did not; save the "
        "optimizer and its schedule too, and save after an update, not between two",
    )
    same = (
        np.array_equal(resumed.pruner.scorer_.scores_, whole.pruner.scorer_.scores_)  # type: ignore[union-attr]
        and np.array_equal(resumed.pruner.n_epochs_trained_, whole.pruner.n_epochs_trained_)
        and [record.n_updates for record in resumed.pruner.history_] == list(whole.pruner.plan_.updates)
    )
    require(same, f"A resumed run must end with the scores and counts of the uninterrupted one; it was {where}")
