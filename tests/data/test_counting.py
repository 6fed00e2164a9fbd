"""The counts that everything agrees on."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataprune.data.counting import count_to_keep, count_updates, round_up_to_updates


@given(n_examples=st.integers(1, 100_000), percent=st.integers(1, 1000))
@example(n_examples=100, percent=145)  # 14.499999999999998 in binary
def test_a_share_of_tenths_of_a_percent_is_rounded_half_up_as_on_paper(n_examples, percent):
    exact = floor(Fraction(percent, 1000) * n_examples + Fraction(1, 2))
    assert count_to_keep(n_examples, percent / 1000) == max(1, exact)


def test_at_least_one_is_kept_and_never_more_than_all():
    assert count_to_keep(7, 1e-9) == 1
    assert count_to_keep(7, 1.0) == 7
    assert count_to_keep(0, 0.5) == 0


@pytest.mark.parametrize(
    ("n_examples", "batch_size", "n_accumulation", "drop_last", "n_updates"),
    [
        (100, 10, 1, False, 10),
        (101, 10, 1, False, 11),
        (101, 10, 1, True, 10),
        (101, 10, 4, False, 3),
        (3, 10, 4, False, 1),
        (3, 10, 4, True, 0),
        (0, 10, 1, False, 0),
    ],
)
def test_updates_of_an_epoch(n_examples, batch_size, n_accumulation, drop_last, n_updates):
    assert count_updates(n_examples, batch_size, n_accumulation=n_accumulation, drop_last=drop_last) == n_updates


@given(
    n_examples=st.integers(1, 300),
    share=st.floats(0, 1),
    batch_size=st.integers(1, 20),
    n_accumulation=st.integers(1, 6),
)
def test_whole_updates_need_the_fewest_examples(n_examples, share, batch_size, n_accumulation):
    n_keep = max(1, round(n_examples * share))
    slow = next(
        (n for n in range(n_keep, n_examples) if -(-n // batch_size) % n_accumulation == 0),
        n_examples,
    )
    assert round_up_to_updates(n_keep, n_examples, batch_size, n_accumulation) == slow
