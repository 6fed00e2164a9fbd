"""The store's smoothing against pandas, its bookkeeping against a dictionary."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune.scoring.store import SMOOTHINGS, ScoreStore

values = st.floats(-100, 100, width=32)
alphas = st.sampled_from([0.1, 0.5, 0.8, 1.0])


def filled(visits, **parameters):
    store = ScoreStore(1, **parameters)
    for epoch, value in enumerate(visits):
        store.update(torch.tensor([0]), torch.tensor([value]), epoch=epoch)
    return store


@settings(max_examples=60, deadline=None)
@given(visits=st.lists(values, min_size=1, max_size=12), alpha=alphas)
def test_ema_is_the_mean_of_pandas_ewm(visits, alpha):
    expected = pd.Series(visits).ewm(alpha=alpha, adjust=False).mean().iloc[-1]
    assert filled(visits, smoothing="ema", ema_weight=alpha).scores[0] == pytest.approx(expected, rel=1e-5, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(visits=st.lists(values, min_size=1, max_size=12), alpha=st.sampled_from([0.1, 0.5, 0.8]))
def test_the_bonus_is_the_bias_corrected_std_of_pandas_ewm(visits, alpha):
    ewm = pd.Series(visits).ewm(alpha=alpha, adjust=False)
    std = ewm.std(bias=False).iloc[-1]
    expected = ewm.mean().iloc[-1] + 1.5 * (0.0 if math.isnan(std) else std)
    store = filled(visits, smoothing="ema_plus_std", ema_weight=alpha, std_bonus=1.5)
    assert store.scores[0] == pytest.approx(expected, rel=1e-5, abs=2e-3)


def test_the_bonus_of_the_paper_on_three_visits_by_hand():
    # mu 1, 2.6, 2.12; the variance and its correction as METHODS spells them out
    store = filled([1.0, 3.0, 2.0], smoothing="ema_plus_std", ema_weight=0.8, std_bonus=1.0)
    mu, var, s2 = 1.0, 0.0, 1.0
    for x in (3.0, 2.0):
        d = x - mu
        mu += 0.8 * d
        var = 0.2 * (var + 0.8 * d * d)
        s2 = 0.04 * s2 + 0.64
    assert store.scores[0] == pytest.approx(mu + math.sqrt(var / (1 - s2)), rel=1e-6)


def test_one_visit_has_no_bonus_and_a_weight_of_one_has_no_spread():
    assert filled([7.0], smoothing="ema_plus_std").scores[0] == 7.0
    assert filled([7.0, 3.0], smoothing="ema_plus_std", ema_weight=1.0).scores[0] == 3.0


@settings(max_examples=60, deadline=None)
@given(
    visits=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 4), values), max_size=6)), max_size=10
    ),
    smoothing=st.sampled_from(SMOOTHINGS),
)
def test_visits_epochs_and_first_values_are_those_of_a_dictionary(visits, smoothing):
    store = ScoreStore(5, smoothing=smoothing)
    seen = {row: {} for row in range(5)}  # row -> epoch -> first value
    for epoch, batch in sorted(visits, key=lambda visit: visit[0]):
        index = torch.tensor([row for row, _ in batch], dtype=torch.int64)
        store.update(index, torch.tensor([value for _, value in batch], dtype=torch.float32), epoch=epoch)
        for row, value in batch:
            seen[row].setdefault(epoch, value)
        if epoch % 2:
            store.flush()  # reading in between changes nothing
    assert store.counts.tolist() == [len(epochs) for epochs in seen.values()]
    assert store.last_epoch.tolist() == [max(epochs, default=-1) for epochs in seen.values()]
    assert np.isnan(store.scores).tolist() == [not epochs for epochs in seen.values()]
    if smoothing in {"last", "mean"}:
        for row, epochs in seen.items():
            if epochs:
                expected = list(epochs.values())[-1] if smoothing == "last" else np.mean(list(epochs.values()))
                assert store.scores[row] == pytest.approx(expected, rel=1e-5, abs=1e-4)
