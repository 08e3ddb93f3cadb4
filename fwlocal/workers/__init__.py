"""Other machines that lend their devices through llama.cpp's RPC: who answers, and with what.

No native code here: what it does with an address where no worker answers is to end the process.
"""

from fwlocal.workers.probe import (
    DEFAULT_PORT,
    MAX_DEVICES,
    RPC_VERSION,
    TIMEOUT_S,
    Address,
    WorkerDevice,
    parse_address,
    parse_addresses,
    probe,
    resolve,
    worker_devices,
)

__all__ = [
    "DEFAULT_PORT",
    "MAX_DEVICES",
    "RPC_VERSION",
    "TIMEOUT_S",
    "Address",
    "WorkerDevice",
    "parse_address",
    "parse_addresses",
    "probe",
    "resolve",
    "worker_devices",
]
