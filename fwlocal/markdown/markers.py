"""What a run of markers may do, by the characters around it.

CommonMark's rules of flanking, with the departures that ``inline`` names; pure.
"""

from __future__ import annotations

import re


def ticks(count: int) -> re.Pattern[str]:
    """A run of exactly so many backticks."""
    return re.compile(rf"(?<!`)`{{{count}}}(?!`)")


def may_close(text: str, start: int, end: int, run: int) -> bool:
    """Whether the markers of ``text`` from ``start`` to ``end`` end what a run of them opened."""
    if text[start - 1].isspace() or (text[start] == "_" and is_word(text[end : end + 1])):
        return False
    if run == 1:
        return end - start != 2
    return run == 3 or end - start >= run


def is_word(char: str) -> bool:
    """Whether ``_`` beside it is part of a name."""
    return char.isalnum() or char == "_"


def may_open(char: str, run: int, before: str, after: str) -> bool:
    """Whether a run of markers may open emphasis between two characters."""
    if after.isspace() or run > (2 if char == "~" else 3) or (char == "~" and run == 1):
        return False
    if char == "_":
        return not is_word(before)
    if run == 1:
        return not (before.isascii() and before.isalnum() and after.isascii() and after.isalnum())
    return not (before.isdigit() or (before.isascii() and before.isalnum() and after.isdigit()))
