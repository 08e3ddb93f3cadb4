"""Whatever a model says: the terminal stays as it was, and pieces do not matter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.markdown import PlainWriter
from tests.markdown.terminal import OWN, Terminal, plain, shown

SIZES = [(1, 5), (2, 5), (10, 5), (40, 12), (80, 5)]
PARTS = (
    "# ", "## x\n", "- ", "* ", "1. ", "3) ", "> ", ">", "```", "```py\n", "~~~", "~~~\n",
    "`", "``", "**", "*", "_", "__", "~~", "***", "[", "](", "[a](http://b.c)", ")", "!",
    "<http://a.b>", "<b>", "&amp;", "&", "\\", "\\(", "\\)", "\\[\n", "\\]\n", "$$\n", "$x$",
    "| a | b |\n", "|---|:-:|\n", "| 1 | **2** |\n", "| a", "|", "---\n", "***\n", "===\n",
    "\n", "\n\n", "    ", "  ", " ", "\t", "word", "two words", "def f(x): return 'x'  # c\n",
    "/* a\n", "*/", '"""', "x" * 50, "snake_case", "2*3", "*" * 70, "`" * 125,
    "中文字", "，", "é", "e\u0301", "✅",
    "👍🏽", "\u200d", "\ufe0f", "\u202e", "\u200b", "\r\n", "\u2028", "\ud800", "\U0010ffff",
    "\u0378", "ไทย", "- [ ] a\n", "  - b\n", "   1. c\n", "- a\n",
)  # fmt: skip
CONTROLS = (
    *map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), "\x1b[31m", "\x1b[?1049h",
    "\x1b[?25l", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1b]52;c;eA==\x07", "\x1b(0",
    "\x1b[2;4r", "\x1b[2J", "\x1bc", "\x1b7", "\x1b[4h", "\x9b31m", "\x9d0;t\x9c", "\x1bH",
    "\x1b[3g", "\x0e", "[red]", "\x1b[8;1;1t", "&#27;[31m", "\x1bP", "\x1b_", "\x1b[?2026h",
)  # fmt: skip

answers = st.lists(st.sampled_from(PARTS) | st.text(max_size=6), max_size=25).map("".join)


def test_a_thousand_outputs_with_control_bytes_leave_the_terminal_as_it_was() -> None:
    draw = random.Random(6)
    before = {size: Terminal(*size).state() for size in SIZES}
    for number in range(1000):
        pieces = draw.choices(PARTS + CONTROLS * 2, k=draw.randint(1, 14))
        size = SIZES[number % len(SIZES)]
        terminal = shown(pieces, *size)
        assert terminal.state() == before[size], pieces
        rest = OWN.sub("", terminal.sent)
        assert not any(c != "\n" and (c < " " or "\x7f" <= c < "\xa0") for c in rest), pieces
        assert all(line.count("\x1b[") % 2 == 0 or "?2026" in line or "A" in line
                   or "\x1b[J" in line for line in terminal.sent.split("\n")), pieces  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=60, deadline=None)
@given(answer=answers)
def test_pieces_do_not_matter(size: tuple[int, int], answer: str) -> None:
    whole = shown(answer, *size)
    by_char = shown(list(answer), *size)
    assert by_char.rows() == whole.rows()
    assert by_char.cells() == whole.cells()


@settings(max_examples=150, deadline=None)
@given(answer=answers, width=st.sampled_from([1, 2, 10, 40, 80]))
def test_pieces_do_not_matter_without_colors(answer: str, width: int) -> None:
    text = plain(answer, width)
    assert plain(list(answer), width) == text
    assert "\x1b" not in text
    assert "\r" not in text
    text.encode()  # no lone surrogate is left


@settings(max_examples=150, deadline=None)
@given(answer=answers, width=st.sampled_from([40, 80]))
def test_no_line_ends_in_spaces(answer: str, width: int) -> None:
    assert not [line for line in plain(answer, width).split("\n") if line.endswith(" ")]


@given(words=st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=60))
def test_no_row_is_wider_than_the_screen(words: list[str]) -> None:
    text = plain(" ".join(words), 20)
    assert text.split() == words
    assert max(map(len, text.split("\n"))) <= 20


@given(answer=st.text())
def test_plain_text_comes_as_it_is(answer: str) -> None:
    out: list[str] = []
    writer = PlainWriter(out.append)
    for char in answer:
        writer.feed(char)
    writer.end()
    text = "".join(out)
    text.encode()
    assert not any(c not in "\n\t" and (c < " " or "\x7f" <= c < "\xa0") for c in text)
    if answer.isalnum() and answer.isascii():
        assert text == answer + "\n"
