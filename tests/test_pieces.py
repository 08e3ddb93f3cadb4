"""Whole characters, and stop strings that are found across any borders and never shown."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.pieces import PieceStream
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
