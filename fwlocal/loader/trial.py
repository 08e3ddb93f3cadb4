"""Loads that are tried in a process of their own, where llama.cpp may fail or abort.

A dry load reads only what a file's header says, and tells how large the buffers would be; a full
one shows whether the devices really give the memory. Most loads need neither, and so what children
need is imported with the first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted, NetworkError
from fwlocal.interrupts import Interrupt
from fwlocal.offload import OffloadPlan

if TYPE_CHECKING:
    from fwlocal.children import Child
    from fwlocal.llama import Buffer

PROCESS = "fwlocal.loader.trial_process"
DRY_TIMEOUT_S = 30.0
_POLL_S = 0.05  # how soon Ctrl-C is heard


@dataclass(frozen=True)
class Trial:
    """A load by ``plan``, the ``workers``' devices included. The child answers with the buffers
    that it made."""

    path: Path
    plan: OffloadPlan
    workers: Sequence[str]
    n_threads: int
    dry: bool


class Trials:
    """A child for trials, started when it is first needed; Interrupted is raised when
    ``interrupt`` is set meanwhile."""

    def __init__(self, interrupt: Interrupt | None = None) -> None:
        self._interrupt = interrupt or Interrupt()
        self._child: Child | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def dry_buffers(self, trial: Trial) -> tuple[Buffer, ...] | None:
        """What a dry load tells; None where it cannot be made. Raises NetworkError for a worker
        that does not answer."""
        from fwlocal.children import ChildDied, ChildFailed

        try:
            return self._run(trial, DRY_TIMEOUT_S)
        except (NetworkError, Interrupted):
            raise
        except (ChildDied, ChildFailed, FwlocalError, TimeoutError):
            self._end()
            return None

    def buffers(self, trial: Trial) -> tuple[Buffer, ...]:
        """What a full load took. Raises DoesNotFit, or what else a load raises, if it fails; also
        when llama.cpp aborts."""
        from fwlocal.children import ChildDied

        try:
            return self._run(trial, None)
        except ChildDied as died:
            raise DoesNotFit(f"a trial load ended llama.cpp ({died})") from died

    def _run(self, trial: Trial, timeout_s: float | None) -> tuple[Buffer, ...]:
        from fwlocal.children import Child

        if self._child is None or not self._child.is_alive:
            self._child = Child(PROCESS)
        self._child.send(trial)
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._interrupt.is_set():
                self._end()
                raise Interrupted(exit_code=self._interrupt.exit_code)
            try:
                buffers: tuple[Buffer, ...] = self._child.receive(_POLL_S)
            except TimeoutError:
                if ends_at is not None and time.monotonic() > ends_at:
                    raise
            else:
                return buffers

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = None
