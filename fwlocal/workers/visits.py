"""What llama.cpp's RPC server prints, told as people want it: who is connected, and since when.

What it says of itself at its start, fwlocal has said already; lines unknown here are passed on.
How the lines are caught, this does not know. Source: llama.cpp's ggml/src/ggml-rpc/ggml-rpc.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import localtime, strftime

LASTING_S = 1.0  # a mere probe takes less, and is not told

_CONNECTED, _CLOSED = "Accepted client connection", "Client connection closed"
_KNOWN = re.compile(
    r"|Starting RPC server v.*|Devices:|  (endpoint|local cache|transport) *: .*"
    r"|  .+: .+ \(\d+ MiB, \d+ MiB free\)"
)


class Visits:
    """The server's clients, one after another. ``say`` gets the lines for the user; times are
    ``time.time()``'s, in seconds, and are told as this machine's clock shows them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._untold_since: float | None = None
        self._is_told = False

    def hear(self, line: str, at: float) -> None:
        """A line that the server printed at the time ``at``."""
        self.watch(at)
        if line == _CONNECTED:
            self._untold_since = at
        elif line == _CLOSED:
            if self._is_told:
                self._say(f"{_clock(at)} it is gone")
            self._untold_since, self._is_told = None, False
        elif not _KNOWN.fullmatch(line):
            self._say(f"llama.cpp: {line}")

    def watch(self, now: float) -> None:
        """To be called again and again, when all lines printed until ``now`` have been heard."""
        since = self._untold_since
        if since is not None and now - since >= LASTING_S:
            self._say(f"{_clock(since)} a client is connected")
            self._untold_since, self._is_told = None, True


def _clock(moment: float) -> str:
    return strftime("%H:%M:%S", localtime(moment))
