"""A draft is placed first, and the model in what it leaves: by the shapes of the real pair."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.errors import DoesNotFit
from fwlocal.offload import (
    OffloadPlan,
    Request,
    beside,
    footprint,
    in_place_of_layers,
    make_plan,
    may_pay,
    request_for_draft,
    without_draft,
)
from tests.offload.models import GIB, SHAPES, card, header_of, machine, model

DRAFT = header_of(SHAPES["7B"], "Q4_K_M", n_ctx_train=4096)
REQUEST = Request(n_ctx=4096)


def placed(*gpu_gib: float, request: Request = REQUEST, ram_gib: float = 64) -> OffloadPlan:
    there = machine(*(card(f"CUDA{n}", gib) for n, gib in enumerate(gpu_gib)), ram_gib=ram_gib)
    return make_plan(footprint(DRAFT), there, request_for_draft(request, DRAFT))


@given(gpus=st.lists(st.floats(8, 80), max_size=3), capped=st.booleans())
def test_what_the_draft_takes_is_no_longer_free(gpus: list[float], capped: bool) -> None:
    there = machine(*(card(f"CUDA{n}", gib) for n, gib in enumerate(gpus)), ram_gib=64)
    caps = tuple(round(gib * GIB * 0.75) for gib in gpus) if capped and gpus else None
    request = replace(REQUEST, gpu_memory=caps)
    draft = make_plan(footprint(DRAFT), there, request_for_draft(request, DRAFT))

    left, rest = beside(there, request, draft)

    taken = {share.device: share.total_bytes for share in draft.gpus}
    assert there.ram.available_bytes - left.ram.available_bytes == draft.host.total_bytes
    for before, after in zip(there.gpus, left.gpus, strict=True):
        assert before.free_bytes - after.free_bytes == taken.get(before.name, 0)
    if caps is None:
        assert rest == request
    else:
        assert rest.gpu_memory is not None
        assert sum(caps) - sum(rest.gpu_memory) == sum(taken.values())


def test_a_70b_has_fewer_layers_on_the_gpu_beside_its_draft() -> None:
    there = machine(card("CUDA0", 24), ram_gib=64)
    draft = placed(24)
    alone = make_plan(model("70B"), there, REQUEST)

    both = make_plan(model("70B"), *beside(there, REQUEST, draft))

    assert draft.n_gpu_layers == draft.n_layers == 33
    assert 0 < both.n_gpu_layers < alone.n_gpu_layers
    assert both.gpus[0].total_bytes + draft.gpus[0].total_bytes <= 24 * GIB


def test_the_drafts_context_is_the_models_or_all_that_it_knows() -> None:
    assert request_for_draft(replace(REQUEST, n_ctx=1024), DRAFT).n_ctx == 1024
    assert request_for_draft(replace(REQUEST, n_ctx=8192), DRAFT).n_ctx == 4096


@pytest.mark.parametrize(("asked", "own"), [(None, None), (0, 0), (20, None)])
def test_a_number_of_layers_is_the_models_own(asked: int | None, own: int | None) -> None:
    assert request_for_draft(replace(REQUEST, n_gpu_layers=asked), DRAFT).n_gpu_layers == own


@pytest.mark.parametrize(
    ("size", "gpu_gib", "pays"),
    [
        ("70B", 24, True),  # a few layers less of those that fit
        ("70B", 48, True),  # all of both fit
        ("70B", 0, True),  # nothing leaves a GPU
        ("13B", 12, False),  # the model alone would be whole on the GPU
        ("13B", 24, True),
    ],
)
def test_layers_that_leave_the_gpu_may_cost_more_than_drafts_bring(
    size: str, gpu_gib: float, pays: bool
) -> None:
    there = machine(*([card("CUDA0", gpu_gib)] if gpu_gib else []), ram_gib=64)
    alone = make_plan(model(size), there, REQUEST)
    draft = make_plan(footprint(DRAFT), there, request_for_draft(REQUEST, DRAFT))
    both = make_plan(model(size), *beside(there, REQUEST, draft))

    assert may_pay(alone, both) is pays
    n_layers = alone.n_gpu_layers - both.n_gpu_layers
    for is_asked in (False, True):
        assert f"{n_layers} layers" in in_place_of_layers(alone, both, is_asked=is_asked)


def test_where_there_is_no_room_the_line_says_what_for() -> None:
    line = without_draft(DoesNotFit("m.gguf needs 50 GiB"))
    assert line.startswith("no memory for the draft")
    assert "m.gguf needs 50 GiB" in line
