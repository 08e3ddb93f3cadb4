"""What memory llama.cpp took, as its log tells: one line for every buffer it made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fwlocal.hardware import Device

MIB = 2**20

# "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB", and so from llama-kv-cache.cpp
# (KV), llama-memory-recurrent.cpp (RS) and llama-context.cpp (compute, output).
_LINE = re.compile(r"(\S+)\s+(model|KV|RS|compute|output) buffer size =\s+([\d.]+) MiB")
_KINDS = {"model": "weights", "KV": "kv", "RS": "kv", "compute": "compute", "output": "compute"}
# From ggml-alloc.c, with the size, and from llama-model.cpp.
_REFUSED = re.compile(r"(?:failed|unable) to allocate (\S+) buffer(?: of size (\d+))?")
# What backends append to a device's name: files mapped, weights repacked, pinned host memory.
_SUFFIX = re.compile(r"(_Mapped|_REPACK|_Private|_Shared|_AARCH64|_AMX)$")


@dataclass(frozen=True)
class Buffer:
    """A buffer that was made. ``kind`` is weights, kv or compute; ``is_mapped`` when it is a part
    of the file, which reaches from the first tensor in it to the last and takes no memory of
    its own."""

    name: str
    kind: str
    size_bytes: int
    is_mapped: bool


def buffer_in(line: str) -> Buffer | None:
    """The buffer that a line of the log tells of."""
    found = _LINE.search(line)
    if found is None:
        return None
    name, kind, size = found.groups()
    mapped = name.endswith("_Mapped")
    return Buffer(_SUFFIX.sub("", name), _KINDS[kind], round(float(size) * MIB), mapped)


@dataclass(frozen=True)
class RefusedBuffer:
    """A buffer that a device did not give; None where the log does not tell its size."""

    name: str
    size_bytes: int | None


def refused_buffer(text: str) -> RefusedBuffer | None:
    """The refusal that a line of the log, or a message with it, tells of."""
    found = _REFUSED.search(text)
    if found is None:
        return None
    return RefusedBuffer(_SUFFIX.sub("", found[1]), int(found[2]) if found[2] else None)


def buffer_names(devices: Sequence[Device]) -> dict[str, str]:
    """The devices' names by the names of their buffers: mostly the same, but a worker's are called
    by its address and the device's number there."""
    names: dict[str, str] = {}
    for device in devices:
        if device.backend == "RPC":
            number = sum(
                other.startswith("RPC") and other.endswith(f"[{device.description}]")
                for other in names
            )
            names[f"RPC{number}[{device.description}]"] = device.name
        else:
            names[device.name] = device.name
    return names
