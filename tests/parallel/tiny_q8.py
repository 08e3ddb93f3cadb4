"""The tiny Llama with weights in Q8_0, which several rows at once are computed with as one is.

Its f32 weights are not: llama.cpp's kernels for several rows add up in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
from gguf import quants

from tests.tiny_llama import (
    Array,
    Shape,
    add_sizes,
    add_vocabulary,
    checkpoint,
    gguf_name,
    permuted,
    vocabulary,
)


def write_q8(path: Path, shape: Shape, tensors: Mapping[str, Array] | None = None) -> Path:
    """A GGUF that llama.cpp loads, of ``checkpoint``'s tensors or these; the norms stay in f32."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(path.stem)
    add_sizes(writer, shape)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_dim)
    add_vocabulary(writer, vocabulary())
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in (tensors or checkpoint(shape)).items():
        weights = permuted(name, tensor, shape)
        if weights.ndim == 2:
            writer.add_tensor(gguf_name(name), quants.quantize(weights, q8_0), raw_dtype=q8_0)
        else:
            writer.add_tensor(gguf_name(name), weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
