"""Messages from a terminal that knows no escape sequences, or when stdout leads elsewhere.

The terminal itself edits the line; no sequence is ever sent. What a message means is not known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from fwlocal.repl.typed import clean, is_open


def read_message(prompt: str, continuation: str, default: str = "") -> str:
    """A line, or the lines between triple quotes. ``default``, which cannot be put into the line,
    is shown above it and stands for an empty one. Raises EOFError and KeyboardInterrupt."""
    if default:
        _show(f"(Enter alone takes: {default})\n")
    lines = [read_line(prompt)]
    while is_open("\n".join(lines)):
        lines.append(read_line(continuation))
    return "\n".join(lines) or default


def read_line(prompt: str) -> str:
    """A line, without the newline at its end. Raises EOFError and KeyboardInterrupt."""
    if sys.stdin is None or sys.stdin.closed:
        raise EOFError
    _show(prompt)
    data = _reader()()
    if not data:
        _show("\n")
        raise EOFError
    text = (
        data.decode(sys.stdin.encoding or "utf-8", "replace") if isinstance(data, bytes) else data
    )
    return clean(text).removesuffix("\n")


def _reader() -> Callable[[], bytes | str]:
    """Bytes, where there are any: what is no UTF-8 must not end the chat."""
    raw = getattr(sys.stdin, "buffer", None)
    return sys.stdin.readline if raw is None else raw.readline


def _show(text: str) -> None:
    stream = sys.stdout if sys.stdout is not None and sys.stdout.isatty() else sys.stderr
    if stream is not None:
        stream.write(text)
        stream.flush()
