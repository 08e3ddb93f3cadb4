"""How llama.cpp binds its threads on a machine with several memory nodes: once for a process."""

from __future__ import annotations

from collections.abc import Mapping

from fwlocal.llama.bindings import lib

NUMA_STRATEGIES: Mapping[str, int] = {  # ggml_numa_strategy
    "distribute": 1,
    "isolate": 2,
    "numactl": 3,
}
_used: list[str] = []


def use_numa(strategy: str | None) -> None:
    """Take a strategy of NUMA_STRATEGIES, before any model is loaded; None is none. llama.cpp can
    take one alone for a process, so that later calls do nothing; on one node none does anything."""
    if strategy is not None and not _used:
        lib.llama_numa_init(NUMA_STRATEGIES[strategy])
        _used.append(strategy)
