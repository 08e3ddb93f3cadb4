"""How far a run is, on a screen and without one."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pyte
import pytest
from rich.console import Console

from fwlocal.bench.progress import SPARE, BenchView, Silent, View, duration
from tests.bench import sample

COLUMNS, ROWS = 90, 16


class Screen:
    """A terminal, what is shown on it, and a clock that is set by hand."""

    def __init__(self, *, is_terminal: bool = True, rows: int = ROWS) -> None:
        self.written = io.StringIO()
        self.console = Console(
            file=self.written,
            width=COLUMNS,
            height=rows,
            force_terminal=is_terminal,
            color_system=None,
        )
        self.now, self.slow_s = 100.0, 0.0

    def view(self, work: float = 10) -> BenchView:
        return BenchView(sample.LABELS, work, self.note, self.console, self.clock)

    def clock(self) -> float:
        """On a slow machine something happens between two looks at it."""
        self.now += self.slow_s
        return self.now

    def note(self, message: str) -> None:
        self.console.print(message)

    def lines(self) -> list[str]:
        """What a person sees."""
        screen = pyte.Screen(COLUMNS, ROWS)
        pyte.Stream(screen).feed(self.written.getvalue().replace("\n", "\r\n"))
        lines = [line.rstrip() for line in screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines


def test_what_runs_now_and_how_far_it_is() -> None:
    screen = Screen()
    with screen.view() as view:
        view.step("Q8_0, round 1 of 3: loading")
        assert screen.lines()[-1].endswith("0%  Q8_0, round 1 of 3: loading")
        view.step("Q8_0, round 1 of 3: tg128 @ d2048")
        assert screen.lines()[-1].endswith("10%  Q8_0, round 1 of 3: tg128 @ d2048")


def test_the_time_that_is_left() -> None:
    screen = Screen()
    with screen.view() as view:
        for _ in range(5):
            view.step("something")
            screen.now += 60
        view.step("something")
        assert "50%, 5 min left" in screen.lines()[-1]


def test_steps_may_be_of_unequal_weight() -> None:
    screen = Screen()
    with screen.view(100) as view:
        view.step("large", 75)
        view.step("small", 25)
        assert "75%" in screen.lines()[-1]


def test_less_may_be_left_than_was_thought() -> None:
    screen = Screen()
    with screen.view(100) as view:
        view.step("one", 10)
        view.step("two", 10)
        view.expect(10)
        view.step("three", 10)
        assert "100%" in screen.lines()[-1]
        view.step("more than all", 10)
        assert "100%" in screen.lines()[-1]


def test_time_without_weight_does_not_count() -> None:
    screen = Screen()
    with screen.view(0) as view:
        view.step("hashing", 0)
        screen.now += 3600
        view.expect(8)
        for _ in range(5):
            view.step("something")
            screen.now += 10
        view.step("something")
        assert "62%, 30 s left" in screen.lines()[-1]


def test_drawing_takes_little_of_the_time() -> None:
    screen = Screen()
    with screen.view(1000) as view:
        screen.slow_s = 0.05
        for _ in range(300):
            view.step("chunk")
            screen.now += 0.01
        n_drawn = screen.written.getvalue().count("chunk")
    assert 3 <= n_drawn <= 20


def test_figures_stand_in_their_rows_as_they_come() -> None:
    screen = Screen()
    with screen.view() as view:
        view.step("Q6_K")
        view.finished(sample.LEVELS[1])
        view.finished(sample.LEVELS[0])
        lines = screen.lines()
    assert lines[0].split()[:2] == ["LEVEL", "SIZE"]
    assert [line.split()[0] for line in lines[1:6]] == list(sample.LABELS)
    assert "0.00213 ± 0.00004" in lines[2]
    assert lines[3] == "Q5_K_M"


def test_it_leaves_nothing_but_notes() -> None:
    screen = Screen()
    with screen.view() as view:
        view.step("Q6_K")
        view.finished(sample.LEVELS[1])
        view.note("Q4_0 is made of a quantized file")
    assert screen.lines() == ["Q4_0 is made of a quantized file"]


def test_it_is_gone_after_an_error() -> None:
    screen = Screen()
    with contextlib.suppress(KeyboardInterrupt), screen.view() as view:
        view.step("Q6_K")
        raise KeyboardInterrupt
    assert screen.lines() == []


def test_on_a_low_screen_the_line_alone() -> None:
    screen = Screen(rows=6)
    with screen.view() as view:
        view.finished(sample.LEVELS[1])
        view.step("Q6_K")
        assert len(screen.lines()) == 1


def test_in_a_pipe_notes_alone() -> None:
    screen = Screen(is_terminal=False)
    with screen.view() as view:
        view.step("Q6_K")
        view.finished(sample.LEVELS[1])
        view.note("a note")
    assert screen.written.getvalue() == "a note\n"


def test_a_step_does_not_drive_the_terminal() -> None:
    screen = Screen()
    with screen.view() as view:
        view.step("\x1b[2J[red]x")
        assert screen.lines()[-1].endswith("␛[2J[red]x")


@pytest.mark.parametrize("width", [10, 30, 60, 120])
def test_the_bar_goes_where_there_is_no_room(width: int) -> None:
    view = Screen().view()
    view.step("Q6_K, round 1 of 3: tg128")
    assert ("╌" in view.line(width)) == (width >= 60)
    assert view.line(width).endswith("Q6_K, round 1 of 3: tg128")


def test_silence() -> None:
    told: list[str] = []
    with Silent(told.append) as silent:
        view: View = silent
        view.step("Q6_K", 3)
        view.finished(sample.LEVELS[0])
        view.note("a note")
        silent.expect(3)
    assert told == ["a note"]


def test_the_time_that_is_left_follows_the_pace_without_jumps() -> None:
    """Half of the work goes four times as slow as the other."""
    screen = Screen()
    told = []
    with screen.view(200) as view:
        for n in range(200):
            view.step("something")
            screen.now += 1 if n < 100 else 4
            told.append(view.line(200).partition(", ")[2].partition(" left")[0])
    assert told[:3] == ["", "", ""]
    assert told[90] == "2 min"
    assert told[150] == "3 min"  # 200 s; the mean of all would say 2 min


def test_the_time_is_not_guessed_at_the_very_start() -> None:
    screen = Screen()
    with screen.view(1000) as view:
        for _ in range(8):
            view.step("something")
            screen.now += 1
        assert "left" not in view.line(80)
        screen.now += 3
        view.step("something")
        assert "left" in view.line(80)


def test_an_echoed_interrupt_does_not_wrap() -> None:
    """Where the last line is full, the ^C that a terminal echoes moves all by a line."""
    for width in (20, 40, 60):
        screen = Screen()
        screen.console.width = width
        with screen.view() as view:
            view.finished(sample.LEVELS[1])
            view.step("Q6_K, round 1 of 3: tg128 @ d2048, and a good deal more than fits")
            lines = screen.lines()
        assert all(len(line) <= width - SPARE for line in lines)
        assert len(lines) > 3


def test_a_problem_of_many_lines_is_not_more_than_the_screen_has() -> None:
    screen = Screen(rows=12)
    problem = replace(sample.LEVELS[1], speeds=(), quality=None, answers=None, problem="no " * 300)
    with screen.view() as view:
        view.finished(sample.LEVELS[0])
        assert len(screen.lines()) > 1
        view.finished(problem)
        assert len(screen.lines()) == 1


def test_durations() -> None:
    assert [duration(s) for s in (3, 89, 200, 3900)] == ["3 s", "89 s", "3 min", "1 h 05 min"]
