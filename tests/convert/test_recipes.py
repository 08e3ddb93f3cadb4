"""Every type that a level gives is held against the installed llama.cpp's own choice."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.recipes import (
    LEVELS,
    Level,
    ModelShape,
    level_named,
    llama_cpp_order,
    needs_imatrix,
    tensor_types,
)
from fwlocal.errors import UsageError
from fwlocal.gguf import GGML_TYPES, read_header
from tests import tiny_llama
from tests.convert import llama_quant

Tensors = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Llama:
    """The sizes of a dense Llama, and its tensors."""

    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int
    n_vocab: int = 32000
    tied: bool = False

    @property
    def shape(self) -> ModelShape:
        return ModelShape(self.n_layer, self.n_head, self.n_head_kv)

    @property
    def tensors(self) -> Tensors:
        """All tensors in no useful order, so that none can be relied on."""
        n_embd, n_ff = self.n_embd, self.n_ff
        n_embd_kv = n_embd // self.n_head * self.n_head_kv
        layer = {
            "attn_norm.weight": (n_embd,),
            "attn_q.weight": (n_embd, n_embd),
            "attn_k.weight": (n_embd_kv, n_embd),
            "attn_v.weight": (n_embd_kv, n_embd),
            "attn_v.bias": (n_embd_kv,),
            "attn_output.weight": (n_embd, n_embd),
            "ffn_norm.weight": (n_embd,),
            "ffn_gate.weight": (n_ff, n_embd),
            "ffn_up.weight": (n_ff, n_embd),
            "ffn_down.weight": (n_embd, n_ff),
        }
        tensors: dict[str, tuple[int, ...]] = {
            f"blk.{index}.{name}": dims
            for index in range(self.n_layer)
            for name, dims in layer.items()
        }
        tensors |= {
            "token_embd.weight": (self.n_vocab, n_embd),
            "output_norm.weight": (n_embd,),
            "rope_freqs.weight": (n_embd // self.n_head // 2,),
        }
        if not self.tied:
            tensors["output.weight"] = (self.n_vocab, n_embd)
        return random.Random(0).sample(list(tensors.items()), len(tensors))


LLAMAS = {
    "7B": Llama(32, 4096, 11008, 32, 32),
    "13B": Llama(40, 5120, 13824, 40, 40),
    "65B": Llama(80, 8192, 22016, 64, 64),
    "70B": Llama(80, 8192, 28672, 64, 8),
    "80 layers, 2 heads share": Llama(80, 1024, 2816, 8, 4),
    "grouped": Llama(6, 1024, 2816, 16, 4),
    "grouped, tied": Llama(6, 1024, 2816, 16, 4, tied=True),
    "3 heads share": Llama(17, 768, 2048, 12, 4),
    "odd vocabulary": Llama(24, 2048, 5632, 32, 4, n_vocab=32003),
    "blocks of 32 only": Llama(30, 576, 1536, 9, 3, n_vocab=49152, tied=True),
    "blocks of 32 only, untied": Llama(30, 576, 1536, 9, 3, n_vocab=49153),
    "no blocks": Llama(9, 48, 80, 4, 2, n_vocab=273),
    "no blocks, tied": Llama(9, 48, 80, 4, 2, n_vocab=273, tied=True),
    "one row": Llama(3, 256, 1, 256, 1, n_vocab=2),
}
LLAMA_3_8B = Llama(32, 4096, 14336, 32, 8, n_vocab=128256)


def expected_types(level: str, llama: Llama) -> dict[str, str]:
    """What the library chooses, which wants the tensors in its own order."""
    dims = dict(llama.tensors)
    ordered = [(name, dims[name]) for name in llama_cpp_order(dims)]
    return llama_quant.compute_types(
        level, ordered, n_layer=llama.n_layer, n_head=llama.n_head, n_head_kv=llama.n_head_kv
    )


@pytest.mark.parametrize("llama", LLAMAS.values(), ids=LLAMAS.keys())
@pytest.mark.parametrize("level", LEVELS)
def test_types_are_llama_cpps(level: str, llama: Llama) -> None:
    assert tensor_types(level, llama.tensors, llama.shape) == expected_types(level, llama)


@st.composite
def llamas(draw: st.DrawFn) -> Llama:
    n_head_kv = draw(st.integers(1, 6))
    n_head = n_head_kv * draw(st.integers(1, 9))
    head_dim = draw(st.sampled_from([2, 6, 16, 32, 48, 64, 80, 128, 256]))
    return Llama(
        n_layer=draw(st.integers(1, 40) | st.just(80)),
        n_embd=n_head * head_dim,
        n_ff=draw(st.integers(1, 40)) * draw(st.sampled_from([1, 32, 256])),
        n_head=n_head,
        n_head_kv=n_head_kv,
        n_vocab=draw(st.integers(1, 70000)),
        tied=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60, derandomize=True)
@given(llamas(), st.sampled_from(sorted(LEVELS)))
def test_types_of_any_shape_are_llama_cpps(llama: Llama, level: str) -> None:
    assert tensor_types(level, llama.tensors, llama.shape) == expected_types(level, llama)


@dataclass(frozen=True)
class Blank:
    """A GGUF of 8 layers whose weights are all zero, which are quantized in no time."""

    path: Path
    shape: ModelShape
    tensors: Tensors

    def columns(self, names: Iterable[str]) -> dict[str, llama_quant.Array]:
        """An importance matrix of ones for the tensors of these names."""
        dims = dict(self.tensors)
        return {name: np.ones(dims[name][-1], np.float32) for name in names}


@pytest.fixture(scope="module", params=[1, 2], ids=["4 heads share", "2 heads share"])
def blank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Blank:
    shape = tiny_llama.Shape(
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=request.param,
    )
    path = tiny_llama.write_gguf(tmp_path_factory.mktemp("blank") / "blank.gguf", shape)
    header = read_header(path)
    with path.open("r+b") as file:
        file.truncate(header.data_offset)
        file.truncate(header.file_size_bytes)
    tensors = [(tensor.name, tensor.shape[::-1]) for tensor in header.tensors]
    return Blank(path, ModelShape(8, 4, request.param), tensors)


@pytest.mark.parametrize("level", LEVELS)
def test_types_with_an_importance_matrix_are_llama_cpps(
    level: str, blank: Blank, tmp_path: Path
) -> None:
    types = tensor_types(level, blank.tensors, blank.shape, has_imatrix=True)
    llama_quant.quantize(blank.path, tmp_path / level, level, imatrix=blank.columns(types))
    written = read_header(tmp_path / level)
    assert types == {tensor.name: tensor.type_name for tensor in written.tensors}
    assert written.number("general.file_type") == LEVELS[level].file_type


@pytest.mark.parametrize("level", LEVELS)
def test_a_matrix_is_needed_where_llama_cpp_wants_one(
    level: str, blank: Blank, tmp_path: Path
) -> None:
    needed = needs_imatrix(tensor_types(level, blank.tensors, blank.shape))
    if not needed:
        llama_quant.quantize(blank.path, tmp_path / level, level)
        return
    with pytest.raises(RuntimeError, match="requires an imatrix"):
        llama_quant.quantize(blank.path, tmp_path / level, level)


@pytest.mark.parametrize("level", ["IQ3_XXS", "IQ3_XS", "IQ2_XXS", "IQ2_M"])
def test_a_matrix_is_needed_for_these_tensors_alone(
    level: str, blank: Blank, tmp_path: Path
) -> None:
    types = tensor_types(level, blank.tensors, blank.shape, has_imatrix=True)
    *others, last = llama_cpp_order(needs_imatrix(types))
    enough, too_few = blank.columns([*others, last]), blank.columns(others)
    llama_quant.quantize(blank.path, tmp_path / level, level, imatrix=enough)
    with pytest.raises(RuntimeError, match=f"Missing importance matrix for tensor {last}"):
        llama_quant.quantize(blank.path, tmp_path / level, level, imatrix=too_few)


def test_order_is_that_of_llama_quantizes_files(tmp_path: Path) -> None:
    shape = tiny_llama.Shape(num_hidden_layers=11)
    source = tiny_llama.write_gguf(tmp_path / "source.gguf", shape)
    llama_quant.quantize(source, tmp_path / "target.gguf", "Q8_0")
    written = [tensor.name for tensor in read_header(tmp_path / "target.gguf").tensors]
    assert llama_cpp_order(random.Random(0).sample(written, len(written))) == written


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS.keys())
def test_levels_say_what_they_cost(level: Level) -> None:
    dims = dict(LLAMA_3_8B.tensors)
    types = tensor_types(level, LLAMA_3_8B.tensors, LLAMA_3_8B.shape)
    needs = bool(needs_imatrix(types))
    types = tensor_types(level, LLAMA_3_8B.tensors, LLAMA_3_8B.shape, has_imatrix=needs)
    bits = {name: 8 * size / block for name, block, size in GGML_TYPES.values()}
    elements = {name: math.prod(sizes) for name, sizes in dims.items()}
    mean = sum(elements[name] * bits[types[name]] for name in dims) / sum(elements.values())
    assert level.description.startswith(f"{mean:.1f} bits/weight")
    assert ("needs an importance matrix" in level.description) == needs


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Q4_K_M", "Q4_K_M"),
        ("q4_k_m", "Q4_K_M"),
        (" iq4_xs ", "IQ4_XS"),
        ("bf16", "BF16"),
        ("FP16", "F16"),
        ("fp32", "F32"),
        ("Q4_K", "Q4_K_M"),
    ],
)
def test_levels_are_found_by_name(text: str, name: str) -> None:
    assert level_named(text) is LEVELS[name]


def test_an_unknown_level_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(UsageError) as raised:
        level_named("q4km")
    message = str(raised.value)
    assert message.startswith("no quantization level is called 'q4km'; did you mean Q4_K_M? ")
    assert message.endswith(", ".join(LEVELS))
    assert "\n" not in message


def test_a_level_like_none_is_answered_with_all() -> None:
    with pytest.raises(UsageError, match=r"^no quantization level is called 'tiny'; known: Q2_K, "):
        tensor_types("tiny", [], ModelShape(1, 1, 1))
