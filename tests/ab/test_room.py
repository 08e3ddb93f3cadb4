"""Whether two models fit at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fwlocal.ab.room import Room, is_squeezed, room_for
from fwlocal.offload import OffloadPlan, Share

GIB = 1 << 30


def plan(weights_gib: int, *, n_gpu: int = 0, mmap: bool = True) -> OffloadPlan:
    """Ten layers, a context of 1 GiB, some of the layers on a GPU."""
    on_gpu = weights_gib * GIB * n_gpu // 10
    gpu = Share("CUDA0", n_gpu, on_gpu, 0, 0, 24 * GIB, 24 * GIB)
    host = Share("CPU", 10 - n_gpu, weights_gib * GIB - on_gpu, GIB, 0, 16 * GIB, 16 * GIB)
    return OffloadPlan((gpu, host), n_gpu, 10, 4096, "f16", "auto", 512, 512, mmap, False)


@pytest.mark.parametrize(
    ("available_gib", "mmap", "room"),
    [
        (12, True, Room.BESIDE),  # 4 of it are the loaded one's map, 6 + 1 are needed
        (10, True, Room.IN_TURN),
        (10, False, Room.BESIDE),
    ],
)
def test_a_second_model_beside_the_one_that_answers(
    available_gib: int, mmap: bool, room: Room
) -> None:
    loaded = plan(4, mmap=mmap)

    assert room_for([6 * GIB], loaded, available_gib * GIB, may_leave=False) is room


@pytest.mark.parametrize(
    ("available_gib", "room"), [(17, Room.BESIDE), (12, Room.INSTEAD), (11, Room.IN_TURN)]
)
def test_two_others(available_gib: int, room: Room) -> None:
    sizes = [6 * GIB, 5 * GIB]  # 13 with their contexts

    assert room_for(sizes, plan(4), available_gib * GIB, may_leave=True) is room


def test_what_is_on_a_gpu_takes_no_ram() -> None:
    assert room_for([40 * GIB], plan(40, n_gpu=10), 2 * GIB, may_leave=False) is Room.BESIDE


def test_fewer_layers_on_the_gpu_than_the_other_would_not_be_its_own_speed() -> None:
    full, half = plan(4, n_gpu=10), plan(4, n_gpu=5)

    assert is_squeezed([half], full)
    assert not is_squeezed([full, replace(full, n_layers=10)], full)
    assert not is_squeezed([half], plan(4))
