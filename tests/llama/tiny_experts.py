"""A random Llama with experts, as small as the tiny one: each layer has several feed-forward
networks, and a router that gives each token to two of them."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.tiny_llama import Shape, add_sizes, add_vocabulary, checkpoint, gguf_name, permuted
from tests.tiny_llama import vocabulary as tiny_vocabulary

N_EXPERTS, N_USED = 4, 2


def write_experts(path: Path, shape: Shape | None = None) -> Path:
    """The model as a GGUF that llama.cpp loads."""
    shape = shape or Shape()
    random = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    add_sizes(writer, shape)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_expert_count(N_EXPERTS)
    writer.add_expert_used_count(N_USED)
    add_vocabulary(writer, tiny_vocabulary())
    for name, tensor in checkpoint(shape).items():
        if ".mlp." not in name:
            writer.add_tensor(gguf_name(name), permuted(name, tensor, shape))
    sizes = {"gate": (shape.intermediate_size, shape.hidden_size)}
    sizes |= {"up": sizes["gate"], "down": sizes["gate"][::-1]}
    for layer in range(shape.num_hidden_layers):
        router = random.normal(0, 1, (N_EXPERTS, shape.hidden_size)).astype(np.float32)
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", router)
        for kind, size in sizes.items():
            experts = random.normal(0, 0.3, (N_EXPERTS, *size)).astype(np.float32)
            writer.add_tensor(f"blk.{layer}.ffn_{kind}_exps.weight", experts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
