"""Single labels judged: margins against a slow loop, threshold examples by their own labels, confident learning."""

import numpy as np
import pytest
import torch

from dataprune import AUM, aum_cutoff, confident_learning
from dataprune.data.label_units import LabelUnits
from dataprune.errors import InvalidValueError
from dataprune.scoring.label_errors import LabelMargins, LabelWatch, judge_by_margins


def margin(logits, label):
    return float(logits[label] - max(value for i, value in enumerate(logits) if i != label))


def test_margins_of_words_are_those_of_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    lengths, n_classes, n_epochs = [3, 1, 4, 2], 3, 2
    rows, words = (np.array(x) for x in zip(*[(r, w) for r, n in enumerate(lengths) for w in range(n)], strict=True))
    given = np.arange(len(rows)) % n_classes
    units = LabelUnits("slots", ["a", "b", "c"], given, rows, words)
    watch = LabelWatch({"slot_": units}).reset(len(lengths))
    expected = {place: [] for place in range(len(rows))}
    trained = np.where(np.arange(len(rows)) == 5, n_classes, given)  # one threshold example
    for epoch in range(n_epochs):
        watch.set_epoch(epoch)
        for index in ([2, 0], [3, 1]):
            labels = torch.full((2, 9), -100)
            logits = torch.randn(2, 9, n_classes + 1, generator=generator)
            for position, row in enumerate(index):
                for number, place in enumerate(np.flatnonzero(rows == row)):
                    labels[position, 1 + 2 * number] = int(trained[place])
                    expected[place].append(logits[position, 1 + 2 * number].tolist())
            before = labels.clone()
            watch.update(torch.tensor(index), slot_logits=logits, slot_labels=labels, loss=torch.zeros(2))
            assert torch.equal(labels, before)
    table = watch.margins_["slot_"]
    want = [np.mean([margin(z, trained[p]) for z in visits]) for p, visits in expected.items()]
    np.testing.assert_allclose(table.aum, want, rtol=1e-5)
    want = [np.mean([margin(z[:n_classes], given[p]) for z in visits]) for p, visits in expected.items()]
    np.testing.assert_allclose(table.given_aum, want, rtol=1e-5)
    soft = [
        np.mean([np.exp(z[:n_classes]) / np.exp(z[:n_classes]).sum() for z in v], axis=0) for v in expected.values()
    ]
    np.testing.assert_allclose(table.probabilities, soft, rtol=1e-5)


def test_without_threshold_examples_the_margins_are_the_aum():
    logits, labels = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 4
    watch = LabelWatch({"": LabelUnits("label", list("abcd"), labels.numpy(), np.arange(20))}).reset(20)
    watch.update(torch.arange(20), logits=logits, labels=labels, loss=torch.zeros(20))
    aum = AUM().reset(20).update(torch.arange(20), logits=logits, labels=labels).aum_
    np.testing.assert_allclose(watch.margins_[""].aum, aum, rtol=1e-6)


def visited(logits, given, trained):
    table = LabelMargins(np.array(given), len(logits[0]) - 1)
    table.update(np.arange(len(given)), torch.tensor(logits), torch.tensor(trained))
    return table


def test_a_threshold_example_is_judged_by_its_own_label_and_the_cut_off_is_the_papers():
    #                 clean             wrong             threshold, right label   threshold, wrong label
    logits = [[5.0, 0.0, -2.0], [0.0, 4.0, -2.0], [6.0, 0.0, -1.0], [0.0, 3.0, 1.0]]
    given, trained, threshold = [0, 0, 0, 0], [0, 0, 2, 2], np.array([2, 3])
    table = visited(logits, given, trained)
    found = judge_by_margins(np.array(given), table, threshold)
    assert found.is_suspect.tolist() == [False, True, False, True]
    assert found.cutoff == pytest.approx(-aum_cutoff(table.aum, threshold).cutoff)
    assert found.scores.tolist() == [-5.0, 4.0, -6.0, 3.0]
    assert found.suggested.tolist() == [1, 1, 1, 1]


def test_a_label_that_was_ahead_is_no_suspect_however_well_threshold_examples_were_learned():
    table = visited([[3.0, 0.0, 0.0], [0.0, 0.0, 9.0], [0.0, 1.0, 0.0]], [0, 1, 0], [0, 2, 0])
    found = judge_by_margins(np.array([0, 1, 0]), table, np.array([1]))
    assert found.is_suspect.tolist() == [False, True, True]  # the second: a tie, the third: behind
    assert found.cutoff == 0


@pytest.mark.parametrize(
    ("labels", "probabilities", "sentence"),
    [
        ([0, 1], [[0.5, 0.5]], r"needs integer labels .*got \(2,\) and \(1, 2\)"),
        ([0.0, 1.0], [[0.5, 0.5]] * 2, "needs integer labels"),
        ([0, 2], [[0.5, 0.5]] * 2, r"needs labels in \[0, 2\), got 0 to 2"),
        ([0, 0], [[1.0]] * 2, "at least 2 classes"),
    ],
)
def test_confident_learning_refuses_what_does_not_belong_together(labels, probabilities, sentence):
    with pytest.raises(InvalidValueError, match=sentence):
        confident_learning(labels, probabilities)


def test_confident_learning_finds_swapped_labels_and_stays_quiet_on_rare_classes():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [150, 150, 1])
    probabilities = 0.05 + 0.85 * np.eye(3)[truth] + 0.05 * rng.random((301, 3))
    probabilities /= probabilities.sum(1, keepdims=True)
    given, wrong = truth.copy(), rng.permutation(300)[:30]
    given[wrong] = 1 - given[wrong]
    found = confident_learning(given, probabilities)  # a warning would be an error here
    assert np.flatnonzero(found.is_suspect).tolist() == sorted(wrong.tolist())
    assert found.suggested[wrong].tolist() == truth[wrong].tolist()
    assert set(found.worst(30)) == set(wrong)
