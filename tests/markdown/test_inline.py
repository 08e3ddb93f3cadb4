"""Emphasis, code and links."""

from __future__ import annotations

import pytest

from fwlocal.markdown.inline import Inline, segments
from fwlocal.markdown.styles import CODE, EMPHASIS, LINK, STRONG, STRUCK


def styled(text: str) -> list[tuple[str, str]]:
    """Neighbours of one style as one."""
    joined: list[tuple[str, str]] = []
    for style, part in segments(text, "", False):
        if joined and joined[-1][0] == style:
            joined[-1] = (style, joined[-1][1] + part)
        else:
            joined.append((style, part))
    return joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**b**:", [(STRONG, "b"), ("", ":")]),
        ("**Note:**text", [(STRONG, "Note:"), ("", "text")]),
        ("这是**重点：**内容", [("", "这是"), (STRONG, "重点："), ("", "内容")]),
        ("***x***", [(f"{STRONG};{EMPHASIS}", "x")]),
        ("*a **b** c*", [(EMPHASIS, "a "), (f"{EMPHASIS};{STRONG}", "b"), (EMPHASIS, " c")]),
        ("**a *b* c**", [(STRONG, "a "), (f"{STRONG};{EMPHASIS}", "b"), (STRONG, " c")]),
        ("_em_ and __st__", [(EMPHASIS, "em"), ("", " and "), (STRONG, "st")]),
        ("~~x~~ ~y~", [(STRUCK, "x"), ("", " ~y~")]),
        ("`a*b*` c", [(CODE, "a*b*"), ("", " c")]),
        ("`` a`b ``", [(CODE, "a`b")]),
        ("**`a`**", [(f"{STRONG};{CODE}", "a")]),
        ("[a *b*](u)", [(LINK, "a "), (f"{LINK};{EMPHASIS}", "b"), ("", " "), ("2", "(u)")]),
        ("<https://a.b>", [(LINK, "https://a.b")]),
    ],
)
def test_styles(text: str, expected: list[tuple[str, str]]) -> None:
    assert styled(text) == expected


@pytest.mark.parametrize(
    "text",
    ["2*3*4", "2**3 and 4**5", "snake_case_name", "a * b * c", "f(*args, **kwargs)", "*.py", "**",
     "a_b_c_", "5 * 3", "[x]", "arr[0](", "C:\\temp", "\\(a_1 * b * c\\)", "$a_1 * b * c$ ", "AT&T",
     "<div class='a'>", "~/x ~/y", "``a`", "$5 to $10", "!", "![x]"],
)  # fmt: skip
def test_what_is_no_markup_stays(text: str) -> None:
    assert styled(text) == [("", text)]


def test_what_is_not_closed_in_time_is_shown_with_its_marker() -> None:
    seen: list[tuple[str, str]] = []
    inline = Inline(lambda style, part: seen.append((style, part)))
    inline.feed("**" + "a" * 70)
    assert seen[0] == ("", "**")
    assert seen[1][0] == STRONG
    inline.feed("** b")
    inline.end()
    assert "".join(part for _, part in seen) == "**" + "a" * 70 + "** b"
    assert seen[-1] == ("", " b")


@pytest.mark.parametrize(
    "text",
    [
        "`a``b` c",
        "$a$5 b$ *c*",
        "**a***b*",
        "*`*`*",
        "[a](b(c)) d",
        "&lt;&",
        "\\(*a*\\) *b*",
        "**a_b_**_",
    ],
)
def test_a_marker_is_complete_before_it_counts(text: str) -> None:
    seen: list[tuple[str, str]] = []
    inline = Inline(lambda style, part: seen.extend((style, char) for char in part))
    for char in text:
        inline.feed(char)
    inline.end()
    assert seen == [(style, char) for style, part in segments(text, "", False) for char in part]


def test_an_entity_cannot_be_a_control_character() -> None:
    assert styled("&#27;[31m &#x1b;") == [("", "&#27;[31m &#x1b;")]
