"""The plots: what they draw, on which axes, and what their marks say."""

import re
import subprocess
import sys
from itertools import combinations
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dataprune import EpochRecord, PruningHistory
from dataprune.errors import InvalidValueError, MissingPackageError
from dataprune.reporting import (
    keep_rates,
    plot_cartography,
    plot_keep_rates,
    plot_kept_share,
    plot_pareto,
    plot_scores,
    plot_time,
    read_run,
)
from dataprune.reporting.comparing import pareto_front
from dataprune.reporting.figures import to_svg

SECONDS = {"train": 3.0, "score": 1.0, "select": 0.25, "evaluate": 0.5}
HISTORY = PruningHistory(
    [EpochRecord(0, n_asked=100, n_kept=100, seconds=SECONDS), EpochRecord(1, n_asked=40, n_kept=41, seconds=SECONDS)]
)
PLOTS = {
    "plot_kept_share": lambda ax: plot_kept_share(HISTORY, 100, ax=ax),
    "plot_time": lambda ax: plot_time(HISTORY, ax=ax),
    "plot_scores": lambda ax: plot_scores([0.1, 0.2, 0.9], kept=[True, False, True], ax=ax),
    "plot_cartography": lambda ax: plot_cartography([0.1, 0.2], [0.9, 0.5], correctness=[1, 0.5], ax=ax),
    "plot_keep_rates": lambda ax: plot_keep_rates(keep_rates(["a", "b"], [1, 0]), overall=0.5, ax=ax),
    "plot_pareto": lambda ax: plot_pareto(["full", "half"], [2, 1], [0.9, 0.8], ax=ax),
}


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def _close_figures():
    plt.close("all")  # the docs' examples leave some open
    yield
    plt.close("all")


def tips(draw):
    svg = ET.fromstring(to_svg(draw, name="x", label="a plot"))  # noqa: S314 - our own
    return [mark.get("data-tip") for mark in svg.iter() if mark.get("data-tip")]


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_a_plot_draws_on_the_axes_that_it_is_given_and_returns_them(plot, ax):
    assert plot(ax) is ax
    assert ax.patches or ax.collections
    assert not plt.get_fignums()


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_without_axes_a_plot_makes_a_figure(plot):
    assert plot(None).figure is plt.figure(plt.get_fignums()[0])


@pytest.mark.parametrize("name", PLOTS)
def test_without_matplotlib_the_error_holds_the_pip_command(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        MissingPackageError, match=rf"{name} needs matplotlib.* pip install 'dataprune\[report\]'"
    ) as error:
        PLOTS[name](None)
    assert isinstance(error.value, ImportError)


def test_importing_the_plots_does_not_load_matplotlib():
    code = "import sys, dataprune.reporting; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_a_picture_for_the_page_names_its_ids_and_has_no_address_and_no_colour_of_its_own_for_texts(plot):
    svg = to_svg(plot, name="mine", label='what "it" shows')
    root = ET.fromstring(svg)  # noqa: S314 - our own
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    assert ids
    assert all(name.startswith("mine-") for name in ids)
    assert {*re.findall(r'(?:url\(|href=")#([\w-]+)', svg)} <= ids
    assert "http" not in svg
    assert "#010203" not in svg
    assert "currentColor" in svg
    assert root.get("aria-label") == 'what "it" shows'
    assert not [*root.iter("style"), *root.iter("metadata"), *root.iter("image")]
    assert tips(plot)


def test_a_picture_is_the_same_each_time():
    assert to_svg(PLOTS["plot_time"], name="a", label="b") == to_svg(PLOTS["plot_time"], name="a", label="b")


def test_kept_share_says_what_each_epoch_kept():
    assert tips(PLOTS["plot_kept_share"]) == [
        "Epoch 1: 100 of 100 examples (100%), 0 updates",
        "Epoch 2: 41 of 100 examples (41%), 0 updates",
    ]


def test_a_history_and_its_data_frame_draw_the_same(pruned_dir):
    run = read_run(pruned_dir)
    assert [bar.get_height() for bar in plot_kept_share(run.history, 120).patches] == [1, 0.5, 0.5, 0.5]
    frame = HISTORY.to_pandas()
    assert tips(lambda ax: plot_time(frame, ax=ax)) == tips(PLOTS["plot_time"])


def test_time_is_stacked(ax):
    plot_time(HISTORY, ax=ax)
    tops = {round(bar.get_x() + 0.4): bar.get_y() + bar.get_height() for bar in ax.patches}
    assert tops == {1: 4.75, 2: 4.75}


def test_every_finite_score_is_in_one_bar(ax):
    scores = np.r_[np.random.default_rng(0).normal(size=500), np.nan, np.inf, -np.inf]
    plot_scores(scores, kept=np.arange(503) % 2 == 0, ax=ax)
    assert sum(bar.get_height() for bar in ax.patches) == 500
    assert "without 3 that have none" in ax.get_xlabel()
    with pytest.raises(InvalidValueError, match="must have 2 values, got 1"):
        plot_scores([1.0, 2.0], kept=[True], ax=ax)


@pytest.mark.parametrize("scores", [[], [np.nan], [0.5, 0.5]], ids=["none", "unseen", "equal"])
def test_odd_scores_are_drawn_too(scores, ax):
    plot_scores(scores, ax=ax)
    assert sum(bar.get_height() for bar in ax.patches) == np.isfinite(scores).sum()


def test_the_map_draws_what_was_seen_and_tells_the_texts():
    told = tips(lambda ax: plot_cartography([0.1, np.nan], [0.9, np.nan], texts=["<b>fly</b> & go", "no"], ax=ax))
    assert told == ["Example 0: confidence 0.90, variability 0.10. <b>fly</b> & go"]


def test_a_large_map_is_a_sample_and_says_so(ax):
    x = np.linspace(0, 0.5, 1_000_000)
    plot_cartography(x, x, correctness=x, ax=ax)
    assert len(ax.collections[0].get_offsets()) == 2000
    assert ax.get_title() == "2,000 of 1,000,000 examples, drawn at random"
    other = Figure().subplots()
    plot_cartography(x, x, random_state=1, ax=other)
    assert not np.array_equal(other.collections[0].get_offsets(), ax.collections[0].get_offsets())


def test_keep_rates_count_each_class_of_an_example_once():
    rates = keep_rates([["city", "city", "day"], ["city"], []], [1, 0, 1])
    assert rates.loc["city"].to_dict() == pytest.approx({"n_examples": 2, "share": 2 / 3, "keep_rate": 0.5})
    assert rates.loc["day"].to_dict() == pytest.approx({"n_examples": 1, "share": 1 / 3, "keep_rate": 1})
    with pytest.raises(InvalidValueError, match="must have 1 values, got 2"):
        keep_rates(["a"], [1, 0])


def test_of_many_classes_the_ends_are_drawn(ax):
    names = [f"c{n:03}" for n in range(150)]
    plot_keep_rates(keep_rates(names, np.arange(150) / 150), overall=0.5, ax=ax)
    drawn = [text.get_text().split()[0] for text in ax.get_yticklabels()]
    assert drawn == [*names[:12], *names[-12:]]
    assert ax.get_title(loc="right") == "the 24 of 150 with the lowest and the highest rates"


def test_names_are_not_read_as_formulas_and_letters_of_any_script_do_not_warn():
    rates = keep_rates(["$\\frac$", "_under", "価格"], [1, 0, 1])
    svg = to_svg(lambda ax: plot_keep_rates(rates, ax=ax), name="x", label="x")
    assert "$\\frac$ (33.3%)" in svg
    assert "価格" in svg


def test_names_that_look_like_parts_of_a_picture_stay_as_they_are():
    names = ["#010203", "url(#figure_1)", "line\nbreak \x0b \x00", "tips:[]", '"<&>']
    rates = keep_rates(names, [1] * 5)
    svg = to_svg(lambda ax: plot_keep_rates(rates, ax=ax), name="x", label="x")
    for name in ("#010203", "url(#figure_1)", "line break    ", "tips:[]"):
        assert f">{name} (20.0%)</text>" in svg
    told = [tip.split(": 100%")[0] for tip in tips(lambda ax: plot_keep_rates(rates, ax=ax)) if "line" not in tip]
    assert sorted(told) == sorted(name for name in names if "line" not in name)


def test_the_front_leaves_out_what_another_beats():
    assert pareto_front(np.array([1.0, 2, 3, 3]), np.array([0.5, 0.9, 0.9, 0.95])).tolist() == [True, True, False, True]
    assert pareto_front(np.array([1.0, 1.0]), np.array([0.5, 0.5])).tolist() == [True, True]


def test_a_lower_loss_is_better(ax):
    plot_pareto(["full", "half"], [2, 1], [0.5, 0.4], metric="loss", ax=ax)
    assert ax.lines[0].get_xdata().tolist() == [1.0]


def test_seeds_of_one_method_are_one_mean(ax):
    plot_pareto(["a", "a", "b"], [1, 3, 4], [0.5, 0.7, 0.4], ax=ax)
    assert [[float(v) for v in line] for line in ax.lines[0].get_data()] == [[2.0], [pytest.approx(0.6)]]
    assert sum(len(points.get_offsets()) for points in ax.collections) == 4
    with pytest.raises(InvalidValueError, match="must have 2 values each, got 1 and 2"):
        plot_pareto(["a", "b"], [1], [1, 2], ax=ax)


def test_labels_of_methods_that_lie_together_cover_neither_each_other_nor_another_point(ax):
    names = ["a rather long name", "another long name", "a third long name", "full data"]
    seconds, results = [60.0, 60.4, 61.0, 100.0], [0.90, 0.9005, 0.899, 0.91]
    plot_pareto(names, seconds, results, ax=ax)
    boxes = {text.get_text(): text.get_window_extent() for text in ax.texts if text.get_text()}
    assert set(boxes) == set(names)
    for one, other in combinations(boxes.values(), 2):
        assert Bbox.intersection(one, other) is None
    places = ax.transData.transform(list(zip(seconds, results, strict=True)))
    for box in boxes.values():
        assert not any(box.contains(x, y) for x, y in places)


def test_of_a_long_name_the_end_is_drawn_for_paths_begin_alike(ax):
    plot_pareto(["/a/long/way/down/to/the/folder/of/runs/full", "half"], [2, 1], [0.9, 0.8], ax=ax)
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["…wn/to/the/folder/of/runs/full", "half"]
