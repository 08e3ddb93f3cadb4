"""The embedded model as a Hugging Face checkpoint again: real weights and a real vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.convert.checkpoints import config_of, tensor_shapes, write_weights
from tests.convert.tokenizers_made_here import write_json
from tests.tiny_llama import Shape, gguf_name, unpermuted

_CONTROL, _USER_DEFINED = 3, 4


def write_real_checkpoint(folder: Path, model: Path) -> Path:
    """``model``, a GGUF of SmolLM2, as float16 safetensors with tokenizer.json."""
    reader = gguf.GGUFReader(model)
    keys = {key: field.contents() for key, field in reader.fields.items()}
    shape = Shape(
        hidden_size=keys["llama.embedding_length"],
        intermediate_size=keys["llama.feed_forward_length"],
        num_hidden_layers=keys["llama.block_count"],
        num_attention_heads=keys["llama.attention.head_count"],
        num_key_value_heads=keys["llama.attention.head_count_kv"],
        max_position_embeddings=keys["llama.context_length"],
        rms_norm_eps=keys["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=keys["llama.rope.freq_base"],
        vocab_size=len(keys["tokenizer.ggml.tokens"]),
        tie_word_embeddings=True,
    )
    stored = {tensor.name: tensor for tensor in reader.tensors}
    weights = {}
    for name in tensor_shapes(shape):
        tensor = stored[gguf_name(name)]
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
        weights[name] = unpermuted(name, values, shape)
    folder.mkdir(parents=True)
    ids = {
        "bos_token_id": keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": keys["tokenizer.ggml.eos_token_id"],
    }
    tied = {"tie_word_embeddings": True}
    write_json(folder / "config.json", {**config_of(shape, "F16"), **ids, **tied})
    write_weights(folder, weights, shards=2)
    _write_tokenizer(folder, keys)
    return folder


def _write_tokenizer(folder: Path, keys: dict[str, Any]) -> None:
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    added = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == _CONTROL,
        }
        for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": keys["tokenizer.ggml.merges"],
        },
    }
    write_json(folder / "tokenizer.json", tokenizer)
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": tokens[keys["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[keys["tokenizer.ggml.eos_token_id"]],
        "chat_template": keys["tokenizer.chat_template"],
        "add_prefix_space": False,
    }
    write_json(folder / "tokenizer_config.json", config)
