"""What each layer takes, from the header alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.gguf import GGUFArray, GGUFHeader, TensorInfo, Value
from fwlocal.offload import footprint
from tests.offload.models import MIB, model


def header(keys: dict[str, Value], *tensors: tuple[str, tuple[int, ...]]) -> GGUFHeader:
    infos = tuple(
        TensorInfo(name, shape, "F16", 0, 2 * shape[0] * shape[-1]) for name, shape in tensors
    )
    own = {f"test.{key}": value for key, value in keys.items()}
    return GGUFHeader(Path("m.gguf"), 3, {"general.architecture": "test", **own}, infos, 0, 0)


@pytest.mark.parametrize(
    ("kv_type", "mib"),
    # llama.cpp's log for Llama-2-70B: "KV self size = 1280.00 MiB" at 4096 tokens of f16.
    [("f16", 1280), ("q8_0", 680), ("q4_0", 360)],
)
def test_kv_cache_of_the_70b(kv_type: str, mib: int) -> None:
    assert model("70B").kv_bytes(4096, kv_type) == mib * MIB


def test_layers_are_as_large_as_their_tensors() -> None:
    sizes = {layer.weights_bytes for layer in model("70B").layers}

    assert len(sizes) > 1  # Q4_K_M keeps some tensors in Q6_K
    assert model("70B").n_layers == 81
    assert model("70B").weights_bytes == pytest.approx(41.4e9, rel=0.002)


def test_what_is_looked_up_stays_and_the_rest_goes_with_the_output() -> None:
    found = footprint(
        header(
            {"block_count": 1, "embedding_length": 64},
            ("token_embd.weight", (64, 100)),
            ("output.weight", (64, 100)),
            ("output_norm.weight", (64, 1)),
            ("blk.0.attn_q.weight", (64, 64)),
        )
    )

    assert found.input_bytes == 2 * 64 * 100
    assert found.output_bytes == 2 * 64 * 100 + 128
    assert [layer.weights_bytes for layer in found.layers] == [2 * 64 * 64]
    assert found.n_params == 2 * 6400 + 64 + 4096
    assert not found.is_tied


def test_tied_embeddings_are_there_twice_once_the_output_is_offloaded() -> None:
    found = footprint(header({"block_count": 0}, ("token_embd.weight", (64, 100))))

    assert found.is_tied
    assert found.output_bytes == found.input_bytes == found.weights_bytes == 2 * 64 * 100


def test_experts_count_with_their_layer() -> None:
    keys: dict[str, Value] = {"block_count": 1, "expert_count": 8, "expert_used_count": 2}
    found = footprint(
        header(
            {**keys, "expert_feed_forward_length": 32},
            ("blk.0.ffn_up_exps.weight", (64, 64)),
            ("blk.0.attn_q.weight", (64, 64)),
        )
    )

    assert found.layers[0].weights_bytes == 2 * found.layers[0].expert_bytes == 4 * 64 * 64
    assert (found.n_expert, found.n_expert_used, found.n_ff) == (8, 2, 64)


@pytest.mark.parametrize(
    ("keys", "elements"),
    [
        ({"head_count": 8}, 2 * 64),
        ({"head_count": 8, "head_count_kv": 2}, 2 * 16),
        ({"head_count": 8, "head_count_kv": 2, "key_length": 32, "value_length": 16}, 96),
        ({"head_count": 8, "head_count_kv": 1, "key_length": 72, "key_length_mla": 32}, 72),
        ({"head_count": 8, "shared_kv_layers": 1}, 0),
        ({"head_count": 8, "head_count_kv": 2, "sliding_window": 8}, 2 * 16),  # counted whole
    ],
)
def test_kv_elements_of_each_kind_of_attention(keys: dict[str, Value], elements: int) -> None:
    attention: dict[str, Value] = {f"attention.{key}": value for key, value in keys.items()}
    found = footprint(header({"block_count": 1, "embedding_length": 64, **attention}))

    assert found.layers[0].kv_elements == elements


def attention(n_layer: int, **keys: Value) -> dict[str, Value]:
    heads: dict[str, Value] = {"attention.head_count": 8, "attention.head_count_kv": 2}
    return {"block_count": n_layer, "embedding_length": 64, **heads, **keys}


SSM: dict[str, Value] = {"ssm.inner_size": 128, "ssm.conv_kernel": 4, "ssm.state_size": 16}
SSM_BYTES = 4 * (3 * 128 + 16 * 128)


def kept(keys: dict[str, Value], architecture: str = "test") -> list[tuple[int, int]]:
    """Elements for each token and bytes of the state, of each layer."""
    own = {f"{architecture}.{key}": value for key, value in keys.items()}
    metadata = {"general.architecture": architecture, **own}
    found = footprint(GGUFHeader(Path("m.gguf"), 3, metadata, (), 0, 0))
    return [(layer.kv_elements, layer.state_bytes) for layer in found.layers]


def test_recurrent_layers_keep_a_state_that_does_not_grow() -> None:
    found = footprint(header({**attention(1), **SSM, "attention.head_count_kv": 0}))

    assert found.kv_bytes(4096, "f16") == found.kv_bytes(256, "f16") == SSM_BYTES


def test_hybrid_models_have_attention_in_some_layers() -> None:
    flags = GGUFArray("bool", 3, b"\1\0\1")
    told = kept({**attention(3), **SSM, "attention.recurrent_layers": flags})
    every_fourth = kept({**attention(4), **SSM}, "qwen3next")

    assert told == [(0, SSM_BYTES), (32, 0), (0, SSM_BYTES)]
    assert every_fourth == [(0, SSM_BYTES)] * 3 + [(32, 0)]
    assert kept({**attention(1), **SSM}, "falcon-h1") == [(32, SSM_BYTES)]


def test_windows_may_have_heads_of_their_own_size() -> None:
    pattern = GGUFArray("bool", 2, b"\1\0")
    swa: dict[str, Value] = {"attention.key_length_swa": 4, "attention.value_length_swa": 4}

    assert kept({**attention(2), **swa, "attention.sliding_window_pattern": pattern}) == [
        (16, 0),
        (32, 0),
    ]


def test_layers_that_predict_further_tokens_are_counted_but_not_loaded() -> None:
    found = footprint(
        header(
            attention(2, nextn_predict_layers=1),
            ("blk.0.attn_q.weight", (64, 64)),
            ("blk.1.attn_q.weight", (64, 64)),
        )
    )

    assert [(layer.weights_bytes, layer.kv_elements) for layer in found.layers] == [
        (2 * 64 * 64, 32),
        (0, 0),
    ]
    assert found.n_layers == 3


@pytest.mark.parametrize(
    ("keys", "state_bytes"),
    [
        ({"wkv.head_size": 8}, 4 * 64 * (8 + 2)),
        ({"shortconv.l_cache": 3}, 4 * 64 * 2),
        ({"kda.head_dim": 8}, 4 * (3 * 3 * 64 + 8 * 64)),
    ],
)
def test_states_of_other_kinds(keys: dict[str, Value], state_bytes: int) -> None:
    assert kept({**attention(1), "attention.head_count_kv": 0, **keys}) == [(0, state_bytes)]


def test_where_tensors_without_a_layer_go() -> None:
    found = footprint(
        header(
            {"block_count": 1},
            ("token_embd.weight", (64, 10)),
            ("token_embd_norm.weight", (64, 1)),
            ("rope_freqs.weight", (64, 1)),
            ("altup_proj.weight", (64, 20)),
        )
    )

    assert found.input_bytes == 2 * 64 * 10
    assert found.layers[0].weights_bytes == 2 * 128
    assert found.output_bytes - found.input_bytes == 2 * 64 * 20


def test_keys_that_are_missing_count_as_nothing() -> None:
    found = footprint(header({}))

    assert (found.n_layers, found.weights_bytes, found.kv_bytes(4096, "f16")) == (1, 0, 0)
