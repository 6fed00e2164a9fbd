"""``dataprune demo``: small sizes, all outputs."""

import json

import pytest
from cli_parts import run_cli

SMALL = ("--n-seeds", 2, "--n-examples", 100, "--n-epochs", 3)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    return folder, run_cli("demo", *SMALL, "--output-dir", folder)


def test_the_table_has_a_line_per_method(written):
    _, done = written
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for method, examples in {"full data": 300, "hardest half": 250, "random half": 250}.items():
        assert any(line.startswith(f"{method} ") and f" {examples} " in line for line in lines), method
    assert "Pruning paid here" in done.stdout or "Pruning did not pay here" in done.stdout


def test_the_file_holds_every_run(written):
    folder, _ = written
    result = json.loads((folder / "demo.json").read_text())
    assert [(run["method"], run["seed"]) for run in result["runs"]] == [
        (method, seed)
        for seed in (0, 1)
        for method in ("full data", "hardest half", "random half", "full data, fewer epochs")
    ]
    assert all(0 <= run["frame_accuracy"] <= 1 for run in result["runs"])


def test_json_is_all_that_is_printed_then():
    done = run_cli("demo", *SMALL, "--json")
    assert set(json.loads(done.stdout)) == {"runs", "summary", "conclusion", "selection"}


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_runs():
    done = run_cli("demo", "--output-dir", "/dev/null/demo")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: /dev/null/demo could not be written: Not a directory.")
