"""Where two texts part: each piece is shown once, the right one marked, however they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fwlocal.ab.parting import Parting, Shown

PIECES = st.lists(st.text("ab ", min_size=1, max_size=3), max_size=8)


def shown_of(shown: list[Shown], side: int) -> str:
    return "".join(f"[{s.text}]" if s.marked else s.text for s in shown if s.side == side)


def fed(left: list[str], right: list[str], *, cut: bool = False) -> tuple[Parting, list[Shown]]:
    """Both alternately, to their ends."""
    parting, shown = Parting(), list[Shown]()
    for index in range(max(len(left), len(right)) + 1):
        for side, pieces in enumerate((left, right)):
            if index < len(pieces):
                shown += parting.add(side, pieces[index])
            elif index == len(pieces):
                shown += parting.end(side, cut=cut)
    return parting, shown


def test_the_first_piece_that_differs_is_marked_in_both() -> None:
    parting, shown = fed(["the", " sea", " is"], ["the", " sun", " is"])

    assert shown_of(shown, 0) == "the[ sea] is"
    assert shown_of(shown, 1) == "the[ sun] is"
    assert parting.difference == 5
    assert parting.marked == [" sea", " sun"]


def test_a_piece_waits_until_the_other_side_is_as_long() -> None:
    parting = Parting()

    assert parting.add(0, "the whale") == []
    assert parting.holds(0)
    assert parting.add(1, "the") == [Shown(1, "the")]
    assert parting.add(1, " whale") == [Shown(0, "the whale"), Shown(1, " whale")]
    assert not parting.holds(0)


def test_after_the_difference_nothing_waits() -> None:
    parting = Parting()
    parting.add(0, "a")
    parting.add(1, "b")

    assert parting.add(0, "long and longer") == [Shown(0, "long and longer")]


def test_a_text_that_ends_where_the_other_goes_on_differs_there() -> None:
    parting, shown = fed(["the"], ["the", " sea"])

    assert shown_of(shown, 0) == "the"
    assert shown_of(shown, 1) == "the[ sea]"
    assert parting.difference == 3
    assert parting.marked == ["", " sea"]


def test_a_text_that_was_cut_does_not_differ_by_that() -> None:
    parting, shown = fed(["the"], ["the", " sea"], cut=True)

    assert parting.difference is None
    assert shown_of(shown, 1) == "the sea"


def test_pieces_that_are_cut_otherwise_are_compared_by_their_text() -> None:
    parting, shown = fed(["th", "e sea"], ["the", " sun"])

    assert parting.difference == 5
    assert shown_of(shown, 0) == "th[e sea]"
    assert shown_of(shown, 1) == "the[ sun]"


@given(PIECES, PIECES)
def test_every_piece_is_shown_once_and_one_mark_holds_the_difference(
    left: list[str], right: list[str]
) -> None:
    parting, shown = fed(left, right)
    texts = "".join(left), "".join(right)

    for side in (0, 1):
        assert "".join(s.text for s in shown if s.side == side) == texts[side]
    common = next(
        (i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts))
    )
    assert parting.difference == (None if texts[0] == texts[1] else common)
    for side in (0, 1):
        own = [s for s in shown if s.side == side]
        marks = [index for index, s in enumerate(own) if s.marked]
        if texts[0] == texts[1] or common == len(texts[side]):
            assert marks == []
        else:
            (mark,) = marks
            start = len("".join(s.text for s in own[:mark]))
            assert start <= common < start + len(own[mark].text)
