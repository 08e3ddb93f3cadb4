"""How a bad source must be refused: quickly, in one printable line."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fwlocal.errors import BadCheckpoint, FwlocalError


def refused(
    action: Callable[[], object], *parts: object, error: type[FwlocalError] = BadCheckpoint
) -> str:
    """The message that ``action`` is refused with; it has all ``parts`` in it."""
    start = time.perf_counter()
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert time.perf_counter() - start < 1
    assert message.isprintable()  # no line feeds, and nothing that a terminal obeys
    for part in parts:
        assert str(part) in message
    return message
