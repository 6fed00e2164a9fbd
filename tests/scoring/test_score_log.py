"""The log of a training pass: what is replayed is what was seen, also after a kill."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataprune import EL2N, ConstantScheduler, DynamicPruner, JointEL2N, Loss, RandomK
from dataprune.data.fingerprint import fingerprint
from dataprune.errors import DataPruneError, InvalidTypeError, InvalidValueError, OutputError, StateError
from dataprune.scoring.dynamics import AUM, Cartography, Forgetting
from dataprune.scoring.score_log import ScoreLog

N, C = 20, 4


def epoch_of(epoch, *, n=N, scale=3.0, n_classes=C):
    """The batches of one made-up epoch: index, logits, labels."""
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(n, generator=generator)
    logits = scale * torch.randn(n, n_classes, generator=generator)
    return [(index, logits[index], index % n_classes) for index in order.split(6)]


def write(log, epochs, **parameters):
    for epoch in epochs:
        for index, logits, labels in epoch_of(epoch, **parameters):
            log.update(index, epoch=epoch, logits=logits, labels=labels)


def online(scorer, epochs, **parameters):
    scorer.reset(N)
    for epoch in epochs:
        scorer.set_epoch(epoch)
        for index, logits, labels in epoch_of(epoch, **parameters):
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            scorer.update(index, logits=logits, labels=labels, loss=loss)
    return scorer


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@settings(max_examples=25, deadline=None)
@given(
    n_epochs=st.integers(1, 4),
    n_rows=st.integers(1, 50),
    scale=st.sampled_from([0.01, 3.0, 200.0, 1e5]),
    data=st.data(),
)
def test_a_replay_gives_what_was_seen_online_up_to_float16(n_epochs, n_rows, scale, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    log = ScoreLog(folder, N, n_rows_per_shard=n_rows)
    for epoch in range(n_epochs):
        write(log, [epoch], scale=scale)
        if data.draw(st.booleans()):
            log.close()
            log = ScoreLog(folder, N, n_rows_per_shard=n_rows)  # another process goes on
    replayed, seen = log.replay(Cartography()), online(Cartography(), range(n_epochs), scale=scale)
    # A margin has a relative error of 2^-11, and right stays right; a mean of margins has that of the largest.
    largest = min(2 * 6 * scale, 65504)
    if scale < 1e4:
        np.testing.assert_allclose(replayed.aum_, seen.aum_, rtol=0, atol=largest * 2**-11)
    np.testing.assert_array_equal(replayed.n_forgetting_events_, seen.n_forgetting_events_)
    np.testing.assert_array_equal(replayed.correctness_, seen.correctness_)
    np.testing.assert_array_equal(replayed.store_.last_epoch, seen.store_.last_epoch)
    np.testing.assert_allclose(replayed.confidence_, seen.confidence_, atol=1e-3)
    np.testing.assert_allclose(replayed.variability_, seen.variability_, atol=1e-3)


@pytest.mark.parametrize("scorer", [EL2N(smoothing="mean"), EL2N(smoothing="ema_plus_std"), Loss(), AUM()], ids=str)
def test_any_scorer_of_logits_and_labels_can_be_replayed(scorer, tmp_path):
    with ScoreLog(tmp_path / "new" / "log", N, n_rows_per_shard=7) as log:
        write(log, range(3))
    scores = log.replay(scorer).scores_.copy()
    np.testing.assert_allclose(scores, online(scorer, range(3)).scores_, rtol=2e-3, atol=5e-3)
    np.testing.assert_array_equal(log.replay(scorer).scores_, log.replay(scorer).scores_)  # each starts afresh


def test_a_scorer_that_needs_more_is_told_so(tmp_path):
    with ScoreLog(tmp_path, N) as log:
        write(log, [0])
    with pytest.raises(InvalidValueError, match="needs the signals 'slot_labels' and 'slot_logits', got only"):
        log.replay(JointEL2N(heads=("slot",)))


def test_files_hold_whole_shards_of_one_epoch_each(tmp_path):
    with ScoreLog(tmp_path, N, n_rows_per_shard=10) as log:
        write(log, [0, 1])  # batches of 6, 6, 6, 2
    assert files(tmp_path) == [
        f"epoch-{epoch:05d}-shard-{shard:06d}.safetensors" for epoch, shard in [(0, 0), (0, 1), (1, 2), (1, 3)]
    ]
    parts = list(log.read())
    assert [(part.epoch, len(part.index)) for part in parts] == [(0, 12), (0, 8), (1, 12), (1, 8)]
    assert parts[0].logits.dtype == np.float16
    assert parts[0].logits.max(1).tolist() == [0.0] * 12
    bytes_per_row = sum(path.stat().st_size for path in tmp_path.iterdir()) / (2 * N)
    assert bytes_per_row < 2 * C + 12 + 4 * 400 / (2 * N)  # the last term: four headers


def test_a_killed_run_leaves_a_log_that_is_read_and_goes_on(tmp_path):
    code = """
        import os, sys
        import torch
        from dataprune.scoring.score_log import ScoreLog

        log = ScoreLog(sys.argv[1], 20, n_rows_per_shard=6)
        for batch in range(3):
            index = torch.arange(batch * 4, batch * 4 + 4)
            log.update(index, epoch=0, logits=torch.eye(4), labels=torch.zeros(4, dtype=torch.long))
        os._exit(9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], check=False)
    assert done.returncode == 9
    (tmp_path / ".epoch-00000-shard-000001.safetensors.x.part").write_bytes(b"half")
    log = ScoreLog(tmp_path, N)
    log.resume()
    assert np.isnan(log.replay(AUM()).aum_).sum() == 12  # two batches made a file, the third is lost
    with log:
        log.update(torch.arange(8, 20), epoch=0, logits=torch.eye(12, 4), labels=torch.zeros(12, dtype=torch.long))
    assert not np.isnan(ScoreLog(tmp_path, N).replay(AUM()).aum_).any()
    assert sum(name.startswith("epoch") for name in files(tmp_path)) == 2


def test_what_a_resumed_run_repeats_counts_once_and_in_its_epoch(tmp_path):
    with ScoreLog(tmp_path, N) as log:
        write(log, [0, 1, 2])
    with ScoreLog(tmp_path, N) as log:
        log.resume(1)  # the checkpoint was that of epoch 1
        write(log, [1, 2, 3])
    replayed = log.replay(Cartography())
    assert replayed.store_.counts.tolist() == [4] * N
    np.testing.assert_array_equal(replayed.n_forgetting_events_, online(Forgetting(), range(4)).n_forgetting_events_)


def test_flush_writes_what_a_checkpoint_needs(tmp_path):
    log = ScoreLog(tmp_path, N)
    write(log, [0])
    assert files(tmp_path) == []
    log.flush()
    log.flush()
    assert len(files(tmp_path)) == 1


def test_what_was_logged_before_an_error_is_kept(tmp_path):
    def train():
        with ScoreLog(tmp_path, N) as log:
            write(log, [0])
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        train()
    assert len(list(ScoreLog(tmp_path, N).read())) == 1


def test_large_logits_do_not_overflow_and_margins_survive(tmp_path):
    logits = torch.tensor([[1e6, 1e6 - 3, -1e30], [1e9, 0.0, 5.0], [2e5, 1e5, float("-inf")]])
    with ScoreLog(tmp_path, 3) as log:
        log.update(torch.arange(3), epoch=0, logits=logits, labels=torch.tensor([1, 0, 1]))
    assert log.replay(AUM()).aum_.tolist() == [-3.0, 65504.0, -65504.0]
    assert np.isfinite(log.replay(EL2N()).scores_).all()
    assert log.replay(EL2N()).scores_[1] == 0


def test_a_nan_is_logged_and_named_at_the_replay(tmp_path):
    with ScoreLog(tmp_path, 2) as log:
        logits = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])
        log.update(torch.arange(2), epoch=3, logits=logits, labels=torch.tensor([0, 0]))
    with pytest.raises(InvalidValueError, match="The score of example 1 is NaN in epoch 3"):
        log.replay(AUM())


def test_given_tensors_stay_and_may_be_reused(tmp_path):
    log = ScoreLog(tmp_path, 2)
    index, logits, labels = torch.tensor([0]), torch.tensor([[2.0, 1.0]], requires_grad=True), torch.tensor([0])
    log.update(index, epoch=0, logits=logits, labels=labels)
    assert (index.item(), logits.tolist(), labels.item()) == (0, [[2.0, 1.0]], 0)
    with torch.no_grad():
        logits.fill_(9.0)
    index.fill_(1)
    labels.fill_(1)
    assert log.replay(AUM()).aum_[0] == 1.0


def test_a_log_of_other_data_is_refused(tmp_path):
    with ScoreLog(tmp_path, N) as log:
        write(log, [0])
    with pytest.raises(StateError, match=f"was written for {N} examples, but this data set has 30"):
        ScoreLog(tmp_path, 30)
    again = ScoreLog(tmp_path, N)
    assert again.n_classes == C
    with pytest.raises(InvalidValueError, match="This log holds logits of 4 classes, but got 3"):
        again.update(torch.tensor([0]), epoch=1, logits=torch.zeros(1, 3), labels=torch.tensor([0]))


def test_a_log_of_other_data_of_the_same_size_is_refused(tmp_path):
    def train(data, log):
        pruner = DynamicPruner(None, RandomK(), ConstantScheduler(keep_fraction=1.0))
        return pruner.fit(data, model=torch.nn.Linear(2, C), n_epochs=1, batch_size=5, log=log)

    data, others = ([(torch.rand(2), i % C) for i in range(N)] for _ in range(2))
    with ScoreLog(tmp_path, N) as log:
        train(data, log)
    again = ScoreLog(tmp_path, N)
    again.resume()
    with pytest.raises(StateError, match=r"their fingerprint is [0-9a-f]{12}, the data set's is [0-9a-f]{12}"):
        train(others, again)
    train(data, again)
    note = again.replay(EL2N()).store_.provenance
    assert note["data_fingerprint"] == fingerprint(data)
    assert note["epoch"] == 0


def test_shards_of_two_logs_in_one_folder_are_refused(tmp_path):
    for n_classes in (3, 4):
        with ScoreLog(tmp_path / str(n_classes), N) as log:
            write(log, [n_classes], n_classes=n_classes)
    stranger = next((tmp_path / "4").iterdir())
    stranger.rename(tmp_path / "3" / "epoch-00009-shard-000009.safetensors")
    with pytest.raises(StateError, match="holds logits of 3 and of 4 classes"):
        list(ScoreLog(tmp_path / "3", N).read())


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    with ScoreLog(tmp_path, N) as log:
        write(log, [0])
    path = next(tmp_path.iterdir())
    AUM().reset(N).store_.save(path)
    with pytest.raises(StateError, match=rf"{path.name} is no part of a log"):
        ScoreLog(tmp_path, N)
    path.write_bytes(b"nothing")
    with pytest.raises(StateError, match=rf"{path.name} is damaged"):
        ScoreLog(tmp_path, N)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": torch.zeros(2, 3, 4)}, r"logits \(B, C\) and labels \(B,\) for an index \(B,\)"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"for an index \(B,\)"),
        ({"labels": torch.zeros(2, 1, dtype=torch.long)}, r"for an index \(B,\)"),
        ({"index": torch.tensor([0])}, r"for an index \(B,\)"),
        ({"epoch": -1}, "ScoreLog.epoch must be at least 0, got -1"),
        ({"index": torch.tensor([0.0, 1.0])}, "An index must be integers"),
    ],
)
def test_bad_batches_are_refused(change, words, tmp_path):
    batch = {
        "index": torch.arange(2),
        "epoch": 0,
        "logits": torch.zeros(2, 3),
        "labels": torch.zeros(2, dtype=torch.long),
    }
    with pytest.raises(DataPruneError, match=words):
        ScoreLog(tmp_path, N).update(**(batch | change))


@pytest.mark.parametrize("row", [-1, N])
def test_an_index_out_of_range_is_refused_before_it_is_written(row, tmp_path):
    log = ScoreLog(tmp_path, N)
    log.update(torch.tensor([row]), epoch=0, logits=torch.zeros(1, 2), labels=torch.tensor([0]))
    with pytest.raises(InvalidValueError, match=rf"An index must be in \[0, {N}\), got {row} to {row}"):
        log.close()
    assert files(tmp_path) == []


def test_bad_parameters_are_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"ScoreLog.n_examples must be at least 1, got 0"):
        ScoreLog(tmp_path, 0)
    with pytest.raises(InvalidTypeError, match=r"ScoreLog.n_rows_per_shard must be a whole number .* got 2.5"):
        ScoreLog(tmp_path, 1, n_rows_per_shard=2.5)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        ScoreLog(tmp_path / "file", 1)


def test_an_empty_log_leaves_all_unseen(tmp_path):
    with ScoreLog(tmp_path, N) as log:
        log.update(torch.zeros(0, dtype=torch.long), epoch=0, logits=torch.zeros(0, C), labels=torch.zeros(0))
    assert files(tmp_path) == []
    assert np.isnan(log.replay(AUM()).scores_).all()
