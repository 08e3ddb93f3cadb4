"""A GGUF of any size: one tensor of random bytes, sound by its header."""

from __future__ import annotations

import random
import struct


def sound_gguf(n_bytes: int, seed: int = 0) -> bytes:
    """About ``n_bytes`` of it; no model, but whole."""
    n_elements = n_bytes // 4
    key, value, name = b"general.architecture", b"none", b"t"
    header = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1)
    header += struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    header += struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, n_elements, 0, 0)
    header += b"\0" * (-len(header) % 32)
    return header + random.Random(seed).randbytes(4 * n_elements)
