"""What this machine has: devices, RAM, cores, bandwidth. The one impure part of planning."""

from fwlocal.hardware.bandwidth import (
    MeasuredBandwidth,
    cached_memory_bandwidth,
    known_bandwidth,
    memory_bandwidth,
)
from fwlocal.hardware.cores import (
    default_threads,
    logical_cores,
    performance_cores,
    physical_cores,
)
from fwlocal.hardware.devices import Device, Machine, distinct, listing_order, machine, memoryless
from fwlocal.hardware.huge_pages import huge_pages
from fwlocal.hardware.ram import Memory, memory

__all__ = [
    "Device",
    "Machine",
    "MeasuredBandwidth",
    "Memory",
    "cached_memory_bandwidth",
    "default_threads",
    "distinct",
    "huge_pages",
    "known_bandwidth",
    "listing_order",
    "logical_cores",
    "machine",
    "memory",
    "memory_bandwidth",
    "memoryless",
    "performance_cores",
    "physical_cores",
]
