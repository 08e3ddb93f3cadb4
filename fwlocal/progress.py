"""Progress of long work, on stderr and only for a person who watches a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

DELAY_S = 0.7  # shorter work needs no bar


class ProgressBar:
    """A bar that appears once the work takes long, and leaves no trace."""

    def __init__(self, description: str) -> None:
        self.description = description
        self._started = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, fraction: float) -> None:
        """Show that ``fraction`` of the work is done."""
        if self._bar is None:
            late = time.monotonic() - self._started > DELAY_S
            if not late or not sys.stderr.isatty():
                return
            self._bar = self._start()
        self._bar.update(self._bar.task_ids[0], completed=fraction)

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=True)
        bar.add_task(self.description, total=1.0)
        bar.start()
        return bar
