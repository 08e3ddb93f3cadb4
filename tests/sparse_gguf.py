"""A GGUF of any size that takes no disk: a true header over a hole, for loads without weights."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np

from fwlocal.gguf import GGML_TYPES
from fwlocal.shapes import LlamaShape
from tests import tiny_llama
from tests.offload.models import header_of

_BLOCKS = {name: (block, size) for name, block, size in GGML_TYPES.values()}


def write_sparse(path: Path, shape: LlamaShape, level: str, n_ctx_train: int = 4096) -> Path:
    """A Llama of that shape and level, its tensors all zero."""
    header = header_of(shape, level, n_ctx_train)
    writer = gguf.GGUFWriter(path, "llama")
    known = tiny_llama.vocabulary()
    made_up = [(f"word{i}", -1000.0 - i, 1) for i in range(shape.n_vocab - len(known))]
    tiny_llama.add_vocabulary(writer, known + made_up)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.n_per_head)
    for key, value in header.metadata.items():
        if isinstance(value, int):
            writer.add_uint32(key, value)
    for tensor in header.tensors:
        kind = gguf.GGMLQuantizationType[tensor.type_name]
        block, block_bytes = _BLOCKS[tensor.type_name]
        rows = tensor.shape[1:][::-1]
        is_plain = tensor.type_name == "F32"
        width = tensor.shape[0] if is_plain else tensor.shape[0] // block * block_bytes
        dims, dtype = (*rows, width), np.dtype("f4" if is_plain else "u1")
        writer.add_tensor_info(tensor.name, dims, dtype, tensor.size_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    start = -(-path.stat().st_size // 32) * 32
    os.truncate(path, start + header.file_size_bytes)
    return path
