"""save -> load -> continue equals the uninterrupted run, at any batch, bit for bit."""

import copy
import json

import numpy as np
import pytest
import torch
from training_parts import SCHEDULE, assert_same_run, classifier, loader, points, pruner, train_plainly, weights_of

from dataprune import EL2N, BatchTopK, CyclicScheduler, DynamicPruner, FunctionScore, Loss, RandomK, WeightedK
from dataprune.data.files import read_tensors, write_tensors
from dataprune.errors import StateError
from dataprune.scoring.store import ScoreStore

N_EPOCHS = 5
N_BATCHES = 8 + 4 * 3  # 60 examples, then four epochs of 24, in batches of 8


def start(**changes):
    model = classifier()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    ours = pruner(**changes)
    return ours, ours.attach(loader(), n_epochs=N_EPOCHS, model=model), model, optimizer


def first_part(stop_after, **changes):
    ours, batches, model, optimizer = start(**changes)
    torch.manual_seed(0)
    visited = train_plainly(ours, batches, model, optimizer, N_EPOCHS, stop_after=stop_after)
    return ours, model, optimizer, visited


def go_on(give_state, saved, **changes):
    """A fresh process: new objects, then the saved state of each."""
    model_state, optimizer_state, random_state = saved
    ours, batches, model, optimizer = start(**changes)
    model.load_state_dict(model_state)
    optimizer.load_state_dict(copy.deepcopy(optimizer_state))  # it would go on in the tensors it is given
    give_state(ours)
    torch.set_rng_state(random_state)
    visited = train_plainly(ours, batches, model, optimizer, N_EPOCHS)
    return ours, model, visited


MODES = [
    {},
    {"refresh": "full", "selector": WeightedK()},
    {"refresh": 0.25, "scorer": EL2N(smoothing="mean")},
    {"scorer": None, "selector": RandomK()},
]


@pytest.mark.parametrize("changes", MODES, ids=["observed", "full", "share", "random"])
@pytest.mark.parametrize("stop_after", [1, 3, 8, 9, 10, 11, 14, 19])
def test_a_run_that_is_resumed_is_the_uninterrupted_run(changes, stop_after, tmp_path):
    whole, whole_model, _, whole_visited = first_part(None, **changes)
    assert len(whole_visited) == N_BATCHES
    ours, model, optimizer, visited = first_part(stop_after, **changes)
    ours.save(tmp_path / "pruner")
    state = copy.deepcopy(ours.state_dict())
    saved = weights_of(model), copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    for give_state in (lambda p: p.load(tmp_path / "pruner"), lambda p: p.load_state_dict(state)):
        resumed, resumed_model, rest = go_on(give_state, saved, **changes)
        assert visited + rest == whole_visited
        if whole.scorer_ is not None:
            assert_same_run(resumed, resumed_model, whole, whole_model)
        assert all(map(torch.equal, weights_of(resumed_model).values(), weights_of(whole_model).values()))


def test_the_position_is_what_was_observed_not_what_the_loader_handed_out():
    ours = pruner()
    batches = ours.attach(loader(num_workers=2, prefetch_factor=4), n_epochs=2)
    ours.set_epoch(0)
    running = iter(batches)
    index, (_, y) = next(running)
    ours.observe(index, logits=torch.zeros(8, 3), labels=y)
    next(running)  # handed out, not observed
    state = ours.state_dict()
    again = pruner()
    rest = again.attach(loader(), n_epochs=2)
    again.load_state_dict(state)
    visited = {i for index, _ in rest for i in index.tolist()}
    assert visited == set(range(60)) - set(index.tolist())
    assert len(rest) == 7


def test_a_resumed_epoch_may_be_set_again_and_counts_its_batches():
    ours, _, _, _ = first_part(10)
    again = pruner()
    batches = again.attach(loader(), n_epochs=N_EPOCHS)
    again.load_state_dict(ours.state_dict())
    again.set_epoch(1)
    assert (again.epoch_, again.n_observed_batches_, again.n_batches, len(batches)) == (1, 2, 3, 1)
    assert again.progress() == pytest.approx(10 / N_BATCHES)


def test_a_state_from_before_the_first_epoch_starts_at_the_first_epoch():
    fresh = pruner()
    fresh.attach(loader(), n_epochs=N_EPOCHS)
    used, _, _, _ = first_part(10)
    used.load_state_dict(fresh.state_dict())
    assert (used.epoch_, used.n_observed_batches_, len(used.history_)) == (-1, 0, 0)
    used.set_epoch(0)
    assert used.indices_.tolist() == list(range(60))


def test_a_state_is_plain_data_and_a_copy():
    ours, _, _, _ = first_part(10)
    state = ours.state_dict()

    def check(value):
        if isinstance(value, dict):
            for key, item in value.items():
                assert isinstance(key, str)
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert isinstance(value, (int, float, str, np.ndarray, type(None))), value

    check(state)
    before = state["store"]["mean"].copy(), state["indices"].copy(), json.dumps(state["history"])
    ours.set_epoch(2)
    ours.observe(torch.tensor([0]), logits=torch.zeros(1, 3), labels=torch.tensor([0]))
    ours.scorer_.store_.flush()
    np.testing.assert_array_equal(state["store"]["mean"], before[0])
    np.testing.assert_array_equal(state["indices"], before[1])
    assert json.dumps(state["history"]) == before[2]


def test_an_epoch_number_of_numpy_can_be_saved(tmp_path):
    ours, batches, model, _ = start()
    for epoch in np.arange(2):
        ours.set_epoch(epoch)
        for index, (x, y) in batches:
            ours.observe(index, logits=model(x), labels=y)
    ours.save(tmp_path / "pruner")
    assert start()[0].load(tmp_path / "pruner").epoch_ == 1


def refused(state, words, *, data=None, batch_size=8, n_epochs=N_EPOCHS, n_updates=None, n_accumulation=1, **changes):
    other = pruner(**changes)
    other.attach(loader(data, batch_size), n_epochs=n_epochs, n_updates=n_updates, n_accumulation=n_accumulation)
    with pytest.raises(StateError, match=words):
        other.load_state_dict(state)


def test_the_state_of_other_data_is_refused():
    state = first_part(10)[0].state_dict()
    refused(state, "saved for 60 examples, but the attached dataset has 48", data=points(48))
    refused(state, "saved for other data: its 60 examples differ", data=points(seed=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scorer": EL2N()}, r"saved with scorer=EL2N\(smoothing='ema_plus_std'\), but this run has EL2N\(\)"),
        ({"scorer": Loss(smoothing="ema_plus_std")}, "saved with scorer="),
        ({"selector": RandomK()}, r"saved with selector=TopK\(\), but this run has RandomK\(\)"),
        ({"scheduler": CyclicScheduler(keep_fraction=0.4)}, "saved with scheduler="),
        ({"batch_policy": BatchTopK()}, r"saved with batch_policy=None, but this run has BatchTopK\(\)"),
        ({"refresh": "observed", "random_state": 1}, "saved with random_state=0, but this run has 1"),
        ({"batch_size": 4}, "saved with batch_size=8, but this run has 4"),
        ({"n_accumulation": 2}, "saved with n_accumulation=1, but this run has 2"),
        ({"n_epochs": 6}, "saved with n_epochs=5, but this run has 6"),
    ],
)
def test_the_state_of_another_configuration_is_refused(changes, words):
    refused(first_part(10)[0].state_dict(), words, **changes)


def test_a_state_saved_with_a_batch_policy_is_refused_without_it():
    ours = pruner(batch_policy=BatchTopK(keep_fraction=0.5))
    ours.attach(loader(), n_epochs=N_EPOCHS, model=classifier())
    refused(ours.state_dict(), r"saved with batch_policy=BatchTopK\(keep_fraction=0\.5\), but this run has None")


def test_a_scorer_that_holds_a_function_goes_on_in_another_process():
    def with_a_function_of_its_own():
        ours = DynamicPruner(FunctionScore(lambda rows: [float(label) for _, label in rows]), scheduler=SCHEDULE)
        ours.attach(loader(), n_epochs=N_EPOCHS)
        return ours

    first, second = with_a_function_of_its_own(), with_a_function_of_its_own()
    first.set_epoch(0)
    second.load_state_dict(first.state_dict())  # the two functions have two addresses, as in two processes
    assert second.epoch_ == 0


def test_a_state_knows_that_its_run_was_one_of_updates():
    state = first_part(10)[0].state_dict()  # of 8 + 3 + ... updates
    refused(state, "saved with n_updates=None, but this run has 20", n_epochs=None, n_updates=20)
    of_updates = pruner()
    of_updates.attach(loader(), n_updates=20)
    assert of_updates.n_epochs_ == N_EPOCHS
    refused(of_updates.state_dict(), "saved with n_updates=20, but this run has None")


def test_the_default_parts_may_be_left_out_or_named():
    ours = pruner(selector=None, scheduler=SCHEDULE)
    ours.attach(loader(), n_epochs=N_EPOCHS)
    ours.load_state_dict(first_part(10)[0].state_dict())
    assert ours.epoch_ == 1


def test_another_version_and_a_missing_key_are_refused():
    state = first_part(10)[0].state_dict()
    refused({**state, "version": 99}, "This state has version 99, this dataprune reads 1")
    refused({key: value for key, value in state.items() if key != "indices"}, "lacks indices")
    refused({}, "this one lacks epoch, fingerprint")


def test_a_truncated_or_foreign_file_is_one_sentence(tmp_path):
    ours = first_part(10)[0]
    ours.save(tmp_path / "pruner")
    whole = (tmp_path / "pruner").read_bytes()
    fresh = start()[0]
    for n_bytes in (0, 100, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:n_bytes])
        with pytest.raises(StateError, match="cut is damaged or was not written by dataprune"):
            fresh.load(tmp_path / "cut")
    with pytest.raises(StateError, match="missing does not exist"):
        fresh.load(tmp_path / "missing")
    ScoreStore(60).save(tmp_path / "scores")
    with pytest.raises(StateError, match="must have all of its keys"):
        fresh.load(tmp_path / "scores")
    arrays, settings = read_tensors(tmp_path / "pruner")
    write_tensors(tmp_path / "less", {n: a for n, a in arrays.items() if n != "store.mean"}, settings)
    with pytest.raises(StateError, match="must have the keys"):
        fresh.load(tmp_path / "less")


def test_a_refused_state_leaves_the_pruner_as_it_was():
    state = first_part(10)[0].state_dict()
    other = pruner(random_state=1)
    other.attach(loader(), n_epochs=N_EPOCHS)
    with pytest.raises(StateError):
        other.load_state_dict(state)
    assert other.epoch_ == -1
    assert (other.scorer_.store_.counts == 0).all()
