"""A tiny Llama's checkpoint folder, made on the spot: config.json, weights, tokenizer.

folder = write_checkpoint(tmp_path / "m", dtype="BF16", shards=3, config={"rope_theta": 5e5})
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.convert import torch_writer
from tests.convert.tokenizers_made_here import write_json, write_sentencepiece
from tests.tiny_llama import BOS, EOS, Shape, checkpoint

Array = npt.NDArray[Any]

SHAPE = Shape(vocab_size=512)  # enough rows for a tokenizer that is trained here
TORCH_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# numpy's dtype -> safetensors'; uint16 are the bits of bfloat16.
DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "uint16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_checkpoint(
    folder: Path,
    shape: Shape | None = None,
    *,
    dtype: str = "F32",
    layout: str = "safetensors",
    shards: int = 1,
    tied: bool = False,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Array | None] | None = None,
    tokenizer: bool = True,
) -> Path:
    """The checkpoint of ``tiny_llama.checkpoint(shape, seed)`` in ``folder``, which is made.

    ``dtype``: F32, F16 or BF16; ``layout``: safetensors or bin (torch's); several ``shards`` get
    an index. ``config`` and ``tensors`` replace entries, or delete those that they give as None;
    float32 is cast to ``dtype``, other arrays stay as they are, uint16 being bfloat16. A
    ``tokenizer`` needs 500 rows of vocabulary or more.
    """
    shape = shape or SHAPE
    folder.mkdir(parents=True, exist_ok=True)
    weights = {**checkpoint(shape, seed), **(tensors or {})}
    if tied and "lm_head.weight" not in (tensors or {}):
        weights.pop("lm_head.weight", None)
    stored = {name: cast(array, dtype) for name, array in weights.items() if array is not None}
    tied = tied or shape.tie_word_embeddings
    settings = {**config_of(shape, dtype), "tie_word_embeddings": tied, **(config or {})}
    write_json(folder / "config.json", {k: v for k, v in settings.items() if v is not None})
    write_weights(folder, stored, layout=layout, shards=shards)
    if tokenizer:
        write_tokenizer(folder)
    return folder


def config_of(shape: Shape, dtype: str) -> dict[str, Any]:
    """What config.json says of ``shape``."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": TORCH_DTYPES[dtype],
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_theta": shape.rope_theta,
        "attention_bias": shape.attention_bias,
        "mlp_bias": shape.mlp_bias,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }


def write_tokenizer(folder: Path) -> None:
    """A tokenizer.model of 500 tokens, and its tokenizer_config.json."""
    write_sentencepiece(folder)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
        },
    )


def write_weights(
    folder: Path,
    tensors: Mapping[str, Array],
    *,
    layout: str = "safetensors",
    shards: int = 1,
    index: bool = True,
) -> list[Path]:
    """The files of weights, and an index where there are several, unless it is not wanted."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[layout]
    names = list(tensors)
    paths, weight_map = [], {}
    for number, part in enumerate(np.array_split(np.arange(len(names)), shards), start=1):
        of = f"-{number:05d}-of-{shards:05d}" if shards > 1 else ""
        path = folder / f"{stem}{of}.{layout}"
        held = {names[n]: tensors[names[n]] for n in part}
        write_safetensors(path, held) if layout == "safetensors" else write_torch(path, held)
        weight_map.update(dict.fromkeys(held, path.name))
        paths.append(path)
    if shards > 1 and index:
        total = sum(array.nbytes for array in tensors.values())
        content = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / f"{stem}.{layout}.index.json", content)
    return paths


def write_torch(path: Path, tensors: Mapping[str, Array]) -> None:
    """A torch checkpoint; uint16 arrays are bfloat16."""
    views = {
        name: torch_writer.bf16(array) if array.dtype == np.uint16 else array
        for name, array in tensors.items()
    }
    torch_writer.save(path, views)


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A safetensors file; uint16 arrays are bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        entry = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape)}
        header[name] = {**entry, "data_offsets": [begin, end]}
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in tensors.values())
    path.write_bytes(safetensors_bytes(header, data))


def write_hollow(path: Path, shape: Shape) -> None:
    """BF16 safetensors of any size, all zero, that take no room on the disk."""
    start, size = _bf16_header(shape)
    path.write_bytes(start)
    os.truncate(path, len(start) + size)


def write_random(path: Path, shape: Shape) -> None:
    """BF16 safetensors of any size, never in memory as a whole: normal numbers, the same again
    every 8 MB."""
    start, size = _bf16_header(shape)
    block = to_bf16(np.random.default_rng(0).normal(0, 0.02, 4 << 20).astype(np.float32)).tobytes()
    with path.open("wb") as file:
        file.write(start)
        for begin in range(0, size, len(block)):
            file.write(block[: size - begin])


def tensor_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every tensor of a checkpoint without biases, in Hugging Face's order."""
    q, kv = (n * shape.head_dim for n in (shape.num_attention_heads, shape.num_key_value_heads))
    hidden, ffn = shape.hidden_size, shape.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, hidden)}
    for layer in range(shape.num_hidden_layers):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.input_layernorm.weight": (hidden,),
            f"{name}.self_attn.q_proj.weight": (q, hidden),
            f"{name}.self_attn.k_proj.weight": (kv, hidden),
            f"{name}.self_attn.v_proj.weight": (kv, hidden),
            f"{name}.self_attn.o_proj.weight": (hidden, q),
            f"{name}.post_attention_layernorm.weight": (hidden,),
            f"{name}.mlp.gate_proj.weight": (ffn, hidden),
            f"{name}.mlp.up_proj.weight": (ffn, hidden),
            f"{name}.mlp.down_proj.weight": (hidden, ffn),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not shape.tie_word_embeddings:
        shapes["lm_head.weight"] = (shape.vocab_size, hidden)
    return shapes


def _bf16_header(shape: Shape) -> tuple[bytes, int]:
    """The header for every tensor of ``shape``, and how many bytes of data follow it."""
    header, end = {}, 0
    for name, dims in tensor_shapes(shape).items():
        begin, end = end, end + 2 * math.prod(dims)
        header[name] = {"dtype": "BF16", "shape": list(dims), "data_offsets": [begin, end]}
    return safetensors_bytes(header), end


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file of any header, as JSON or already text, padded as the format advises."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def cast(array: Array, dtype: str) -> Array:
    """float32 as F32, F16, or BF16's bits in uint16; any other array as it is."""
    if array.dtype != np.float32:
        return array
    if dtype == "BF16":
        return to_bf16(array)
    return array.astype({"F32": np.float32, "F16": np.float16}[dtype])


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even; for finite values."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The same numbers as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
