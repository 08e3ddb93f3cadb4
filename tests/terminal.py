"""The program in a pseudo-terminal, with a terminal emulator that shows what a person would see."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pexpect
import pyte

PATIENCE_S = 60.0  # on a busy machine
UNSET = ("COLUMNS", "LINES", "NO_COLOR")


class Terminal:
    """Runs ``command`` on a screen of ``columns`` by ``rows`` that keeps what scrolls away."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=5000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        inherited = {name: value for name, value in os.environ.items() if name not in UNSET}
        terminal = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.child: Any = pexpect.spawn(
            command[0],
            list(command[1:]),
            dimensions=(rows, columns),
            env={**inherited, **terminal, **(env or {})},
            timeout=PATIENCE_S,
        )
        self.child.delaybeforesend = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    def type(self, text: str) -> None:
        """Send keys; ``\\r`` is Enter."""
        self.child.send(text)

    def send(self, line: str) -> None:
        """Type a line and press Enter."""
        self.type(line + "\r")

    def take(self, timeout_s: float = 0.05) -> bool:
        """Show what has come; False once the program has ended."""
        try:
            data = self.child.read_nonblocking(65536, timeout=timeout_s)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.output += data
        self._stream.feed(data)
        return True

    def until(self, is_there: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait. Raises TimeoutError, which shows the screen."""
        end = time.monotonic() + timeout_s
        while not is_there():
            if time.monotonic() > end:
                raise TimeoutError("\n".join(["not in time:", *self.lines()]))
            if not self.take() and not is_there():
                raise TimeoutError("\n".join(["it has ended:", *self.lines()]))

    def wait_for(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """Wait for a regular expression in all that was shown."""
        self.until(lambda: re.search(pattern, self.text(), re.MULTILINE) is not None, timeout_s)
        found = re.search(pattern, self.text(), re.MULTILINE)
        if found is None:
            raise TimeoutError(pattern)
        return found

    def wait_for_prompt(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the editor stands at an empty line."""
        self.until(lambda: self.cursor_line() == ">" and self.screen.cursor.x == 2, timeout_s)

    def ask(self, line: str, timeout_s: float = PATIENCE_S) -> list[str]:
        """Type a line, and return what is shown until the next prompt."""
        before = len(self.lines())
        self.send(line)
        # The prompt that was typed at must be gone before the next one counts.
        self.until(lambda: len(self.lines()) > before, timeout_s)
        self.wait_for_prompt(timeout_s)
        return [text for text in self.lines()[before:] if text and text != ">"]

    def settle(self, quiet_s: float = 0.5) -> None:
        """Wait until nothing more comes."""
        end = time.monotonic() + quiet_s
        while time.monotonic() < end:
            seen = len(self.output)
            if not self.take():
                return
            if len(self.output) > seen:
                end = time.monotonic() + quiet_s

    def resize(self, columns: int, rows: int) -> None:
        """What the user does with the window."""
        self.child.setwinsize(rows, columns)
        self.screen.resize(rows, columns)

    def cursor_line(self) -> str:
        """The line that the cursor is on."""
        return str(self.screen.display[self.screen.cursor.y]).rstrip()

    def lines(self) -> list[str]:
        """All that was shown, from the scroll-back on, without empty lines at the end."""
        columns = self.screen.columns
        above = [
            "".join(line[x].data for x in range(columns)).rstrip()
            for line in self.screen.history.top
        ]
        lines = [*above, *(row.rstrip() for row in self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines())

    def exit_code(self) -> int | None:
        """What it ended with; minus the signal that ended it."""
        self.settle(0.2)
        self.child.wait() if self.child.isalive() else None
        self.child.close()
        signal: int | None = self.child.signalstatus
        return -signal if signal else self.child.exitstatus


def fwlocal(*arguments: object) -> list[str]:
    """The command that runs the program as it is here."""
    return [sys.executable, "-m", "fwlocal", *map(str, arguments)]
