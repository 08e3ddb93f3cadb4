"""How far a batch is, on stderr: a live line for a person, one now and then for a log."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SHOWN_EVERY_S = 0.2
SAID_EVERY_S = 30.0


class BatchBar:
    """Counts ``total`` answers and their tokens; ``quiet`` shows nothing."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total, self._quiet = total, quiet
        self._started = self._shown = time.monotonic()
        self._bar: Progress | None = None
        self.n_answers = self.n_tokens = 0

    def __enter__(self) -> BatchBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self) -> None:
        """Count the seconds from now on: the model is loaded."""
        self._started = self._shown = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Tokens of all answers, per second."""
        return self.n_tokens / self.seconds if self.seconds else 0.0

    def token(self) -> None:
        """One more, of any answer."""
        self.n_tokens += 1
        every_s = SHOWN_EVERY_S if sys.stderr.isatty() else SAID_EVERY_S
        if not self._quiet and time.monotonic() - self._shown > every_s:
            self._shown = time.monotonic()
            self._show()

    def _show(self) -> None:
        if not sys.stderr.isatty():
            sys.stderr.write(f"fwlocal: {self.n_answers} of {self._total} answers, {self._speed}\n")
            sys.stderr.flush()
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.add_task("", total=self._total)
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0],
            completed=self.n_answers,
            description=f"{self.n_answers} of {self._total}, {self._speed}",
        )

    @property
    def _speed(self) -> str:
        return f"{self.rate:.0f} tok/s"
