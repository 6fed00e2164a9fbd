"""Batch policies: exact counts, odds by rank, weights for a mean over the batch."""

import numpy as np
import pytest
import torch

from dataprune import BatchTopK, BatchWindow, RobustWeights, SelectiveBackprop
from dataprune.errors import InvalidTypeError, InvalidValueError


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "policy", [BatchTopK(keep_fraction=0.3), BatchWindow(keep_fraction=0.3), SelectiveBackprop(keep_fraction=0.3)]
)
@pytest.mark.parametrize("n_examples", [1, 2, 3, 10, 33])
@pytest.mark.parametrize("kind", ["drawn", "alike", "huge", "with infinity"])
def test_a_batch_keeps_exactly_its_share_with_weights_of_mean_one(policy, n_examples, kind):
    scores = torch.rand(n_examples, generator=seeded(0))
    scores = {"drawn": scores, "alike": scores * 0, "huge": scores * 1e30}.get(kind, scores.clone())
    if kind == "with infinity":
        scores[0] = float("inf")
    given = scores.clone()
    weights = policy.weigh(given, generator=seeded(1))
    n_keep = max(1, int(n_examples * 0.3 + 0.5))
    assert int(weights.count_nonzero()) == n_keep
    assert weights.mean().item() == pytest.approx(1.0)
    assert torch.equal(given, scores)
    assert weights.dtype == torch.float32


def test_batch_top_k_keeps_the_hardest_and_ties_keep_the_earlier_row():
    weights = BatchTopK(keep_fraction=0.5).weigh(torch.tensor([1.0, 3.0, 1.0, 1.0]))
    assert weights.tolist() == [2.0, 2.0, 0.0, 0.0]


def test_a_window_is_the_band_of_the_authors_code():
    losses, frac = torch.rand(8, generator=seeded(3)), 0.25
    capacity = int(frac * len(losses))
    for portion in range(4):
        band = torch.sort(losses, descending=True)[0][portion * capacity : (portion + 1) * capacity]
        weights = BatchWindow(offset_fraction=portion * frac, keep_fraction=frac).weigh(losses)
        assert sorted(losses[weights > 0].tolist()) == sorted(band.tolist())
        assert (weights * losses).mean().item() == pytest.approx(band.mean().item())


def test_a_window_shrinks_its_offset_before_its_count_and_ties_keep_the_earlier_row():
    scores = torch.tensor([5.0, 1.0, 1.0, 1.0])
    assert BatchWindow(offset_fraction=0.25, keep_fraction=0.5).weigh(scores).tolist() == [0.0, 2.0, 2.0, 0.0]
    assert BatchWindow(offset_fraction=1.0, keep_fraction=0.75).weigh(scores).tolist() == pytest.approx(
        [0, *[4 / 3] * 3]
    )
    assert BatchWindow(offset_fraction=0.5).weigh(torch.tensor([2.0])).tolist() == [1.0]
    assert torch.equal(BatchWindow(offset_fraction=0.0).weigh(scores), BatchTopK(keep_fraction=0.5).weigh(scores))


def test_selective_backprop_draws_as_the_slow_reference_does():
    n_examples, keep, n_draws = 6, 0.5, 6000
    odds = (np.arange(0.5, n_examples) / n_examples) ** (1 / keep - 1)
    rng, expected = np.random.default_rng(0), np.zeros(n_examples)
    for _ in range(n_draws):
        expected[rng.choice(n_examples, 3, replace=False, p=odds / odds.sum())] += 1
    scores, drawn, generator = torch.tensor([5.0, 1.0, 4.0, 2.0, 6.0, 3.0]), torch.zeros(6), seeded(0)
    for _ in range(n_draws):
        drawn += SelectiveBackprop(keep_fraction=keep).weigh(scores, generator=generator) > 0
    by_rank = drawn[scores.argsort()].numpy()
    assert np.abs(by_rank - expected).max() < 5 * np.sqrt(n_draws / 2)


def test_a_small_share_draws_without_odds_that_vanish():
    weights = SelectiveBackprop(keep_fraction=0.001).weigh(torch.arange(4000.0), generator=seeded(0))
    assert int(weights.count_nonzero()) == 4
    assert weights.nonzero().min() > 3900  # odds are the 999th power of the percentile


def test_draws_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    SelectiveBackprop().weigh(torch.rand(8, generator=seeded(0)), generator=seeded(1))
    assert torch.equal(before, torch.get_rng_state())


def test_robust_weights_are_a_softmax_and_carry_no_gradient():
    losses = torch.tensor([0.1, 2.0, 1.0], requires_grad=True)
    weights = RobustWeights(temperature=0.5).weigh(losses)
    assert not weights.requires_grad
    expected = np.exp(losses.detach().numpy() / 0.5)
    np.testing.assert_allclose(weights.numpy(), 3 * expected / expected.sum(), rtol=1e-6)
    assert torch.isfinite(RobustWeights(temperature=1e-3).weigh(torch.tensor([1e4, 0.0]))).all()


@pytest.mark.parametrize(
    ("policy", "error", "words"),
    [
        (BatchTopK(keep_fraction=0), InvalidValueError, "BatchTopK.keep_fraction"),
        (BatchWindow(offset_fraction=2), InvalidValueError, r"BatchWindow.offset_fraction must be in \[0, 1\]"),
        (SelectiveBackprop(keep_fraction=1.5), InvalidValueError, "SelectiveBackprop.keep_fraction"),
        (SelectiveBackprop(keep_fraction="half"), InvalidTypeError, "SelectiveBackprop.keep_fraction"),
        (RobustWeights(temperature=0.0), InvalidValueError, "RobustWeights.temperature"),
    ],
    ids=["nothing", "an offset beyond all", "more than all", "a word", "no temperature"],
)
def test_a_wrong_parameter_is_named(policy, error, words):
    with pytest.raises(error, match=words):
        policy.weigh(torch.zeros(4))
