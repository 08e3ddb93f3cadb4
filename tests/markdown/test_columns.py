"""Aligned columns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.markdown.columns import Grid, alignments, split_row, width_of, wrap


def grid(*rows: list[str], aligns: str = "") -> Grid:
    """Rows of plain text."""
    made = Grid(list(aligns or "<" * len(rows[0])), color=False)
    for row in rows:
        made.add([[[("", cell)]] if cell else [] for cell in row])
    return made


def texts(made: Grid, width: int) -> list[str]:
    """Its lines on a screen of that width."""
    widths = made.fitted(width)
    lines = [line for index in range(len(made.rows)) for line in made.lines(index, widths)]
    return ["".join(text for _, text in line) for line in lines]


def test_rows_are_split_at_their_bars() -> None:
    assert split_row("| a | b \\| c ||") == ["a", "b | c", ""]
    assert alignments("|:--|--:|:-:|---|", 4) == ["<", ">", "^", "<"]
    assert alignments("|---|", 2) is None
    assert alignments("| a | b |", 2) is None


def test_cells_are_aligned() -> None:
    made = grid(["a", "b", "c"], ["long", "1", "mid"], ["", "22", ""], aligns="<>^")
    assert texts(made, 40) == ["a      b   c", "----  --  ---", "long   1  mid", "      22"]


def test_the_widest_column_is_narrowed() -> None:
    made = grid(["k", "text"], ["key", "some words in a cell"])
    assert texts(made, 16) == ["k    text", "---  -----------", "key  some words", "     in a cell"]


def test_what_does_not_fit_is_listed() -> None:
    made = grid(["name", "size"], ["a", "1"], ["b", ""])
    assert texts(made, 5) == ["name: a", "size: 1", "", "name: b", "size:"]


cell = st.text("ab 中é", max_size=20).map(str.strip)


@given(rows=st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=4),
       width=st.integers(1, 60))  # fmt: skip
def test_nothing_is_lost_or_too_wide(rows: list[list[str]], width: int) -> None:
    made = grid(*rows)
    widths = made.fitted(width)
    if widths is None:
        return
    assert sum(widths) + 4 <= width
    for index, row in enumerate(rows):
        lines = made.lines(index, widths)
        assert all(width_of(line) <= width for line in lines)
        shown = "".join(text for line in lines for _, text in line)
        for char in "ab中é":
            assert shown.count(char) == "".join(row).count(char)


def test_a_long_word_is_broken() -> None:
    assert ["".join(text for _, text in part) for part in wrap([("", "abcdef gh")], 4)] == [
        "abcd", "ef", "gh",
    ]  # fmt: skip
