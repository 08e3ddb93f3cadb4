"""Importance matrices to files: llama.cpp's GGUF format, whole or not at all.

``NAME.in_sum2`` [n_per_row, n_experts] and ``NAME.counts`` [1, n_experts], both F32, in the order
of the names; keys of our own tell which run collected them, and other readers pass them over.

Source: ``IMatrixCollector::save_imatrix`` in ``tools/imatrix/imatrix.cpp``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import gguf
import numpy as np

from convert.imatrix.entries import Sums
from convert.imatrix.reading import CHUNK_COUNT, CHUNK_SIZE, COUNTS, DATASETS, SUMS
from fwlocal.errors import DoesNotFit, StoreError
from fwlocal.files import NO_ROOM, sync_folder

UNKNOWN = "unknown"  # instead of an empty list, which GGUFs do not have


def write_sums(path: Path, sums: Sums) -> None:
    """Put them at ``path``: a reader sees all of them, or what was there before, also after a
    crash. Raises StoreError, or DoesNotFit where the disk is full; nothing is left behind then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        _write(temporary, sums)
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            kind = DoesNotFit if error.errno in NO_ROOM else StoreError
            problem = error.strerror or error
            raise kind(f"{path}: cannot be written ({problem}); choose another --out") from error
        raise


def _write(path: Path, sums: Sums) -> None:
    writer = gguf.GGUFWriter(path, "")  # no architecture: a matrix has none
    writer.add_type("imatrix")
    writer.add_array(DATASETS, list(sums.datasets or (UNKNOWN,)))
    writer.add_uint32(CHUNK_COUNT, sums.n_chunks)
    writer.add_uint32(CHUNK_SIZE, sums.chunk_size)
    for key, value in sums.keys.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    for name, entry in sorted(sums.entries.items()):
        n_counts = len(entry.counts)
        rows = (n_counts, -1) if n_counts > 1 else (-1,)  # as ggml leaves out a last dimension of 1
        writer.add_tensor(name + SUMS, entry.sums.reshape(rows))
        writer.add_tensor(name + COUNTS, entry.counts.astype(np.float32).reshape(rows))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
