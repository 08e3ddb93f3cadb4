"""Lines of a growing text: never too wide, nothing lost, and none that later text would change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fwlocal.ab.wrapping import Line, Passage

ODD = "ab \n\t世界é\u0301👩\u200d💻❤\ufe0f🇩🇪-"
TEXTS = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8", categories=["L"])))
WIDTHS = st.integers(2, 90)


def lines(text: str, width: int, *, marked: str = "") -> list[Line]:
    """All lines of a text that is complete; what is ``marked`` in it is between the two others."""
    passage = Passage()
    before, _, after = text.partition(marked) if marked else (text, "", "")
    passage.add(before)
    passage.add(marked, marked=bool(marked))
    passage.add(after)
    passage.end()
    found = []
    while (line := passage.take(width)) is not None:
        found.append(line)
    assert passage.is_done
    return found


def texts(text: str, width: int) -> list[str]:
    return [line.text for line in lines(text, width)]


def test_lines_break_between_words() -> None:
    assert texts("the whale sings\n  of the sea", 9) == ["the whale", "sings", "  of the", "sea"]


def test_a_word_longer_than_a_line_is_broken() -> None:
    assert texts("abcdefgh ij", 3) == ["abc", "def", "gh", "ij"]


def test_wide_characters_take_two_cells_and_may_be_parted_anywhere() -> None:
    assert texts("ab 世界世界", 6) == ["ab 世", "界世界"]


def test_what_is_drawn_as_one_is_not_broken() -> None:
    coder = "👩\u200d💻"
    assert texts(coder * 3, 4) == [coder] * 3
    assert texts("ae\u0301e\u0301", 2) == ["ae\u0301", "e\u0301"]


def test_a_screen_too_narrow_for_a_character_still_shows_it() -> None:
    assert texts("世界", 1) == ["世", "界"]


def test_the_mark_follows_its_text_over_the_break() -> None:
    first, second = lines("the whale sings", 9, marked="whale sings")

    assert first == Line("the whale", (4, 9))
    assert second == Line("sings", (0, 5))


def test_no_line_is_given_out_before_it_is_certain() -> None:
    passage = Passage()
    passage.add("the whale")
    assert not passage.has_line(9)  # the word may go on
    passage.add("s sing")
    assert passage.take(9) == Line("the")
    assert passage.take(9) == Line("whales")
    assert passage.take(9) is None


@given(TEXTS, WIDTHS)
def test_no_line_is_too_wide_and_nothing_is_lost(text: str, width: int) -> None:
    found = texts(text, width)

    assert all(cell_len(line) <= width for line in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.lists(st.text("abc", min_size=1, max_size=8)), st.integers(8, 90))
def test_words_that_fit_stay_whole(words: list[str], width: int) -> None:
    assert " ".join(texts(" ".join(words), width)).split() == words


@given(st.lists(st.text(st.sampled_from(ODD), max_size=6)), WIDTHS)
def test_growing_in_pieces_gives_the_same_lines(pieces: list[str], width: int) -> None:
    passage, found = Passage(), list[str]()
    for piece in pieces:
        passage.add(piece)
        while (line := passage.take(width)) is not None:
            found.append(line.text)
    passage.end()
    while (line := passage.take(width)) is not None:
        found.append(line.text)

    whole = texts("".join(pieces), width)
    assert "".join(whole).split() == "".join(found).split()
    while found and not found[-1]:  # empty lines at the end could not be known for such
        found.pop()
    assert found == whole
