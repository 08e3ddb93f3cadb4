"""Typical answers: all of their text is shown, and nothing else, whatever the screen."""

from __future__ import annotations

import pytest

from tests.markdown.corpus import CORPUS, condensed, text_of, without_fences
from tests.markdown.terminal import OWN, plain, shown

# Its markers are seen, since no one waits for the end of a sentence to see its beginning.
SEEN_MARKERS = {"long bold": "**"}


@pytest.mark.parametrize("name", CORPUS)
def test_the_text_is_that_of_a_full_parser(name: str) -> None:
    text = condensed(without_fences("\n".join(shown(CORPUS[name], 100, 60).rows())))
    assert text.replace(SEEN_MARKERS.get(name, "\0"), "") == text_of(CORPUS[name])


@pytest.mark.parametrize("size", [(80, 24), (40, 5), (10, 5), (2, 5)])
@pytest.mark.parametrize("name", CORPUS)
def test_it_is_the_same_in_pieces(name: str, size: tuple[int, int]) -> None:
    answer = CORPUS[name]
    whole = shown(answer, *size).cells()
    assert shown(list(answer), *size).cells() == whole
    assert shown((answer[at : at + 4] for at in range(0, len(answer), 4)), *size).cells() == whole


@pytest.mark.parametrize("name", CORPUS)
def test_without_colors_there_is_no_escape(name: str) -> None:
    text = plain(CORPUS[name], 40)
    assert OWN.search(text) is None
    assert not [line for line in text.split("\n") if line.endswith(" ")]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_long_answer_keeps_every_line_once() -> None:
    answer = "".join(f"- item {number}\n" for number in range(200))
    answer += "```python\n" + "".join(f"x{number} = {number}\n" for number in range(200)) + "```\n"
    rows = shown(list(answer), 80, 5).rows()
    assert rows[:200] == [f"• item {number}" for number in range(200)]
    assert rows[201:401] == [f"x{number} = {number}" for number in range(200)]
    assert len(rows) == 402


def test_a_table_taller_than_the_screen_keeps_every_row_once() -> None:
    answer = "| n | name |\n|---|---|\n"
    answer += "".join(f"| {number} | {'x' * (number % 30)}. |\n" for number in range(100))
    rows = shown(list(answer), 60, 8).rows()
    numbers = [int(row.split()[0]) for row in rows if row[:1].isdigit()]
    assert numbers == list(range(100))
