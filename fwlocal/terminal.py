"""What a model says is data: it may not drive the terminal."""

from __future__ import annotations

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
