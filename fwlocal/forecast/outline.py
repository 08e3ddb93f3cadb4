"""The header that a GGUF of a model would have, made up from its shape before there is a file.

Tensors are those of the Llama architecture, in llama-quantize's order. Which type each gets at a
level, this module does not know: it is told by whoever converts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fwlocal.gguf import DEFAULT_ALIGNMENT, GGML_TYPES, GGUFHeader, TensorInfo
from fwlocal.shapes import LlamaShape

# A level, and all tensors as (name, shape with the outermost dimension first) -> type names.
TypesOf = Callable[[str, Sequence[tuple[str, tuple[int, ...]]]], Mapping[str, str]]

SAME = 0.01  # published sizes are rounded, and hold the vocabulary

_BLOCKS = {name: (block, size_bytes) for name, block, size_bytes in GGML_TYPES.values()}


def outline(
    shape: LlamaShape, n_ctx_train: int, level: str, types_of: TypesOf, path: Path
) -> GGUFHeader:
    """The header of ``path``, a GGUF of that level; it has no vocabulary, which no plan needs."""
    dims = dict(_tensors(shape))
    types = types_of(level, list(dims.items()))
    tensors, end = [], 0
    for name, size in dims.items():
        block, block_bytes = _BLOCKS[types[name]]
        size_bytes = math.prod(size) // block * block_bytes
        tensors.append(TensorInfo(name, size[::-1], types[name], end, size_bytes))
        end += -(-size_bytes // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
    return GGUFHeader(path, 3, _metadata(shape, n_ctx_train), tuple(tensors), 0, end)


def as_published(header: GGUFHeader, size_bytes: int) -> GGUFHeader:
    """The header itself, or where a published file is of another size, since llama-quantize's
    recipes have changed, one of that size."""
    off = abs(header.file_size_bytes - size_bytes)
    return rescaled(header, header.path, size_bytes) if off > SAME * size_bytes else header


def rescaled(header: GGUFHeader, path: Path, size_bytes: int) -> GGUFHeader:
    """The header of the same model in a file of ``size_bytes``, at another level: each matrix takes
    its share. Exact as a whole, and within a few per cent for each layer."""
    beside = header.file_size_bytes - header.weights_bytes
    factor = max(0, size_bytes - beside) / max(1, header.weights_bytes)
    tensors = tuple(
        replace(tensor, size_bytes=round(tensor.size_bytes * factor)) for tensor in header.tensors
    )
    return replace(header, path=path, tensors=tensors, file_size_bytes=size_bytes)


def _metadata(shape: LlamaShape, n_ctx_train: int) -> dict[str, str | int]:
    return {
        "general.architecture": "llama",
        "llama.block_count": shape.n_layer,
        "llama.context_length": n_ctx_train,
        "llama.embedding_length": shape.n_embd,
        "llama.feed_forward_length": shape.n_ff,
        "llama.attention.head_count": shape.n_head,
        "llama.attention.head_count_kv": shape.n_head_kv,
        "llama.attention.key_length": shape.n_per_head,
        "llama.attention.value_length": shape.n_per_head,
        "llama.vocab_size": shape.n_vocab,
    }


def _tensors(shape: LlamaShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and shape, outermost dimension first; those of no layer come first."""
    vocabulary = (shape.n_vocab, shape.n_embd)
    if not shape.tied:
        yield "output.weight", vocabulary
    yield "output_norm.weight", (shape.n_embd,)
    yield "token_embd.weight", vocabulary
    q, kv = shape.n_head * shape.n_per_head, shape.n_head_kv * shape.n_per_head
    parts = {
        "attn_k": (kv, shape.n_embd),
        "attn_norm": (shape.n_embd,),
        "attn_output": (shape.n_embd, q),
        "attn_q": (q, shape.n_embd),
        "attn_v": (kv, shape.n_embd),
        "ffn_down": (shape.n_embd, shape.n_ff),
        "ffn_gate": (shape.n_ff, shape.n_embd),
        "ffn_norm": (shape.n_embd,),
        "ffn_up": (shape.n_ff, shape.n_embd),
    }
    for layer in range(shape.n_layer):
        for part, dims in parts.items():
            yield f"blk.{layer}.{part}.weight", dims
