"""A random Cohere2 of a few thousand weights: three of its four layers look through a window."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests import tiny_llama

HIDDEN, FEED, HEADS, LAYERS = 32, 64, 2, 4
WINDOW = 48  # tokens that such a layer sees


def write_gguf(path: Path) -> Path:
    """A GGUF that llama.cpp loads, with the vocabulary of the tiny Llama."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "cohere2")
    writer.add_name("tiny window")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_logit_scale(1.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_sliding_window(WINDOW)
    tiny_llama.add_vocabulary(writer, tiny_llama.vocabulary())

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd", len(tiny_llama.vocabulary()), HIDDEN)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(HIDDEN, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}.{part}", HIDDEN, HIDDEN)
        add(f"{block}.ffn_gate", FEED, HIDDEN)
        add(f"{block}.ffn_up", FEED, HIDDEN)
        add(f"{block}.ffn_down", HIDDEN, FEED)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
