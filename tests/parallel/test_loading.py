"""How many contexts are planned for, by what the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.errors import DoesNotFit
from fwlocal.gguf import GGUFHeader
from fwlocal.loader import EngineOptions, Library, open_file
from fwlocal.parallel import PoolSize
from fwlocal.parallel.loading import context_limit, load_several, plan_several
from fwlocal.store import ModelFile

RAW = EngineOptions(raw=True, n_threads=1, n_gpu_layers=0)
Opened = tuple[ModelFile, GGUFHeader]


@pytest.fixture
def opened(tiny_gguf: Path, library: Library) -> Opened:
    return open_file(str(tiny_gguf), library)


def test_all_lanes_where_they_fit(opened: Opened) -> None:
    settled, size = plan_several(*opened, RAW, PoolSize(4, 512, 512, keeps_prefix=True))

    assert size.all_lanes == 5
    assert settled.plan.n_ctx == 5 * 512


def test_fewer_where_they_do_not(opened: Opened) -> None:
    def taken(n_lanes: int) -> int:
        size = PoolSize(n_lanes, 2**16, 2**16)
        return plan_several(*opened, RAW, size)[0].plan.host.total_bytes

    free_bytes = plan_several(*opened, RAW, PoolSize(1, 512, 512))[0].plan.host.free_bytes
    token_bytes = (taken(3) - taken(1)) / 2**17
    a_third = int(free_bytes / 3.5 / token_bytes)
    _, size = plan_several(*opened, RAW, PoolSize(16, a_third, a_third, keeps_prefix=True))

    assert 1 <= size.n_lanes < 4
    with pytest.raises(DoesNotFit):
        plan_several(*opened, RAW, PoolSize(16, 4 * a_third, 4 * a_third))


def test_a_context_that_was_named_is_each_answers(opened: Opened) -> None:
    assert context_limit(RAW, opened[1]) == 512
    assert context_limit(EngineOptions(n_ctx=256), opened[1]) == 256


def test_what_is_loaded_can_be_closed(opened: Opened) -> None:
    loaded = load_several(*opened, RAW, PoolSize(2, 256, 512))

    assert loaded.lanes.sequences.n_lanes == 2
    assert loaded.plan.gpus == ()
    loaded.close()
