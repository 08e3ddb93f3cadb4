"""A random Llama of a few thousand weights: a Hugging Face checkpoint and the GGUF of it.

Small enough to be made in milliseconds, real enough for llama.cpp: grouped-query attention, a
SentencePiece-style vocabulary with byte fallback, BOS and EOS. ``forward`` is the same model in
numpy, the reference that answers are held against.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

WORDS = ["▁the", "▁whale", "▁sings", "▁sea", "▁and", "he", "th", "▁", "e", "a", "h", "t", "s", "w"]
BOS, EOS, BYTES = 1, 2, 3  # ids; the 256 byte tokens start at 3


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters, by their names in config.json; ``head_dim`` 0 divides the hidden size."""

    hidden_size: int = 64
    intermediate_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    max_position_embeddings: int = 512
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    head_dim: int = 0
    vocab_size: int = BYTES + 256 + len(WORDS)
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        object.__setattr__(self, "head_dim", head_dim)


def vocabulary() -> list[tuple[str, float, int]]:
    """(text, score, token type) of every token, as SentencePiece has them."""
    special = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    byte_tokens = [(f"<0x{value:02X}>", 0.0, 6) for value in range(256)]
    return special + byte_tokens + [(word, -float(rank), 1) for rank, word in enumerate(WORDS)]


def checkpoint(shape: Shape, seed: int = 0) -> dict[str, Array]:
    """The weights under Hugging Face's names, float32, deterministic."""
    random = np.random.default_rng(seed)
    q_size = shape.num_attention_heads * shape.head_dim
    kv_size = shape.num_key_value_heads * shape.head_dim
    hidden, ffn = shape.hidden_size, shape.intermediate_size

    def matrix(rows: int, columns: int) -> Array:
        return random.normal(0, 0.4, (rows, columns)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(shape.vocab_size, hidden)}
    for layer in range(shape.num_hidden_layers):
        name = f"model.layers.{layer}"
        tensors |= {
            f"{name}.input_layernorm.weight": np.ones(hidden, np.float32),
            f"{name}.self_attn.q_proj.weight": matrix(q_size, hidden),
            f"{name}.self_attn.k_proj.weight": matrix(kv_size, hidden),
            f"{name}.self_attn.v_proj.weight": matrix(kv_size, hidden),
            f"{name}.self_attn.o_proj.weight": matrix(hidden, q_size),
            f"{name}.post_attention_layernorm.weight": np.ones(hidden, np.float32),
            f"{name}.mlp.gate_proj.weight": matrix(ffn, hidden),
            f"{name}.mlp.up_proj.weight": matrix(ffn, hidden),
            f"{name}.mlp.down_proj.weight": matrix(hidden, ffn),
        }
    tensors["model.norm.weight"] = np.ones(hidden, np.float32)
    if not shape.tie_word_embeddings:
        tensors["lm_head.weight"] = matrix(shape.vocab_size, hidden)
    biased = ("self_attn.",) * shape.attention_bias + ("mlp.",) * shape.mlp_bias
    for name in [name for name in tensors if any(part in name for part in biased)]:
        rows = tensors[name].shape[0]
        tensors[name.replace(".weight", ".bias")] = matrix(1, rows)[0]
    return tensors


_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    path: Path,
    shape: Shape | None = None,
    *,
    seed: int = 0,
    template: str | None = None,
    extra_tokens: tuple[tuple[str, float, int], ...] = (),
) -> Path:
    """The checkpoint as a GGUF that llama.cpp loads; one with extra tokens for its vocabulary."""
    shape = shape or Shape()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    add_sizes(writer, shape)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_rope_dimension_count(shape.head_dim)
    if shape.head_dim * shape.num_attention_heads != shape.hidden_size:
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
    add_vocabulary(writer, [*vocabulary(), *extra_tokens])
    if template is not None:
        writer.add_chat_template(template)
    for name, tensor in checkpoint(shape, seed).items():
        writer.add_tensor(gguf_name(name), permuted(name, tensor, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_vocabulary(writer: gguf.GGUFWriter, tokens: list[tuple[str, float, int]]) -> None:
    """The keys of a SentencePiece tokenizer."""
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def add_sizes(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The hyper-parameters that llama.cpp asks every Llama for."""
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)


def gguf_name(name: str) -> str:
    """A tensor's name in a GGUF."""
    fixed = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    module, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_GGUF_NAMES[module]}.{kind}"


def permuted(name: str, tensor: Array, shape: Shape) -> Array:
    """Q and K rows from Hugging Face's half-split rotary order to llama.cpp's interleaved one."""
    heads = {"q_proj": shape.num_attention_heads, "k_proj": shape.num_key_value_heads}
    for part, n_head in heads.items():
        if part in name:
            halves = tensor.reshape(n_head, 2, shape.head_dim // 2, -1)
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(tensor.shape))
    return tensor


def unpermuted(name: str, tensor: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    """The way back."""
    heads = {"q_proj": shape.num_attention_heads, "k_proj": shape.num_key_value_heads}
    for part, n_head in heads.items():
        if part in name:
            pairs = tensor.reshape(n_head, shape.head_dim // 2, 2, -1)
            return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(tensor.shape))
    return tensor


def forward(tensors: dict[str, Array], shape: Shape, tokens: list[int]) -> Array:
    """Logits of the last position, computed in numpy from the Hugging Face weights."""
    x = tensors["model.embed_tokens.weight"][tokens]
    positions = np.arange(len(tokens))
    for layer in range(shape.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        h = _norm(x, weights["input_layernorm.weight"], shape)
        x = x + _attention(h, weights, shape, positions)
        h = _norm(x, weights["post_attention_layernorm.weight"], shape)
        gate = _linear(h, weights, "mlp.gate_proj")
        gate = gate / (1 + np.exp(-gate))
        x = x + _linear(gate * _linear(h, weights, "mlp.up_proj"), weights, "mlp.down_proj")
    last = _norm(x[-1:], tensors["model.norm.weight"], shape)
    output = "model.embed_tokens" if shape.tie_word_embeddings else "lm_head"
    return np.asarray(_linear(last, tensors, output)[0], np.float32)


def _linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    product = x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", np.float32(0))
    return np.asarray(product, np.float32)


def _norm(x: Array, weight: Array, shape: Shape) -> Array:
    mean_square = np.mean(x * x, axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean_square + shape.rms_norm_eps) * weight, np.float32)


def _attention(
    h: Array, weights: dict[str, Array], shape: Shape, positions: npt.NDArray[np.int64]
) -> Array:
    def heads(name: str, count: int) -> Array:
        projected = _linear(h, weights, f"self_attn.{name}")
        return projected.reshape(len(h), count, shape.head_dim).swapaxes(0, 1)

    q = _rotate(heads("q_proj", shape.num_attention_heads), shape, positions)
    k = _rotate(heads("k_proj", shape.num_key_value_heads), shape, positions)
    v = heads("v_proj", shape.num_key_value_heads)
    groups = shape.num_attention_heads // shape.num_key_value_heads
    k, v = np.repeat(k, groups, axis=0), np.repeat(v, groups, axis=0)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(shape.head_dim)
    scores = np.where(positions[:, None] >= positions[None, :], scores, -np.inf)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    mixed = (shares @ v).swapaxes(0, 1).reshape(len(h), -1)
    return _linear(mixed, weights, "self_attn.o_proj")


def _rotate(x: Array, shape: Shape, positions: npt.NDArray[np.int64]) -> Array:
    half = shape.head_dim // 2
    frequencies = shape.rope_theta ** (-np.arange(half) / half)
    angles = positions[:, None] * frequencies[None, :]
    cos, sin = np.cos(angles), np.sin(angles)
    left, right = x[..., :half], x[..., half:]
    turned = [left * cos - right * sin, right * cos + left * sin]
    return np.concatenate(turned, axis=-1).astype(np.float32)
