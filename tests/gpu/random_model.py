"""A GGUF of a Llama's shape and random weights, of any size, written as fast as the disk takes it.

A few rows of each ggml type are quantized once and repeated: the bytes, the types and the work per
token are those of a real model, what it says is not.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from convert.quantize import build_tables, quantize_rows
from convert.recipes import LEVELS, ModelShape, llama_cpp_order, tensor_types
from convert.sources.tensors import row_bytes
from fwlocal.errors import BadModelFile, DoesNotFit, FwlocalError, UsageError
from fwlocal.files import partial_path, sized
from fwlocal.gguf import read_header
from tests import tiny_llama
from tests.tiny_llama import Shape

LEVEL = LEVELS["Q4_K_M"]
SEVENTY_B = Shape(8192, 28672, 80, 64, 8, max_position_embeddings=4096, vocab_size=32000)
SEVEN_B = Shape(4096, 11008, 32, 32, 32, max_position_embeddings=4096, vocab_size=32000)
SIGMA = 0.02  # what Llamas are initialised with
PATTERN_ROWS = 64
SPECIAL = 3  # <unk>, <s> and </s>: the first ids
SPARE_BYTES = 2**30  # left free on the disk

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor as it will be written, ``shape`` outermost first."""

    name: str
    shape: tuple[int, ...]
    type_name: str

    @property
    def size_bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape[:-1]) * row_bytes(self.type_name, self.shape[-1])


def plan_tensors(shape: Shape) -> tuple[PlannedTensor, ...]:
    """The tensors of a Q4_K_M of that shape, in llama.cpp's order."""
    shapes = dict(_tensors(shape))
    sizes = (shape.num_hidden_layers, shape.num_attention_heads, shape.num_key_value_heads)
    types = tensor_types(LEVEL, list(shapes.items()), ModelShape(*sizes))
    names = llama_cpp_order(shapes)
    return tuple(PlannedTensor(name, shapes[name], types[name]) for name in names)


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, ffn = shape.hidden_size, shape.intermediate_size
    q_size = shape.num_attention_heads * shape.head_dim
    kv_size = shape.num_key_value_heads * shape.head_dim
    layer: Mapping[str, tuple[int, ...]] = {
        "attn_norm": (hidden,),
        "attn_q": (q_size, hidden),
        "attn_k": (kv_size, hidden),
        "attn_v": (kv_size, hidden),
        "attn_output": (hidden, q_size),
        "ffn_norm": (hidden,),
        "ffn_gate": (ffn, hidden),
        "ffn_up": (ffn, hidden),
        "ffn_down": (hidden, ffn),
    }
    yield "token_embd.weight", (shape.vocab_size, hidden)
    yield "output_norm.weight", (hidden,)
    yield "output.weight", (shape.vocab_size, hidden)
    for number in range(shape.num_hidden_layers):
        yield from ((f"blk.{number}.{name}.weight", dims) for name, dims in layer.items())


def type_counts(tensors: tuple[PlannedTensor, ...]) -> dict[str, int]:
    """How many tensors are of each ggml type."""
    return dict(Counter(tensor.type_name for tensor in tensors))


def check_shape(shape: Shape) -> None:
    """Raise UsageError for a shape that Q4_K_M's blocks, or the vocabulary, do not fit."""
    for name in ("hidden_size", "intermediate_size"):
        if getattr(shape, name) % 256:
            raise UsageError(f"{name} is {getattr(shape, name)}; it must be a multiple of 256")
    if shape.hidden_size % shape.num_attention_heads:
        raise UsageError(f"{shape.num_attention_heads} heads do not share {shape.hidden_size}")
    least = len(tiny_llama.vocabulary())
    if shape.vocab_size < least:
        raise UsageError(f"vocab_size is {shape.vocab_size}; it must be at least {least}")


def vocabulary(size: int) -> list[tuple[str, float, int]]:
    """(text, score, token type) of ``size`` tokens: the tiny Llama's, and words made up."""
    known = tiny_llama.vocabulary()
    more = range(len(known), size)
    return known + [(f"▁word{number}", -float(number), 1) for number in more]


def ensure_model(path: Path, shape: Shape, tell: Callable[[str], None]) -> Path:
    """The model at ``path``, written unless it is there and whole.

    Raises DoesNotFit for too little disk, UsageError for a shape that cannot be.
    """
    check_shape(shape)
    tensors = plan_tensors(shape)
    if _is_there(path, tensors, shape):
        tell(f"{path}: is there")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    check_disk(path.parent, sum(tensor.size_bytes for tensor in tensors))
    growing = partial_path(path)
    try:
        _write(growing, shape, tensors, tell)
        os.replace(growing, path)
    except OSError as error:
        growing.unlink(missing_ok=True)
        raise FwlocalError(f"{path}: cannot be written ({error}); choose another --work") from error
    return path


def check_disk(folder: Path, need_bytes: int) -> None:
    """Raise DoesNotFit unless ``folder`` has room for them and a little more."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < need_bytes + SPARE_BYTES:
        raise DoesNotFit(
            f"{folder}: the model needs {sized(need_bytes + SPARE_BYTES)}, and "
            f"{sized(free_bytes)} are free; choose another --work"
        )


def _is_there(path: Path, tensors: tuple[PlannedTensor, ...], shape: Shape) -> bool:
    """Whether the file holds these tensors, all of them; ``read_header`` checks the length."""
    try:
        header = read_header(path)
    except BadModelFile:
        return False
    expected = [(t.name, t.type_name, t.shape[::-1]) for t in tensors]
    found = [(t.name, t.type_name, tuple(t.shape)) for t in header.tensors]
    n_ctx = header.number("{arch}.context_length")
    return found == expected and n_ctx == shape.max_position_embeddings


def _write(
    path: Path, shape: Shape, tensors: tuple[PlannedTensor, ...], tell: Callable[[str], None]
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    _add_keys(writer, shape)
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.type_name]
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.size_bytes, raw_dtype=kind
        )
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total, done = sum(tensor.size_bytes for tensor in tensors), 0
        for number, tensor in enumerate(tensors):
            pattern = _pattern(tensor.type_name, tensor.shape[-1])
            writer.write_tensor_data(np.resize(pattern, tensor.size_bytes))
            done += tensor.size_bytes
            if number % 50 == 0 or done == total:
                tell(f"{path.name}: {sized(done)} of {sized(total)}")
    finally:
        writer.close()


def _add_keys(writer: gguf.GGUFWriter, shape: Shape) -> None:
    tokens = vocabulary(shape.vocab_size)
    writer.add_name(f"random {shape.num_hidden_layers} layers")
    writer.add_file_type(LEVEL.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tiny_llama.add_sizes(writer, shape)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(tiny_llama.BOS)
    writer.add_eos_token_id(tiny_llama.EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


@lru_cache(maxsize=16)
def _pattern(type_name: str, n_per_row: int) -> Bytes:
    """The bytes of PATTERN_ROWS rows; ones for a vector.

    The first rows are zeros: as the output's they are those of the special tokens, so that greedy
    decoding never ends an answer.
    """
    if type_name == "F32":
        return np.ones(n_per_row, np.float32).view(np.uint8)
    values = np.random.default_rng(0).normal(0, SIGMA, (PATTERN_ROWS, n_per_row))
    values[:SPECIAL] = 0
    blocks = np.empty(PATTERN_ROWS * row_bytes(type_name, n_per_row), np.uint8)
    build_tables(type_name)
    quantize_rows(values.astype(np.float32), n_per_row, type_name, blocks)
    return blocks
