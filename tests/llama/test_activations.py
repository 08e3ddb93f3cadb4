"""Sums of squared activations, held against what numpy makes of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import gguf
import numpy as np
import pytest

from fwlocal import llama
from fwlocal.errors import BadModelFile, FwlocalError
from fwlocal.llama.activations import added_squares
from fwlocal.llama.nodes import check_layout, op_ids
from tests.llama.tiny_experts import N_EXPERTS, N_USED, write_experts
from tests.tiny_llama import Shape, checkpoint, write_gguf

Sums = Mapping[str, llama.ColumnSums]
TOKENS = [1, *range(100, 147)]


def sums_of(
    path: Path,
    tokens: list[int] = TOKENS,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    process_output: bool = False,
) -> Sums | None:
    """What one chunk gives."""
    with closing(llama.Model(path, llama.LoadOptions())) as model:
        options = llama.ContextOptions(n_ctx=max(256, len(tokens)), n_threads=1)
        activations = llama.Activations(model, options, should_stop, process_output=process_output)
        with closing(activations):
            return activations.add(tokens, {})


def all_sums(path: Path, tokens: list[int] = TOKENS, *, process_output: bool = False) -> Sums:
    found = sums_of(path, tokens, process_output=process_output)
    assert found is not None
    return found


def test_every_matrix_of_the_layers_has_its_sums(tiny_gguf: Path) -> None:
    found = all_sums(tiny_gguf)
    kinds = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert set(found) == {f"blk.{layer}.{kind}.weight" for layer in (0, 1) for kind in kinds}
    for name, entry in found.items():
        assert entry.sums.shape == (128 if "ffn_down" in name else 64,)
        assert entry.sums.dtype == np.float32
        assert entry.counts.tolist() == [len(TOKENS)]


def test_sums_are_of_the_squares_of_what_goes_in(tiny_gguf: Path) -> None:
    embedded = checkpoint(Shape())["model.embed_tokens.weight"][TOKENS]
    rms = np.sqrt((embedded**2).mean(axis=1, keepdims=True) + Shape().rms_norm_eps)
    expected = ((embedded / rms) ** 2).sum(axis=0)

    found = all_sums(tiny_gguf)

    for kind in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(found[f"blk.0.{kind}.weight"].sums, expected, rtol=1e-5)
    others = found["blk.0.attn_output.weight"].sums
    assert not np.allclose(others, expected)


def test_a_chunk_is_evaluated_from_an_empty_cache(tiny_gguf: Path) -> None:
    with closing(llama.Model(tiny_gguf, llama.LoadOptions())) as model:
        options = llama.ContextOptions(n_ctx=256, n_threads=1)
        with closing(llama.Activations(model, options, lambda: False)) as activations:
            parts = TOKENS, [7] * 40, TOKENS
            first, _, again = (activations.add(tokens, {}) for tokens in parts)
    assert first is not None
    assert again is not None
    for name, entry in first.items():
        assert entry.sums.tolist() == again[name].sums.tolist()


def test_chunks_are_added_to_the_sums_so_far(tiny_gguf: Path) -> None:
    with closing(llama.Model(tiny_gguf, llama.LoadOptions())) as model:
        options = llama.ContextOptions(n_ctx=256, n_threads=1)
        with closing(llama.Activations(model, options, lambda: False)) as activations:
            first = activations.add(TOKENS, {})
            assert first is not None
            before = {name: entry.sums.tolist() for name, entry in first.items()}
            both = activations.add(TOKENS, first)
    assert both is not None
    for name, entry in both.items():
        assert entry.counts.tolist() == [2 * len(TOKENS)]
        np.testing.assert_allclose(entry.sums, 2 * first[name].sums, rtol=1e-5)
        assert first[name].sums.tolist() == before[name]


def test_sums_of_another_model_are_not_added_to(tiny_gguf: Path) -> None:
    with closing(llama.Model(tiny_gguf, llama.LoadOptions())) as model:
        options = llama.ContextOptions(n_ctx=256, n_threads=1)
        three = llama.ColumnSums(np.zeros(3, np.float32), np.zeros(1, np.int64))
        with (
            closing(llama.Activations(model, options, lambda: False)) as activations,
            pytest.raises(FwlocalError, match="has 3 sums so far, and 64 in this model"),
        ):
            activations.add(TOKENS, {"blk.1.attn_q.weight": three})


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (1, 5), (300, 32), (40, 1024 + 32)])
def test_squares_are_added_row_by_row_as_llama_cpp_adds_them(n_rows: int, n_columns: int) -> None:
    random = np.random.default_rng(5)
    rows = random.normal(0, 100, (n_rows, n_columns)).astype(np.float32)
    before = expected = random.uniform(0, 1e6, n_columns).astype(np.float32)
    for row in rows:
        expected = expected + row * row
    assert added_squares(before, rows).tolist() == expected.tolist()


def test_chunks_longer_than_a_batch_are_added_up(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "long.gguf", Shape(max_position_embeddings=2048))
    tokens = [1 + index % 200 for index in range(1200)]
    embedded = checkpoint(Shape())["model.embed_tokens.weight"][tokens]
    rms = np.sqrt((embedded**2).mean(axis=1, keepdims=True) + Shape().rms_norm_eps)

    found = all_sums(path, tokens)

    assert {entry.counts.tolist()[0] for entry in found.values()} == {1200}
    expected = ((embedded / rms) ** 2).sum(axis=0)
    np.testing.assert_allclose(found["blk.0.attn_v.weight"].sums, expected, rtol=1e-5)


def test_products_of_few_tokens_are_left_out(tiny_gguf: Path) -> None:
    assert all_sums(tiny_gguf, TOKENS[:15]) == {}
    assert len(all_sums(tiny_gguf, TOKENS[:16])) == 14


def test_the_output_is_taken_in_when_asked_for(tiny_gguf: Path) -> None:
    found = all_sums(tiny_gguf, process_output=True)
    assert found["output.weight"].counts.tolist() == [len(TOKENS)]
    assert "output.weight" not in all_sums(tiny_gguf)


def test_experts_have_sums_and_a_count_each(tmp_path: Path) -> None:
    found = all_sums(write_experts(tmp_path / "moe.gguf"))
    for layer in (0, 1):
        router = found[f"blk.{layer}.ffn_gate_inp.weight"].sums
        gate, up, down = (
            found[f"blk.{layer}.ffn_{kind}_exps.weight"] for kind in ("gate", "up", "down")
        )
        assert gate.counts.shape == (N_EXPERTS,)
        assert gate.counts.sum() == N_USED * len(TOKENS)
        assert gate.counts.tolist() == up.counts.tolist() == down.counts.tolist()
        assert gate.sums.tolist() == up.sums.tolist()
        # What the router sees, two experts see.
        of_all = gate.sums.reshape(N_EXPERTS, -1).sum(axis=0)
        np.testing.assert_allclose(of_all, N_USED * router, rtol=1e-5)
        reached = down.sums.reshape(N_EXPERTS, -1).sum(axis=1) > 0
        assert reached.tolist() == (down.counts > 0).tolist()


def test_it_stops_when_asked_to(tiny_gguf: Path) -> None:
    asked = iter([False] * 3)
    assert sums_of(tiny_gguf, should_stop=lambda: next(asked, True)) is None
    assert next(asked, None) is None


def test_activations_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "nan.gguf")
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path, "r+").tensors}
    tensors["blk.0.attn_output.weight"].data[0, 0] = np.nan
    tensors["blk.0.attn_output.weight"].data.flush()
    with pytest.raises(BadModelFile, match=r"^blk\.0\.ffn_\w+\.weight: .* NaN or Inf"):
        sums_of(path)


def test_another_librarys_tensors_are_not_touched() -> None:
    check_layout()
    with pytest.raises(FwlocalError, match="tensors have 336 bytes, not the 344 of the version"):
        check_layout(344)


def test_operations_have_the_librarys_numbers() -> None:
    nothing, product, experts = op_ids("NONE", "MUL_MAT", "MUL_MAT_ID")
    assert nothing == 0
    assert 0 < product < experts
