"""How the first token that differs is marked: underlined, or between « » where nothing is coloured.

A token is marked without the white space around it; one that is white space alone gets the signs in
any case, since nothing of it would show.
"""

from __future__ import annotations

from collections.abc import Iterator

from fwlocal.ab.wrapping import Line

OPEN, CLOSE = "«", "»"
_ON, _OFF = "\x1b[1;4;33m", "\x1b[22;24;39m"  # bold, underlined, yellow
_STRONG, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[22m"


def stretches(text: str, *, color: bool) -> Iterator[tuple[str, bool]]:
    """A token that is to be marked, as pieces of text and whether each is the marked one."""
    core = text.strip()
    start = text.index(core)
    if not core:
        yield f"{OPEN}{CLOSE}", True
        yield text, False
        return
    yield text[:start], False
    yield (core if color else f"{OPEN}{core}{CLOSE}"), True
    yield text[start + len(core) :], False


def painted(line: Line, *, color: bool) -> str:
    """A line as the terminal gets it."""
    if line.mark is None or not color:
        return line.text
    start, stop = line.mark
    return f"{line.text[:start]}{_ON}{line.text[start:stop]}{_OFF}{line.text[stop:]}"


def strong(text: str, *, color: bool) -> str:
    """A heading."""
    return f"{_STRONG}{text}{_PLAIN}" if color and text else text


def faint(text: str, *, color: bool) -> str:
    """What is told of an answer."""
    return f"{_FAINT}{text}{_PLAIN}" if color and text else text
