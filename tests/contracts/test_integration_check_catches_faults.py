"""`check_integration` on plain loops, each with one fault: a check that cannot fail is none."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from dataprune.errors import InvalidValueError
from dataprune.testing import check_integration


class Loop:
    """A right loop, for the faulty ones to inherit from; a checkpoint is written after each update."""

    def __call__(self, run):
        self.run, self.pruner = run, run.pruner
        full = DataLoader(run.dataset, run.batch_size, shuffle=True, drop_last=self.drop_last)
        loader = run.pruner.attach(full, n_epochs=run.n_epochs, n_accumulation=run.n_accumulation)
        self.n_full_updates = run.n_epochs * -(-len(full) // run.n_accumulation)
        self.optimizer = torch.optim.AdamW(run.model.parameters(), 0.05)
        n_updates = self.count_updates()
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda done: 1 - done / n_updates)
        if run.resume:
            self.load()
        for epoch in range(max(self.pruner.epoch_, 0), run.n_epochs):
            self.pruner.set_epoch(epoch)
            n_batches = self.pruner.n_batches
            for number, (index, (x, y)) in enumerate(loader, self.pruner.n_observed_batches_ + 1):
                self.train(number, n_batches, index, x, y)

    drop_last = False

    def count_updates(self):
        return self.pruner.plan_.n_updates

    def train(self, number, n_batches, index, x, y):
        logits = self.run.model(x)
        (F.cross_entropy(logits, y) / self.run.n_accumulation).backward()
        self.observe(number, index, logits, y)
        if number % self.run.n_accumulation == 0 or self.ends(number, n_batches):
            self.update()
            self.save()

    def ends(self, number, n_batches):
        return number == n_batches

    def observe(self, number, index, logits, y):
        self.pruner.observe(index, logits=logits, labels=y)

    def update(self):
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()

    parts = ("model", "optimizer", "schedule")

    def states(self):
        parts = {"model": self.run.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return {name: parts[name] for name in self.parts}

    def save(self):
        torch.save({name: part.state_dict() for name, part in self.states().items()}, self.run.folder / "parts.pt")
        self.pruner.save(self.run.folder / "pruner.safetensors")

    def load(self):
        saved = torch.load(self.run.folder / "parts.pt")
        for name, part in self.states().items():
            part.load_state_dict(saved[name])
        self.pruner.load(self.run.folder / "pruner.safetensors")


class DropsTheLastBatch(Loop):
    drop_last = True


class CountsRowsOfTheEpoch(Loop):
    def observe(self, number, index, logits, y):
        super().observe(number, 4 * (number - 1) + torch.arange(len(index)), logits, y)


class ObservesTheBatchBefore(Loop):
    before = None

    def observe(self, number, index, logits, y):
        signals = (logits, y) if self.before is None or len(index) != len(self.before[1]) else self.before
        super().observe(number, index, *signals)
        self.before = logits, y


class ObservesUpdatesOnly(Loop):
    def observe(self, number, index, logits, y):
        if number % 4 == 0:
            super().observe(number, index, logits, y)


class NeverObserves(Loop):
    def observe(self, number, index, logits, y):
        pass


class TrainsOnSomeTwice(Loop):
    def train(self, number, n_batches, index, x, y):
        twice = torch.arange(len(index)).clamp(max=2)
        super().train(number, n_batches, index[twice], x[twice], y[twice])


class SkipsShortBatches(Loop):
    def train(self, number, n_batches, index, x, y):
        if len(index) == 4:
            super().train(number, n_batches, index, x, y)


class DecaysOverFullEpochs(Loop):
    def count_updates(self):
        return self.n_full_updates


class LeavesTheLastGradient(Loop):
    def ends(self, number, n_batches):
        return False


class NeverSetsGradientsToZero(Loop):
    def update(self):
        self.optimizer.step()
        self.schedule.step()


class ForgetsTheLastGradient(Loop):
    def train(self, number, n_batches, index, x, y):
        super().train(number, n_batches, index, x, y)
        if number == n_batches:
            self.optimizer.zero_grad()

    ends = LeavesTheLastGradient.ends


class BeginsAnew(Loop):
    def load(self):
        pass


class BeginsTheEpochAgain(Loop):
    def load(self):
        super().load()
        self.pruner.load_state_dict({**self.pruner.state_dict(), "n_observed_batches": 0})


class SkipsABatch(Loop):
    def load(self):
        super().load()
        state = self.pruner.state_dict()
        self.pruner.load_state_dict({**state, "n_observed_batches": state["n_observed_batches"] + 1})


class OfAnotherEpoch(Loop):
    """Trains the right number of batches, in the order of the wrong epoch."""

    def load(self):
        super().load()
        self.pruner.sampler_.epoch = 0


class LosesTheModel(Loop):
    parts = ("optimizer", "schedule")


class ChangesTheWeights(Loop):
    def load(self):
        super().load()
        torch.nn.init.zeros_(self.run.model.linear.bias)


class LosesTheOptimizer(Loop):
    parts = ("model", "schedule")


class LosesTheSchedule(Loop):
    parts = ("model", "optimizer")


class SavesTheFirstWeights(Loop):
    def save(self):
        if not (self.run.folder / "pruner.safetensors").exists():
            super().save()
        self.pruner.save(self.run.folder / "pruner.safetensors")


@pytest.mark.parametrize("n_accumulation", [1, 4])
def test_a_right_loop_passes(n_accumulation):
    check_integration(Loop(), n_accumulation=n_accumulation, n_interruptions=4)


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        (CountsRowsOfTheEpoch, r"must get the index that came with its batch, but in epoch 0 the signals of .* index"),
        (ObservesTheBatchBefore, "must get the index that came with its batch"),
        (ObservesUpdatesOnly, "once for each training batch, but epoch 0 trained on 10 batches and observed 2"),
        (TrainsOnSomeTwice, "must train once on each of the 37 examples that were selected, but trained on 37, 28 of"),
        (SkipsShortBatches, "must train once on each of the 37 examples that were selected, but trained on 36"),
        (DecaysOverFullEpochs, "learning rate must end at 0, got .* size its schedule by the 10 updates"),
        (LeavesTheLastGradient, "No gradient must be left when epoch 1 begins"),
        (NeverSetsGradientsToZero, "No gradient must be left when epoch 1 begins"),
        (ForgetsTheLastGradient, "Epoch 0 must make the 3 updates that were planned, but made 2"),
        (BeginsAnew, "must go on from what it saved in run.folder, but a run that was interrupted in epoch 2"),
        (BeginsTheEpochAgain, "went on with batch 10, and with the weights from before batch 15"),
        (OfAnotherEpoch, "the last 2 batches of one that was interrupted in epoch 3, before batch 29 of 30 held other"),
        (LosesTheModel, "went on with batch 15, and with the weights from before batch 0"),
        (ChangesTheWeights, "must go on with the weights that it saved"),
        (LosesTheOptimizer, "must end with the weights of the uninterrupted one"),
        (LosesTheSchedule, "must end with the weights of the uninterrupted one"),
        (SavesTheFirstWeights, "went on with batch 15, and with the weights from before batch 4"),
    ],
)
def test_a_faulty_loop_is_caught_with_a_sentence(loop, words):
    with pytest.raises(AssertionError, match=words):
        check_integration(loop(), n_accumulation=4)


def test_a_restart_one_batch_late_is_caught():
    with pytest.raises(AssertionError, match="went on with batch 17, and with the weights from before batch 16"):
        check_integration(SkipsABatch())


def test_batches_left_out_by_the_loader_are_as_planned_but_a_loop_may_not_drop_them():
    check_integration(DropsTheLastBatch(), n_interruptions=1)
    with pytest.raises(AssertionError, match="must train once on each of the 37"):
        check_integration(SkipsShortBatches(), n_interruptions=0)


def test_a_model_may_be_called_by_the_name_of_its_argument():
    class ByName(Loop):
        def train(self, number, n_batches, index, x, y):
            logits = self.run.model(x=x)
            F.cross_entropy(logits, y).backward()
            self.observe(number, index, logits, y)
            self.update()

    check_integration(ByName(), n_interruptions=0)


def test_a_loop_that_never_observes_is_told_so():
    with pytest.raises(InvalidValueError, match="no example was observed in epoch 0"):
        check_integration(NeverObserves())


def test_a_loop_without_checkpoints_and_with_another_target_passes():
    class Constant(Loop):
        def update(self):
            self.optimizer.step()
            self.optimizer.zero_grad()

        def save(self):
            pass

    check_integration(Constant(), final_learning_rate=0.05, n_interruptions=0)
    with pytest.raises(AssertionError, match=r"must end at 0\.01, got \[0\.05\]"):
        check_integration(Constant(), final_learning_rate=0.01, n_interruptions=0)


def test_a_run_without_the_pruner_is_refused():
    with pytest.raises(AssertionError, match=r"must attach run\.pruner"):
        check_integration(lambda run: None)


def test_an_error_of_the_loop_itself_comes_through():
    def broken(run):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check_integration(broken)
