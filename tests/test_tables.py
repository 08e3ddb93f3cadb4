"""Tables on wide and narrow terminals, and in pipes."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fwlocal.tables import GAP, Column, Table

WHALES = Table(
    (
        Column("NAME"),
        Column("TONS", right=True, left_out=1),
        Column("SEEN", folds=True),
    ),
    (
        ("blue", "150", "in the North Atlantic, the Pacific and the Southern Ocean"),
        ("humpback", "30", "everywhere"),
    ),
)


def shown(table: Table, width: int, *, is_terminal: bool = True) -> list[str]:
    """The lines on a console."""
    screen = io.StringIO()
    table.show(Console(file=screen, width=width, force_terminal=is_terminal, color_system=None))
    return screen.getvalue().splitlines()


def test_in_a_pipe_every_row_is_a_whole_line() -> None:
    assert shown(WHALES, 20, is_terminal=False) == [
        "NAME      TONS  SEEN",
        "blue       150  in the North Atlantic, the Pacific and the Southern Ocean",
        "humpback    30  everywhere",
    ]


def test_cells_are_broken_between_words() -> None:
    lines = [line.rstrip() for line in shown(WHALES, 48)]
    assert lines == [
        "NAME      TONS  SEEN",
        "blue       150  in the North Atlantic, the",
        "                Pacific and the Southern Ocean",
        "humpback    30  everywhere",
    ]


def test_columns_are_left_out_before_words_are_broken() -> None:
    lines = shown(WHALES, 28)
    assert "TONS" not in lines[0]
    assert "Southern Ocean" in " ".join(line.strip() for line in lines)


def test_nothing_in_a_cell_drives_the_terminal_or_breaks_a_line() -> None:
    table = Table((Column("A"), Column("B")), (("x\x1b[2Jy\nz\t", "\u9be8"),))
    (_, line) = shown(table, 80, is_terminal=False)
    assert line == "x␛[2Jy z   \u9be8"
    assert "\x1b" not in "".join(shown(table, 80))


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_table_without_rows(is_terminal: bool) -> None:
    lines = shown(Table(WHALES.columns, ()), 80, is_terminal=is_terminal)
    assert [line.split() for line in lines] == [["NAME", "TONS", "SEEN"]]


texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(st.lists(st.tuples(texts, texts, texts), max_size=4), st.integers(8, 120))
def test_any_text_on_any_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    table = Table(WHALES.columns, rows)
    widths = table.fitted(width)
    assert 0 in widths
    assert all(taken > 0 for taken in widths.values())
    assert sum(widths.values()) + GAP * (len(widths) - 1) <= width
    plain = table.plain()
    assert plain.count("\n") == 1 + len(rows)
    assert all(line == line.rstrip() for line in plain.split("\n"))
