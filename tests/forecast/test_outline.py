"""Headers made up from a shape: as a conversion would write them, and as large as is published."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from convert.job import Request, prepare
from convert.recipes import LEVELS, ModelShape, tensor_types
from convert.sources.checkpoint import locate
from fwlocal.forecast.outline import TypesOf, as_published, outline, rescaled
from fwlocal.gguf import GGUFHeader, read_header
from fwlocal.offload import footprint
from fwlocal.registry import Registry
from fwlocal.shapes import LlamaShape
from tests.convert.checkpoints import write_checkpoint
from tests.tiny_llama import Shape

HERE = Path("model.gguf")


def types_for(shape: LlamaShape) -> TypesOf:
    """The converter's types."""
    numbers = ModelShape(shape.n_layer, shape.n_head, shape.n_head_kv)
    return lambda level, tensors: tensor_types(level, tensors, numbers)


def outlined(shape: LlamaShape, level: str, n_ctx_train: int = 512) -> GGUFHeader:
    return outline(shape, n_ctx_train, level, types_for(shape), HERE)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(256, 512, 5, 4, 2, vocab_size=512),
        Shape(96, 160, 2, 3, 1, vocab_size=512, tie_word_embeddings=True),
        Shape(96, 160, 2, 3, 1, vocab_size=512, head_dim=64),
    ],
    ids=["wide", "tied", "head_dim"],
)
def test_every_tensor_is_what_a_conversion_would_write(shape: Shape, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", shape)
    levels = tuple(LEVELS[level] for level in ("Q2_K", "Q3_K_L", "Q4_K_M", "IQ4_XS", "Q8_0", "F16"))
    same = LlamaShape(
        *(shape.num_hidden_layers, shape.hidden_size, shape.intermediate_size),
        *(shape.num_attention_heads, shape.num_key_value_heads, shape.vocab_size),
        head_dim=shape.head_dim,
        tied=shape.tie_word_embeddings,
    )
    with closing(prepare(Request(locate(str(source)), levels, tmp_path / "out"))) as job:
        for planned in job.levels:
            header = outlined(same, planned.level.name)
            assert [
                (t.name, t.shape[::-1], t.type_name, t.offset, t.size_bytes) for t in header.tensors
            ] == [
                (t.tensor.name, t.tensor.shape, t.type_name, t.offset, t.size_bytes)
                for t in planned.tensors
            ]
            assert header.file_size_bytes == planned.files[0].data_bytes
            for key, value in header.metadata.items():
                assert planned.files[0].keys[key].value == value


def test_published_sizes_are_met_within_a_per_cent(registry: Registry) -> None:
    compared = 0
    for spec in registry.models.values():
        assert spec.shape is not None
        vocabulary_bytes = 1.8e6 if spec.package else 0.7e6
        for level, size_gb in spec.level_sizes_gb.items():
            size_bytes = outlined(spec.shape, level).file_size_bytes + vocabulary_bytes
            if level == "Q2_K":  # published in 2023, when llama-quantize gave it more bits
                assert 0.85e9 < size_bytes / size_gb < 0.92e9
                continue
            assert size_bytes == pytest.approx(size_gb * 1e9, rel=0.01), (spec.name, level)
            compared += 1
    assert compared > 30


def test_another_recipe_of_the_same_level_takes_the_size_that_is_published(
    registry: Registry,
) -> None:
    shape = registry.get("freewilly2").shape
    assert shape is not None
    todays = outlined(shape, "Q2_K")
    assert as_published(todays, 29_300_000_000).weights_bytes == pytest.approx(29.3e9, rel=1e-3)
    assert as_published(todays, todays.file_size_bytes * 1001 // 1000) == todays


def test_a_plan_sees_the_same_in_it_as_in_the_real_file(
    registry: Registry, tiny_gguf: Path
) -> None:
    shape = LlamaShape(2, 64, 128, 4, 2, 273)
    real = replace(read_header(tiny_gguf), path=HERE)
    assert footprint(outlined(shape, "F32")) == footprint(real)
    spec = registry.get("freewilly2")
    assert spec.shape is not None
    seventy = footprint(outlined(spec.shape, "Q4_K_M", spec.context_length))
    assert (len(seventy.layers), seventy.n_embd, seventy.n_vocab) == (80, 8192, 32000)
    assert seventy.kv_bytes(4096, "f16") == 80 * 4096 * 2 * 1024 * 2  # 1.25 GiB


def test_another_level_of_a_header_that_was_read(registry: Registry) -> None:
    shape = registry.get("stable-beluga-7b").shape
    assert shape is not None
    small, large = outlined(shape, "Q4_K_M"), outlined(shape, "Q8_0")
    guessed = rescaled(small, Path("q8.gguf"), large.file_size_bytes)
    assert guessed.path.name == "q8.gguf"
    assert guessed.weights_bytes == pytest.approx(large.weights_bytes, rel=1e-4)
    layers = zip(footprint(guessed).layers, footprint(large).layers, strict=True)
    assert all(a.weights_bytes == pytest.approx(b.weights_bytes, rel=0.12) for a, b in layers)
