"""Values that would end the process inside llama.cpp are found in the header."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFArray, GGUFHeader, Value, read_header
from fwlocal.soundness import check_sound


@pytest.fixture
def header(tiny_gguf: Path) -> GGUFHeader:
    return read_header(tiny_gguf)


def test_a_sound_model_passes(header: GGUFHeader) -> None:
    check_sound(header)


@pytest.mark.model
def test_the_embedded_default_passes(real_gguf: Path) -> None:
    check_sound(read_header(real_gguf))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("general.architecture", "", "general.architecture is missing"),
        ("general.architecture", "nomic-bert", "cannot answer"),
        ("tokenizer.ggml.model", "bert", "cannot answer"),
        ("tokenizer.ggml.model", "no_vocab", "no vocabulary"),
        ("llama.block_count", 0, "llama.block_count is 0, not 1 to 512"),
        ("llama.block_count", 2**32 - 1, "llama.block_count is 4294967295"),
        ("llama.attention.layer_norm_rms_epsilon", -1.0, "epsilon is -1.0"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), "epsilon is nan"),
        ("llama.expert_count", 4, "0 of 4 experts"),
        ("llama.expert_used_count", 9, "9 of 0 experts"),
        ("tokenizer.ggml.tokens", GGUFArray("string", 0, b""), "0 of the 256 byte tokens"),
    ],
)
def test_a_key_that_would_crash(header: GGUFHeader, key: str, value: Value, says: str) -> None:
    broken = replace(header, metadata={**header.metadata, key: value})
    with pytest.raises(BadModelFile, match="unusable model") as caught:
        check_sound(broken)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "type_name"),
    [("blk.0.attn_q.weight", "F64"), ("output.weight", "I8"), ("blk.0.attn_norm.weight", "F16")],
)
def test_a_tensor_type_that_would_crash(header: GGUFHeader, tensor: str, type_name: str) -> None:
    tensors = tuple(
        replace(t, type_name=type_name) if t.name == tensor else t for t in header.tensors
    )
    with pytest.raises(BadModelFile, match=f"{tensor} is of type {type_name}"):
        check_sound(replace(header, tensors=tensors))
