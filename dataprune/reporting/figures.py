"""What the plots share: axes, colours, the texts that marks carry, and the way into a page as SVG."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import ArrayLike

from dataprune.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Each has a contrast of 3 or more to white and to a page's dark background; no pair relies on red against green.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#3d7fc0", "#c46d1c", "#2f9068", "#9069c9", "#858b96"

_INK = "#010203"  # stands for the page's own text colour
_TIPS = "tips:"
_PAGE_STYLE: Any = {
    "svg.fonttype": "none",  # texts stay texts: they can be read aloud, found and scaled
    "svg.hashsalt": "dataprune",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.framealpha": 0.0,
    "legend.edgecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10.0,
}


def check_matplotlib(owner: str) -> None:
    """Raise unless matplotlib is installed.

    Parameters
    ----------
    owner : str
        What needs it.

    Raises
    ------
    MissingPackageError
        If it is missing; the message holds the pip command.
    """
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError:
        raise MissingPackageError(f"{owner} needs matplotlib>=3.9. Run: pip install 'dataprune[report]'") from None


def new_axes(owner: str, ax: Axes | None) -> Axes:
    """Return the axes to draw on.

    Parameters
    ----------
    owner : str
        The plot that asks.
    ax : matplotlib.axes.Axes or None
        What the caller gave; None makes a figure with one pair of axes.

    Returns
    -------
    matplotlib.axes.Axes
        Axes.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    """
    check_matplotlib(owner)
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]


def tell(artist: Artist, tips: Sequence[str]) -> None:
    """Let a mark carry what it says when it is pointed at; `to_svg` hands it to the page.

    Parameters
    ----------
    artist : matplotlib.artist.Artist
        A bar, or a collection of points.
    tips : sequence of str
        One text, or one per point.
    """
    artist.set_gid(_TIPS + json.dumps([one_line(tip) for tip in tips]))


def label_points(ax: Axes, points: ArrayLike, labels: Sequence[str]) -> None:
    """Write a label beside each point, moved and tied to it by a line where it would cover others.

    Call it last: what is drawn or scaled afterwards is not known to it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where the points are.
    points : array-like, shape (n, 2)
        In data coordinates.
    labels : sequence of str
        One for each point.

    Raises
    ------
    MissingPackageError
        If adjustText is not installed.
    """
    try:
        from adjustText import adjust_text
    except ImportError:
        raise MissingPackageError("Labels need adjustText>=1.3. Run: pip install 'dataprune[report]'") from None
    ax.figure.figure.draw_without_rendering()  # the layout settles where the points are; the whole figure of a part
    places = np.asarray(points, np.float64).reshape(-1, 2)
    texts = [ax.text(x, y, one_line(label), parse_math=False) for (x, y), label in zip(places, labels, strict=True)]
    for text in texts:
        text.set_in_layout(False)  # else the axes shrink, and all that was reckoned moves
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6}
    adjust_text(texts, places[:, 0], places[:, 1], expand=(1.05, 1.4), ax=ax, iter_lim=500, arrowprops=line)


def to_svg(draw: Callable[[Axes], object], *, name: str, label: str, size: tuple[float, float] = (4.6, 3.0)) -> str:
    """Draw a plot as SVG for the inside of a page.

    Parameters
    ----------
    draw : callable
        Takes axes and draws on them.
    name : str
        Goes before the ids, which are one name space on a page.
    label : str
        What the picture shows, for those who do not see it.
    size : tuple of (float, float), default=(4.6, 3.0)
        Width and height in inches, at a font of 10 points.

    Returns
    -------
    str
        An ``<svg>`` element. Marks carry their texts in ``data-tip``; texts and axes have the page's colour.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with mpl.rc_context(_PAGE_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        with warnings.catch_warnings():  # the browser has the letters that matplotlib's own font lacks
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(buffer, format="svg")
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - what matplotlib just wrote
    for element in list(root):
        if element.tag.endswith("metadata"):
            root.remove(element)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            plain, value = key.rpartition("}")[2], element.attrib.pop(key)
            element.attrib[plain] = value.replace(_INK, "currentColor") if plain == "style" else value
    for parent in [found for found in root.iter("defs") if found.find("style") is not None]:
        parent.remove(parent.find("style"))  # type: ignore[arg-type] # it would style the whole page
    _rename_ids(root, name)
    _hand_over_tips(root)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ET.tostring(root, encoding="unicode")


def _hand_over_tips(root: ET.Element) -> None:
    for group in root.iter("g"):
        if not group.get("id", "").startswith(_TIPS):
            continue
        tips = json.loads(group.attrib.pop("id")[len(_TIPS) :])
        points = [*group.iter("use")] or [group]
        for mark, tip in zip(points, tips, strict=True):
            mark.set("data-tip", tip)


def _rename_ids(root: ET.Element, name: str) -> None:
    """Keep the ids that something refers to, under names of this picture's own."""
    link = re.compile(r"(?<=^#)[\w-]+$|(?<=url\(#)[\w-]+(?=\))")
    used = {found for element in root.iter() for value in element.attrib.values() for found in link.findall(value)}
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if value.startswith(_TIPS):
                continue
            if key != "id":
                element.set(key, link.sub(lambda found: f"{name}-{found[0]}", value) if "#" in value else value)
            elif value in used:
                element.set("id", f"{name}-{value}")
            else:
                del element.attrib["id"]


def one_line(text: str) -> str:
    r"""Return a text fit for a plot: line breaks and control characters become spaces.

    Parameters
    ----------
    text : str
        A name or a text of the data.

    Returns
    -------
    str
        The text on one line.

    Examples
    --------
    >>> one_line("next\nsong")
    'next song'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def set_share_axis(axis: Any) -> None:
    """Print the ticks of an axis of shares in per cent.

    Parameters
    ----------
    axis : matplotlib.axis.Axis
        ``ax.xaxis`` or ``ax.yaxis``.
    """
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0))


def whole_numbers() -> Any:
    """Return a locator of ticks for an axis of epochs.

    Returns
    -------
    matplotlib.ticker.MaxNLocator
        Whole numbers only.
    """
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto", integer=True)
