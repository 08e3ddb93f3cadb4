"""A pseudo-terminal whose screen is emulated, with tests/repl/editor_at_work.py in it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pexpect: Any = pytest.importorskip("pexpect")
pyte: Any = pytest.importorskip("pyte")

AT_WORK = Path(__file__).with_name("editor_at_work.py")
PATIENCE_S = 20.0


class Terminal:
    """tests/repl/editor_at_work.py in a terminal, which answers what is asked of a terminal."""

    def __init__(
        self,
        history: Path | None = None,
        keys: str = "emacs",
        *,
        rows: int = 24,
        columns: int = 80,
        ignore_sighup: bool = False,
        **env: str,
    ) -> None:
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "VISUAL", "EDITOR")}
        self.child = pexpect.spawn(
            sys.executable,
            [str(AT_WORK), str(history or "-"), keys],
            dimensions=(rows, columns),
            env={**clean, "TERM": "xterm", "PYTHONPATH": str(AT_WORK.parents[2]), **env},
            ignore_sighup=ignore_sighup,
        )
        self.child.delaybeforesend = None
        self.screen = pyte.Screen(columns, rows)
        self.screen.write_process_input = self.send
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""

    def send(self, data: str | bytes) -> None:
        self.child.send(data)

    @property
    def text(self) -> str:
        """The screen, without the spaces at the ends of lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def until(self, condition: Callable[[str], bool]) -> str:
        """The screen, once it is so."""
        end = time.monotonic() + PATIENCE_S
        while not condition(self.text):
            assert time.monotonic() < end, f"the screen stays\n{self.text}"
            try:
                data = self.child.read_nonblocking(65536, 0.02)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                break
            self.raw += data
            self.stream.feed(data)
        assert condition(self.text), f"it ended with\n{self.text}"
        return self.text

    def shows(self, *wanted: str) -> str:
        """The screen, once all that is wanted is on it."""
        return self.until(lambda text: all(one in text for one in wanted))

    def prompts(self) -> str:
        """The screen, once an empty message is being asked for at its end."""
        return self.until(lambda text: self.message == ">")

    @property
    def message(self) -> str:
        """What is at the last prompt, and below it."""
        lines = [line for line in self.text.split("\n") if line and line != "the toolbar"]
        starts = [n for n, line in enumerate(lines) if line.startswith(">")]
        return "\n".join(lines[starts[-1] :]) if starts else ""

    def holds(self, message: str) -> str:
        """The screen, once the message is as wanted."""
        return self.until(lambda text: self.message == message)

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def ends(self) -> None:
        """It leaves by itself, with exit code 0."""
        self.shows("LEFT")
        self.child.expect(pexpect.EOF, timeout=PATIENCE_S)
        self.child.close()
        assert self.child.exitstatus == 0

    def close(self) -> None:
        self.child.close(force=True)
