"""A terminal that disappears: whatever is at work is stopped, and the process ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")

BUSY = """
import os, signal
from fwlocal.interrupts import Interrupt
from fwlocal.repl.hangup import leaving

interrupt = Interrupt()
with leaving(lambda: {at_work}):
    os.kill(os.getpid(), signal.SIGHUP)
    print("this leads nowhere", flush=True)
    os._exit(7 if interrupt.signal == signal.SIGHUP else 8)
"""


@pytest.mark.parametrize(("at_work", "exit_code"), [("interrupt", 7), ("None", 129)])
def test_what_is_at_work_is_stopped_and_all_else_ends(at_work: str, exit_code: int) -> None:
    script = BUSY.format(at_work=at_work)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (exit_code, b"", b"")
