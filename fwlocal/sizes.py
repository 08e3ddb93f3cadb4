"""Sizes of memory as people write them: ``24G``, ``512M``, ``1.5 GiB``, or plain bytes.

A card sold with "24 GB" has 24 GiB, so every unit is a power of 1024, with and without its "i".
What a size is for, this module does not know; it is told, for its messages.
"""

from __future__ import annotations

import re

from fwlocal.errors import UsageError

GIB = 1 << 30
MIB = 1 << 20
MOST_BYTES = 1 << 50  # a PiB: more than any machine has, and safe to add up
SMALL_BYTES = MIB  # memory below it is a number without its unit
MOST_TIMES = 64  # sizes in one list: more than llama.cpp takes devices

_UNITS = {"": 1, "K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}
_SIZE = re.compile(
    r"([0-9]{1,16}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(?:([KMGT])(?:i?B)?|B)?",
    re.IGNORECASE | re.ASCII,  # a Kelvin sign is no K
)
_TIMES = re.compile(r"\s*([1-9][0-9]?)\s*x\s*(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)


def parse_size(text: str, what: str, *, may_be_zero: bool = False) -> int:
    """``text`` in bytes, rounded down; ``what`` is the option it belongs to.

    Raises UsageError for what is not a size, is negative, has fewer than a MiB (save 0 where that
    ``may_be_zero``) or more than a PiB.
    """
    try:
        return _bytes(text, may_be_zero=may_be_zero)
    except _NotOne as error:
        raise UsageError(f"{what} {text!r}: {error}") from None


def parse_sizes(text: str, what: str, *, may_be_zero: bool = False) -> tuple[int, ...]:
    """Several, separated by commas: ``24G,12G``; ``2x24G`` is ``24G,24G``.

    Raises UsageError as ``parse_size``, and for more than MOST_TIMES at once.
    """
    sizes: list[int] = []
    for one in text.split(","):
        times, size = _times(one)
        try:
            sizes += [_bytes(size, may_be_zero=may_be_zero)] * times
        except _NotOne as error:
            raise UsageError(f"{what} {text!r}: {error}") from None
    if len(sizes) > MOST_TIMES:
        raise UsageError(f"{what} {text!r}: names {len(sizes)} sizes; {MOST_TIMES} are the most")
    return tuple(sizes)


class _NotOne(ValueError):
    """What is wrong with a size, without its text."""


def _times(text: str) -> tuple[int, str]:
    """How often, and what: ``2x24G``."""
    match = _TIMES.fullmatch(text)
    return (int(match[1]), match[2]) if match else (1, text)


def _bytes(text: str, *, may_be_zero: bool) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise _NotOne("is not a size, as in 24G")
    size_bytes = int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    if size_bytes > MOST_BYTES:
        raise _NotOne("is more than any machine has; write it as in 24G")
    if size_bytes == 0 and not may_be_zero:
        raise _NotOne("must be more than nothing, as in 24G")
    if 0 < size_bytes < SMALL_BYTES:
        raise _NotOne("is less than 1M" + (f"; did you mean {match[1]}G?" if not match[2] else ""))
    return size_bytes


def gib(size_bytes: float) -> str:
    """Memory for people, in the units that memory is sold in: ``38.5 GiB``, ``512 MiB``."""
    if size_bytes >= 0.9995 * GIB:
        return f"{size_bytes / GIB:.1f} GiB"
    if size_bytes >= 0.9995 * MIB or size_bytes == 0:
        return f"{size_bytes / MIB:.0f} MiB"
    return f"{size_bytes / 1024:.0f} KiB"
