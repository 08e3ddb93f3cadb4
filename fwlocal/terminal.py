"""The terminal: how large it is, whether it has colours, and that what a model says, which is data,
does not drive it."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata

# C0 and C1 controls but tab and newline, and DEL: shown as one visible character each.
_INERT = {
    code: chr(0x2400 + code) if code < 0x20 else "\ufffd"
    for code in range(0xA0)
    if unicodedata.category(chr(code)) == "Cc" and chr(code) not in "\t\n"
}


def inert(text: str) -> str:
    """``text`` with every control character made visible, so that no escape sequence is left."""
    return text.translate(_INERT)


def has_colors() -> bool:
    """Whether the terminal is one that may be coloured (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def terminal_size() -> os.terminal_size:
    """Columns and lines, as they are now."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):
        return shutil.get_terminal_size()
