"""``dataprune plan``, ``methods``, help and version; and how mistakes are told."""

import json
import re
import subprocess
import sys

import pytest
import typer
from cli_parts import run_cli, start_process

import dataprune
from dataprune import CyclicScheduler
from dataprune.cli import app
from dataprune.cli.errors import to_options
from dataprune.cli.printing import print_json
from dataprune.scheduling.by_name import SCHEDULERS, make_scheduler
from dataprune.scheduling.ramps import StepScheduler


def test_plan_prints_what_the_library_plans():
    words = ["--n-examples", 4478, "--batch-size", 16, "--keep-fraction", 0.3, "--n-warmup-epochs", 2]
    done = run_cli("plan", *words, "--n-cycle-epochs", 2, "--n-full-final-epochs", 1, "--refresh", "full")
    scheduler = CyclicScheduler(keep_fraction=0.3, n_warmup_epochs=2, n_cycle_epochs=2, n_full_final_epochs=1)
    assert done.stdout == f"{scheduler.plan(4478, 10, 16, refresh='full')}\n"
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_plan_takes_every_scheduler_by_name(name):
    share = 0.5 if SCHEDULERS[name].adaptive else 0.3  # the scores decide: only the default may be given
    words = ["--n-examples", 4478, "--scheduler", name, "--keep-fraction", share, "--n-warmup-epochs", 2]
    settings = {"n_warmup_epochs": 2, "n_full_final_epochs": 0}
    plan = make_scheduler("plan", name, keep_fraction=share, **settings).plan(4478, 10, 32)
    assert run_cli("plan", *words).stdout == f"{plan}\n"
    assert json.loads(run_cli("plan", *words, "--json").stdout)["n_kept"] == list(plan.n_kept)


def test_plan_takes_the_settings_of_ramps():
    words = ["--n-examples", 100, "--scheduler", "step", "--initial-keep-fraction", 0.9, "--n-levels", 2]
    plan = StepScheduler(initial_keep_fraction=0.9, n_levels=2).plan(100, 10, 32)
    assert run_cli("plan", *words).stdout == f"{plan}\n"


def test_plan_as_json_has_the_totals_too():
    done = run_cli("plan", "--n-examples", 100, "--n-epochs", 3, "--batch-size", 10, "--n-accumulation", 2, "--json")
    plan = json.loads(done.stdout)
    assert plan["n_kept"] == [100, 50, 50]
    assert plan["updates"] == [5, 3, 3]
    assert plan["n_updates"] == 11
    assert plan["compute_fraction"] == pytest.approx(2 / 3)


def test_methods_lists_every_public_part():
    found = json.loads(run_cli("methods", "--json").stdout)
    bases = {
        "scorer": dataprune.Scorer,
        "selector": dataprune.Selector,
        "scheduler": dataprune.Scheduler,
        "batch policy": dataprune.BatchPolicy,
    }
    for kind, base in bases.items():
        public = [getattr(dataprune, name) for name in dataprune.__all__]
        concrete = {
            c.__name__
            for c in public
            if isinstance(c, type) and issubclass(c, base) and c is not base and not c.__abstractmethods__
        }
        assert {method["class_name"] for method in found if method["kind"] == kind} == concrete
    assert all(method["summary"] for method in found)
    options = {method["class_name"]: method["option"] for method in found}
    parts = ("SoftPrune", "SoftPruneScheduler", "KeepTogether", "NearDuplicate", "EL2N")
    assert [options[part] for part in parts] == ["soft-prune", "soft-prune", "keep-together", "near-duplicate", "el2n"]


def test_methods_prints_the_names_that_train_takes():
    printed = run_cli("methods").stdout
    for name in ("el2n", "joint-el2n", "loss", "top-k", "weighted-k", "random-k", "CyclicScheduler"):
        assert name in printed
    assert "``" not in printed


COMMANDS = [info.callback.__name__ for info in app.registered_commands]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example_that_it_takes(name):
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", run_cli(name, "--help").stdout).split())
    found = re.search(rf"example\b.{{0,80}}?(dataprune {name}( --?[\w-]+| [\w./=-]+)*)", shown, re.IGNORECASE)
    assert found, shown
    command = typer.main.get_command(app).commands[name]
    options = {word for parameter in command.params for word in parameter.opts}
    words = re.findall(r"(?<= )--?[a-z][a-z-]*", found[1])
    assert {*words} <= options
    done = run_cli(*found[1].rstrip(".").split()[1:], "--no-such-option")
    assert done.exit_code == 2
    assert re.search("No such option:? .?--no-such-option", done.stderr)  # as the version of click has it
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["score"], "DATA"),
        (["score", "a.csv"], "--scorer"),
        (["score", "a.csv", "--scorer", "column"], "--output"),
        (["select", "a.csv", "--output", "b.csv"], "--keep-fraction"),
        (["plan"], "--n-examples"),
        (["report"], "RUN_DIR"),
        (["train"], "--data"),
        (["compare"], "--data"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(words, missing):
    done = run_cli(*words)
    assert done.exit_code == 2
    assert missing in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.strip().count("\n") == 0


def test_without_a_command_the_help_is_printed():
    done = run_cli()
    assert done.exit_code == 0
    assert all(command in done.stdout for command in ("demo", "train", "plan", "methods"))
    assert run_cli("-h").stdout == done.stdout


def test_version():
    assert run_cli("--version").stdout == f"{dataprune.__version__}\n"


def test_python_m_dataprune_is_the_command_line():
    process = start_process("plan", "--n-examples", "half")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("Error: Invalid value for '--n-examples'")
    assert len(err.splitlines()) == 1


def test_help_does_not_wait_for_the_libraries_that_a_run_needs():
    code = (
        "import sys, dataprune.cli; heavy = {'transformers', 'datasets', 'accelerate', 'sklearn', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


COMPARE = ("compare", "--data", "data", "--model", "encoder", "--output-dir", "runs")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["blan"], "Error: No such command 'blan'. Did you mean 'plan'?"),
        (["plan", "--n-examples", "9", "--keep-fracton", "1"], "--keep-fraction"),
        (["plan"], "Error: Missing option '--n-examples'."),
        (["plan", "--n-examples", "0"], "Error: --n-examples must be at least 1, got 0."),
        (["plan", "--n-examples", "9", "--batch-size", "-1"], "Error: --batch-size must be at least 1, got -1."),
        (["plan", "--n-examples", "9", "--refresh", "often"], "Error: --refresh must be 'observed', 'full' or a share"),
        (["plan", "--n-examples", "9", "--refresh", "2"], "got 2.0."),
        (
            ["plan", "--n-examples", "9", "--scheduler", "cubic"],
            "Error: --scheduler must be one of 'constant', 'cyclic',",
        ),
        (
            ["plan", "--n-examples", "9", "--scheduler", "constant", "--n-cycle-epochs", "2"],
            "Error: --n-cycle-epochs must be left out with the scheduler 'constant', got 2.",
        ),
        (["plan", "--n-examples", "9", "--n-levels", "4"], "must be left out with the scheduler 'cyclic', got 4."),
        ([*COMPARE, "--n-seeds", "0"], "Error: --n-seeds must be at least 1, got 0."),
        ([*COMPARE, "--n-processes", "0"], "Error: --n-processes must be at least 1, got 0."),
        (["methods", "odd"], "Error: Got unexpected extra argument"),
        (["demo", "--n-seeds", "1"], "Error: --n-seeds must be at least 2, got 1."),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(words, sentence):
    done = run_cli(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_json_has_no_numbers_that_json_lacks(capsys):
    print_json({"loss": float("nan"), "scores": [1.5, float("inf")], "pair": (2, None)})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"loss": None, "scores": [1.5, None], "pair": [2, None]}


@pytest.mark.parametrize(
    ("message", "option"),
    [
        ("CyclicScheduler.keep_fraction must be in (0, 1], got 2.", "--keep-fraction must be in (0, 1], got 2."),
        ("EL2N.smoothing must be one of ...", "EL2N.smoothing must be one of ..."),
        ("CyclicScheduler.plan().n_epochs must be at least 1.", "--n-epochs must be at least 1."),
        ("Name yours with columns={'text': ...}.", "Name yours with --column text=...."),
        ("Choose one with columns={'text': 'utt'}.", "Choose one with --column text=utt."),
        ("Row 3 of a.jsonl must have one tag per token.", "Row 3 of a.jsonl must have one tag per token."),
    ],
)
def test_messages_of_the_library_are_put_into_options(message, option):
    assert to_options(message, {"keep_fraction", "n_epochs"}) == option
