"""The most memory that this process holds over a stretch of work: its resident set, mapped parts of
files included, as the system counts it.

What takes the memory, it does not know. Linux keeps the peak itself and can be told to begin anew
(proc(5): writing 5 to /proc/PID/clear_refs resets VmHWM); elsewhere, and where that is not allowed,
the size is looked at every 20 ms, which can miss a shorter peak.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc/self")
EVERY_S = 0.02
_RESET_PEAK = b"5"


def rss_now() -> int:
    """Bytes that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


class PeakRss:
    """``with PeakRss() as peak: ...``, and then ``peak.bytes``; one at a time in a process.

    ``proc`` is where the kernel shows this process; ``look`` and ``every_s`` are used where it
    cannot be asked for the peak.
    """

    def __init__(
        self, proc: Path = PROC, look: Callable[[], int] = rss_now, every_s: float = EVERY_S
    ) -> None:
        self.bytes: int | None = None
        self._proc, self._look, self._every_s = proc, look, every_s
        self._is_over = threading.Event()
        self._watcher: threading.Thread | None = None
        self._highest = 0

    def __enter__(self) -> PeakRss:
        if not (self._reset() and self._kernels_peak() is not None):
            self._highest = self._look()
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watcher is None:
            self.bytes = self._kernels_peak()
            return
        self._is_over.set()
        self._watcher.join()
        self.bytes = max(self._highest, self._look())

    def _watch(self) -> None:
        while not self._is_over.wait(self._every_s):
            self._highest = max(self._highest, self._look())

    def _reset(self) -> bool:
        try:
            descriptor = os.open(self._proc / "clear_refs", os.O_WRONLY)  # nobody may read it
        except OSError:
            return False
        try:
            return os.write(descriptor, _RESET_PEAK) > 0
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _kernels_peak(self) -> int | None:
        """VmHWM in bytes: "VmHWM:     9720 kB"."""
        try:
            lines = (self._proc / "status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        words = next((s.split() for s in lines.splitlines() if s.startswith("VmHWM:")), [])
        return int(words[1]) * 1024 if len(words) == 3 and words[1].isdecimal() else None
