"""What the start of a line opens: which lists and quotes go on, which begin, and what is in them.

Pure, and asked again with each character until it can tell. It is more patient than CommonMark
with the indentation of nested lists, which models count from the marker before, not from its text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

MAX_DEPTH = 12
MAX_OPENING = 160  # characters; a longer start of a line is text

Kind = Literal["blank", "text", "heading", "rule", "fence", "table", "math", "indented"]


@dataclass(frozen=True)
class Quote:
    """A block quote."""


@dataclass(frozen=True)
class Item:
    """An item of a list; ``marker_col`` and ``content_col`` are columns of its first line. What is
    shown is ``marker``: ``-`` for each bullet, or the number with its delimiter."""

    marker_col: int
    content_col: int
    marker: str

    @property
    def number(self) -> int | None:
        """The number of an ordered item."""
        return int(self.marker[:-1]) if self.marker[:-1].isdigit() else None


Container = Quote | Item


@dataclass(frozen=True)
class Opening:
    """The start of a line: ``matched`` containers go on, ``new`` begin. ``at`` is where in the line
    the content starts. ``level`` is a heading's; ``info`` a fence's, without the fence."""

    matched: int
    new: tuple[Container, ...]
    kind: Kind
    at: int
    level: int = 0
    info: str = ""
    indent: int = 0


_RULE = re.compile(r"([-*_]) *(?:\1 *){2,}$")
_RULE_BEGUN = re.compile(r"([-*_])(?: *\1)* *$")
_BULLET = re.compile(r"[-*+](?= |$)")
_NUMBER = re.compile(r"[0-9]{1,9}[.)](?= |$)")
_NUMBER_BEGUN = re.compile(r"[0-9]{1,9}[.)]?$")
_HEADING = re.compile(r"(#{1,6})(?: +|$)")
_FENCE = re.compile(r"(`{3,}|~{3,})(.*)$")
_MATH = re.compile(r"\\\[|\$\$|\\begin\{")
MATH_ENDS = {"\\[": "\\]", "$$": "$$", "\\begin{": "\\end{"}


def _indent(text: str, at: int) -> int:
    """Where the first character that is no space is, from ``at``."""
    return len(text) - len(text[at:].lstrip(" "))


def quote_end(text: str, at: int) -> int | None:
    """Where the content starts after a quote's marker; None where there is no marker."""
    first = _indent(text, at)
    if text[first : first + 1] != ">":
        return None
    return first + 1 + (text[first + 1 : first + 2] == " ")


def _matched(text: str, containers: Sequence[Container]) -> tuple[int, int]:
    """How many containers go on, and where the rest of the line starts."""
    at = 0
    for count, container in enumerate(containers):
        if isinstance(container, Quote):
            end = quote_end(text, at)
            if end is None:
                return count, at
            at = end
        else:
            first = _indent(text, at)
            if first < len(text) and first < container.marker_col + 2:
                return count, at
            at = min(first, max(at, container.content_col))
    return len(containers), at


def open_line(
    text: str, is_whole: bool, containers: Sequence[Container], in_paragraph: bool
) -> Opening | None:
    """The opening of a line of which ``text`` is there (all of it when ``is_whole``), or None
    while it cannot be told."""
    matched, at = _matched(text, containers)
    new: list[Container] = []
    is_last = is_whole or len(text) > MAX_OPENING
    interrupts = in_paragraph and matched == len(containers)
    in_list = any(isinstance(container, Item) for container in containers[:matched])
    while True:
        first = _indent(text, at)
        if first == len(text):
            return Opening(matched, tuple(new), "blank", first) if is_last else None
        if not is_last and _is_undecided(text[first:]):
            return None
        is_deep = first - at >= 4 and not new
        if (is_deep and not in_list) or len(new) + matched >= MAX_DEPTH:
            break
        container = _container(text, first, interrupts and not new)
        if container is None:
            break
        at = _content_at(text, first, container)
        if isinstance(container, Item):
            container = replace(container, content_col=at)
        new.append(container)
    if is_deep and not in_paragraph:
        return Opening(matched, tuple(new), "indented", at)
    return _leaf(text, is_last, matched, tuple(new), first)


def _is_undecided(body: str) -> bool:
    """Whether a marker may be growing."""
    if _RULE_BEGUN.match(body) or _NUMBER_BEGUN.match(body) or body == "+":
        return True
    return body in ("\\", "$", "`", "``", "~", "~~") or "\\begin{".startswith(body)


def _container(text: str, first: int, in_paragraph: bool) -> Container | None:
    if text[first] == ">":
        return Quote()
    body = text[first:]
    if _RULE.match(body):
        return None
    bullet = _BULLET.match(body)
    number = _NUMBER.match(body)
    found = bullet or number
    if found is None:
        return None
    is_empty = not body[found.end() :].strip(" ")
    if in_paragraph and (is_empty or (number and int(number[0][:-1]) != 1)):
        return None
    return Item(first, first + found.end() + 1, "-" if bullet else found[0])


def _content_at(text: str, first: int, container: Container) -> int:
    if isinstance(container, Quote):
        return quote_end(text, first) or first
    after = container.content_col - 1
    content = _indent(text, after)
    is_far = content - after > 4 or content == len(text)
    return min(after + 1, len(text)) if is_far else content


def _leaf(
    text: str, is_last: bool, matched: int, new: tuple[Container, ...], first: int
) -> Opening | None:
    body = text[first:]
    if _RULE.match(body) and len(body) <= MAX_OPENING:
        return Opening(matched, new, "rule", len(text)) if is_last else None
    heading = _HEADING.match(body)
    if heading:
        is_decided = is_last or len(body) > len(heading[1])
        opening = Opening(matched, new, "heading", first + heading.end(), len(heading[1]))
        return opening if is_decided else None
    fence = _FENCE.match(body)
    if fence and not (fence[1][0] == "`" and "`" in fence[2]) and len(body) <= MAX_OPENING:
        if not is_last:
            return None
        return Opening(matched, new, "fence", first, len(fence[1]), body, first)
    if body[0] == "|":
        return Opening(matched, new, "table", first)
    math = _MATH.match(body)
    if math:
        return Opening(matched, new, "math", first, info=MATH_ENDS[math[0]])
    return Opening(matched, new, "text", first)


@dataclass(frozen=True)
class Verbatim:
    """A block whose lines are not read as Markdown, within ``quotes``: code after ``fence``, of
    which ``indent`` spaces are left out, or a formula until ``end``."""

    quotes: int
    fence: str = ""
    info: str = ""
    indent: int = 0
    end: str = ""

    def ends(self, line: str, is_first: bool) -> bool:
        """Whether ``line`` is a formula's last."""
        after = line[2:] if is_first else line
        return bool(self.end) and (self.end in after or not line.strip())


Part = Literal["content", "close", "leave"]


def verbatim_line(text: str, is_whole: bool, block: Verbatim) -> tuple[Part, int] | None:
    """What a line of such a block is, and where its content starts; None while undecided.
    ``leave`` when it is outside, since it lacks the quote's marker."""
    at = 0
    for _ in range(block.quotes):
        end = quote_end(text, at)
        if end is None:
            return ("leave", 0) if is_whole or text[at:].strip(" ") else None
        at = end
    first = _indent(text, at)
    if first == len(text):
        return ("content", min(first, at + block.indent)) if is_whole else None
    rest = text[first:].rstrip(" ")
    if block.fence and rest == block.fence[0] * len(rest) and first - at <= block.indent + 3:
        if not is_whole:
            return None
        if len(rest) >= len(block.fence):
            return "close", first
    return "content", min(first, at + block.indent)
