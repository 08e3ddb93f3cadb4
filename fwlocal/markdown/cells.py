"""How many columns of a terminal a text takes, and how sure that is.

Terminals agree on ASCII, on most alphabets and on East Asian characters; on joined emoji, marks
and rarer scripts they do not. What is written again in its place must be certain.
"""

from __future__ import annotations

import re

_NARROW = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u03ff\u0400-\u0482\u048a-\u052f"
                     r"\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2190-\u21ff\u2400-\u2426"
                     r"\u2500-\u25fc\ufffd]*")  # fmt: skip


def cells(text: str) -> int:
    """Columns that ``text`` takes, as well as can be told."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def is_certain(text: str) -> bool:
    """Whether each character of ``text`` takes one column on every terminal."""
    return text.isascii() or _NARROW.fullmatch(text) is not None


def rows(text: str, width: int) -> int | None:
    """Rows that a line takes on a screen of ``width``; None where terminals may differ."""
    if is_certain(text):
        return max(1, -(-len(text) // width))
    return 1 if 2 * len(text) <= width or _at_most(text) <= width else None


def _at_most(text: str) -> int:
    """No terminal takes more columns than this."""
    return sum(1 if is_certain(char) else 2 for char in text)
