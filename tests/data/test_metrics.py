from __future__ import annotations

import numpy as np
import pytest

from dataprune.data.metrics import classification_metrics, span_f1, split_rows


def test_a_span_counts_only_with_its_type_and_both_ends():
    gold = [["B-a", "I-a", "O", "B-b"]]
    assert span_f1(gold, gold) == 1.0
    assert span_f1([["B-a", "O", "O", "B-b"]], gold) == 0.5  # one end wrong
    assert span_f1([["B-b", "I-b", "O", "B-b"]], gold) == 0.5  # type wrong
    assert span_f1([["O", "O", "O", "O"]], gold) == 0.0


def test_span_f1_is_zero_without_warning_when_there_is_no_span():
    assert span_f1([["O"]], [["O"]]) == 0.0


def test_spans_do_not_run_over_the_end_of_a_row():
    assert span_f1([["B-a"], ["I-a"]], [["B-a"], ["B-a"]]) == 1.0
    assert span_f1([[], ["B-a"]], [[], ["B-a"]]) == 1.0


def test_macro_f1_weighs_classes_alike():
    predicted, gold = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    scores = classification_metrics(predicted, gold)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((6 / 7 + 0) / 2)


def test_rows_are_cut_at_their_lengths():
    assert split_rows(np.arange(4), np.array([0, 3, 0, 1])) == [[], [0, 1, 2], [], [3]]
