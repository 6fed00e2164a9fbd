"""The page: valid, whole, safe with any text; honest about what it holds a run against."""

import base64
import hashlib
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser

import pytest
from cli_parts import copy_of, run_cli, train_words

from dataprune import ReviewLine, write_review
from dataprune.errors import DataPruneError, InvalidValueError, StateError
from dataprune.reporting import write_report
from dataprune.reporting.comparing import find_baseline, group_runs
from dataprune.reporting.page import check_report
from dataprune.reporting.run_folder import read_run

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: elements, texts; raises where tags do not close in order."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open, self.elements, self.texts = [], [], []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.texts.append(data)

    def text(self):
        return " ".join(" ".join(self.texts).split())

    def titles(self, tag):
        return re.findall(rf"<{tag}[^>]*>([^<]+)</{tag}>", self.source)


@pytest.fixture(scope="module")
def page(pruned_dir, full_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report([full_dir, pruned_dir], path)
    return Page(path)


def test_tags_close_ids_are_unique_and_references_lead_somewhere(page):
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert {*attributes.get(name, "").split()} <= set(ids)
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
        assert {*re.findall(r"url\(#([^)]+)\)", " ".join(map(str, attributes.values())))} <= set(ids)


def test_the_page_holds_everything_itself(page):
    assert page.source.startswith('<!doctype html>\n<html lang="en">')
    assert [*{tag for tag, _ in page.elements} & {"iframe", "object", "embed", "img", "image", "form"}] == []
    assert [a for tag, a in page.elements if tag == "script"] == [{}]
    assert {a["href"] for _, a in page.elements if "href" in a and not a["href"].startswith("#")} == {"data:,"}
    assert not [a for _, a in page.elements if "src" in a]
    assert "://" not in page.source
    assert "@import" not in page.source


def test_no_script_may_run_but_the_page_s_own(page):
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    script = page.source.split("<script>")[-1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_texts_and_names_of_the_data_are_shown_as_they_are(page):
    assert "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'> </script> 100 %" in page.text()
    assert '<b>$fare$ & "more" 価格' in page.text()
    assert not [tag for tag, _ in page.elements if tag == "b"]


def test_every_part_is_there(page):
    assert page.titles("h2")[1:] == [
        *("Runs compared", "Time", "Kept in each epoch", "Scores", "Classes", "Examples", "The run"),
    ]
    tables = [*("Methods", "Where the time went", "Epoch by epoch", "Each class", "Hardest", "Never pruned")]
    assert [title for title in page.titles("h3") if title in tables] == tables
    assert {"Always pruned", "Never learned", "Most forgotten", "Repeat it", "Settings"} <= {*page.titles("h3")}
    assert "The run file holds every setting." in page.text()  # which the command above it names
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg"]
    assert len(labels) == 7  # accuracy, time, kept, score quantiles, scores, data map, classes
    assert all(labels)


def test_the_headline_is_held_against_the_run_on_full_data(pruned_dir, full_dir, tmp_path):
    told = write_report([pruned_dir, full_dir], tmp_path / "report.html")
    run, full = read_run(pruned_dir), read_run(full_dir)
    assert (told["run"], told["baseline"]) == (str(pruned_dir), str(full_dir))
    assert told["facts"]["Accuracy kept"] == f"{run.result / full.result:.1%}"
    saved = 1 - run.summary["n_updates"] / full.summary["n_updates"]
    assert told["facts"]["Updates saved"] == f"{saved:.0%}"
    assert told["remarks"] == ["The baseline is full: 4 epochs on all 120 examples."]


def test_alone_a_run_does_not_claim_an_accuracy_kept(pruned_dir, tmp_path):
    told = write_report([pruned_dir], tmp_path / "report.html")
    assert told["baseline"] is None
    assert [*told["facts"]] == ["Result", "Time saved, estimated", "Updates saved", "Compute"]
    assert "nobody knows what it would have reached" in told["remarks"][0]
    assert "Runs compared" not in Page(tmp_path / "report.html").titles("h2")


def test_a_run_on_full_data_says_that_it_is_one(full_dir, tmp_path):
    told = write_report([full_dir], tmp_path / "report.html")
    assert told["remarks"] == ["No epoch of this run left examples out: it is a run on full data."]
    assert "Classes" not in Page(tmp_path / "report.html").titles("h2")


def test_a_joint_run_without_scores_shows_intents_and_slot_types(joint_dir, tmp_path):
    write_report([joint_dir], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert {"Each intent", "Each slot type"} <= {*page.titles("h3")}
    assert "Hardest" not in page.titles("h3")
    assert "This run had no scores" in page.text()
    assert "There is no data map" in page.text()
    assert "first" not in page.source.split('id="never-pruned-note">')[1].split("</p>")[0].replace("The first", "")
    assert "fly to boston on monday" in page.text()


def test_the_baseline_is_of_the_same_data_and_seed_and_the_longest(pruned_dir, full_dir, tmp_path, change_summary):
    run, full = read_run(pruned_dir), read_run(full_dir)
    changes = {
        "other-seed": {"config__seed": 9},
        "shorter": {"n_updates": full.summary["n_updates"] - 1},
        "other-data": {"config__data": "elsewhere"},
    }
    others = []
    for name, values in changes.items():
        folder = copy_of(full_dir, tmp_path / name)
        change_summary(folder, **values)
        if name == "shorter":
            text = (folder / "history.csv").read_text()
            (folder / "history.csv").write_text(text.replace(",15,", ",14,", 1))
        others.append(read_run(folder))
    assert find_baseline(run, [run, *others, full]) is full
    assert find_baseline(run, [run, *others]) is others[0]
    assert find_baseline(run, [run, others[2]]) is None
    assert find_baseline(full, others) is None


def test_runs_that_differ_in_their_seed_are_one_method(pruned_dir, full_dir, tmp_path, change_summary):
    folders = [copy_of(pruned_dir, tmp_path / f"half-seed-{seed}") for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        change_summary(folder, config__seed=seed, config__output_dir=str(folder))
    methods = group_runs([read_run(folder) for folder in (*folders, full_dir)])
    assert [(method.name, len(method.runs)) for method in methods] == [("half", 2), ("full", 1)]
    write_report([*folders, full_dir], tmp_path / "report.html")
    assert "Some methods have one run only" in Page(tmp_path / "report.html").text()


def test_methods_are_held_against_the_mean_of_the_runs_on_full_data(pruned_dir, full_dir, tmp_path, change_summary):
    folders = [copy_of(full_dir, tmp_path / f"full-{seed}") for seed in (3, 4)]
    for seed, folder in enumerate(folders, start=3):
        change_summary(folder, config__seed=seed, metrics__test={"accuracy": 0.5 + seed / 10})
    change_summary(copy_of(pruned_dir, tmp_path / "half"), metrics__test={"accuracy": 0.75})
    told = write_report([tmp_path / "half", *folders], tmp_path / "report.html")
    assert told["baseline"] == str(folders[0])  # of the same seed
    table = Page(tmp_path / "report.html").source.split('id="methods"')[1].split("</table>")[0]
    values = [re.findall(r'data-value="([^"]+)"', row) for row in table.split("<tr>")[2:]]
    assert [row[1] for row in values] == ["75.0", "85.0"]
    assert (values[0][2], values[1][3]) == ("-10.0", "0.0")


def test_a_loss_is_no_share(pruned_dir, full_dir, tmp_path, change_summary):
    folders = [copy_of(pruned_dir, tmp_path / "half"), copy_of(full_dir, tmp_path / "full")]
    for folder, loss in zip(folders, (1.25, 1.5), strict=True):
        change_summary(folder, metrics__test={"loss": loss})
    told = write_report(folders, tmp_path / "report.html")
    assert told["facts"]["Difference"] == "-0.25"
    page = Page(tmp_path / "report.html")
    assert "1.25 against 1.5 (-0.25), loss on the test split" in page.text()
    assert "Lower is better" in page.text()
    table = page.source.split('id="methods"')[1].split("</table>")[0]
    assert re.findall(r'data-value="([^"]+)"', table)[1] == "1.25"


def test_runs_on_other_data_are_not_compared(pruned_dir, joint_dir, tmp_path):
    told = write_report([pruned_dir, joint_dir], tmp_path / "report.html")
    assert told["baseline"] is None
    page = Page(tmp_path / "report.html")
    assert "Left out, for they were not measured on the same data as pruned: joint." in page.text()
    assert page.source.split('id="methods"')[1].split("</table>")[0].count("<tr>") == 2


@pytest.mark.parametrize("what", ["gone", "shorter", "newer"])
def test_data_that_changed_are_told_of(what, pruned_dir, texts_dir, tmp_path, change_summary):
    folder, data = copy_of(pruned_dir, tmp_path / "run"), tmp_path / "data"
    change_summary(folder, config__data=str(data), data_path=str(data))
    if what != "gone":
        copy_of(texts_dir, data)
        lines = (data / "train.jsonl").read_text().splitlines(keepends=True)
        (data / "train.jsonl").write_text("".join(lines[: 100 if what == "shorter" else None]))
    write_report([folder], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    sentence = {
        "gone": "Texts and classes are left out: ",
        "shorter": f"{data} has 100 train rows now, other than the 120 of the run.",
        "newer": "train.jsonl is newer than the run: check that its rows are still the same.",
    }
    assert sentence[what] in page.text()
    assert ("window.broken" in page.text()) == (what == "newer")
    assert "Hardest" in page.titles("h3")


def test_data_named_relative_to_another_folder_are_found(texts_dir, tiny_encoder_dir, tmp_path, monkeypatch):
    copy_of(texts_dir, tmp_path / "texts")
    monkeypatch.chdir(tmp_path)
    words = train_words("texts", tiny_encoder_dir, tmp_path / "run", "--n-epochs", 1, "--keep-fraction", 1)
    assert run_cli(*words).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_report([tmp_path / "run"], "report.html")
    assert "Texts are those that texts has now." in Page(tmp_path / "elsewhere" / "report.html").text()
    (tmp_path / "texts").rename(tmp_path / "elsewhere" / "texts")  # moved along
    write_report([tmp_path / "run"], "report.html")
    assert "Texts are those that texts has now." in Page(tmp_path / "elsewhere" / "report.html").text()


def test_the_hub_is_not_asked_for_data_that_were_on_disk(pruned_dir, tmp_path, change_summary, monkeypatch):
    def ask(name):
        raise AssertionError(name)

    monkeypatch.setattr("dataprune.data.reading.datasets.load_dataset", ask)
    folder = copy_of(pruned_dir, tmp_path / "run")
    change_summary(folder, config__data="gone", data_path=str(tmp_path / "gone"))
    write_report([folder], tmp_path / "report.html")
    assert "Texts and classes are left out: gone does not exist." in Page(tmp_path / "report.html").text()


def test_a_long_table_shows_its_first_rows_and_says_so(pruned_dir, tmp_path):
    write_report([pruned_dir], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    hardest = page.source.split('id="hardest"')[1].split("</table>")[0]
    assert hardest.count("<tr>") == 1 + 100
    assert "The first 100 of 120 scored examples, highest last score first." in page.text()


def test_the_command_writes_the_page_and_prints_the_headline(pruned_dir, full_dir, tmp_path):
    done = run_cli("report", pruned_dir, full_dir, "-o", tmp_path / "a.html")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Accuracy kept" in done.stdout
    assert done.stdout.endswith("a.html holds the report.\n")
    as_json = run_cli("report", pruned_dir, full_dir, "-o", tmp_path / "a.html", "--json")
    assert json.loads(as_json.stdout) == write_report([pruned_dir, full_dir], tmp_path / "a.html")


def test_by_default_the_page_is_report_html_here(full_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("report", full_dir).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_errors_of_the_command_are_one_sentence(pruned_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    broken = copy_of(pruned_dir, tmp_path / "broken")
    (broken / "kept.parquet").write_bytes(b"PAR1")
    for words, code, sentence in (
        ([], 2, "Missing argument"),
        ([tmp_path / "empty"], 1, "empty holds no finished run: it has no run.json."),
        ([broken, "-o", tmp_path / "a.html"], 1, "kept.parquet is damaged"),
        ([pruned_dir, pruned_dir], 2, "was given twice"),
        ([pruned_dir, "-o", tmp_path / "no" / "a.html"], 2, "--output must be a file in a folder that exists"),
        ([pruned_dir, "-o", tmp_path], 2, "--output must be a file in a folder that exists"),
    ):
        done = run_cli("report", *words)
        assert (done.exit_code, done.stdout) == (code, "")
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_extra_the_command_says_what_to_install(package, pruned_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    done = run_cli("report", pruned_dir, "-o", tmp_path / "a.html")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: write_report needs {package}>=[\d.]+\. Run: pip install 'dataprune\[report\]'\n", done.stderr
    )
    assert not (tmp_path / "a.html").exists()


def test_help_shows_an_example():
    assert "dataprune report run/ full/ -o report.html" in " ".join(run_cli("report", "--help").stdout.split())


def test_from_python_the_errors_are_ours(tmp_path):
    with pytest.raises(InvalidValueError, match="at least one run"):
        check_report([], "report.html")
    with pytest.raises(StateError, match="no finished run"):
        write_report([tmp_path], tmp_path / "report.html")
    assert issubclass(StateError, DataPruneError)


def test_the_suspects_in_a_run_s_folder_are_shown_as_text(pruned_dir, tmp_path):
    run = copy_of(pruned_dir, tmp_path / "run")
    text = "<b>book</b> it"
    lines = [
        ReviewLine(7, "label", "", "fare", "flight", text, "behind by 3.5", 3.5),
        ReviewLine(9, "label", "", "flight", "<i>ground</i>", "taxi in boston", "behind by 4.5", 4.5),
    ]
    write_review(run / "suspects.csv", lines)
    write_report([run], tmp_path / "report.html")
    page = Page(tmp_path / "report.html")
    assert "2 labels that are probably wrong, from suspects.csv, the most suspicious first." in page.text()
    assert {"b", "i"}.isdisjoint(tag for tag, _ in page.elements)
    shown = page.text().partition("from suspects.csv")[2]
    assert 0 < shown.index("behind by 4.5") < shown.index("behind by 3.5")
    assert shown.index("taxi in boston") < shown.index(text)


def test_a_run_without_a_review_shows_no_suspects(page):
    assert "probably wrong" not in page.text()


def test_a_review_that_cannot_be_read_is_told_of(pruned_dir, tmp_path):
    run = copy_of(pruned_dir, tmp_path / "run")
    (run / "suspects.jsonl").write_text("{")
    done = run_cli("report", run, "--output", tmp_path / "report.html")
    assert done.exit_code == 1
    assert "suspects.jsonl is not valid JSON" in " ".join(done.stderr.split())


@pytest.fixture
def comparison_dir(pruned_dir, full_dir, tmp_path, change_summary):
    """What `dataprune compare` leaves, with the baselines first, as there."""
    folder = tmp_path / "comparison"
    for method, run in (("full-data", full_dir), ("random", pruned_dir), ("pruned", pruned_dir)):
        (folder / method).mkdir(parents=True)
        copy_of(run, folder / method / "seed-3")
    change_summary(folder / "random" / "seed-3", config__selector="random-k")
    rows = [{"method": method} for method in ("full data", "random", "pruned")]
    (folder / "compare.json").write_text(json.dumps({"rows": rows, "verdict": "Pruning does not pay here."}))
    return folder


def test_the_folder_of_a_comparison_stands_for_its_runs(comparison_dir, tmp_path):
    result = write_report([comparison_dir], tmp_path / "report.html")
    runs = [str(comparison_dir / name / "seed-3") for name in ("pruned", "full-data", "random")]
    assert (result["runs"], result["run"], result["baseline"]) == (runs, runs[0], runs[1])
    page = Page(tmp_path / "report.html")
    assert page.titles("h1") == ["pruned, seed-3"]
    assert "held against full-data, seed-3" in page.text()
    assert "Pruning does not pay here." in page.text()


def test_the_runs_of_a_comparison_are_named_by_their_methods(comparison_dir, change_summary):
    copy_of(comparison_dir / "pruned" / "seed-3", comparison_dir / "pruned" / "seed-4")
    change_summary(comparison_dir / "pruned" / "seed-4", config__seed=4)
    runs = [read_run(comparison_dir / name) for name in ("pruned/seed-3", "pruned/seed-4", "full-data/seed-3")]
    assert [method.name for method in group_runs(runs)] == ["pruned", "full-data, seed-3"]


def test_a_run_beside_its_comparison_is_given_twice(comparison_dir, tmp_path):
    done = run_cli("report", comparison_dir, comparison_dir / "pruned" / "seed-3", "-o", tmp_path / "a.html")
    assert done.exit_code == 1
    assert "was given twice" in done.stderr


@pytest.mark.parametrize("content", ["[]", '{"rows": [{}]}', "{"])
def test_a_comparison_that_cannot_be_read_is_one_sentence(content, comparison_dir, tmp_path):
    (comparison_dir / "compare.json").write_text(content)
    done = run_cli("report", comparison_dir, "-o", tmp_path / "a.html")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "compare.json" in done.stderr
    assert len(done.stderr.splitlines()) == 1
