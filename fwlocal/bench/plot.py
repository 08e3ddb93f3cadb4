"""A result as a picture: divergence against size and speed against size, with their errors.

By matplotlib, which is an extra (``plot``), without its global state; the same result gives the
same bytes. Levels differ by their marks' shape, not by colour. What is drawn is
``fwlocal.bench.panels``' part, where labels go ``fwlocal.bench.placing``'s.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.bench.figures import counted
from fwlocal.bench.notes import in_words
from fwlocal.bench.panels import FRONT, ORDER, Mark, Panel, Point, mark_of, panels_of, unit_of
from fwlocal.bench.placing import Box, Wanted, along, place
from fwlocal.bench.result import BenchResult, LevelResult
from fwlocal.errors import StoreError, UsageError
from fwlocal.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

DPI = {".png": 200, ".svg": 72}
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}
WIDTH_IN, HEIGHT_IN = 9.0, 4.7  # 900 pixels wide at 100 to the inch
SMALL_PT = 9
LONGEST_LABEL, LONGEST_TITLE, LONGEST_FOOT = 28, 48, 128
MARK_PX = 10.0
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 11,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fwlocal",
}
FRONT_LINE: dict[str, Any] = {"color": "0.5", "linestyle": (0, (5, 3)), "linewidth": 1.3}


def check_plot(path: Path, find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Raise UsageError, before anything is measured, where ``draw`` could not write ``path``;
    ``find`` tells which packages there are."""
    if path.suffix.lower() not in DPI:
        raise UsageError(f"--plot {path}: its name must end in .png or .svg")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.absolute().parent}; make it")
    if find("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install fwlocal[plot]")


def draw(result: BenchResult, path: Path) -> None:
    """Write the picture, in the format that the name's ending says.

    Raises UsageError as ``check_plot``, and for a result without any measure to draw; StoreError
    where it cannot be written.
    """
    check_plot(path)
    data = picture(result, path.suffix.lower())
    try:
        write_atomically(path, data)
    except OSError as error:
        raise StoreError(
            f"--plot {path}: cannot be written ({error.strerror or error}); name another file"
        ) from error


def picture(result: BenchResult, suffix: str) -> bytes:
    """The file's bytes. Raises UsageError for a result with nothing to draw."""
    import matplotlib.style

    panels = panels_of(result)
    if not panels:
        raise UsageError("--plot: no level has a speed or a divergence that could be drawn")
    written = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.style.context(["default", STYLE]):
        warnings.simplefilter("ignore")  # a name may have characters that the font has not
        figure = figure_of(result, panels)
        figure.savefig(
            written, format=suffix.lstrip("."), dpi=DPI[suffix], metadata=METADATA[suffix]
        )
    return written.getvalue()


def figure_of(result: BenchResult, panels: Sequence[Panel]) -> Figure:
    """The drawing itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), dpi=100, facecolor="white")
    renderer: RendererAgg = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.subplots_adjust(left=0.082, right=0.988, top=0.84, bottom=0.235, wspace=0.22)
    unit = unit_of(point.level for panel in panels for point in panel.points)[1]
    marks: dict[Mark, None] = {}
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _prepare(axes, panel, f"file size, {unit}")
        marks.update(dict.fromkeys(_draw_points(axes, panel, result)))
        _draw_labels(axes, panel, result, renderer)
    _draw_around(figure, result, list(marks))
    return figure


def _prepare(axes: Axes, panel: Panel, size_label: str) -> None:
    """Axes without points yet: their limits must stand before labels find their places."""
    from matplotlib.ticker import NullLocator

    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(size_label)
    axes.set_ylabel(_plain(panel.axis), parse_math=False)
    sizes = [point.size for point in panel.points]
    room = 0.12 * (max(sizes) - min(sizes)) or 0.1 * max(sizes) or 1.0
    axes.set_xlim(min(sizes) - room, max(sizes) + room)
    if panel.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        ticks = panel.ticks
        axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim(*panel.limits)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_points(axes: Axes, panel: Panel, result: BenchResult) -> list[Mark]:
    """The marks, their errors, and the front; which marks were used."""
    line = _front(panel, result)
    axes.plot([p.size for p in line], [p.value for p in line], zorder=1, **FRONT_LINE)
    marks = [mark_of(point.level, result) for point in panel.points]
    for point, mark in zip(panel.points, marks, strict=True):
        if point.down or point.up:
            ends = [[point.down], [point.up]]
            axes.errorbar(
                [point.size], [point.value], ends, fmt="none", color="0.2", capsize=3.5, zorder=2
            )
        axes.plot(
            [point.size],
            [point.value],
            mark.shape,
            color="black",
            markerfacecolor=mark.fill,
            markersize=6,
            zorder=3,
        )
    return marks


def _draw_labels(axes: Axes, panel: Panel, result: BenchResult, renderer: RendererAgg) -> None:
    """A name beside each point, with a line to it where there is no room near by."""
    points = sorted(panel.points, key=lambda point: (point.size, point.value))
    texts = [_text(axes, point.level) for point in points]
    wanted = []
    for point, text in zip(points, texts, strict=True):
        extent = text.get_window_extent(renderer)
        x, y = _pixels(axes, point.size, point.value)
        wanted.append(Wanted(x, y, extent.width, extent.height))
    line = [_pixels(axes, p.size, p.value) for p in _front(panel, result)]
    taken = [box for point in points for box in _boxes(axes, point)]
    taken += [box for start, end in itertools.pairwise(line) for box in along(start, end)]
    left, bottom, width, height = axes.bbox.bounds
    places = place(wanted, taken, Box(left, bottom, width, height))
    to_data = axes.transData.inverted()
    for text, label, box in zip(texts, wanted, places, strict=True):
        text.set_position(tuple(to_data.transform((box.x, box.y))))
        if ends := label.line_to(box):
            (x, y), (end_x, end_y) = to_data.transform(ends)
            axes.plot([x, end_x], [y, end_y], color="0.6", linewidth=0.8, zorder=1)


def _text(axes: Axes, level: LevelResult) -> Text:
    return axes.text(
        0.5,
        0.5,
        _short(level.label, LONGEST_LABEL),
        ha="left",
        va="bottom",
        parse_math=False,
        zorder=4,
    )


def _boxes(axes: Axes, point: Point) -> list[Box]:
    """What a point and its error bar cover, in pixels."""
    x, y = _pixels(axes, point.size, point.value)
    _, low = _pixels(axes, point.size, point.value - point.down)
    _, high = _pixels(axes, point.size, point.value + point.up)
    half = MARK_PX / 2
    return [
        Box(x - half, y - half, MARK_PX, MARK_PX),
        Box(x - half, low, MARK_PX, high - low),
    ]


def _pixels(axes: Axes, size: float, value: float) -> tuple[float, float]:
    x, y = axes.transData.transform((size, value))
    return float(x), float(y)


def _draw_around(figure: Figure, result: BenchResult, marks: Sequence[Mark]) -> None:
    """The title, the legend, and below the panels what it was measured on."""
    from matplotlib.lines import Line2D

    title = _short(result.model, LONGEST_TITLE)
    figure.text(0.012, 0.94, title, fontsize=12, weight="bold", parse_math=False)
    order = [mark for mark in ORDER if mark in marks]
    has_line = len(result.verdict.front) > 1
    handles = [
        Line2D(
            [],
            [],
            **(FRONT_LINE if mark is FRONT and has_line else {"linestyle": "none"}),
            marker=mark.shape,
            markeredgecolor="black",
            markerfacecolor=mark.fill,
        )
        for mark in order
    ]
    figure.legend(
        handles,
        [mark.told for mark in order],
        loc="upper right",
        bbox_to_anchor=(0.995, 1.0),
        ncols=len(order) or 1,
        frameon=False,
        fontsize=SMALL_PT,
        handletextpad=0.5,
        columnspacing=1.6,
    )
    for index, line in enumerate(_foot(result)):
        figure.text(
            0.012, 0.075 - 0.045 * index, line, fontsize=SMALL_PT, color="0.3", parse_math=False
        )


def _foot(result: BenchResult) -> list[str]:
    """The machine, and the versions, the day and the text."""
    n_chunks = max((one.quality.n_chunks for one in result.levels if one.quality), default=0)
    read = counted(n_chunks, "chunk")
    text = (f"{result.text.name}, {read}",) if result.text and n_chunks else ()
    versions = (f"fwlocal {result.fwlocal}", f"llama.cpp {result.llama_cpp}", result.created[:10])
    lines = (in_words(result.machine), ", ".join((*versions, *text)))
    return [_short(line, LONGEST_FOOT) for line in lines]


def _front(panel: Panel, result: BenchResult) -> list[Point]:
    """The points on the Pareto front, by size."""
    found = (point for point in panel.points if point.level.label in result.verdict.front)
    return sorted(found, key=lambda point: (point.size, point.value))


def _short(text: str, longest: int) -> str:
    """With an ellipsis in the middle, where names are most alike."""
    text = _plain(text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _plain(text: str) -> str:
    """Without what has no place in a picture, or in XML."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text)
