"""Making workers' devices those of a child process, without waiting for ever.

A worker serves one client at a time and lets the next one wait; llama.cpp knows no timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fwlocal.children import Parent
from fwlocal.errors import NetworkError

TIMEOUT_S = 6.0


def add_workers(parent: Parent, workers: Sequence[str]) -> None:
    """Add them in their order. For one that does not answer the process gives up, and the parent
    gets a NetworkError."""
    from fwlocal.llama.rpc import add_worker

    for worker in workers:
        is_busy = NetworkError(
            f"worker {worker} takes the connection but does not answer within {TIMEOUT_S:g} s; it "
            "may be serving another machine: wait for that, or start it again there"
        )
        timer = threading.Timer(TIMEOUT_S, parent.give_up, [is_busy])
        timer.daemon = True
        timer.start()
        try:
            add_worker(worker)
        finally:
            timer.cancel()
