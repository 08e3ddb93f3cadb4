"""A GGUF of any size: one tensor of random bytes, sound by its header."""

from __future__ import annotations

import random
import struct
from pathlib import Path

_PIECE_BYTES = 100_000_000


def sound_gguf(n_bytes: int, seed: int = 0) -> bytes:
    """About ``n_bytes`` of it; no model, but whole."""
    n_elements = n_bytes // 4
    return _header(n_elements) + random.Random(seed).randbytes(4 * n_elements)


def write_sound_gguf(path: Path, n_bytes: int) -> None:
    """The same as a file, never in memory as a whole."""
    n_elements = n_bytes // 4
    with path.open("wb") as file:
        file.write(_header(n_elements))
        for start in range(0, 4 * n_elements, _PIECE_BYTES):
            count = min(_PIECE_BYTES, 4 * n_elements - start)
            file.write(random.Random(start).randbytes(count))


def _header(n_elements: int) -> bytes:
    key, value, name = b"general.architecture", b"none", b"t"
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1)
    header += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    header += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, n_elements, 0, 0)
    return header + b"\0" * (-len(header) % 32)
