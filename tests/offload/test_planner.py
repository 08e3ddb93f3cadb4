"""Plans: the policy, its properties on the real shapes, and its words."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.errors import DoesNotFit, UsageError
from fwlocal.hardware import Device
from fwlocal.offload import OffloadPlan, Request, make_plan, resized, roles_of, summary
from tests.offload.models import GIB, LEVEL_NAMES, MIB, SHAPES, card, machine, model

CARDS_GIB = (8, 12, 16, 24, 48, 80)


def planned(
    size: str, *gpus: Device, ram_gib: float = 512, huge_pages: str = "", **request: object
) -> OffloadPlan:
    asked = Request(**{"n_ctx": 4096, **request})  # type: ignore[arg-type]
    return make_plan(model(size), machine(*gpus, ram_gib=ram_gib, huge_pages=huge_pages), asked)


def test_what_fits_goes_on_the_gpu_whole() -> None:
    plan = planned("70B", card(gib=48))

    assert (plan.n_gpu_layers, plan.n_layers, plan.kv_type) == (81, 81, "f16")
    assert plan.reason == "all 81 layers fit on CUDA0"
    assert plan.advice == ()
    assert plan.host.n_layers == 0
    assert plan.host.weights_bytes == model("70B").input_bytes


def test_without_a_gpu_all_is_on_the_cpu() -> None:
    plan = planned("7B")

    assert (plan.n_gpu_layers, plan.gpus) == (0, ())
    assert plan.host.weights_bytes == model("7B").weights_bytes
    assert plan.reason == "all layers are on the CPU"


def test_on_the_cpu_alone_attention_is_plain_where_that_takes_little_memory() -> None:
    chosen = {size: planned(size).flash_attn for size in SHAPES}
    assert chosen == dict.fromkeys(SHAPES, "off")
    assert planned("7B").host.compute_bytes > planned("7B", flash_attn="on").host.compute_bytes

    assert planned("7B", n_ctx=32768).flash_attn == "auto"
    assert planned("7B", card()).flash_attn == "auto"
    assert planned("7B", flash_attn="on").flash_attn == "on"
    assert planned("7B", kv_type="q8_0").flash_attn == "auto"
    tight = (planned("7B", flash_attn="on").host.total_bytes + MIB) / GIB
    assert planned("7B", ram_gib=tight).flash_attn == "auto"


@pytest.mark.parametrize(
    ("word", "mmap"), [("always", False), ("madvise", False), ("never", True), ("", True)]
)
def test_on_the_cpu_alone_weights_are_copied_into_huge_pages(word: str, mmap: bool) -> None:
    assert planned("7B", huge_pages=word).mmap is mmap
    assert planned("7B", huge_pages=word, mmap=True).mmap
    assert not planned("7B", huge_pages=word, mmap=False).mmap
    assert planned("7B", card(), huge_pages=word).mmap


def test_a_copy_of_the_weights_leaves_half_of_the_free_memory() -> None:
    weights_gib = model("7B").weights_bytes / GIB

    assert planned("7B", huge_pages="madvise", ram_gib=2 * weights_gib - 0.01).mmap
    assert not planned("7B", huge_pages="madvise", ram_gib=2 * weights_gib + 0.01).mmap


def test_a_brief_text_has_flash_attention_so_that_drafts_can_be_used() -> None:
    assert planned("7B", brief=True).flash_attn == "on"
    assert planned("7B", brief=True, flash_attn="off").flash_attn == "off"
    assert planned("7B", card(), brief=True).flash_attn == "auto"


def test_a_quantized_cache_goes_before_fewer_layers() -> None:
    weights = model("7B").weights_bytes / GIB
    tight = planned("7B", card(gib=weights + 0.5 + 1.6))  # of KV cache, f16 needs 2 GiB

    assert (tight.n_gpu_layers, tight.kv_type) == (33, "q8_0")
    assert tight.reason == "all 33 layers fit on CUDA0, with the KV cache in q8_0"


def test_a_quantized_cache_that_gains_no_layer_is_not_taken() -> None:
    assert planned("7B", card(gib=0.6)).kv_type == "f16"
    assert planned("7B", card(gib=0.6)).n_gpu_layers == 0


def test_a_cache_is_quantized_only_where_llama_cpp_can() -> None:
    small_heads = replace(model("7B"), head_sizes=(16, 16))
    tight = machine(card(gib=5.9))

    assert make_plan(model("7B"), tight, Request(4096)).kv_type == "q8_0"
    assert make_plan(small_heads, tight, Request(4096)).kv_type == "f16"


def test_what_was_asked_for_holds() -> None:
    assert planned("70B", card(), kv_type="f16").kv_type == "f16"
    assert planned("70B", card(), flash_attn="off").kv_type == "f16"
    assert planned("70B", card(), n_gpu_layers=10).n_gpu_layers == 10
    assert planned("70B", card(gib=80), n_gpu_layers=0).n_gpu_layers == 0
    assert planned("7B", card(), n_gpu_layers=999).n_gpu_layers == 33
    assert planned("70B", card(gib=80), gpu_memory=(24 * GIB,)) == planned("70B", card())


def test_a_number_of_layers_may_use_the_margin() -> None:
    fitting = planned("70B", card()).n_gpu_layers
    more = planned("70B", card(), n_gpu_layers=fitting + 1, kv_type="q8_0")

    assert more.n_gpu_layers == fitting + 1
    assert more.gpus[0].budget_bytes < more.gpus[0].total_bytes <= more.gpus[0].free_bytes


def test_more_layers_than_fit_are_refused_with_how_many_do() -> None:
    with pytest.raises(DoesNotFit) as caught:
        planned("70B", card(), n_gpu_layers=70)
    fitting = planned("70B", card(), margin_bytes=0).n_gpu_layers
    assert str(caught.value) == (
        "70 layers of 70B-Q4_K_M.gguf do not fit on the GPU (24.0 GiB on CUDA0 free); "
        f"{fitting} do: leave --n-gpu-layers out, or give a smaller number"
    )


def test_what_not_even_the_cpu_holds_is_refused_with_what_would_fit() -> None:
    with pytest.raises(DoesNotFit) as caught:
        planned("70B", ram_gib=36)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "70B-Q4_K_M.gguf needs 39.5 GiB (38.6 GiB weights, 680 MiB KV cache for 4096 tokens), "
        "and 36.0 GiB of RAM are free; Q3_K_M (about 31.0 GiB) would fit"
    )


def test_less_context_is_taken_only_when_asked() -> None:
    with pytest.raises(DoesNotFit, match="--n-ctx 5376 "):
        planned("7B", ram_gib=5.3, n_ctx=16384)
    shrunk = planned("7B", ram_gib=5.3, n_ctx=16384, shrink_context=True)

    assert (shrunk.n_ctx, shrunk.kv_type) == (5376, "q8_0")
    assert "a context of 5376 tokens, all that fits" in shrunk.reason


def test_unified_memory_is_shared_with_the_cpu() -> None:
    metal = card("MTL0", 24, "Metal")

    assert planned("70B", metal, ram_gib=64).n_gpu_layers > 0
    with pytest.raises(DoesNotFit):
        planned("70B", metal, ram_gib=24)


def test_one_card_is_enough_where_it_can_hold_all() -> None:
    plan = planned("7B", card("CUDA1", 8), card("CUDA0", 24))

    assert [share.device for share in plan.gpus] == ["CUDA0"]


def test_several_cards_are_filled_to_the_same_part() -> None:
    plan = planned("70B", card("CUDA1", 24), card("CUDA0", 48), gpu_memory=(30 * GIB, 24 * GIB))
    parts = [share.total_bytes / share.budget_bytes for share in plan.gpus]

    assert plan.n_gpu_layers == 81
    assert parts[0] == pytest.approx(parts[1], abs=0.05)
    assert plan.reason == "all 81 layers fit on CUDA0 and CUDA1, split by their free memory"


def test_the_words_of_a_part() -> None:
    plan = planned("70B", card(), kv_type="f16", n_ctx=4096)

    assert plan.reason.endswith("layers fit in 23.5 GiB of CUDA0, the rest is on the CPU")
    assert plan.advice[0].startswith("with --kv q8_0 ")
    assert any(line.endswith("more on CUDA0 all layers fit") for line in plan.advice)
    assert planned("70B", card(gib=33)).advice[-1] == (
        "at Q3_K_M (about 31.0 GiB) all layers may fit"
    )
    assert summary(plan).startswith("layers: ")


def test_caps_are_for_the_gpus_as_they_are_listed() -> None:
    cards = card("CUDA1", 24), card("CUDA0", 24)  # in loading order
    some = planned("70B", *cards, gpu_memory=(8 * GIB, 16 * GIB))
    every = planned("70B", *cards, gpu_memory=(8 * GIB,))

    assert [gpu.free_bytes // GIB for gpu in some.gpus] == [16, 8]
    assert [gpu.free_bytes // GIB for gpu in every.gpus] == [8, 8]
    with pytest.raises(UsageError, match=r"3 sizes, and there are 2 GPUs \(CUDA0, CUDA1\)"):
        planned("70B", *cards, gpu_memory=(GIB, GIB, GIB))


def test_what_binds_is_what_is_said() -> None:
    with pytest.raises(DoesNotFit) as caught:
        planned("70B", card(), ram_gib=16, n_gpu_layers=30)
    assert "beside 30 of 81 layers on CUDA0 the CPU would need" in str(caught.value)
    assert "16.0 GiB of RAM are free; another number of layers" in str(caught.value)
    with pytest.raises(DoesNotFit, match="beside 48 of 81 layers on CUDA0 the CPU would need 16"):
        planned("70B", card(), ram_gib=16)


@settings(max_examples=100, deadline=None)
@given(
    size=st.sampled_from(sorted(SHAPES)),
    gibs=st.lists(st.floats(0, 40), min_size=1, max_size=3),
    margin=st.sampled_from([0, 512 * MIB]),
)
def test_advice_is_true(size: str, gibs: list[float], margin: int) -> None:
    cards = [card(f"CUDA{index}", gib) for index, gib in enumerate(gibs)]
    plan = planned(size, *cards, margin_bytes=margin, kv_type="f16")
    for line in plan.advice:
        words = line.split()
        if "more on" in line:
            unit = GIB if words[2] == "GiB" else MIB
            extra = round((float(words[1]) + 0.06) * unit) + MIB
            last = replace(cards[-1], free_bytes=cards[-1].free_bytes + extra)
            better = planned(size, *cards[:-1], last, margin_bytes=margin, kv_type="f16")
        elif words[1] == "--n-ctx":
            better = planned(size, *cards, margin_bytes=margin, kv_type="f16", n_ctx=int(words[2]))
        else:
            continue
        assert better.n_gpu_layers == better.n_layers, line


def test_what_would_be_enough_is_enough() -> None:
    short = planned("70B", card(), kv_type="f16")
    lacking = next(line for line in short.advice if "more on" in line).split()[1]
    gib = float(lacking) + 0.06  # it is rounded

    assert planned("70B", card(gib=24 + gib), kv_type="f16").n_gpu_layers == 81
    assert planned("70B", card(gib=24 + gib - 0.3), kv_type="f16").n_gpu_layers < 81


def test_the_same_plan_for_another_context() -> None:
    plan = planned("70B", card())
    larger = resized(model("70B"), machine(card()), plan, 8192, {})

    assert [share.n_layers for share in larger.shares] == [share.n_layers for share in plan.shares]
    assert larger.gpus[0].kv_bytes == 2 * plan.gpus[0].kv_bytes
    assert larger.gpus[0].weights_bytes == plan.gpus[0].weights_bytes


def test_measured_buffers_change_the_plan() -> None:
    plan = planned("70B", card(), kv_type="f16")
    measured = dict.fromkeys(roles_of(model("70B"), plan), 4 * GIB)
    again = make_plan(model("70B"), machine(card()), Request(4096, "f16"), measured)

    assert again.n_gpu_layers < plan.n_gpu_layers
    assert again.gpus[0].compute_bytes == 4 * GIB


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("level", LEVEL_NAMES)
def test_more_memory_never_fewer_layers_and_more_context_never_more(size: str, level: str) -> None:
    counts = {}
    for n_ctx in (2048, 4096):
        for gib in CARDS_GIB:
            plan = make_plan(model(size, level), machine(card(gib=gib)), Request(n_ctx))
            counts[n_ctx, gib] = plan.n_gpu_layers
            for share in plan.gpus:
                assert share.total_bytes <= share.budget_bytes
            held = sum(share.weights_bytes for share in plan.shares)
            assert held == model(size, level).weights_bytes
            assert sum(s.kv_bytes for s in plan.shares) == model(size, level).kv_bytes(
                n_ctx, plan.kv_type
            )
    for n_ctx in (2048, 4096):
        assert all(counts[n_ctx, a] <= counts[n_ctx, b] for a, b in pairwise(CARDS_GIB))
    assert all(counts[4096, gib] <= counts[2048, gib] for gib in CARDS_GIB)


GIBS = st.floats(0, 100, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    size=st.sampled_from(sorted(SHAPES)),
    level=st.sampled_from(LEVEL_NAMES),
    gibs=st.lists(GIBS, max_size=4),
    extra=st.floats(0, 20),
    n_ctx=st.sampled_from([256, 2048, 4096, 32768]),
    n_more=st.sampled_from([256, 4096]),
)
def test_any_cards(
    size: str, level: str, gibs: list[float], extra: float, n_ctx: int, n_more: int
) -> None:
    cards = [card(f"CUDA{index}", gib) for index, gib in enumerate(gibs)]
    request = Request(n_ctx)
    plan = make_plan(model(size, level), machine(*cards), request)

    assert all(share.total_bytes <= share.budget_bytes for share in plan.gpus)
    assert plan.n_gpu_layers == sum(share.n_layers for share in plan.gpus)
    assert sum(share.n_layers for share in plan.shares) == plan.n_layers
    order = [device.name for device in cards]
    assert [share.device for share in plan.gpus] == [
        name for name in order if name in {share.device for share in plan.gpus}
    ]
    larger = [card(device.name, gib + extra) for device, gib in zip(cards, gibs, strict=True)]
    assert (
        make_plan(model(size, level), machine(*larger), request).n_gpu_layers >= plan.n_gpu_layers
    )
    longer = replace(request, n_ctx=n_ctx + n_more)
    assert make_plan(model(size, level), machine(*cards), longer).n_gpu_layers <= plan.n_gpu_layers


def test_one_layer_more_would_not_have_fitted() -> None:
    for gib in (8, 12, 16, 24, 32):
        gpu = card(gib=gib)
        plan = planned("70B", gpu, kv_type="f16")
        with pytest.raises(DoesNotFit):
            planned(
                "70B",
                replace(gpu, free_bytes=gpu.free_bytes - 512 * MIB),
                kv_type="f16",
                n_gpu_layers=plan.n_gpu_layers + 1,
            )


def test_a_plan_takes_about_a_millisecond() -> None:
    chance = random.Random(5)
    models = [model(size, level) for size in SHAPES for level in ("Q2_K", "Q4_K_M", "Q8_0")]
    started = time.process_time()
    for _ in range(1000):
        cards = [card(f"CUDA{i}", chance.uniform(0, 50)) for i in range(chance.randint(0, 3))]
        request = Request(chance.choice([2048, 4096, 32768]))
        make_plan(chance.choice(models), machine(*cards), request)
    assert time.process_time() - started < 4.0  # of 1000, also on a busy machine
