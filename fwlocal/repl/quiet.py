"""The keyboard while an answer streams: what is typed does not show, and is there afterwards.

The terminal keeps the keys, unseen and unchanged, for whoever reads next; Ctrl-C still interrupts.
Who writes meanwhile, and who reads next, this module does not know.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

if sys.platform != "win32":
    import termios

_PASTES_MARKED, _PASTES_PLAIN = "\x1b[?2004h", "\x1b[?2004l"


class QuietKeys:
    """A context manager, which may be nested; without a terminal on stdin, or where there are no
    terminal settings (Windows), nothing is done. The settings are restored however it ends.

    Text that is pasted meanwhile is one message, not one for each of its lines: the terminal marks
    it, as it does at the prompt. Dumb terminals know no such thing, and keep whole lines.
    """

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._continued: Any = None  # what was done on SIGCONT before

    def __enter__(self) -> QuietKeys:
        if sys.platform == "win32":
            return self
        if _is_ours():
            try:
                self._begin()
            except BaseException:  # Ctrl-C, and then nobody calls __exit__
                self.restore()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Leave; also where the process ends without unwinding."""
        if sys.platform == "win32":
            return
        if self._before is None:
            return
        if self._continued is not None:
            signal.signal(signal.SIGCONT, self._continued)
        before, self._before = self._before, None
        _mark_pastes(_PASTES_PLAIN)
        with contextlib.suppress(termios.error, OSError, ValueError):  # the terminal may be gone
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, before)

    def _begin(self) -> None:
        if sys.platform == "win32":
            return
        with contextlib.suppress(termios.error):
            self._before = termios.tcgetattr(sys.stdin.fileno())
            self._quieten()
        if threading.current_thread() is threading.main_thread():
            self._continued = signal.signal(signal.SIGCONT, self._quieten)

    def _quieten(self, *signalled: object) -> None:
        """Also after Ctrl-Z and ``fg``: the shell has had the terminal for its own."""
        if sys.platform == "win32":
            return
        if self._before is None or not _is_ours():
            return
        quiet = _line_wise(self._before) if is_dumb() else _key_wise(self._before)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, quiet)
            _mark_pastes(_PASTES_MARKED)


def is_dumb() -> bool:
    """Whether the terminal, by its own account, knows no escape sequences."""
    if os.name != "posix":
        return False
    return os.environ.get("TERM", "").lower() in ("", "dumb", "unknown")


def _is_ours() -> bool:
    """Whether stdin is a terminal whose foreground this process is in; from the background, it
    would be stopped for a change of settings."""
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # none, no terminal, or closed
        return False


if sys.platform != "win32":

    def _line_wise(settings: list[Any]) -> list[Any]:
        """No echo; Ctrl-C interrupts and discards neither what was typed nor what was written."""
        quiet = [*settings]
        quiet[3] = (quiet[3] & ~(termios.ECHO | termios.ECHONL)) | termios.ISIG | termios.NOFLSH
        return quiet

    def _key_wise(settings: list[Any]) -> list[Any]:
        """Keys as they are, too, Enter and Backspace among them, as a line editor reads them."""
        quiet = _line_wise(settings)
        quiet[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR)
        quiet[3] &= ~(termios.ICANON | termios.IEXTEN)
        quiet[6] = [*quiet[6]]
        quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
        return quiet


def _mark_pastes(sequence: str) -> None:
    if sys.stdout is None or is_dumb():
        return
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), sequence.encode())
