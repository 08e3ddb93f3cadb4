"""This machine, as a result tells of it."""

from __future__ import annotations

import platform

from fwlocal import hardware, llama
from fwlocal.bench.result import Machine
from fwlocal.hardware.bandwidth import cpu_model


def machine_facts(n_threads: int | None) -> Machine:
    """What it has; ``n_threads`` None are the default's."""
    return Machine(
        cpu=cpu_model(),
        n_threads=n_threads or hardware.default_threads(),
        ram_bytes=hardware.memory().total_bytes,
        gpus=tuple(device.description for device in hardware.machine(llama.devices()).gpus),
        system=f"{platform.system()} {platform.machine()}",
        bandwidth_bytes_per_s=hardware.cached_memory_bandwidth(),
    )
