"""ScoreStore: first observation wins, NaN is an error, whole files or none."""

import numpy as np
import pytest
import torch

from dataprune.data.files import write_tensors
from dataprune.errors import DataPruneError, InvalidValueError, StateError
from dataprune.scoring.store import OBSERVED, PASS, SMOOTHINGS, ScoreStore


def note(store, rows, values, epoch, source=OBSERVED):
    store.update(torch.tensor(rows), torch.tensor(values), epoch=epoch, source=source)


def test_the_first_observation_of_an_epoch_wins():
    store = ScoreStore(3, smoothing="mean")
    note(store, [1, 1], [5.0, 7.0], 0)
    note(store, [1], [9.0], 0)
    assert store.scores[1] == 5.0
    note(store, [1], [7.0], 1)
    assert store.scores[1] == 6.0
    assert store.counts.tolist() == [0, 2, 0]


def test_the_first_observation_wins_also_after_somebody_looked():
    store = ScoreStore(1)
    note(store, [0], [5.0], 0)
    assert store.scores[0] == 5.0
    note(store, [0], [9.0], 0)
    assert store.scores[0] == 5.0


def test_notes_are_counted_in_pieces_as_they_are_all_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    batches = [
        (rng.integers(50, size=7).tolist(), rng.random(7).tolist(), epoch) for epoch in range(3) for _ in range(9)
    ]
    stores = [ScoreStore(50, smoothing="ema") for _ in range(2)]
    for store, max_notes, n_rows in zip(stores, (1 << 20, 40), (1 << 20, 10), strict=True):
        monkeypatch.setattr("dataprune.scoring.store.MAX_NOTES", max_notes)
        monkeypatch.setattr("dataprune.scoring.store.ROWS_PER_COUNT", n_rows)
        for rows, values, epoch in batches:
            note(store, rows, values, epoch)
        if max_notes == 40:
            assert sum(len(index) for index, *_ in store._pending) < 40  # what memory the notes take is bounded
            store.flush()
    for name, column in stores[0].state_dict().items():
        np.testing.assert_array_equal(column, stores[1].state_dict()[name])


def test_a_nan_in_one_piece_loses_no_score_of_the_next(monkeypatch):
    monkeypatch.setattr("dataprune.scoring.store.ROWS_PER_COUNT", 1)
    store = ScoreStore(3)
    for row, value in enumerate((1.0, float("nan"), 3.0)):
        note(store, [row], [value], 0)
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN in epoch 0"):
        store.flush()
    np.testing.assert_array_equal(store.scores, [1.0, np.nan, 3.0])


def test_a_pass_takes_the_place_of_the_observations_of_its_epoch():
    store = ScoreStore(2)
    note(store, [0, 1], [1.0, 1.0], 0)
    note(store, [0], [4.0], 1, PASS)
    note(store, [0, 1], [2.0, 2.0], 1)
    assert store.scores.tolist() == [4.0, 2.0]
    assert store.source.tolist() == [PASS, OBSERVED]
    assert store.last_epoch.tolist() == [1, 1]


def test_unseen_examples_are_nan_in_every_column_that_says_so():
    store = ScoreStore(2)
    note(store, [1], [0.0], 3)
    assert np.isnan(store.scores).tolist() == [True, False]
    assert store.counts.tolist() == [0, 1]
    assert store.last_epoch.tolist() == [-1, 3]
    assert store.source.tolist() == [0, OBSERVED]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_infinite_scores_do_not_poison_later_ones(smoothing):
    store = ScoreStore(2, smoothing=smoothing)
    for epoch, value in enumerate([float("inf"), float("inf"), 2.0, 2.0]):
        note(store, [0], [value], epoch)
        assert not np.isnan(store.scores[0])
    assert store.scores[0] == 2.0


def test_a_nan_score_names_its_example_and_the_others_count():
    store = ScoreStore(3)
    note(store, [0], [1.0], 0)
    store.flush()
    note(store, [2, 1], [2.0, float("nan")], 1)
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN in epoch 1"):
        _ = store.scores
    np.testing.assert_array_equal(store.scores, [1.0, np.nan, 2.0])


@pytest.mark.parametrize("row", [-1, 3])
def test_an_index_outside_the_data_is_refused(row):
    store = ScoreStore(3)
    note(store, [row], [1.0], 0)
    note(store, [1], [2.0], 1)
    with pytest.raises(InvalidValueError, match=r"An index must be in \[0, 3\), got"):
        store.flush()
    np.testing.assert_array_equal(store.scores, [np.nan, 2.0, np.nan])  # the others are counted


def test_one_value_per_index_is_needed():
    with pytest.raises(InvalidValueError, match=r"one value per index, got \(2,\) and \(1,\)"):
        note(ScoreStore(3), [0, 1], [1.0], 0)


def test_an_empty_batch_and_an_empty_table_are_fine():
    store = ScoreStore(0)
    store.update(torch.zeros(0, dtype=torch.int64), torch.zeros(0), epoch=0)
    assert store.scores.shape == (0,)


def test_row_numbers_are_not_rounded_with_half_precision_scores():
    store = ScoreStore(70_002)  # in bfloat16 70,001 is 70,144, in float16 2,049 is 2,048
    store.update(torch.tensor([70_001]), torch.tensor([1.0], dtype=torch.bfloat16), epoch=0)
    store.update(torch.tensor([2_049]), torch.tensor([1.0], dtype=torch.float16), epoch=0)
    assert np.flatnonzero(store.counts).tolist() == [2_049, 70_001]


def test_reading_gives_a_copy_of_the_scores():
    store = ScoreStore(2)
    note(store, [0, 1], [1.0, 2.0], 0)
    store.scores[:] = 7.0
    assert store.scores.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_saved_table_goes_on_as_the_first_one(smoothing, tmp_path):
    store = ScoreStore(4, smoothing=smoothing, ema_weight=0.3, std_bonus=2.0)
    rng = np.random.default_rng(0)
    for epoch in range(3):
        note(store, [0, 2, 3], rng.normal(size=3).astype(np.float32).tolist(), epoch)
    store.save(tmp_path / "scores")
    loaded = ScoreStore.load(tmp_path / "scores")
    copied = ScoreStore(4, smoothing=smoothing, ema_weight=0.3, std_bonus=2.0)
    copied.load_state_dict(store.state_dict())
    for other in (loaded, copied):
        note(other, [0, 1], [0.25, 0.5], 3)
    note(store, [0, 1], [0.25, 0.5], 3)
    for other in (loaded, copied):
        for name in ("scores", "counts", "last_epoch", "source"):
            assert getattr(other, name).tobytes() == getattr(store, name).tobytes()


def test_a_state_is_a_copy():
    store = ScoreStore(1)
    note(store, [0], [1.0], 0)
    state = store.state_dict()
    note(store, [0], [2.0], 1)
    other = ScoreStore(1)
    other.load_state_dict(state)
    state["mean"][:] = 9.0
    assert other.scores[0] == 1.0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ScoreStore(3), "saved with n_examples=2, but this run has 3"),
        (ScoreStore(2, smoothing="mean"), "saved with smoothing='last', but this run has 'mean'"),
        (ScoreStore(2, ema_weight=0.5), "saved with ema_weight=0.8, but this run has 0.5"),
    ],
)
def test_a_table_of_another_kind_is_refused(other, words):
    with pytest.raises(StateError, match=words):
        other.load_state_dict(ScoreStore(2).state_dict())


def test_a_state_with_missing_or_misshapen_columns_is_refused():
    state = ScoreStore(2).state_dict()
    with pytest.raises(StateError, match="'counts' must have shape"):
        ScoreStore(2).load_state_dict({**state, "counts": np.zeros(3)})
    del state["var"]
    with pytest.raises(StateError, match="must have the keys"):
        ScoreStore(2).load_state_dict(state)


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "scores.safetensors"
    store = ScoreStore(100)
    store.save(path)
    for n_bytes in (0, 5, 200, path.stat().st_size - 1):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:n_bytes])
        with pytest.raises(StateError, match="cut is damaged or was not written by dataprune"):
            ScoreStore.load(tmp_path / "cut")


def test_a_file_of_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "other", {"x": np.zeros(1)}, {"format": "something else"})
    with pytest.raises(StateError, match=r"holds no scores \(ScoreStore\)"):
        ScoreStore.load(tmp_path / "other")


@pytest.mark.parametrize(
    "parameters",
    [
        {"smoothing": "median"},
        {"ema_weight": 0.0},
        {"ema_weight": 1.1},
        {"ema_weight": "most"},
        {"std_bonus": float("nan")},
        {"std_bonus": float("inf")},
        {"std_bonus": "one"},
    ],
)
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(DataPruneError, match=next(iter(parameters))):
        ScoreStore(3, **parameters)
