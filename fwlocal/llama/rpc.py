"""llama.cpp's RPC: a worker's devices made ours, and ours lent to others.

It believes what it is given: llama.cpp ends the process on an address where no worker of its own
version answers, so callers ask ``fwlocal.workers`` first.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fwlocal.errors import FwlocalError, UsageError
from fwlocal.hardware import Device
from fwlocal.llama.bindings import call, library
from fwlocal.llama.devices import devices, supports_rpc

_OPTIONS = {"CUDA": "GGML_CUDA", "ROCm": "GGML_HIP", "Vulkan": "GGML_VULKAN"}  # by backend


def add_worker(endpoint: str) -> None:
    """Make the devices of the worker at ``endpoint``, HOST:PORT, devices of this process, named
    RPC0, RPC1, ... in the order of the calls; a second call for one changes nothing.

    Raises FwlocalError where llama.cpp was built without RPC, or the worker has no devices.
    """
    rpc = _rpc()
    added = call(rpc, "ggml_backend_rpc_add_server", ctypes.c_void_p, endpoint.encode("ascii"))
    if added is None:
        raise FwlocalError(f"worker {endpoint} has no device to lend; look at its own output")
    call(library("ggml"), "ggml_backend_register", None, ctypes.c_void_p(added))


def lendable(names: Sequence[str] = ()) -> tuple[Device, ...]:
    """The devices called ``names`` (in any case); without names those that a worker of llama.cpp
    lends by default: every one but the CPU and its accelerators, or else the CPU.

    Raises UsageError naming the devices there are.
    """
    return choose(devices(), names)


def choose(present: Sequence[Device], names: Sequence[str]) -> tuple[Device, ...]:
    """``lendable`` of the devices ``present``."""
    if not names:
        others = tuple(device for device in present if device.kind not in ("CPU", "ACCEL"))
        return others or tuple(device for device in present if device.kind == "CPU")[:1]
    known = {device.name.casefold(): device for device in present}
    for name in names:
        if name.casefold() not in known:
            there = ", ".join(device.name for device in present)
            raise UsageError(f"there is no device {name!r}; there are: {there}")
    return tuple(dict.fromkeys(known[name.casefold()] for name in names))


def serve(
    endpoint: str, names: Sequence[str], n_threads: int, cache_folder: Path | None = None
) -> None:
    """Lend the devices called ``names`` at ``endpoint``, an IPv4 address and a port, to one client
    after another, until the process ends; returns only when it cannot (go on).

    It prints to C's stdout. ``cache_folder`` keeps tensors of more than 10 MiB by their hash.
    Raises FwlocalError where llama.cpp was built without RPC.
    """
    rpc, ggml = _rpc(), library("ggml")
    found = [
        call(ggml, "ggml_backend_dev_by_name", ctypes.c_void_p, name.encode()) for name in names
    ]
    handles = (ctypes.c_void_p * len(found))(*found)
    cache = None if cache_folder is None else _native_folder(cache_folder)
    numbers = ctypes.c_size_t(n_threads), ctypes.c_size_t(len(found))
    start = "ggml_backend_rpc_start_server"
    call(rpc, start, None, endpoint.encode("ascii"), cache, *numbers, handles)


def require_rpc() -> None:
    """Raises FwlocalError with the command that builds llama.cpp anew where it has no RPC."""
    if not supports_rpc():
        raise FwlocalError(
            "this llama-cpp-python was built without RPC; build it anew with "
            f"`{rebuild_command({device.backend for device in devices()})}`"
        )


def rebuild_command(backends: Iterable[str]) -> str:
    """What adds RPC to a llama-cpp-python with ``backends``, and keeps those."""
    wanted = sorted(_OPTIONS[name] for name in backends if name in _OPTIONS)
    options = " ".join(f"-D{option}=ON" for option in [*wanted, "GGML_RPC"])
    version = importlib.metadata.version("llama_cpp_python")
    return (
        f'CMAKE_ARGS="{options}" pip install --force-reinstall --no-cache-dir --no-deps '
        f"llama-cpp-python=={version}"
    )


def _rpc() -> ctypes.CDLL:
    require_rpc()
    return library("ggml-rpc")


def _native_folder(folder: Path) -> bytes:
    """A path as std::filesystem takes it: the file system's bytes, on Windows its code page."""
    return str(folder).encode("mbcs") if os.name == "nt" else os.fsencode(folder)
