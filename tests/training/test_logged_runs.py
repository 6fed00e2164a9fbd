"""A run with a log: every score of the run, afterwards."""

import numpy as np
import pytest
import torch
from training_parts import Rows, classifier, index_forward, loader, points, pruner, train_plainly

from dataprune import AUM, EL2N, CyclicScheduler, Loss, ScoreLog
from dataprune.errors import InvalidTypeError, InvalidValueError, StateError


def test_one_run_gives_every_score_afterwards(tmp_path):
    ours = pruner(scorer=AUM(), scheduler=CyclicScheduler(keep_fraction=0.5))
    with ScoreLog(tmp_path, 60) as log:
        ours.fit(points(), model=classifier(), n_epochs=4, batch_size=8, log=log)
    again = ScoreLog(tmp_path, 60)
    replayed = again.replay(AUM())
    np.testing.assert_allclose(replayed.scores_, ours.scorer_.scores_, rtol=2e-3, atol=1e-3)
    assert np.array_equal(replayed.store_.counts, ours.scorer_.store_.counts)
    assert np.isfinite(again.replay(EL2N(smoothing="mean")).scores_).all()


def test_a_run_that_goes_on_leaves_no_gap_in_its_log(tmp_path):
    def start(folder):
        log = ScoreLog(folder, 60)
        ours, model = pruner(), classifier()
        return ours, model, torch.optim.SGD(model.parameters(), 0.1), ours.attach(loader(), n_epochs=3, log=log), log

    whole, model, optimizer, batches, log = start(tmp_path / "whole")
    train_plainly(whole, batches, model, optimizer, 3)
    whole.close()
    expected = log.replay(EL2N(smoothing="mean")).scores_

    half, model, optimizer, batches, _ = start(tmp_path / "half")
    train_plainly(half, batches, model, optimizer, 3, stop_after=11)
    half.save(tmp_path / "pruner.safetensors")
    state = {"model": {k: v.clone() for k, v in model.state_dict().items()}, "rng": torch.get_rng_state()}
    train_plainly(
        half, batches, model, optimizer, 3
    )  # on to the end of the epochs, lost in the crash: nothing is written
    resumed, model, optimizer, batches, log = start(tmp_path / "half")
    model.load_state_dict(state["model"])
    torch.set_rng_state(state["rng"])
    resumed.load(tmp_path / "pruner.safetensors")
    train_plainly(resumed, batches, model, optimizer, 3)
    resumed.close()
    assert np.array_equal(log.replay(EL2N(smoothing="mean")).store_.counts, resumed.scorer_.store_.counts)
    assert expected.shape == log.replay(EL2N(smoothing="mean")).scores_.shape


def test_a_second_run_into_the_same_folder_is_refused(tmp_path):
    log = ScoreLog(tmp_path, 60)
    pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=8, log=log)
    before = log.replay(AUM()).aum_
    for again in (log, ScoreLog(tmp_path, 60)):
        with pytest.raises(StateError, match="holds a run whose next epoch is 2, got 0"):
            pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=8, log=again)
    np.testing.assert_array_equal(log.replay(AUM()).aum_, before)


@pytest.mark.parametrize(
    ("log", "error", "words"),
    [
        (lambda folder: ScoreLog(folder, 59), InvalidValueError, "one of 59 examples, but the data set has 60"),
        (str, InvalidTypeError, "DynamicPruner.log must be a ScoreLog"),
    ],
)
def test_a_log_that_does_not_fit_is_refused(tmp_path, log, error, words):
    with pytest.raises(error, match=words):
        pruner().attach(loader(), n_epochs=2, log=log(tmp_path))


def test_a_log_needs_logits_and_labels(tmp_path):
    ours = pruner(scorer=Loss())
    with pytest.raises(
        InvalidValueError, match="needs the signals 'labels' and 'logits', got no 'labels' and no 'logits'"
    ):
        ours.fit(Rows(), model=torch.nn.Linear(1, 1), n_epochs=2, forward=index_forward, log=ScoreLog(tmp_path, 60))


def test_a_run_that_stopped_before_its_first_checkpoint_begins_again(tmp_path):
    def fit(log, **keywords):
        return pruner().fit(points(), model=classifier(), n_epochs=2, batch_size=8, log=log, **keywords)

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    folders = {"checkpoint_dir": tmp_path / "checkpoints"}
    with pytest.raises(Stop), ScoreLog(tmp_path / "log", 60) as log:
        fit(log, callbacks=[stop], **folders)
    with ScoreLog(tmp_path / "log", 60) as log:
        resumed = fit(log, resume=True, **folders)
    np.testing.assert_array_equal(log.replay(EL2N()).store_.counts, resumed.scorer_.store_.counts)


def test_a_second_run_of_one_epoch_is_refused_too(tmp_path):
    log = ScoreLog(tmp_path, 60)
    pruner().fit(points(), model=classifier(), n_epochs=1, log=log)
    with pytest.raises(StateError, match="whose next epoch is 1, got 0"):
        pruner().fit(points(), model=classifier(), n_epochs=1, log=log)
