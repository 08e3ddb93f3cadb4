"""What the start of a line opens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.markdown.blocks import Item, Opening, Quote, Verbatim, open_line, verbatim_line

BULLET = Item(0, 2, "-")


def opened(text: str, *containers: Item | Quote, in_paragraph: bool = False) -> Opening:
    """A whole line."""
    opening = open_line(text, True, containers, in_paragraph)
    assert opening is not None
    return opening


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("", "blank"),
        ("word", "text"),
        ("# Title", "heading"),
        ("#hashtag", "text"),
        ("####### seven", "text"),
        ("---", "rule"),
        ("* * *", "rule"),
        ("--", "text"),
        ("**bold**", "text"),
        ("```py", "fence"),
        ("```inline```", "text"),
        ("~~~ `x`", "fence"),
        ("~~gone~~", "text"),
        ("| a | b |", "table"),
        ("\\[ x", "math"),
        ("\\begin{align}", "math"),
        ("    code", "indented"),
        ("1986.", "blank"),
        ("1986.5", "text"),
    ],
)
def test_kinds(line: str, kind: str) -> None:
    assert opened(line).kind == kind


def test_containers_begin_one_in_another() -> None:
    opening = opened("> 12) - text")
    assert opening.new == (Quote(), Item(2, 6, "12)"), Item(6, 8, "-"))
    assert "> 12) - text"[opening.at :] == "text"


def test_what_is_indented_belongs_to_the_item() -> None:
    assert opened("  more", BULLET).matched == 1
    assert opened("more", BULLET).matched == 0
    assert opened("- next", BULLET).matched == 0
    assert opened("  - nested", BULLET).new == (Item(2, 4, "-"),)


def test_only_a_first_item_interrupts_a_paragraph() -> None:
    assert opened("1. a", in_paragraph=True).new
    assert opened("- a", in_paragraph=True).new
    assert not opened("1986. A year", in_paragraph=True).new
    assert not opened("-", in_paragraph=True).new


@given(line=st.text("-*_+# >|`~1.)\\[$ab", max_size=30), in_list=st.booleans())
def test_what_is_told_early_is_what_the_whole_line_tells(line: str, in_list: bool) -> None:
    containers = [BULLET] if in_list else []
    whole = open_line(line, True, containers, False)
    for end in range(len(line)):
        early = open_line(line[:end], False, containers, False)
        if early is not None:
            assert whole is not None
            assert (early.kind, early.matched, early.new) == (whole.kind, whole.matched, whole.new)
            return


def test_a_fence_ends_with_one_as_long() -> None:
    block = Verbatim(0, "````", indent=2)
    assert verbatim_line("```", True, block) == ("content", 0)
    assert verbatim_line("  `````", True, block) == ("close", 2)
    assert verbatim_line("     x", True, block) == ("content", 2)
    assert verbatim_line("  ``", False, block) is None


def test_code_in_a_quote_ends_with_the_quote() -> None:
    block = Verbatim(1, "```")
    assert verbatim_line("> x", True, block) == ("content", 2)
    assert verbatim_line("x", False, block) == ("leave", 0)
