"""Run files: settings as TOML, the run's own file repeats it, errors name the line."""

import json

import pytest
from cli_parts import read_history, run_cli, train_words, write_joint

from dataprune.errors import InvalidTypeError, InvalidValueError, StateError
from dataprune.runs.run_file import read_run_file

LINES = """# A comment.
data = "{data}"
model = "{model}"
output_dir = "{out}"
n_epochs = 3
batch_size = 8
scorer_args = {{ smoothing = "ema" }}
keep_fraction = 1
selector = "epsilon-greedy"
max_length_tokens = 32

[selector_args]
epsilon = 0.5
n_epochs = 4
"""


@pytest.fixture
def written(tmp_path, tiny_encoder_dir):
    """A run file and the folder that it names."""
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    path = tmp_path / "mine.toml"
    path.write_text(LINES.format(data=data, model=tiny_encoder_dir, out=out).replace("n_epochs = 4\n", ""))
    return path, out


def test_options_replace_what_the_file_says(written):
    path, out = written
    words = ["--keep-fraction", 0.5, "--set", "learning_rate=0.01", "--set", "n_warmup_epochs=2", "--json"]
    done = run_cli("train", path, *words)
    assert done.exit_code == 0, done.stderr
    config = json.loads(done.stdout)["config"]
    expected = {"n_epochs": 3, "batch_size": 8, "scorer_args": {"smoothing": "ema"}, "selector_args": {"epsilon": 0.5}}
    expected |= {"keep_fraction": 0.5, "learning_rate": 0.01, "n_warmup_epochs": 2}
    assert {name: config[name] for name in expected} == expected
    assert [int(row["kept"]) for row in read_history(out)] == [90, 90, 45]


def test_a_run_is_repeated_from_its_own_file(tmp_path, tiny_encoder_dir):
    data, out = write_joint(tmp_path / "data"), tmp_path / "run"
    words = ["--seed", 3, "--scorer-arg", "smoothing=ema_plus_std", "--refresh", 0.5, "--task", "joint-nlu"]
    assert run_cli(*train_words(data, tiny_encoder_dir, out, *words)).exit_code == 0
    again = tmp_path / "again"
    done = run_cli("train", out / "run.toml", "--output-dir", again)
    assert done.exit_code == 0, done.stderr
    first, second = (json.loads((folder / "run.json").read_text()) for folder in (out, again))
    assert {**first["config"], "output_dir": None} == {**second["config"], "output_dir": None}
    assert first["metrics"] == second["metrics"]
    assert (out / "kept.parquet").read_bytes() == (again / "kept.parquet").read_bytes()


def test_a_dry_run_shows_the_plan_and_writes_nothing(written):
    path, out = written
    done = run_cli("train", path, "--keep-fraction", 0.2, "--dry-run", "--json")
    assert json.loads(done.stdout)["n_kept"] == [90, 18, 18]
    assert not out.exists()
    assert "90" in run_cli("train", path, "--dry-run").stdout
    told = run_cli("train", path, "--keep-fraction", 0.2, "--n-warmup-epochs", 3, "--dry-run").stderr
    assert "No epoch is pruned: all 3 are on all examples (n_warmup_epochs is 3)." in told


@pytest.mark.parametrize(
    ("words", "n_scored"),
    [
        (["--refresh", "full"], 180),
        (["--refresh", "full", "--selector", "random-k"], 0),
        (["--recipe", "nlu_data_diets", "--n-epochs", 4], 90),
    ],
)
def test_a_dry_run_counts_the_scoring_passes_that_the_run_makes(tmp_path, words, n_scored):
    words = [*train_words(write_joint(tmp_path / "data", 90), "encoder", tmp_path / "out"), *words]
    done = run_cli(*words, "--dry-run", "--json")
    assert json.loads(done.stdout)["n_scored"] == n_scored


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("n_epochs = 3", "n_epochs = 0", "mine.toml, line 5: n_epochs must be at least 1, got 0."),
        ("n_epochs = 3", "n_epochs = 'three'", "mine.toml, line 5: n_epochs must be a whole number, got 'three'."),
        ("n_epochs = 3", "n_epochs = true", "mine.toml, line 5: n_epochs must be a whole number, got True."),
        ("n_epochs = 3", "n_epoch = 3", "line 5: there is no setting 'n_epoch'. Did you mean 'n_epochs'?"),
        ("n_epochs = 3", "brightness = 3", "line 5: there is no setting 'brightness'. Settings are data, model,"),
        ("n_epochs = 3", "n_epochs 3", "is no TOML: Expected '=' after a key in a key/value pair (at line 5"),
        ("keep_fraction = 1", "keep_fraction = 1.5", "mine.toml, line 8: keep_fraction must be in (0, 1], got 1.5."),
        (
            "[selector_args]",
            "[selektor_args]",
            "line 12: there is no setting 'selektor_args'. Did you mean 'selector_args'",
        ),
        ('data = "', 'scores = "', "Missing option '--data'"),
    ],
)
def test_mistakes_name_the_line(written, old, new, sentence):
    path, out = written
    path.write_text(path.read_text().replace(old, new, 1))
    done = run_cli("train", path)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


def test_a_mistake_of_an_option_does_not_blame_the_file(written):
    done = run_cli("train", written[0], "--n-epochs", 0)
    assert done.stderr == "Error: --n-epochs must be at least 1, got 0.\n"
    assert "--set must be one of 'data'" in run_cli("train", written[0], "--set", "odd=1").stderr


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("data=3", "--data must be a text, got 3."),
        ("scores=3", "--scores must be a text, got 3."),
        ("budget=3", "--budget must be a table, got 3."),
        ("columns=5", "train.columns must be a table, got 5."),
        ("scorer_args=5", "train.scorer_args must be a table, got 5."),
        ("output_dir=1", "--output-dir must be a text, got 1."),
    ],
)
def test_a_setting_of_another_kind_is_one_sentence(written, setting, sentence):
    done = run_cli("train", written[0], "--set", setting, "--dry-run")
    assert (done.exit_code, done.stderr) == (2, f"Error: {sentence}\n")


def test_keys_of_tables_are_not_taken_for_settings(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(LINES.format(data="", model="", out=""))
    assert read_run_file(path).lines["n_epochs"] == 5


def test_the_mark_that_some_editors_write_is_passed_over(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfn_epochs = 3\r\n")
    assert read_run_file(tmp_path / "a.toml").settings == {"n_epochs": 3}


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(StateError, match=r"missing\.toml does not exist"):
        read_run_file(tmp_path / "missing.toml")
    for text, error in (("n_epochs = 1.5", InvalidTypeError), ("odd = 1", InvalidValueError)):
        (tmp_path / "a.toml").write_text(text)
        with pytest.raises(error, match=r"a\.toml, line 1: "):
            read_run_file(tmp_path / "a.toml")
    assert run_cli("train", tmp_path / "missing.toml").exit_code == 2
