"""A result as a picture: what is drawn, and that it is the same twice."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fwlocal.bench.panels import BELOW, Panel, mark_of, panels_of
from fwlocal.bench.plot import check_plot, draw, figure_of, picture
from fwlocal.bench.result import BenchResult, Speed, Value, Verdict
from fwlocal.errors import StoreError, UsageError
from tests.bench import sample
from tests.bench.any_result import results

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink a picture takes minutes
PNG = b"\x89PNG\r\n\x1a\n"


def words_of(svg: bytes) -> list[str]:
    """All texts in a picture."""
    texts = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def panels(result: BenchResult) -> dict[str, Panel]:
    """By their titles."""
    return {panel.title: panel for panel in panels_of(result)}


@pytest.fixture(scope="module")
def svg() -> bytes:
    """The whole sample."""
    return picture(sample.FULL, ".svg")


def test_every_level_is_named_in_both_panels(svg: bytes) -> None:
    words = words_of(svg)
    assert [words.count(label) for label in sample.LABELS] == [2] * 5
    assert {"Divergence", "Decoding", "file size, MiB"} <= {*words}
    assert any("KLD from Q8_0" in text for text in words)
    assert any("tg128" in text for text in words)


def test_model_machine_and_versions_stand_around_it(svg: bytes) -> None:
    text = "\n".join(words_of(svg))
    for fact in ("whale-135m", "AMD EPYC 7763 (8 threads)", "llama.cpp 0.3.36", "moby-dick.txt"):
        assert fact in text


def test_the_same_result_gives_the_same_bytes(svg: bytes) -> None:
    assert picture(sample.FULL, ".svg") == svg
    small = replace(sample.FULL, levels=sample.LEVELS[:2])
    assert picture(small, ".png") == picture(small, ".png")


def test_it_fits_a_readme(svg: bytes) -> None:
    width = ElementTree.fromstring(svg).get("width", "")
    assert float(width.removesuffix("pt")) * 96 / 72 == pytest.approx(864, abs=10)  # CSS pixels


def test_it_is_grey(svg: bytes) -> None:
    colours = re.findall(
        r"(?:fill|stroke): #([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b", svg.decode()
    )
    assert colours
    assert all(len({*colour}) == 1 for colour in colours)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.svg"])
def test_the_name_tells_the_format(tmp_path: Path, name: str) -> None:
    draw(replace(sample.FULL, levels=sample.LEVELS[:1]), tmp_path / name)
    data = (tmp_path / name).read_bytes()
    assert data.startswith(PNG if name.lower().endswith("png") else b"<?xml")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.pdf", "a", "png"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png or \.svg"):
        check_plot(tmp_path / name)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        check_plot(tmp_path / "none" / "a.png")


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(StoreError, match="name another file"):
        draw(replace(sample.FULL, levels=sample.LEVELS[:1]), tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_matplotlib_is_an_extra(tmp_path: Path) -> None:
    check_plot(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"install fwlocal\[plot\]"):
        check_plot(tmp_path / "a.png", find=lambda _: None)


def test_a_result_without_measures_is_refused() -> None:
    for result in (sample.NOTHING, replace(sample.WITH_PROBLEMS, levels=sample.NOTHING.levels)):
        with pytest.raises(UsageError, match="no level has"):
            picture(result, ".svg")


def test_only_the_panels_that_there_are_measures_for() -> None:
    assert [*panels(sample.WITHOUT_QUALITY)] == ["Decoding"]
    assert [*panels(sample.WITHOUT_SPEED)] == ["Divergence"]
    assert [*panels(sample.ONE_LEVEL)] == ["Decoding"]
    assert "Divergence" not in words_of(picture(sample.WITHOUT_QUALITY, ".svg"))


def test_a_level_that_lacks_a_measure_is_not_in_its_panel() -> None:
    levels = (*sample.LEVELS[:2], replace(sample.LEVELS[2], speeds=()))
    found = panels(replace(sample.WITH_PROBLEMS, levels=(sample.WITH_PROBLEMS.levels[0], *levels)))
    assert [point.level.label for point in found["Decoding"].points] == ["Q8_0", "Q6_K"]
    assert [point.level.label for point in found["Divergence"].points] == [
        "Q8_0",
        "Q6_K",
        "Q5_K_M",
    ]


def test_zero_has_a_place_on_the_log_axis() -> None:
    panel = panels(sample.FULL)["Divergence"]
    assert panel.zero == 0.00213 / BELOW
    assert panel.points[0].value == panel.zero
    assert panel.ticks[panel.zero] == "0"
    assert {0.002: "0.002", 0.01: "0.01", 0.02: "0.02"}.items() <= panel.ticks.items()
    low, high = panel.limits
    assert all(low <= tick <= high for tick in panel.ticks)


def test_copies_of_one_file_have_no_divergence_at_all() -> None:
    copy = replace(sample.REFERENCE, label="copy", is_reference=False)
    result = replace(sample.FULL, levels=(sample.REFERENCE, copy))
    assert next(iter(panels(result)["Divergence"].ticks.values())) == "0"
    assert "copy" in words_of(picture(result, ".svg"))


def test_error_bars_are_the_standard_error_and_the_spread() -> None:
    found = panels(sample.FULL)
    kld = found["Divergence"].points[1]
    assert (kld.down, kld.up) == (0.00213 / 51, 0.00213 / 51)
    speed = found["Decoding"].points[1]
    assert speed.value == 78.9
    assert (speed.down, speed.up) == (78.9 - 78.9 * 0.99, 78.9 * 1.004 - 78.9)


def test_an_error_larger_than_the_figure_stays_on_the_log_axis() -> None:
    quality = sample.quality(0.01, 16.0, kld_mean=Value(0.01, 0.05))
    level = replace(sample.LEVELS[1], quality=quality)
    panel = panels(replace(sample.FULL, levels=(level,)))["Divergence"]
    (point,) = panel.points
    assert (point.value, point.up) == (0.01, 0.05)
    assert point.value - point.down > 0
    assert panel.limits[0] > 0


def test_names_are_neither_markup_nor_mathematics() -> None:
    label = "$a_b$ <&> \x1b[1m\ud800 鯨"
    level = replace(sample.LEVELS[1], label=label)
    result = replace(sample.FULL, levels=(level,), reference="$x$\x1f", model="$y$\x00")
    words = words_of(picture(result, ".svg"))
    assert words.count("$a_b$ <&> \ufffd[1m\ufffd 鯨") == 2
    assert "$y$\ufffd" in words
    assert any(word.startswith("mean KLD from $x$\ufffd,") for word in words)


@pytest.mark.parametrize(
    ("front", "told"),
    [
        (("Q8_0", "Q6_K"), {"on the Pareto front", "not on it", "the reference, on it"}),
        (("Q6_K",), {"on the Pareto front", "not on it", "the reference, not on it"}),
        ((), {"a level", "the reference"}),
    ],
)
def test_the_legend_has_what_is_drawn(front: tuple[str, ...], told: set[str]) -> None:
    result = replace(sample.FULL, verdict=Verdict(front))
    figure = figure_of(result, panels_of(result))
    assert {text.get_text() for text in figure.legends[0].texts} == told
    drawn = {line.get_linestyle() for line in figure.legends[0].get_lines()}
    assert (drawn != {"None"}) == (len(front) > 1)
    reference = mark_of(sample.REFERENCE, result)
    assert (reference.shape, reference.fill == "black") == ("s", "Q8_0" in front)


def test_labels_do_not_cover_each_other() -> None:
    figure = figure_of(sample.FULL, panels_of(sample.FULL))
    for axes in figure.axes:
        extents = [text.get_window_extent() for text in axes.texts]
        assert len(extents) == 5
        assert not any(one.overlaps(other) for one, other in itertools.combinations(extents, 2))
        assert all(axes.bbox.containsx(one.x0) and axes.bbox.containsx(one.x1) for one in extents)


@pytest.mark.parametrize("result", [result for result in sample.ALL if panels_of(result)])
def test_all_samples(result: BenchResult) -> None:
    words = words_of(picture(replace(result, verdict=Verdict()), ".svg"))
    labels = {point.level.label for panel in panels_of(result) for point in panel.points}
    assert labels <= {*words}


def test_one_round_has_no_error_bar() -> None:
    speed = Speed(sample.TG, (50.0,))
    panel = panels(replace(sample.ONE_LEVEL, levels=(replace(sample.LEVELS[0], speeds=(speed,)),)))
    (point,) = panel["Decoding"].points
    assert (point.value, point.down, point.up) == (50.0, 0, 0)


@settings(max_examples=8, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(results)
def test_any_result(result: BenchResult) -> None:
    try:
        ElementTree.fromstring(picture(result, ".svg"))
    except UsageError:
        assert not panels_of(result)


@settings(max_examples=40, deadline=None)
@given(results)
def test_any_panels_have_axes(result: BenchResult) -> None:
    for panel in panels_of(result):
        low, high = panel.limits
        assert low < high
        assert not panel.is_log or all(low <= tick <= high for tick in panel.ticks)
