"""Llama's tensors: their GGUF names, the order of Q's and K's rows, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.llama import map_tensors, permuted_rows
from convert.llama_config import LlamaConfig, read_config
from convert.sources.tensors import SourceTensor
from tests.convert.checkpoints import config_of
from tests.convert.refused import refused
from tests.convert.tokenizers_made_here import write_json
from tests.tiny_llama import Shape, checkpoint, gguf_name, permuted

Array = npt.NDArray[Any]

FOLDER = Path("some") / "model"
FILE = FOLDER / "model.safetensors"
SHAPE = Shape(hidden_size=48, intermediate_size=80, vocab_size=20)
BIASED = replace(SHAPE, attention_bias=True, mlp_bias=True, head_dim=32)
TIED = replace(SHAPE, tie_word_embeddings=True)


def config(shape: Shape, folder: Path) -> LlamaConfig:
    """The configuration of ``shape``, by way of a config.json."""
    content = {**config_of(shape, "F32"), "tie_word_embeddings": shape.tie_word_embeddings}
    write_json(folder / "config.json", content)
    return read_config(folder / "config.json")


def tensors(shape: Shape, dtype: str = "F32") -> dict[str, SourceTensor]:
    """What a source tells of its tensors."""
    return {
        name: SourceTensor(name, dtype, array.shape, FILE, 0)
        for name, array in checkpoint(shape).items()
    }


@pytest.mark.parametrize("shape", [SHAPE, BIASED, TIED], ids=["plain", "biased", "tied"])
def test_every_tensor_under_its_gguf_name(shape: Shape, tmp_path: Path) -> None:
    weights = checkpoint(shape)
    mapped = map_tensors(config(shape, tmp_path), tensors(shape, "BF16"), FOLDER)
    assert [tensor.source_name for tensor in mapped] == list(weights)
    for tensor in mapped:
        array = weights[tensor.source_name]
        assert (tensor.name, tensor.shape) == (gguf_name(tensor.source_name), array.shape)
        assert (tensor.dtype, tensor.values) == ("BF16", None)
        if tensor.n_head:
            array = array[permuted_rows(len(array), tensor.n_head)]
        assert np.array_equal(
            array, permuted(tensor.source_name, weights[tensor.source_name], shape)
        )


def test_a_tied_model_may_have_its_output_twice(tmp_path: Path) -> None:
    mapped = map_tensors(config(TIED, tmp_path), tensors(SHAPE), FOLDER)
    assert "output.weight" in [tensor.name for tensor in mapped]


@settings(deadline=None)
@given(n_head=st.integers(1, 8), half=st.integers(1, 16), seed=st.integers(0, 9))
def test_rows_go_back_to_where_transformers_took_them_from(
    n_head: int, half: int, seed: int
) -> None:
    """convert_llama_weights_to_hf.py turns Meta's rows, and llama.cpp's, into Hugging Face's."""
    meta = np.random.default_rng(seed).normal(size=(n_head * half * 2, 3))
    hugging_face = meta.reshape(n_head, half, 2, 3).swapaxes(1, 2).reshape(-1, 3)
    assert np.array_equal(hugging_face[permuted_rows(len(meta), n_head)], meta)


@settings(deadline=None)
@given(half=st.integers(1, 8), positions=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_scores_are_the_same_in_either_order(half: int, positions: tuple[int, int]) -> None:
    """RoPE by halves, then q · k; the same by neighbours, on the rows in llama.cpp's order."""
    vectors = np.random.default_rng(half).normal(size=(2, 2 * half))
    left, right = vectors[:, :half], vectors[:, half:]
    ordered = vectors[:, permuted_rows(2 * half, 1)]
    assert score(left, right, positions) == pytest.approx(
        score(ordered[:, ::2], ordered[:, 1::2], positions)
    )


def score(x: Array, y: Array, positions: tuple[int, int]) -> float:
    """q · k of two vectors whose pairs (x, y) are turned by RoPE."""
    half = x.shape[1]
    angles = np.outer(positions, 10000.0 ** (-np.arange(half) / half))
    turned = [x * np.cos(angles) - y * np.sin(angles), y * np.cos(angles) + x * np.sin(angles)]
    q, k = np.concatenate(turned, axis=1)
    return float(q @ k)


@pytest.mark.parametrize("name", checkpoint(BIASED))
def test_a_missing_tensor(name: str, tmp_path: Path) -> None:
    found = tensors(BIASED)
    del found[name]
    refused(
        lambda: map_tensors(config(BIASED, tmp_path), found, FOLDER),
        f"{FOLDER}: {name} is missing",
        "fetch",
    )


@pytest.mark.parametrize("name", checkpoint(BIASED))
def test_a_misshapen_tensor(name: str, tmp_path: Path) -> None:
    found = tensors(BIASED)
    right = found[name].shape
    for shape in ((*right[:-1], right[-1] + 2), (1, *right), (*right[::-1], 1)):
        found[name] = replace(found[name], shape=shape)
        what = f"{name}: shape {list(shape)}, but config.json asks for {list(right)}"
        refused(lambda: map_tensors(config(BIASED, tmp_path), found, FOLDER), FILE, what)


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "lm_head.weight"])
def test_another_vocabulary(name: str, tmp_path: Path) -> None:
    found = tensors(SHAPE)
    found[name] = replace(found[name], shape=(21, 48))
    what = "vocab_size in config.json is 20, the tensor has 21 rows"
    refused(lambda: map_tensors(config(SHAPE, tmp_path), found, FOLDER), FILE, name, what)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",  # there are two layers
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.00.mlp.up_proj.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "embed_tokens.weight",
        "",
    ],
)
def test_an_unexpected_tensor(name: str, tmp_path: Path) -> None:
    found = tensors(SHAPE) | {name: SourceTensor(name, "F32", (48,), FILE, 0)}
    refused(
        lambda: map_tensors(config(SHAPE, tmp_path), found, FOLDER),
        f"{FILE}: {name}: unexpected tensor",
    )


@pytest.mark.parametrize("dtype", ["I64", "F64", "U8", "BOOL", "F8_E4M3"])
def test_numbers_that_cannot_be_converted(dtype: str, tmp_path: Path) -> None:
    name = "model.layers.1.input_layernorm.weight"
    found = tensors(SHAPE)
    found[name] = replace(found[name], dtype=dtype)
    what = f"{FILE}: {name}: dtype {dtype}; F32, F16, BF16 can be converted"
    refused(lambda: map_tensors(config(SHAPE, tmp_path), found, FOLDER), what)


@pytest.mark.parametrize("dtype", ["F32", "F64", "I64"])
def test_buffers_of_old_checkpoints_are_left_out(dtype: str, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    found = tensors(SHAPE)
    more = found | {name: SourceTensor(name, dtype, (6,), FILE, 0)}
    settings = config(SHAPE, tmp_path)
    assert map_tensors(settings, more, FOLDER) == map_tensors(settings, found, FOLDER)
