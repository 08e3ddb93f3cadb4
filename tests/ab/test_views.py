"""Two answers on a screen: rows that fit, each character once, and marks without colours."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fwlocal.ab.views import Columns, Stacked, View, view_for

HEADINGS = ("Q4_0", "Q8_0")
ODD = [*"abc  \n\t世界é\u0301│«\x1b\x9b", "👩\u200d💻", "❤\ufe0f", "whale "]
TEXTS = st.lists(st.sampled_from(ODD), max_size=12).map("".join)
PIECES = st.lists(st.tuples(st.integers(0, 1), TEXTS), max_size=20)


class Paper:
    """What was written, and a width that may change."""

    def __init__(self, width: int = 80) -> None:
        self.cells, self.text = width, ""

    def write(self, text: str) -> None:
        self.text += text

    def width(self) -> int:
        return self.cells

    def columns(self, *, color: bool = False) -> Columns:
        return Columns(self.write, self.width, color=color)

    @property
    def rows(self) -> list[str]:
        return self.text.splitlines()


def ended(view: View, *last: str) -> None:
    for side in (0, 1):
        view.end(side, [f"facts of {side + 1}"])
    view.close(last or ("equal", "equal"))


def halves(rows: list[str], width: int) -> tuple[str, str]:
    """What is left and right of the rule, which is in the middle of every row."""
    half, left, right = (width - 3) // 2, "", ""
    for row in rows:
        taken, index = 0, 0
        while index < len(row) and taken < half:
            index += 1
            taken = cell_len(row[:index])
        index = row.index(" │", index)
        left, right = left + row[:index], right + row[index + 2 :]
    return left, right


def test_rows_are_written_as_soon_as_both_sides_have_them() -> None:
    paper = Paper(width=23)
    view = paper.columns()
    view.begin(HEADINGS)
    view.text(0, "the whale sings of")
    assert paper.rows == ["Q4_0       │ Q8_0"]
    view.text(1, "the sea and\nthe")
    assert paper.rows[1:] == ["the whale  │ the sea"]
    view.text(1, " sun\n")
    assert paper.rows[2:] == []  # "of" may go on

    ended(view, "the same up to token 1", "equal")

    assert paper.rows[2:] == [
        "sings of   │ and",
        "           │ the sun",
        "───────────┼───────────",
        "facts of 1 │ facts of 2",
        "the same   │ equal",
        "up to      │",
        "token 1    │",
    ]


def test_a_token_is_marked_by_signs_where_there_are_no_colours() -> None:
    paper = Paper()
    view = paper.columns()
    view.text(0, "the")
    view.text(0, " sea", marked=True)
    view.text(1, "the")
    view.text(1, "\n", marked=True)
    view.leave()

    assert paper.rows == [f"{'the «sea»':<38} │ the«»"]


def test_a_token_is_coloured_where_there_are() -> None:
    paper = Paper()
    view = paper.columns(color=True)
    view.text(0, " sea", marked=True)
    view.text(0, " is\n")
    view.text(1, "x\n")

    assert paper.text == f" \x1b[1;4;33msea\x1b[22;24;39m is{' ' * 31} │ x\n"


def test_a_window_that_changes_changes_the_next_rows() -> None:
    paper = Paper(width=80)
    view = paper.columns()
    view.text(0, "one\n")
    view.text(1, "two\n")
    paper.cells = 20
    view.text(0, "three four five")
    view.text(1, "six")
    view.leave()

    assert [cell_len(row) for row in paper.rows] == [44, 14, 10, 10]


def test_one_column_loses_nothing() -> None:
    paper = Paper(width=1)
    view = paper.columns()
    view.text(0, "世ab")
    view.text(1, "c")
    view.leave()

    assert paper.rows == ["世 │ c", "a │", "b │"]


@given(PIECES, st.integers(20, 200), st.booleans())
def test_no_row_is_wider_than_the_screen_and_every_character_is_there_once(
    pieces: list[tuple[int, str]], width: int, leaves: bool
) -> None:
    paper = Paper(width)
    view = paper.columns()
    texts = ["", ""]
    for side, text in pieces:
        texts[side] += text
        view.text(side, text)
    if leaves:
        view.leave()
    else:
        for side in (1, 0):
            view.end(side, [])

    assert all(cell_len(row) <= width for row in paper.rows)
    shown = {"\x1b": "␛", "\x9b": "\ufffd"}
    for half, text in zip(halves(paper.rows, width), texts, strict=True):
        said = "".join(shown.get(char, char) for char in text)
        assert "".join(half.split()) == "".join(said.split())


def test_one_above_the_other_the_second_waits_for_the_first() -> None:
    paper = Paper()
    view = Stacked(paper.write, paper.width, color=False)
    view.begin(HEADINGS)
    view.text(0, "the ")
    view.text(1, "the")
    view.text(1, " sun", marked=True)
    view.end(1, ["4 tokens"])
    view.text(0, " sea", marked=True)
    assert paper.text == "Q4_0\nthe  «sea»"
    view.end(0, ["5 tokens"])
    view.close(["the same up to token 1 of 5", "the same up to token 1 of 4"])

    assert paper.rows == [
        "Q4_0",
        "the  «sea»",
        "5 tokens",
        "",
        "Q8_0",
        "the «sun»",
        "4 tokens",
        "Q4_0: the same up to token 1 of 5",
        "Q8_0: the same up to token 1 of 4",
    ]


def test_what_is_the_same_for_both_is_said_once() -> None:
    paper = Paper()
    view = Stacked(paper.write, paper.width, color=False)
    view.begin(HEADINGS)
    ended(view, "equal", "equal")

    assert paper.text.count("equal") == 1


def test_on_a_narrow_screen_the_facts_break_between_words() -> None:
    paper = Paper(width=12)
    view = Stacked(paper.write, paper.width, color=False)
    view.begin(HEADINGS)
    view.end(0, ["first token after 2 s"])

    assert paper.rows[1:3] == ["first token", "after 2 s"]


def test_an_answer_that_breaks_off_ends_its_line() -> None:
    paper = Paper()
    view = Stacked(paper.write, paper.width, color=False)
    view.begin(HEADINGS)
    view.text(0, "the \x1b[2J")
    view.leave()
    view.leave()

    assert paper.text == "Q4_0\nthe ␛[2J\n"


def test_a_wide_screen_has_columns() -> None:
    assert isinstance(view_for(print, lambda: 80, color=False), Columns)
    assert isinstance(view_for(print, lambda: 79, color=False), Stacked)
