"""LlamaForCausalLM: config.json to GGUF keys, Hugging Face's tensors to GGUF's.

Names and keys are those of llama.cpp's converter (conversion/llama.py, gguf-py/gguf/constants.py).
A configuration's own code (auto_map) is never run.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from convert.json_file import read_json
from convert.model import ModelTensor
from convert.recipes import ModelShape
from convert.tensors import FLOATS, SourceTensor
from fwlocal.errors import BadCheckpoint

ARCHITECTURES = ("LlamaForCausalLM", "LLaMAForCausalLM")
ACTIVATION = "silu"  # llama.cpp knows no other for this architecture

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

# config.json's key -> (least, most, what transformers' LlamaConfig assumes when it is missing)
INTEGERS: Mapping[str, tuple[int, int, int | None]] = {
    "hidden_size": (1, 1 << 20, None),
    "intermediate_size": (1, 1 << 22, None),
    "num_hidden_layers": (1, 512, None),  # llama.cpp's LLAMA_MAX_LAYERS
    "num_attention_heads": (1, 1 << 16, None),
    "num_key_value_heads": (1, 1 << 16, -1),  # -1: as many as attention heads
    "head_dim": (2, 1 << 16, -1),  # -1: hidden_size / num_attention_heads
    "vocab_size": (1, 1 << 24, None),
    "max_position_embeddings": (1, 1 << 31, 2048),
}


@dataclass(frozen=True)
class LlamaConfig:
    """Hyper-parameters by their names in config.json; ``rope_scaling`` has its rope_type."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Mapping[str, Any]
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool

    @property
    def shape(self) -> ModelShape:
        """What recipes need to know."""
        return ModelShape(
            self.num_hidden_layers, self.num_attention_heads, self.num_key_value_heads
        )


def read_config(path: Path) -> LlamaConfig:
    """The checked configuration in the config.json at ``path``.

    Raises BadCheckpoint for another architecture, a missing key or an impossible value.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{path}: is no JSON object; fetch the file again")
    _check_supported(path, config)
    sizes = {key: _integer(path, config, key) for key in INTEGERS}
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if sizes["num_key_value_heads"] < 0:
        sizes["num_key_value_heads"] = heads
    if heads % sizes["num_key_value_heads"]:
        raise BadCheckpoint(
            f"{path}: num_attention_heads {heads} is no multiple of num_key_value_heads "
            f"{sizes['num_key_value_heads']}"
        )
    if sizes["head_dim"] < 0:
        if hidden % heads:
            raise BadCheckpoint(
                f"{path}: hidden_size {hidden} is no multiple of num_attention_heads {heads}"
            )
        sizes["head_dim"] = hidden // heads
    if sizes["head_dim"] % 2:
        raise BadCheckpoint(f"{path}: head_dim {sizes['head_dim']} is odd, which RoPE cannot turn")
    rope = _rope(path, config)
    return LlamaConfig(
        **sizes,
        rms_norm_eps=_number(path, config, "rms_norm_eps", 1e-6),
        rope_theta=_number(path, rope, "rope_theta", _number(path, config, "rope_theta", 10000.0)),
        rope_scaling=rope,
        tie_word_embeddings=_flag(path, config, "tie_word_embeddings"),
        attention_bias=_flag(path, config, "attention_bias"),
        mlp_bias=_flag(path, config, "mlp_bias"),
    )


def _check_supported(path: Path, config: Mapping[str, Any]) -> None:
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if named not in ARCHITECTURES:
        raise BadCheckpoint(
            f"{path}: the architecture {named!r} is not supported; supported: "
            f"{', '.join(ARCHITECTURES)}"
        )
    if config.get("quantization_config"):
        raise BadCheckpoint(
            f"{path}: the checkpoint is already quantized (quantization_config); name the original"
        )
    if config.get("hidden_act", ACTIVATION) != ACTIVATION:
        raise BadCheckpoint(
            f"{path}: hidden_act is {reprlib.repr(config['hidden_act'])}; only {ACTIVATION} is "
            "supported"
        )


def _integer(path: Path, config: Mapping[str, Any], key: str) -> int:
    least, most, default = INTEGERS[key]
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise BadCheckpoint(
            f"{path}: {key} is {reprlib.repr(value)}; it must be a whole number, {least} to {most}"
        )
    return value


def _number(path: Path, config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if type(value) not in (int, float) or not 1e-30 < value < 1e12:  # NaN is not, either
        raise BadCheckpoint(
            f"{path}: {key} is {reprlib.repr(value)}; it must be a positive number, under 1e12"
        )
    return float(value)


def _flag(path: Path, config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if value is not None and type(value) is not bool:
        raise BadCheckpoint(f"{path}: {key} is {reprlib.repr(value)}; it must be true or false")
    return bool(value)


ROPE_FACTORS = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def _rope(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """rope_parameters (transformers 5) or rope_scaling (before), with ``rope_type`` set."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise BadCheckpoint(f"{path}: rope_scaling must be an object or null")
    kind = str(rope.get("rope_type", rope.get("type", "default"))).lower()
    if kind not in ROPE_FACTORS:
        raise BadCheckpoint(
            f"{path}: rope scaling {kind!r} is not supported; {', '.join(ROPE_FACTORS)} are"
        )
    for key in ROPE_FACTORS[kind]:
        _number(path, {key: None, **rope}, key, 1.0)
    return {**rope, "rope_type": kind}


def key_values(config: LlamaConfig) -> dict[str, Any]:
    """The ``llama.*`` keys (gguf.GGUFValue by key)."""
    u32, f32 = gguf.GGUFValueType.UINT32, gguf.GGUFValueType.FLOAT32
    values: dict[str, Any] = {
        "llama.block_count": (config.num_hidden_layers, u32),
        "llama.context_length": (config.max_position_embeddings, u32),
        "llama.embedding_length": (config.hidden_size, u32),
        "llama.feed_forward_length": (config.intermediate_size, u32),
        "llama.attention.head_count": (config.num_attention_heads, u32),
        "llama.attention.head_count_kv": (config.num_key_value_heads, u32),
        "llama.rope.freq_base": (config.rope_theta, f32),
        "llama.attention.layer_norm_rms_epsilon": (config.rms_norm_eps, f32),
        "llama.attention.key_length": (config.head_dim, u32),
        "llama.attention.value_length": (config.head_dim, u32),
        "llama.vocab_size": (config.vocab_size, u32),
        "llama.rope.dimension_count": (config.head_dim, u32),
    }
    if config.rope_scaling["rope_type"] == "linear":
        values["llama.rope.scaling.type"] = ("linear", gguf.GGUFValueType.STRING)
        values["llama.rope.scaling.factor"] = (float(config.rope_scaling["factor"]), f32)
    return {key: gguf.GGUFValue(value, kind) for key, (value, kind) in values.items()}


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
