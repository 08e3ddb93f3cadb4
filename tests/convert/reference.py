"""The reference for whole conversions: the unquantized GGUF that llama.cpp's converter would make
of a checkpoint, written here by other code than ours, for ``llama_model_quantize`` to quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.convert.checkpoints import cast, from_bf16
from tests.tiny_llama import Shape, add_sizes, checkpoint, gguf_name, permuted


def write_unquantized(path: Path, shape: Shape, dtype: str, seed: int = 0) -> Path:
    """Matrices in ``dtype``, vectors in F32, as ``convert_hf_to_gguf.py --outtype`` has them."""
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, shape)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("none")
    for name, tensor in checkpoint(shape, seed).items():
        values = permuted(name, tensor, shape)
        if values.ndim == 1:  # a vector loses what the checkpoint's dtype cannot hold
            stored = cast(values, dtype)
            values = from_bf16(stored) if dtype == "BF16" else stored.astype("float32")
            writer.add_tensor(gguf_name(name), values)
        else:
            kind = gguf.GGMLQuantizationType[dtype]
            stored = cast(values, dtype).view("uint8") if dtype == "BF16" else cast(values, dtype)
            writer.add_tensor(gguf_name(name), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_imatrix(path: Path, shape: Shape) -> dict[str, Any]:
    """A random importance matrix for every matrix of the layers, in llama-imatrix's GGUF form;
    gives its weights, by tensor."""
    random = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "none")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["text"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 64)
    weights = {}
    for name, tensor in checkpoint(shape).items():
        if ".layers." in name and tensor.ndim == 2:
            values = random.random((1, tensor.shape[1]), np.float32)
            weights[gguf_name(name)] = values[0]
            writer.add_tensor(f"{gguf_name(name)}.in_sum2", values)
            writer.add_tensor(f"{gguf_name(name)}.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def tensor_bytes(path: Path) -> dict[str, tuple[str, bytes]]:
    """Every tensor's type and data, in the file's order, by gguf's own reader."""
    return {
        tensor.name: (tensor.tensor_type.name, tensor.data.tobytes())
        for tensor in gguf.GGUFReader(path).tensors
    }
