"""The program called in this process: what ``fwlocal`` of conftest.py does, in milliseconds.

What the program changes of its process for good is put back at the end.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.cli import main
from tests.conftest import Run


@contextlib.contextmanager
def running_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """A function with arguments and results like those of conftest's ``fwlocal``."""
    log = logging.getLogger("fwlocal")
    level, handlers, on_sigterm = log.level, [*log.handlers], signal.getsignal(signal.SIGTERM)

    def run(*arguments: str | Path, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        log.setLevel(level)
        log.handlers = [*handlers]
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments)])
        shown = capsys.readouterr()
        code = int(left.value.code or 0)
        return subprocess.CompletedProcess(arguments, code, shown.out, shown.err)

    try:
        yield run
    finally:
        log.setLevel(level)
        log.handlers = handlers
        signal.signal(signal.SIGTERM, on_sigterm)


def one_line(text: str) -> bool:
    """Whether an error is told in one line of the program's own."""
    return text.startswith("fwlocal: ") and text.count("\n") == 1
