"""Training dynamics against a slow, obvious loop over each example's visits, in float64."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.scoring.dynamics import AUM, Cartography, Confidence, Correctness, Forgetting, Variability
from dataprune.scoring.dynamics_functional import label_margin, label_probability, visit_values
from dataprune.scoring.dynamics_store import DynamicsStore

N = 6


def slow_visit(logits, label):
    """Probability of the label, margin, right: of one visit."""
    top = max(logits)
    powers = [math.exp(z - top) for z in logits]
    margin = logits[label] - max(z for c, z in enumerate(logits) if c != label)
    return powers[label] / math.fsum(powers), margin, margin > 0


def slow_dynamics(visits):
    """One example: all its visits in order, (logits, label) each; a negative label does not count."""
    counted = [slow_visit(logits, label) for logits, label in visits if label >= 0]
    if not counted:
        return None
    n = len(counted)
    mean = math.fsum(p for p, _, _ in counted) / n
    rights = [right for _, _, right in counted]
    return {
        "confidence_": mean,
        "variability_": math.sqrt(math.fsum((p - mean) ** 2 for p, _, _ in counted) / n),
        "aum_": math.fsum(margin for _, margin, _ in counted) / n,
        "correctness_": sum(rights) / n,
        "n_forgetting_events_": sum(a and not b for a, b in pairwise(rights)),
        "never_learned_": not any(rights),
        "n_visits": n,
    }


class Run:
    """A made-up run: in each epoch some examples, in some order, some of them twice, with logits and labels."""

    def __init__(self, *, seed, n_epochs, n_classes, scale, dtype, masked):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, n_classes, size=N)
        self.labels[rng.random(N) < masked] = -100
        self.epochs = []
        for _ in range(n_epochs):
            index = rng.permutation(N)[: rng.integers(0, N + 1)]
            index = np.concatenate([index, index[: rng.integers(0, 3)]])  # a loader that wraps round
            logits = torch.from_numpy(rng.normal(size=(len(index), n_classes)) * scale).to(dtype)
            self.epochs.append((torch.from_numpy(index), logits))
        self.rng = rng

    def visits(self, row):
        """The first visit of each epoch."""
        firsts = [logits[index == row][:1].float().double().tolist() for index, logits in self.epochs]
        return [(first[0], int(self.labels[row])) for first in firsts if first]

    def feed(self, scorer, batch_size=None):
        scorer.reset(N)
        labels = torch.from_numpy(self.labels)
        for epoch, (index, logits) in enumerate(self.epochs):
            scorer.set_epoch(epoch)
            step = batch_size or max(1, len(index))
            for start in range(0, len(index), step):
                part = slice(start, start + step)
                scorer.update(index[part], logits=logits[part], labels=labels[index[part]])
        return scorer


runs = st.builds(
    Run,
    seed=st.integers(0, 9999),
    n_epochs=st.integers(0, 7),
    n_classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 5.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    masked=st.sampled_from([0.0, 0.3, 1.0]),
)


@settings(max_examples=120, deadline=None)
@given(run=runs, batch_size=st.integers(1, 4))
def test_all_dynamics_are_those_of_the_slow_loop(run, batch_size):
    scorer = run.feed(Cartography(), batch_size)
    slow = [slow_dynamics(run.visits(row)) for row in range(N)]
    counts = scorer.store_.counts.tolist()
    assert counts == [0 if each is None else each["n_visits"] for each in slow]
    scale = max([1.0, *(float(logits.float().abs().max()) for _, logits in run.epochs if len(logits))])
    for name in ("confidence_", "variability_", "aum_", "correctness_", "n_forgetting_events_", "never_learned_"):
        fast = getattr(scorer, name)
        unseen = np.nan if fast.dtype == np.float32 else 0
        expected = np.array([unseen if each is None else each[name] for each in slow], np.float64)
        # Sums of numbers of size `scale` in float32; probabilities of float32.
        atol = {"aum_": 1e-6 * scale, "confidence_": 1e-6, "variability_": 2e-6}.get(name, 1e-7)
        np.testing.assert_allclose(fast.astype(np.float64), expected, rtol=1e-5, atol=atol, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(run=runs)
def test_each_score_follows_from_the_raw_values(run):
    table = run.feed(Cartography())
    seen = table.store_.counts > 0
    hardest = np.where(table.never_learned_, table.store_.counts.max(), table.n_forgetting_events_)
    expected = {
        AUM(): -table.aum_,
        Confidence(): -table.confidence_,
        Correctness(): -table.correctness_,
        Variability(): table.variability_,
        Cartography(): table.variability_,
        Forgetting(): hardest,
        Forgetting(never_learned="as_counted"): table.n_forgetting_events_,
    }
    for scorer, scores in expected.items():
        found = run.feed(scorer).scores_
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.where(seen, scores, np.nan).astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(run=runs, batch_size=st.integers(1, 4), seed=st.integers(0, 99))
def test_order_and_batches_change_no_bit(run, batch_size, seed):
    once = run.feed(Cartography()).store_.state_dict()
    np.testing.assert_equal(run.feed(Cartography(), batch_size).store_.state_dict(), once)
    shuffled = []
    for index, logits in run.epochs:
        first = torch.tensor([i for i in range(len(index)) if index[i] not in index[:i]], dtype=torch.int64)
        order = first[torch.from_numpy(np.random.default_rng(seed).permutation(len(first)))]
        shuffled.append((index[order], logits[order]))  # and without what came a second time
    run.epochs = shuffled
    np.testing.assert_equal(run.feed(Cartography(), batch_size).store_.state_dict(), once)


@settings(max_examples=60, deadline=None)
@given(run=runs, cut=st.integers(0, 7))
def test_a_table_that_was_saved_and_loaded_goes_on_as_if_nothing_was(run, cut):
    whole = run.feed(Cartography()).store_.state_dict()
    epochs = run.epochs
    run.epochs = epochs[:cut]
    state = run.feed(Cartography()).store_.state_dict()
    store, labels = DynamicsStore(N), torch.from_numpy(run.labels)
    store.load_state_dict(state)
    for epoch, (index, logits) in enumerate(epochs):
        if epoch >= cut:
            store.update(index, visit_values(logits, labels[index]), epoch=epoch)
    np.testing.assert_equal(store.state_dict(), whole)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 5),
    n_classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 20.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 999),
)
def test_the_values_of_a_visit_are_the_slow_ones(n, n_classes, scale, dtype, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(n, n_classes)) * scale).to(dtype)
    labels = torch.from_numpy(rng.integers(0, n_classes, size=n))
    before = logits.clone(), labels.clone()
    slow = [slow_visit(z, y) for z, y in zip(logits.float().double().tolist(), labels.tolist(), strict=True)]
    expected = np.array(slow, np.float64).reshape(n, 3)
    values = visit_values(logits, labels)
    assert values.dtype == torch.float32
    assert values.shape == (n, 3)
    # exp of a rounded exponent: relative to the size of the logits
    np.testing.assert_allclose(values[:, 0].numpy(), expected[:, 0], rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(values[:, 1].numpy(), expected[:, 1], rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(values[:, 2].numpy(), expected[:, 2])
    assert torch.equal(label_margin(logits, labels), values[:, 1])
    assert torch.equal(label_probability(logits, labels), values[:, 0])
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


def test_forgetting_by_hand():
    # right, wrong, wrong, right, wrong: forgotten twice; a wrong start is no event
    scorer = Forgetting().reset(2)
    for epoch, (first, second) in enumerate([(1, 0), (0, 1), (0, 1), (1, 1), (0, 1)]):
        scorer.set_epoch(epoch)
        logits = torch.tensor([[float(first), 0.5], [float(second), 0.5]])
        scorer.update(torch.tensor([0, 1]), logits=logits, labels=torch.tensor([0, 0]))
    assert scorer.n_forgetting_events_.tolist() == [2, 0]
    assert scorer.scores_.tolist() == [2.0, 0.0]


def test_the_margin_is_that_of_raw_logits():
    # Pleiss et al., equation 1; the margin of probabilities would be 0.43
    assert label_margin(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0])).item() == pytest.approx(1.0)
