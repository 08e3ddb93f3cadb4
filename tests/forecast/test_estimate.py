"""What a machine would do with a model: held against figures worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.recipes import ModelShape, tensor_types
from fwlocal.forecast.cards import GB, Speed
from fwlocal.forecast.estimate import (
    CONVERTED,
    EFFICIENCY,
    HOST,
    ON_DISK,
    PUBLISHED,
    Candidate,
    Choice,
    Forecast,
    best,
    bytes_read,
    choose,
    forecast,
    tokens_per_s,
)
from fwlocal.forecast.outline import outline
from fwlocal.forecast.what_if import imagined_gpus
from fwlocal.gguf import GGUFHeader, TensorInfo
from fwlocal.hardware import Machine, Memory
from fwlocal.offload import Request, footprint, make_plan
from fwlocal.shapes import LlamaShape
from fwlocal.sizes import GIB

SEVENTY = LlamaShape(80, 8192, 28672, 64, 8, 32000)
THIRTEEN = LlamaShape(40, 5120, 13824, 40, 40, 32000)
SEVEN = LlamaShape(32, 4096, 11008, 32, 32, 32000)
SPEEDS = {"GPU0": Speed(1000 * GB, ""), "GPU1": Speed(500 * GB, ""), HOST: Speed(50 * GB, "")}


def header(shape: LlamaShape, level: str) -> GGUFHeader:
    numbers = ModelShape(shape.n_layer, shape.n_head, shape.n_head_kv)

    def types(level: str, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> Mapping[str, str]:
        return tensor_types(level, tensors, numbers)

    return outline(shape, 4096, level, types, Path(f"{level}.gguf"))


def a_machine(*gpu_gib: float, ram_gib: int = 64) -> Machine:
    ram = Memory(ram_gib * GIB, ram_gib * GIB)
    return Machine(ram, imagined_gpus([int(size * GIB) for size in gpu_gib]))


def forecast_of(
    shape: LlamaShape, level: str, machine: Machine, origin: str = CONVERTED, *, needy: bool = False
) -> Forecast:
    candidate = Candidate(level, header(shape, level), origin, needy)
    return forecast(candidate, machine, Request(n_ctx=4096), SPEEDS)


def test_what_fits_whole_is_bound_by_the_cards_bandwidth() -> None:
    found = forecast_of(SEVEN, "Q4_K_M", a_machine(24))
    assert found.is_whole
    model = footprint(found.candidate.header)
    read = model.weights_bytes - model.input_bytes + 4096 * 32 * 4096 * 2 * 2 / 2  # half the cache
    assert found.tokens_per_s == pytest.approx(EFFICIENCY * 1000 * GB / read)
    assert 90 < (found.tokens_per_s or 0) < 110


def test_the_devices_work_one_after_the_other() -> None:
    found = forecast_of(SEVENTY, "Q4_K_M", a_machine(24))
    assert found.plan is not None
    assert not found.is_whole
    read = bytes_read(footprint(found.candidate.header), found.plan)
    assert set(read) == {HOST, "GPU0"}
    expected = EFFICIENCY / (read["GPU0"] / (1000 * GB) + read[HOST] / (50 * GB))
    assert found.tokens_per_s == pytest.approx(expected)
    assert 1 < expected < 2  # what people report of a 70B with a 24 GB card


def test_on_the_cpu_alone() -> None:
    found = forecast_of(SEVEN, "Q8_0", a_machine())
    assert found.plan is not None
    assert not found.is_whole
    read = bytes_read(footprint(found.candidate.header), found.plan)
    assert found.tokens_per_s == pytest.approx(EFFICIENCY * 50 * GB / read[HOST])


def test_tied_embeddings_are_read_as_the_output_and_no_row_of_the_input_is() -> None:
    shape = replace(SEVEN, n_layer=2, tied=True)
    for machine in (a_machine(), a_machine(24)):
        found = forecast_of(shape, "F16", machine)
        assert found.plan is not None
        model = footprint(found.candidate.header)
        read = sum(bytes_read(model, found.plan).values())
        kv_bytes = model.kv_bytes(4096, found.plan.kv_type)
        assert read == pytest.approx(model.weights_bytes + kv_bytes / 2, rel=1e-4)


def test_of_experts_only_those_used_are_read() -> None:
    dense = header(replace(SEVEN, n_layer=1), "Q8_0")
    experts = TensorInfo("blk.0.ffn_up_exps.weight", (4096, 4096, 8), "Q8_0", 0, 8 * 10**8)
    keys = {**dense.metadata, "llama.expert_count": 8, "llama.expert_used_count": 2}
    mixture = replace(dense, metadata=keys, tensors=(*dense.tensors, experts))
    totals = []
    for one in (dense, mixture):
        model = footprint(one)
        plan = make_plan(model, a_machine(), Request(n_ctx=512))
        totals.append(bytes_read(model, plan)[HOST])
    assert totals[1] - totals[0] == pytest.approx(2 * 10**8, rel=1e-5)


def with_draft(machine: Machine, level: str = "Q4_K_M") -> Forecast:
    """A 70B, for which a 7B drafts."""
    model = Candidate(level, header(SEVENTY, level), CONVERTED)
    draft = Candidate("Q4_K_M", header(SEVEN, "Q4_K_M"), CONVERTED, name="small:Q4_K_M")
    return forecast(model, machine, Request(n_ctx=4096), SPEEDS, draft)


def test_a_draft_is_placed_first_and_the_model_in_what_it_leaves() -> None:
    both, alone = with_draft(a_machine(24)), forecast_of(SEVENTY, "Q4_K_M", a_machine(24))
    assert both.plan is not None
    assert alone.plan is not None
    assert both.draft is not None
    assert both.draft.plan is not None
    assert both.draft.plan.n_gpu_layers == 33
    assert both.plan.gpus[0].free_bytes < alone.plan.gpus[0].free_bytes
    assert both.plan.n_gpu_layers < alone.plan.n_gpu_layers
    assert (both.tokens_per_s or 0) < (alone.tokens_per_s or 0)


def test_without_memory_for_both_it_is_planned_without_and_says_so() -> None:
    alone = forecast_of(SEVENTY, "Q4_K_M", a_machine(ram_gib=43))
    found = with_draft(a_machine(ram_gib=43))
    assert found.plan == alone.plan is not None
    assert found.draft is not None
    assert found.draft.plan is None
    assert found.draft.refusal.startswith("no memory for the draft beside the model")


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_draft_in_the_place_of_the_models_layers_must_be_asked_for(is_asked: bool) -> None:
    model = Candidate("Q4_K_M", header(THIRTEEN, "Q4_K_M"), CONVERTED)
    draft = Candidate("Q4_K_M", header(SEVEN, "Q4_K_M"), CONVERTED)
    there, request = a_machine(12), Request(n_ctx=4096)
    found = forecast(model, there, request, SPEEDS, draft, is_asked=is_asked)
    assert found.is_whole is not is_asked
    assert found.draft is not None
    assert (found.draft.plan is not None) is is_asked
    assert ("layers on GPUs, so it goes without" in found.draft.refusal) is not is_asked


def test_what_does_not_fit_alone_has_no_draft_either() -> None:
    found = with_draft(a_machine(ram_gib=8))
    assert (found.plan, found.draft) == (None, None)
    assert found.refusal == forecast_of(SEVENTY, "Q4_K_M", a_machine(ram_gib=8)).refusal


def test_what_does_not_fit_says_what_would() -> None:
    found = forecast_of(SEVENTY, "Q8_0", a_machine(24, ram_gib=32))
    assert found.plan is None
    assert found.tokens_per_s is None
    assert "would fit" in found.refusal
    assert "\n" not in found.refusal
    assert found.refusal.startswith("Q8_0.gguf")


def test_what_is_not_here_is_called_as_the_user_calls_it() -> None:
    for origin, called in (
        (ON_DISK, "F16.gguf"),
        (PUBLISHED, "whale:F16"),
        (CONVERTED, "whale:F16"),
    ):
        candidate = Candidate("F16", header(SEVENTY, "F16"), origin).of_model("whale")
        assert candidate.called == called
        refused = forecast(candidate, a_machine(ram_gib=4), Request(n_ctx=4096), SPEEDS)
        assert refused.refusal.startswith(called)
    nameless = replace(candidate, level="-", origin=PUBLISHED).of_model("owner/whale")
    assert nameless.called == "owner/whale"


def test_a_device_of_unknown_speed_leaves_no_estimate_to_what_is_on_it() -> None:
    candidate = Candidate("Q4_K_M", header(SEVEN, "Q4_K_M"), CONVERTED)
    known = {HOST: SPEEDS[HOST]}
    asked = [Request(n_ctx=512, n_gpu_layers=count) for count in (0, 1)]
    alone, split = (forecast(candidate, a_machine(24), request, known) for request in asked)
    assert alone.tokens_per_s is not None
    assert split.plan is not None
    assert split.tokens_per_s is None


def test_nothing_read_is_no_speed() -> None:
    empty = GGUFHeader(Path("e.gguf"), 3, {"general.architecture": "llama"}, (), 0, 0)
    model = footprint(empty)
    plan = make_plan(model, a_machine(), Request(n_ctx=256))
    assert tokens_per_s(model, plan, SPEEDS) is None


def test_the_best_is_the_largest_that_is_whole() -> None:
    levels = ("Q2_K", "Q4_K_M", "Q8_0", "F16", "F32")
    found = [forecast_of(SEVEN, level, a_machine(12, ram_gib=13)) for level in levels]
    assert [one.plan is not None for one in found] == [True, True, True, True, False]
    assert best(found) is found[2]
    assert best(found[3:]) is found[3]  # unquantized where there is no other
    assert best(found[4:]) is None
    on_cpu = [forecast_of(SEVEN, level, a_machine(ram_gib=20)) for level in levels]
    assert best(on_cpu) is on_cpu[2]
    split = [forecast_of(SEVEN, level, a_machine(4)) for level in levels]
    assert [one.is_whole for one in split[:2]] == [True, False]
    assert best(split[1:]) is split[1]  # the most layers on the GPU
    needy = replace(found[2], candidate=replace(found[2].candidate, needs_imatrix=True))
    assert best([*found[:2], needy]) is found[1]
    assert best([*found[:2], needy], needs_imatrix=True) is needy


def test_what_can_be_had_is_taken_and_what_would_be_better_is_named() -> None:
    machine = a_machine(24)
    here = forecast_of(SEVENTY, "Q2_K", machine, PUBLISHED)
    larger = forecast_of(SEVENTY, "Q4_K_M", machine)
    needy = forecast_of(SEVENTY, "IQ2_XXS", machine, needy=True)
    assert not here.is_whole
    assert needy.is_whole
    assert choose([here, larger]) == Choice(here, None)
    assert choose([needy, here, larger]) == Choice(here, needy)
    assert choose([needy, larger]) == Choice(larger, needy)
    assert choose([needy]) == Choice(None, needy)
    assert choose([]) == Choice(None, None)
    both = a_machine(64)
    here, larger, needy = (
        forecast_of(SEVENTY, "Q2_K", both, ON_DISK),
        forecast_of(SEVENTY, "Q4_K_M", both),
        forecast_of(SEVENTY, "IQ2_XXS", both, needy=True),
    )
    assert choose([needy, here, larger]) == Choice(here, larger)
    assert choose([needy, here]) == Choice(here, None)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.5, 80), max_size=2),
    st.sampled_from(["Q2_K", "Q4_K_M", "Q8_0"]),
    st.integers(1, 16),
)
def test_every_byte_but_the_input_is_read_once_and_more_bandwidth_is_faster(
    sizes: list[float], level: str, thousands: int
) -> None:
    model = footprint(header(SEVEN, level))
    plan = make_plan(model, a_machine(*sizes), Request(n_ctx=256 * thousands))
    read = bytes_read(model, plan)
    weights = model.weights_bytes - model.input_bytes
    kv_bytes = model.kv_bytes(plan.n_ctx, plan.kv_type)
    assert sum(read.values()) == pytest.approx(weights + kv_bytes / 2, rel=1e-6)
    faster = {name: Speed(2 * speed.bytes_per_s, "") for name, speed in SPEEDS.items()}
    slow, fast = (tokens_per_s(model, plan, speeds) for speeds in (SPEEDS, faster))
    assert slow is not None
    assert fast == pytest.approx(2 * slow)
