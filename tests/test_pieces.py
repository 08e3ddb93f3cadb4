"""Whole characters, and stop strings that are found across any borders and never shown."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.pieces import PieceStream, n_spelling, spelled, start_of
from fwlocal.prompts import FREEWILLY2


def shown(chunks: list[bytes], stop: tuple[str, ...] = ()) -> tuple[str, bool]:
    stream = PieceStream(stop)
    text = "".join(stream.feed(chunk) for chunk in chunks) + stream.finish()
    return text, stream.stopped


def test_an_emoji_split_over_three_tokens_is_shown_once() -> None:
    stream = PieceStream()
    whale = "🐋".encode()

    pieces = [stream.feed(whale[:1]), stream.feed(whale[1:3]), stream.feed(whale[3:])]

    assert pieces == ["", "", "🐋"]


def test_an_unfinished_character_is_not_shown() -> None:
    assert shown([b"a", "🐋".encode()[:2]]) == ("a", False)


def test_bytes_that_are_no_character_become_a_replacement_mark() -> None:
    assert shown([b"a\xff", b"b"]) == ("a\ufffdb", False)


def test_a_stop_string_across_tokens_is_never_shown() -> None:
    chunks = [b"Paris.\n", b"\n##", b"# Us", b"er: and more"]

    assert shown(chunks, FREEWILLY2.stop) == ("Paris.\n", True)


def test_what_only_began_like_a_stop_string_is_shown() -> None:
    assert shown([b"a\n### U", b"nder"], FREEWILLY2.stop) == ("a\n### Under", False)
    assert shown([b"a\n### U"], FREEWILLY2.stop) == ("a\n### U", False)


def test_a_stop_string_matches_only_at_the_start_of_a_line() -> None:
    assert shown([b"write ### User: so"], FREEWILLY2.stop) == ("write ### User: so", False)
    assert shown([b"### User: so"], FREEWILLY2.stop) == ("", True)


def test_nothing_is_held_back_without_need() -> None:
    assert PieceStream(FREEWILLY2.stop).feed(b"The answer") == "The answer"


def test_newlines_alone_must_really_be_said() -> None:
    assert shown([b"hello"], ("\n",)) == ("hello", False)
    assert shown([b"\nhello\n\nmore"], ("\n\n",)) == ("\nhello", True)
    assert shown([b"a\nb"], ("\n", "\n#")) == ("a", True)


def expected(text: str, stop: list[str]) -> tuple[str, bool]:
    """The text up to the stop string that ends first; one may begin at an unsaid newline."""
    ends = []
    for string in stop:
        said = text.find(string)
        if said >= 0:
            ends.append((said + len(string), said))
        if string[0] == "\n" and string.strip("\n") and text.startswith(string[1:]):
            ends.append((len(string) - 1, 0))
    return (text[: min(ends)[1]], True) if ends else (text, False)


@given(
    st.text(alphabet="ab#\n 🐋é", max_size=30),
    st.lists(st.text(alphabet="ab#\n🐋", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_how_the_bytes_are_cut_changes_nothing(text: str, stop: list[str], cuts: list[int]) -> None:
    data = text.encode()
    borders = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunks = [data[a:b] for a, b in itertools.pairwise(borders)]

    cut_text, cut_stopped = shown(chunks, tuple(stop))
    whole_text, whole_stopped = shown([data], tuple(stop))

    assert (cut_text, cut_stopped) == (whole_text, whole_stopped)
    assert (cut_text, cut_stopped) == expected(text, stop)


def going_on(said: str, chunks: list[bytes], stop: tuple[str, ...]) -> tuple[str, int]:
    """What is shown of the rest of an answer, and how much was shown before that should not be."""
    stream = PieceStream(stop, said=said)
    text = "".join(stream.feed(chunk) for chunk in chunks) + stream.finish()
    return text, stream.n_dropped


def test_a_stop_string_may_begin_in_what_was_said_before() -> None:
    assert going_on("Paris.\n### Us", [b"er: and"], FREEWILLY2.stop) == ("", 7)
    assert going_on("### U", [b"ser: and"], FREEWILLY2.stop) == ("", 5)
    assert going_on("a\n", [b"\nb"], ("\n\n",)) == ("", 1)
    assert going_on("a\n### Us", [b"ed\n##", b"# User:"], FREEWILLY2.stop) == ("ed", 0)


def test_what_was_said_before_is_not_shown_again() -> None:
    assert going_on("a\n### U", [b"nder"], FREEWILLY2.stop) == ("nder", 0)
    assert going_on("all of it", [b" and more"], ("\n\n",)) == (" and more", 0)


def test_a_line_that_was_begun_before_is_no_start_of_an_answer() -> None:
    assert going_on("see ", [b"### User: x"], FREEWILLY2.stop) == ("### User: x", 0)


@given(st.text("ab#\n", max_size=12), st.text("ab#\n", max_size=12), st.data())
def test_where_an_answer_is_cut_makes_no_difference(
    before: str, after: str, data: st.DataObject
) -> None:
    stop = tuple(data.draw(st.lists(st.text("ab#\n", min_size=1, max_size=4), max_size=3)))
    whole, _ = shown([(before + after).encode()], stop)
    first, ended = shown([before.encode()], stop)
    if ended:
        return
    rest, n_dropped = going_on(first, [after.encode()], stop)

    assert first[: len(first) - n_dropped] + rest == whole


def test_half_a_character_is_completed() -> None:
    whale = "🐋".encode()
    stream = PieceStream(half=whale[:3])

    assert stream.feed(whale[3:] + b"!") == "🐋!"


def test_how_far_tokens_spell_a_text() -> None:
    whale = "🐋".encode()
    assert spelled([b"a", whale[:2]]) == ("a", whale[:2])
    assert n_spelling([b"a", whale[:2], whale[2:], b"b"], "a🐋c") == 3
    assert n_spelling([b"a", whale[:2]], "a🐋") == 1
    assert n_spelling([b"x"], "a") == 0
    assert n_spelling([whale[2:], b"b"], "🐋b", whale[:2]) == 2


def test_where_the_tokens_of_an_answer_begin() -> None:
    whale = "🐋".encode()
    assert start_of("b🐋", [b"ab", b"", b"b", whale[:1], whale[1:]]) == 2
    assert start_of("b", [b"a", b"b", whale[:2]]) == 1
    assert start_of("b", [b"ab"]) is None
    assert start_of("c", [b"ab"]) is None
