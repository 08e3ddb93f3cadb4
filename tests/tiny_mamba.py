"""A random Mamba of a few thousand weights: a model that keeps a state, which no token leaves."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests import tiny_llama

HIDDEN, INNER, STATE, CONV, RANK, LAYERS = 32, 64, 8, 4, 4, 2


def write_gguf(path: Path) -> Path:
    """A GGUF that llama.cpp loads, with the vocabulary of the tiny Llama."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_name("tiny mamba")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(CONV)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    tiny_llama.add_vocabulary(writer, tiny_llama.vocabulary())
    n_vocab = len(tiny_llama.vocabulary())

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", n_vocab, HIDDEN)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    add("output.weight", n_vocab, HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(HIDDEN, np.float32))
        add(f"{block}.ssm_in.weight", 2 * INNER, HIDDEN)
        add(f"{block}.ssm_conv1d.weight", INNER, CONV)
        add(f"{block}.ssm_conv1d.bias", INNER)
        add(f"{block}.ssm_x.weight", RANK + 2 * STATE, INNER)
        add(f"{block}.ssm_dt.weight", INNER, RANK)
        add(f"{block}.ssm_dt.bias", INNER)
        writer.add_tensor(f"{block}.ssm_a", -np.ones((INNER, STATE), np.float32))
        add(f"{block}.ssm_d", INNER)
        add(f"{block}.ssm_out.weight", HIDDEN, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
