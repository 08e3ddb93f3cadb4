"""An entry's bytes: a header that says what it is, then the state.

    magic        8 bytes   "FWLPREFX"
    version      u32       FORMAT
    header size  u32       all before the state, so where that begins
    state size   u64
    n_tokens     u32
    name size    u32
    prefill_s    f64       seconds that evaluating the tokens took
    key          32 bytes  of the setting
    state hash   32 bytes  SHA-256 of the state
    name         UTF-8     the model's, for people
    tokens       i32 each
    header hash  32 bytes  SHA-256 of all before it

All numbers are little-endian. The file ends with the state, so every byte of it is under one of
the two hashes. Of the checksums at hand SHA-256 is the one to trust at the least price: with the
CPU's own instructions it runs at 1.4 GB/s, CRC-32 at twice that, BLAKE2b at a third.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from ctypes import c_uint8
from dataclasses import dataclass
from typing import Any, BinaryIO

from fwlocal.prefix_cache.setting import KEY_BYTES

MAGIC = b"FWLPREFX"
FORMAT = 1
MAX_NAME_BYTES = 1024
TOKEN_BYTES = 4
_FIXED = struct.Struct(f"<8sIIQIId{KEY_BYTES}s32s")
_HASH_BYTES = 32
_FIRST_READ_BYTES = 16 << 10  # the header of up to 4,000 tokens
_BLOCK_BYTES = 1 << 20


class BadEntry(Exception):
    """A file that is no whole entry of this format."""


class GivenUp(Exception):
    """Whoever asked wants to wait no longer."""


@dataclass(frozen=True)
class Header:
    """What an entry says of itself; ``tokens`` as they are packed there."""

    key: bytes
    model: str
    tokens: bytes
    prefill_s: float
    state_bytes: int
    state_sha256: bytes = b""

    @property
    def n_tokens(self) -> int:
        """How many tokens the state holds."""
        return len(self.tokens) // TOKEN_BYTES

    @property
    def header_bytes(self) -> int:
        """Where the state begins."""
        return _FIXED.size + len(self._name) + len(self.tokens) + _HASH_BYTES

    @property
    def entry_bytes(self) -> int:
        """The whole file's size."""
        return self.header_bytes + self.state_bytes

    @property
    def _name(self) -> bytes:
        return self.model.encode()

    def packed(self, state_sha256: bytes) -> bytes:
        """The header's bytes."""
        name = self._name
        fixed = _FIXED.pack(
            MAGIC,
            FORMAT,
            self.header_bytes,
            self.state_bytes,
            self.n_tokens,
            len(name),
            self.prefill_s,
            self.key,
            state_sha256,
        )
        content = fixed + name + self.tokens
        return content + hashlib.sha256(content).digest()


def short_name(model: str) -> str:
    """A model's name, as far as an entry has room for it."""
    return model.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")


def packed_tokens(tokens: Sequence[int]) -> bytes:
    """Token ids as an entry has them."""
    packed = array("i", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def n_common(left: bytes, right: bytes) -> int:
    """How many packed tokens both begin with."""
    low, high = 0, min(len(left), len(right)) // TOKEN_BYTES
    while low < high:
        middle = (low + high + 1) // 2
        same = slice(low * TOKEN_BYTES, middle * TOKEN_BYTES)
        if left[same] == right[same]:
            low = middle
        else:
            high = middle - 1
    return low


def read_header(file: BinaryIO) -> Header:
    """The header of an open entry, after which the state follows. Raises BadEntry, OSError.

    Sizes are held against the file's own before anything is read or allocated by them.
    """
    size = os.fstat(file.fileno()).st_size
    data = file.read(min(size, _FIRST_READ_BYTES))
    if len(data) < _FIXED.size:
        raise BadEntry("it is cut off")
    magic, version, header_bytes, state_bytes, n_tokens, n_name, prefill_s, key, state_sha256 = (
        _FIXED.unpack_from(data)
    )
    if magic != MAGIC or version != FORMAT:
        raise BadEntry("it has another format")
    sizes = _FIXED.size + n_name + n_tokens * TOKEN_BYTES + _HASH_BYTES
    if sizes != header_bytes or header_bytes + state_bytes != size or not state_bytes:
        raise BadEntry("its sizes do not agree")
    if not n_tokens or not (math.isfinite(prefill_s) and prefill_s >= 0):
        raise BadEntry("it saves nothing")
    if header_bytes > len(data):
        data += file.read(header_bytes - len(data))
    content = data[: header_bytes - _HASH_BYTES]
    if hashlib.sha256(content).digest() != data[len(content) : header_bytes]:
        raise BadEntry("its header is damaged")
    file.seek(header_bytes)
    name, tokens = content[_FIXED.size :][:n_name], content[_FIXED.size + n_name :]
    model = name.decode("utf-8", "replace")
    return Header(key, model, tokens, prefill_s, state_bytes, state_sha256)


def read_state(file: BinaryIO, header: Header, give_up: Callable[[int], bool]) -> Any:
    """The state behind a header that was just read, as an array of C bytes in memory of its own:
    what native code gets are the bytes that were checked, whatever happens to the file meanwhile.

    ``give_up`` is asked between blocks, and told how many bytes were read. Raises BadEntry,
    GivenUp, MemoryError, OSError.
    """
    memory = bytearray(header.state_bytes)
    digest, done = hashlib.sha256(), 0
    with memoryview(memory) as view:
        while done < header.state_bytes:
            if give_up(done):
                raise GivenUp
            with view[done : done + _BLOCK_BYTES] as block:
                count = _read_into(file, block)
                if not count:
                    raise BadEntry("it is cut off")
                digest.update(block[:count])
            done += count
    if digest.digest() != header.state_sha256:
        raise BadEntry("its state is damaged")
    return (c_uint8 * header.state_bytes).from_buffer(memory)


def _read_into(file: BinaryIO, block: memoryview) -> int:
    count = file.readinto(block)  # type: ignore[attr-defined]  # of an unbuffered file
    return int(count or 0)


def write_entry(file: BinaryIO, header: Header, state: Any, give_up: Callable[[], bool]) -> None:
    """Write an entry into an empty file, synced. The header, which makes it one, comes last.

    ``state`` is of ``header.state_bytes`` bytes; ``give_up`` is asked between blocks. Raises
    GivenUp, OSError.
    """
    digest = hashlib.sha256()
    file.seek(header.header_bytes)
    with memoryview(state) as view:
        for start in range(0, header.state_bytes, _BLOCK_BYTES):
            if give_up():
                raise GivenUp
            with view[start : start + _BLOCK_BYTES] as block:
                digest.update(block)
                file.write(block)
    file.seek(0)
    file.write(header.packed(digest.digest()))
    file.flush()
    os.fsync(file.fileno())
