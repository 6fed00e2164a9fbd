"""``dataprune train``: from files to files, and on after an interruption."""

import inspect
import json
from dataclasses import MISSING, asdict, fields
from itertools import cycle

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_parts import RUN_KEYS, read_history, run_cli, train_words, write_joint, write_texts
from transformers import AutoModelForSequenceClassification

from dataprune.cli.train import train
from dataprune.data.loading import load_data
from dataprune.data.tasks import load_task
from dataprune.models import JointIntentSlotModel, load_tokenizer
from dataprune.runs.compose import SELECTORS
from dataprune.runs.config import COMPOSITION, RunConfig
from dataprune.runs.run_file import read_run_file
from dataprune.scheduling.by_name import SCHEDULERS
from dataprune.scoring.store import ScoreStore
from dataprune.training.evaluation import evaluate


def measured_again(folder, data, model):
    """Load what a run saved and measure the test split again."""
    task = load_task(json.loads((folder / "model" / "task.json").read_text()))
    tokenizer = load_tokenizer(folder / "model")
    test = task.encode(load_data(data).splits["test"], tokenizer)
    return evaluate(test, model, metrics=task.metrics, collate_fn=task.collator(tokenizer))


def check_files(folder, result, *, n_examples):
    """Hold the files of a run against each other."""
    names = {path.name for path in folder.iterdir()}
    assert names == {"history.csv", "kept.parquet", "model", "run.json", "run.toml", "scores.safetensors"}
    assert json.loads((folder / "run.json").read_text()) == result
    assert set(result) == RUN_KEYS
    assert set(result["seconds"]) == {"train", "score", "select", "evaluate", "other", "total"}
    parts = sum(spent for what, spent in result["seconds"].items() if what != "total")
    assert parts == pytest.approx(result["seconds"]["total"])
    assert result["n_updates"] == result["n_updates_planned"]
    assert result["n_examples"] == n_examples
    assert result["config"] == asdict(RunConfig(**read_run_file(folder / "run.toml").settings))

    history = read_history(folder)
    assert sum(int(row["kept"]) for row in history) == result["examples_trained"]
    assert sum(int(row["updates"]) for row in history) == result["n_updates"]
    assert sum(int(row["tokens"]) for row in history) == result["tokens_trained"]

    kept = pq.read_table(folder / "kept.parquet").to_pandas()
    assert list(kept) == ["index", "source_row", "score", "n_epochs_trained", "kept"]
    assert kept["index"].tolist() == list(range(n_examples))
    assert kept["n_epochs_trained"].sum() == result["examples_trained"]
    assert kept["kept"].sum() == int(history[-1]["kept"])
    store = ScoreStore.load(folder / "scores.safetensors")
    np.testing.assert_array_equal(store.scores, kept["score"])


def test_a_joint_run_writes_files_that_agree(tmp_path, tiny_encoder_dir):
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    done = run_cli(*train_words(data, tiny_encoder_dir, out, "--json"))
    assert (done.exit_code, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    check_files(out, result, n_examples=90)
    assert list(result["metrics"]["test"]) == ["frame_accuracy", "span_f1", "intent_accuracy"]
    assert [int(row["kept"]) for row in read_history(out)] == [90, 45, 45]
    again = measured_again(out, data, JointIntentSlotModel.from_pretrained(out / "model"))
    assert again == pytest.approx(result["metrics"]["test"])


def test_a_classification_run_says_what_it_did_to_the_data(tmp_path, tiny_encoder_dir):
    data, out = write_texts(tmp_path / "data"), tmp_path / "run"
    done = run_cli(*train_words(data, tiny_encoder_dir, out))
    assert done.exit_code == 0
    assert "No valid split in" in done.stderr
    assert "'label' (greeting)" in done.stderr
    result = json.loads((out / "run.json").read_text())
    check_files(out, result, n_examples=81)
    assert result["notes"] == done.stderr.splitlines()
    for words in ("accuracy", "macro f1", "valid", "test", "examples", "of a full run", f"{out} holds model/"):
        assert words in done.stdout.replace("\n", " ")
    again = measured_again(out, data, AutoModelForSequenceClassification.from_pretrained(out / "model"))
    assert again == pytest.approx(result["metrics"]["test"])


def test_columns_of_other_names_are_used_as_told(tmp_path, tiny_encoder_dir):
    write_texts(tmp_path / "data")
    for path in (tmp_path / "data").iterdir():
        path.write_text(path.read_text().replace('"text"', '"said"').replace('"label"', '"meant"'))
    columns = ["--column", "text=said", "--column", "label=meant", "--task", "classification"]
    done = run_cli(*train_words(tmp_path / "data", tiny_encoder_dir, tmp_path / "run", *columns, "--n-epochs", 2))
    assert done.exit_code == 0, done.stderr
    assert read_run_file(tmp_path / "run" / "run.toml").settings["columns"] == {"text": "said", "label": "meant"}


@pytest.mark.parametrize(("refresh", "n_scored"), [("full", 90), ("0.4", 36)])
def test_scoring_passes_are_counted(tmp_path, tiny_encoder_dir, refresh, n_scored):
    words = ["--refresh", refresh, "--json", "--n-cycle-epochs", 2, "--scorer-arg", "smoothing=ema_plus_std"]
    done = run_cli(*train_words(write_joint(tmp_path / "data"), tiny_encoder_dir, tmp_path / "run", *words))
    result = json.loads(done.stdout)
    assert [int(row["scored"]) for row in read_history(tmp_path / "run")] == [0, n_scored, 0]
    assert result["tokens_scored"] > 0
    assert result["config"]["refresh"] == (refresh if refresh == "full" else 0.4)


def test_every_setting_of_a_run_is_an_option_with_the_same_default():
    options = inspect.signature(train).parameters
    repeatable = ("columns", "recipe_args", "scorer_args", "selector_args")
    renamed = {name: name.removesuffix("s") for name in repeatable} | {"budget": "budget"}
    for setting in fields(RunConfig):
        option = options[renamed.get(setting.name, setting.name)]
        if setting.name not in renamed:
            default = None if setting.default is MISSING else setting.default
            assert option.default == COMPOSITION.get(setting.name, default)
    others = {"ctx", "run_file", "setting", "dry_run", "resume", "as_json"}
    assert set(options) == {renamed.get(s.name, s.name) for s in fields(RunConfig)} | others


def test_settings_reach_the_run(tmp_path, tiny_encoder_dir):
    pruning = {
        "keep-fraction": 0.25,
        "n-warmup-epochs": 2,
        "n-cycle-epochs": 2,
        "n-full-final-epochs": 1,
        "n-epochs": 5,
    }
    scoring = {"scorer": "loss", "selector": "epsilon-greedy", "refresh": "observed"}
    training = {"batch-size": 16, "n-accumulation": 2, "learning-rate": 0.02, "lr-schedule": "cosine", "seed": 3}
    other = {"mixed-precision": "bf16", "max-grad-norm": 0.5, "max-length-tokens": 20, "task": "joint-nlu"}
    words = {**pruning, **scoring, **training, **other}
    flat = [word for name, value in words.items() for word in (f"--{name}", value)]
    flat += ["--scorer-arg", "smoothing=ema", "--scorer-arg", "ema_weight=0.5", "--selector-arg", "epsilon=0.2"]
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    done = run_cli("train", "--data", data, "--model", tiny_encoder_dir, "--output-dir", out, "--json", *flat)
    result = json.loads(done.stdout)
    expected = {name.replace("-", "_"): value for name, value in words.items()}
    assert {name: result["config"][name] for name in expected} == expected
    assert result["config"]["scorer_args"] == {"smoothing": "ema", "ema_weight": 0.5}
    assert "Loss(ema_weight=0.5, smoothing='ema')" in result["pruner"]
    assert "EpsilonGreedy(epsilon=0.2)" in result["pruner"]
    assert [int(row["kept"]) for row in read_history(out)] == [90, 90, 23, 23, 90]


@pytest.mark.parametrize(("budget", "most"), [("token_fraction=0.5", 60), ("n_updates=20", 90)])
def test_a_budget_takes_the_place_of_a_share(tmp_path, tiny_encoder_dir, budget, most):
    data = write_joint(tmp_path / "data")
    words = train_words(data, tiny_encoder_dir, tmp_path / "run", "--n-epochs", 3, "--budget", budget, "--json")
    done = run_cli(*words)
    assert done.exit_code == 0, done.stderr
    rows = read_history(tmp_path / "run")
    assert int(rows[0]["kept"]) == 90
    assert all(0 < int(row["kept"]) <= most for row in rows[1:])
    if "n_updates" in budget:
        assert json.loads(done.stdout)["n_updates"] <= 20
    else:
        assert all(int(row["tokens"]) <= 0.5 * int(rows[0]["tokens"]) for row in rows[1:])


@pytest.mark.parametrize("name", ["model", "checkpoints"])
def test_a_folder_of_the_users_own_is_never_replaced(tmp_path, tiny_encoder_dir, name):
    mine = tmp_path / name / "checkpoint-1" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refused = run_cli(*train_words(write_joint(tmp_path / "data", 30), tiny_encoder_dir, tmp_path))
    assert refused.exit_code == 1
    assert f"holds {name}/, which no run made" in refused.stderr
    assert mine.read_text() == "mine"


def test_a_run_starts_from_the_scores_of_another(tmp_path, tiny_encoder_dir):
    data = write_joint(tmp_path / "data")
    assert run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "first")).exit_code == 0
    scores = tmp_path / "first" / "scores.safetensors"
    words = ["--scores", scores, "--n-warmup-epochs", 0, "--keep-fraction", 0.5]
    done = run_cli(*train_words(data, tiny_encoder_dir, tmp_path / "second", *words))
    assert done.exit_code == 0, done.stderr
    assert {int(row["kept"]) for row in read_history(tmp_path / "second")} == {45}
    write_joint(tmp_path / "other", n=60)
    done = run_cli(*train_words(tmp_path / "other", tiny_encoder_dir, tmp_path / "third", *words))
    assert done.exit_code == 1
    assert "made for other data" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scorer", "margin", "--scorer-arg", "reduction=mean"], "The scorer 'margin' has no 'reduction', but"),
        (["--scorer", "loss", "--scorer-arg", "reduction=norm"], "Loss.reduction must be one of 'sum', 'mean'"),
        (
            ["--selector", "stratified-k", "--selector-arg", "n_strata=0"],
            "StratifiedK.n_strata must be at least 1, got 0",
        ),
        (["--selector", "class-floor", "--selector-arg", "n_mim=0"], "The selector 'class-floor' has no 'n_mim', but"),
        (["--budget", "tokens=0.5"], "--budget must be one of"),
        (["--budget", "token_fraction=half"], "Budget.token_fraction must be"),
        (["--budget", "seconds"], "--budget must be NAME=VALUE, such as token_fraction=0.4, got 'seconds'"),
        (["--budget", "seconds=9", "--keep-fraction", 0.2], "--keep-fraction must be left out with a budget, got 0.2"),
        (["--scores", "missing.safetensors"], "The file missing.safetensors does not exist"),
        (["--max-grad-norm", -1], "--max-grad-norm must be"),
        (["--n-workers", -1], "--n-workers must be at least 0, got -1"),
        (["--scorer-arg", "ema_weight=0", "--scorer-arg", "smoothing=ema"], "ema_weight must be in (0, 1], got 0"),
    ],
)
def test_settings_that_do_not_go_together_are_wrong_usage(tmp_path, words, message):
    done = run_cli("train", "--data", tmp_path, "--model", tmp_path, "--output-dir", tmp_path / "run", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(("scorer", "refresh"), [("aum", "observed"), ("forgetting", "observed"), ("grand", "full")])
def test_other_scores_drive_a_run_too(tmp_path, tiny_encoder_dir, scorer, refresh):
    words = [
        "--scorer",
        scorer,
        "--refresh",
        refresh,
        "--n-epochs",
        3,
        "--keep-fraction",
        0.5,
        "--task",
        "classification",
    ]
    done = run_cli(*train_words(write_texts(tmp_path / "data"), tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 0, done.stderr
    kept = [int(row["kept"]) for row in read_history(tmp_path / "run")]
    assert kept[1] == kept[2] == (kept[0] + 1) // 2


def test_a_gradient_cannot_be_read_off_a_training_pass(tmp_path):
    words = ["--data", tmp_path, "--model", tmp_path, "--output-dir", tmp_path / "run", "--scorer", "grand"]
    done = run_cli("train", *words)
    assert done.exit_code == 2
    assert "--refresh must be 'full' for GraNd" in " ".join(done.stderr.split())


ONE_BY_ONE = list(zip(SELECTORS, cycle(sorted(SCHEDULERS.keys() - {"constant", "soft-prune"})), strict=False))


@pytest.mark.parametrize(("selector", "scheduler"), ONE_BY_ONE)
def test_each_selector_and_scheduler_drives_a_run(tmp_path, tiny_encoder_dir, selector, scheduler):
    words = ["--selector", selector, "--scheduler", scheduler, "--n-epochs", 4, "--keep-fraction", 0.3]
    if selector == "class-floor":
        words += ["--selector-arg", "n_min=3"]
    if selector == "score-per-cost":
        words = [*words[:-2], "--budget", "token_fraction=0.3"]
    done = run_cli(*train_words(write_joint(tmp_path / "data"), tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 0, done.stderr
    what, most = ("tokens", 0.3 * 1110) if selector == "score-per-cost" else ("kept", 27)
    fewest = min(int(row[what]) for row in read_history(tmp_path / "run"))
    assert 0.9 * most < fewest <= most


def test_the_scores_decide_how_many_soft_prune_keeps(tmp_path, tiny_encoder_dir):
    words = ["--selector", "soft-prune", "--scheduler", "soft-prune", "--n-epochs", 4, "--n-full-final-epochs", 1]
    done = run_cli(*train_words(write_joint(tmp_path / "data"), tiny_encoder_dir, tmp_path / "run", *words))
    assert done.exit_code == 0, done.stderr
    first, *pruned, last = [int(row["kept"]) for row in read_history(tmp_path / "run")]
    assert first == last
    assert all(first // 2 <= n < first for n in pruned)
