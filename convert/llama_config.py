"""A Llama's config.json: hyper-parameters, checked, and their GGUF keys.

The keys are those of llama.cpp's converter (conversion/llama.py, conversion/base.py). A
configuration's own code (auto_map) is never run.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from convert.recipes import ModelShape
from convert.sources.json_file import read_json
from fwlocal.errors import BadCheckpoint

ARCHITECTURES = ("LlamaForCausalLM", "LLaMAForCausalLM")
ACTIVATION = "silu"  # llama.cpp knows no other for this architecture

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
            f"{path}: the architecture {reprlib.repr(named)} is not supported; supported: "
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
