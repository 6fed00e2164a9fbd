"""``dataprune compare``: real runs in processes of their own, and what is concluded of them."""

import json
import shutil
from statistics import mean

import pytest
from cli_parts import read_history, run_cli, write_joint

from dataprune.errors import InvalidValueError
from dataprune.runs.compare import FEWER, FULL, PRUNED, RANDOM, Row, conclude, methods_to_compare, paired_interval
from dataprune.runs.config import RunConfig
from dataprune.runs.run import check_config


@pytest.fixture(scope="module")
def compared(tmp_path_factory, tiny_encoder_dir):
    folder = tmp_path_factory.mktemp("compare")
    words = ["compare", "--data", write_joint(folder / "data", 60), "--model", tiny_encoder_dir]
    words += ["--output-dir", folder / "out", "--n-epochs", 4, "--keep-fraction", 0.2, "--n-processes", 2]
    words += ["--set", "max_length_tokens=32", "--set", "batch_size=8", "--set", "learning_rate=0.01"]
    words += ["--n-seeds", 1]
    return words, folder / "out", run_cli(*words, "--json")


def test_each_method_is_trained_and_its_folder_kept(compared):
    _, out, done = compared
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert [row["method"] for row in result["rows"]] == [FULL, FEWER, RANDOM, PRUNED]
    assert (result["metric"], result["split"]) == ("frame_accuracy", "test")
    kept = {path.parent.name: [int(row["kept"]) for row in read_history(path)] for path in out.glob("*/seed-0")}
    assert kept["full-data"] == [60] * 4
    assert kept["pruned"] == kept["random"] == [60, 12, 12, 12]
    assert kept["fewer-epochs"] == [60, 60]  # 8 + 3 x 2 updates are nearest to 2 x 8
    assert not list(out.glob("*/*/model"))
    for row in result["rows"]:
        name = row["method"].replace(" ", "-")
        run = json.loads((out / name / "seed-0" / "run.json").read_text())
        assert row["values"] == [run["metrics"]["test"]["frame_accuracy"]]
        assert row["n_updates"] == run["n_updates"]
    assert json.loads((out / "compare.json").read_text()) == result


def test_the_same_command_goes_on_and_another_is_refused(compared):
    words, out, _ = compared
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/run.json")}
    shutil.rmtree(out / "random")
    again = run_cli(*words)
    assert again.exit_code == 0, again.stderr
    assert "…" not in again.stdout
    assert "one seed cannot tell that from chance" in " ".join(again.stdout.split())
    for path, time in before.items():
        assert (path.stat().st_mtime_ns == time) == ("random" not in path.parts), path
    other = run_cli(*words, "--n-epochs", 5)
    assert other.exit_code == 1
    assert "was started with n_epochs=4, now it is 5" in other.stderr


def test_runs_on_data_that_have_changed_since_are_not_taken_over(compared):
    words, out, _ = compared
    path = out.parent / "data" / "train.jsonl"
    before = path.read_text()
    try:
        path.write_text(before.replace("boston", "dallas", 1))  # one word of one row
        done = run_cli(*words)
    finally:
        path.write_text(before)
    assert done.exit_code == 1
    assert "was trained on other data. Choose another --output-dir." in done.stderr


def test_a_dry_run_tells_the_updates_that_the_runs_make_and_writes_nothing(compared, tmp_path):
    words, _, done = compared
    words = [tmp_path / "out" if str(word).endswith("/out") else word for word in words]
    told = json.loads(run_cli(*words, "--dry-run", "--json").stdout)
    made = [(row["method"], row["n_updates"]) for row in json.loads(done.stdout)["rows"]]
    assert [(row["method"], row["n_updates"]) for row in told["rows"]] == made
    assert [row["n_epochs"] for row in told["rows"]] == [4, 2, 4, 4]
    assert (told["n_runs"], told["n_updates"]) == (4, sum(n for _, n in made))
    shown = run_cli(*words, "--n-seeds", 3, "--dry-run")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert f"12 runs, {3 * told['n_updates']} updates in all." in shown.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--n-seeds", "--n-processes"])
def test_counts_out_of_range_are_wrong_usage(compared, option):
    done = run_cli(*compared[0], option, 0)
    assert done.exit_code == 2
    assert f"{option} must be at least 1, got 0." in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "odd"], "--recipe must be one of"),
        (["--recipe", "rho_loss"], "--recipe must not be 'rho_loss', which needs the losses"),
        (["--keep-fraction", 1], "--keep-fraction must prune some epoch"),
        (["--n-epochs", 1], "--n-epochs must be at least 2, got 1."),
        (["--set", "odd=1"], "must be one of"),
        (["--set", "odd"], "--set must be NAME=VALUE, such as n_epochs=3, got 'odd'."),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_before_anything_runs(compared, words, sentence, tmp_path):
    given = [tmp_path / "out" if str(word).endswith("/out") else word for word in compared[0]]
    done = run_cli(*given, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_is_named(compared, tmp_path):
    words, _, _ = compared
    words = [tmp_path / "out" if str(word).endswith("/out") else word for word in words]
    done = run_cli(*words, "--set", "model='nowhere'")
    assert done.exit_code == 1
    assert "The run 'full data, seed 0' failed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_recipes_get_the_share_where_they_take_one(tmp_path):
    data = write_joint(tmp_path / "data", 60)
    config = RunConfig(
        data=str(data), model="", output_dir="", keep_fraction=0.3, n_warmup_epochs=2, selector="random-k"
    )
    methods = methods_to_compare(config, ["data_diet", "infobatch"])
    assert methods["data_diet"].keep_fraction == 0.3
    assert methods["infobatch"].keep_fraction is None
    assert methods["infobatch"].selector is None
    at_default = methods_to_compare(RunConfig(data=str(data), model="", output_dir=""), ["swiftlearn"])
    assert at_default["swiftlearn"].keep_fraction == 0.5  # as the pruned run, not the recipe's own tenth
    with pytest.raises(InvalidValueError, match=r"compare\.keep_fraction must prune some epoch"):
        methods_to_compare(RunConfig(data=str(data), model="", output_dir="", keep_fraction=1.0))
    with pytest.raises(InvalidValueError, match=r"compare\.recipe must be one of"):
        methods_to_compare(config, ["odd"])


def test_the_baselines_of_a_ramp_have_no_ramp(tmp_path):
    config = RunConfig(
        data=str(write_joint(tmp_path / "data", 60)),
        model="",
        output_dir="",
        n_epochs=4,
        scheduler="step",
        initial_keep_fraction=0.9,
        n_levels=2,
    )
    for method in methods_to_compare(config, ["data_diet"]).values():
        check_config(method)


@pytest.mark.parametrize(("n_epochs", "keep_fraction", "n_fewer"), [(2, 0.5, 1), (3, 0.8, 2), (10, 0.5, 6)])
def test_fewer_epochs_are_fewer_than_all(tmp_path, n_epochs, keep_fraction, n_fewer):
    data = str(write_joint(tmp_path / "data", 60))
    config = RunConfig(data=data, model="", output_dir="", n_epochs=n_epochs, keep_fraction=keep_fraction)
    assert methods_to_compare(config)["fewer epochs"].n_epochs == n_fewer


def test_only_the_pruned_run_reads_groups(tmp_path):
    data = str(write_joint(tmp_path / "data", 60))
    by_groups = {"selector": "class-floor", "selector_args": {"by": "groups"}, "group_column": "intent"}
    for config in methods_to_compare(RunConfig(data=data, model="", output_dir="", **by_groups), ["ccs"]).values():
        check_config(config)  # refuses a column that would not be read


@pytest.mark.parametrize(
    "settings", [{"budget": {"token_fraction": 0.5}}, {"recipe": "infobatch"}, {"scheduler": "soft-prune"}]
)
def test_a_run_of_unknown_updates_has_no_baselines_of_as_many(tmp_path, settings):
    config = RunConfig(data=str(write_joint(tmp_path / "data", 60)), model="", output_dir="", **settings)
    with pytest.raises(InvalidValueError, match=r"compare\.\w+ must tell the updates before the start"):
        methods_to_compare(config)


def row(method, values, time=0.5, n_updates=10):
    full = [0.9, 0.91, 0.92]
    differences = [a - b for a, b in zip(values, full, strict=False)]
    return Row(method, values, differences, time, {}, n_updates, 10, 0)


@pytest.mark.parametrize(
    ("pruned", "fewer", "time", "verdict"),
    [
        ([0.91, 0.92, 0.93], [0.80, 0.81, 0.82], 0.5, "Pruning pays here: pruned, +1.00 ± 0.00 points against full"),
        ([0.80, 0.81, 0.82], [0.7, 0.7, 0.7], 0.5, "Pruning costs accuracy here: pruned, -10.00 ± 0.00 points"),
        ([0.90, 0.91, 0.93], [0.95, 0.9, 0.95], 0.5, "Pruning does not pay here: 'fewer epochs' is as good"),
        ([0.90, 0.91, 0.93], [0.8, 0.93, 0.8], 0.5, "Pruning keeps the accuracy here, but so may the baseline"),
        ([0.90, 0.91, 0.93], [0.8, 0.8, 0.8], 1.1, "Pruning does not pay here: it saves no time"),
    ],
)
def test_the_verdict_says_what_the_figures_say(pruned, fewer, time, verdict):
    rows = [row(FULL, [0.9, 0.91, 0.92]), row(FEWER, fewer), row(RANDOM, [0.5, 0.5, 0.5]), row(PRUNED, pruned, time)]
    assert conclude(rows).startswith(verdict)


def test_the_verdict_does_not_call_updates_alike_that_are_not():
    rows = [row(FULL, [0.9, 0.91, 0.92]), row(FEWER, [0.8, 0.8, 0.8]), row(RANDOM, [0.5, 0.5, 0.5])]
    assert "which makes as many updates" in conclude([*rows, row(PRUNED, [0.91, 0.92, 0.93])])
    verdict = conclude([*rows, row("infobatch", [0.91, 0.92, 0.93], n_updates=17)])
    assert "'fewer epochs', which makes 10 updates where this makes 17" in verdict


def test_the_interval_is_students():
    middle, half = paired_interval([0.0, 1.0, 2.0, 5.0])
    assert middle == mean([0.0, 1.0, 2.0, 5.0])
    assert half == pytest.approx(3.182446 * 2.160247 / 2, rel=1e-5)
