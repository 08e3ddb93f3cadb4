"""A Llama's tensors: Hugging Face's names, shapes and rows to GGUF's.

Names are those of llama.cpp's converter (gguf-py/gguf/constants.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convert.llama_config import LlamaConfig
from convert.model import ModelTensor
from convert.sources.tensors import FLOATS, SourceTensor
from fwlocal.errors import BadCheckpoint

# Hugging Face's name within a layer -> (GGUF's, whether every Llama has it).
LAYER = {
    "input_layernorm.weight": ("attn_norm.weight", True),
    "self_attn.q_proj.weight": ("attn_q.weight", True),
    "self_attn.k_proj.weight": ("attn_k.weight", True),
    "self_attn.v_proj.weight": ("attn_v.weight", True),
    "self_attn.o_proj.weight": ("attn_output.weight", True),
    "self_attn.q_proj.bias": ("attn_q.bias", False),
    "self_attn.k_proj.bias": ("attn_k.bias", False),
    "self_attn.v_proj.bias": ("attn_v.bias", False),
    "self_attn.o_proj.bias": ("attn_output.bias", False),
    "post_attention_layernorm.weight": ("ffn_norm.weight", True),
    "mlp.gate_proj.weight": ("ffn_gate.weight", True),
    "mlp.up_proj.weight": ("ffn_up.weight", True),
    "mlp.down_proj.weight": ("ffn_down.weight", True),
    "mlp.gate_proj.bias": ("ffn_gate.bias", False),
    "mlp.up_proj.bias": ("ffn_up.bias", False),
    "mlp.down_proj.bias": ("ffn_down.bias", False),
}
EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"
# Buffers of old checkpoints, which follow from the configuration.
UNUSED = (".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias")


def map_tensors(
    config: LlamaConfig, found: Mapping[str, SourceTensor], folder: Path
) -> tuple[ModelTensor, ...]:
    """Every tensor under its GGUF name.

    Raises BadCheckpoint naming one that is missing, not expected, or of another shape or dtype.
    """
    expected = {name: (target, shape) for name, target, shape, _ in _expected(config)}
    for name, _, _, required in _expected(config):
        if required and name not in found:
            raise BadCheckpoint(f"{folder}: {name} is missing; fetch the checkpoint again, whole")
    return (
        *_rope_freqs(config),
        *(
            _mapped(config, tensor, *expected.get(name, (None, ())))
            for name, tensor in found.items()
            if not name.endswith(UNUSED)
        ),
    )


def _expected(config: LlamaConfig) -> Iterator[tuple[str, str, tuple[int, ...], bool]]:
    """(Hugging Face's name, GGUF's, shape, whether it must be there)."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    widths = {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    vocabulary = (config.vocab_size, hidden)
    yield EMBEDDING, "token_embd.weight", vocabulary, True
    yield "model.norm.weight", "output_norm.weight", (hidden,), True
    yield OUTPUT, "output.weight", vocabulary, not config.tie_word_embeddings
    for layer in range(config.num_hidden_layers):
        for name, (target, always) in LAYER.items():
            module, _, kind = name.rpartition(".")
            rows, columns = widths.get(module, (hidden, 0))
            biased = config.attention_bias if "self_attn" in name else config.mlp_bias
            yield (
                f"model.layers.{layer}.{name}",
                f"blk.{layer}.{target}",
                (rows, columns) if columns and kind == "weight" else (rows,),
                always or biased,
            )


def _mapped(
    config: LlamaConfig, tensor: SourceTensor, target: str | None, shape: tuple[int, ...]
) -> ModelTensor:
    where = f"{tensor.file}: {tensor.name}"
    if target is None:
        raise BadCheckpoint(f"{where}: unexpected tensor; a Llama as config.json says has none")
    if tensor.dtype not in FLOATS:
        raise BadCheckpoint(f"{where}: dtype {tensor.dtype}; {', '.join(FLOATS)} can be converted")
    if tensor.shape != shape:
        hint = ""
        if tensor.name in (EMBEDDING, OUTPUT) and tensor.shape[0] != shape[0]:
            hint = (
                f" (vocab_size in config.json is {shape[0]}, the tensor has {tensor.shape[0]} rows)"
            )
        raise BadCheckpoint(
            f"{where}: shape {list(tensor.shape)}, but config.json asks for {list(shape)}{hint}"
        )
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }
    n_head = next((n for part, n in heads.items() if part in tensor.name), 0)
    return ModelTensor(target, tensor.shape, tensor.dtype, tensor.name, n_head)


def permuted_rows(n_rows: int, n_head: int) -> npt.NDArray[np.int64]:
    """For each row of llama.cpp's Q or K, the row of Hugging Face's that it is.

    Hugging Face turns the two halves of a head against each other, llama.cpp neighbouring rows:
    conversion/llama.py, LlamaModel.permute.
    """
    halves = np.arange(n_rows).reshape(n_head, 2, n_rows // n_head // 2)
    return halves.swapaxes(1, 2).reshape(n_rows)


def _rope_freqs(config: LlamaConfig) -> Iterator[ModelTensor]:
    """Llama 3's frequency factors: conversion/llama.py, generate_extra_tensors.

    In float32 as there, where torch divides a number by a tensor as number * (1 / tensor). The
    power is rounded from float64, since float32 powers differ from one processor to the next.
    """
    rope = config.rope_scaling
    if rope["rope_type"] != "llama3":
        return
    f32, dim = np.float32, config.head_dim
    original = rope["original_max_position_embeddings"]
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    with np.errstate(all="ignore"):  # in what np.where does not choose
        exponents = np.arange(0, dim, 2, dtype=f32) / f32(dim)
        powers = np.power(f32(config.rope_theta), exponents, dtype=np.float64).astype(f32)
        wavelengths = f32(1) / (f32(1) / powers) * f32(2 * math.pi)
        smooth = f32(1) / wavelengths * f32(original) - f32(low)
        smooth = smooth / f32(high - low) if high != low else f32(0)
        between = f32(1) / ((f32(1) - smooth) / f32(factor) + smooth)
        factors = np.where(wavelengths > f32(original / low), f32(factor), between)
        factors = np.where(wavelengths < f32(original / high), f32(1), factors).astype("<f4")
    yield ModelTensor("rope_freqs.weight", factors.shape, "F32", "", values=factors.tobytes())
