"""What a worker tells of its clients, of all that llama.cpp prints."""

from __future__ import annotations

import re
import time

import pytest

from fwlocal.workers.visits import LASTING_S, Visits

NOON = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1))
CONNECTED, CLOSED = "Accepted client connection", "Client connection closed"
START = """\
Starting RPC server v7.0.0
  endpoint       : 127.0.0.1:50052
  local cache    : n/a
Devices:
  CUDA0: NVIDIA GeForce RTX 3090 (24124 MiB, 23862 MiB free)
  transport      : TCP (RDMA auto-negotiate enabled)

"""


@pytest.fixture
def said() -> list[str]:
    """The lines for the user."""
    return []


@pytest.fixture
def visits(said: list[str]) -> Visits:
    """Nobody has come yet."""
    return Visits(said.append)


def test_a_client_comes_and_goes(visits: Visits, said: list[str]) -> None:
    visits.hear(CONNECTED, NOON)
    visits.watch(NOON + LASTING_S / 2)
    assert said == []
    visits.watch(NOON + LASTING_S)
    visits.watch(NOON + 60)
    assert said == ["12:00:00 a client is connected"]
    visits.hear(CLOSED, NOON + 3661)
    visits.watch(NOON + 4000)
    assert said[1:] == ["13:01:01 it is gone"]


def test_a_probe_is_not_told(visits: Visits, said: list[str]) -> None:
    for moment in (NOON, NOON + 10):
        visits.hear(CONNECTED, moment)
        visits.hear(CLOSED, moment + LASTING_S / 2)
        visits.watch(moment + 5)
    assert said == []


def test_a_visit_heard_of_late_is_told_whole(visits: Visits, said: list[str]) -> None:
    visits.hear(CONNECTED, NOON)
    visits.hear(CLOSED, NOON + 2)
    assert said == ["12:00:00 a client is connected", "12:00:02 it is gone"]


def test_what_is_known_is_not_said_again_and_the_rest_is_passed_on(
    visits: Visits, said: list[str]
) -> None:
    for line in START.splitlines():
        visits.hear(line, NOON)
    assert said == []
    visits.hear("RDMA: a device has come loose", NOON)
    assert said == ["llama.cpp: RDMA: a device has come loose"]


def test_the_time_is_that_of_the_local_clock(visits: Visits, said: list[str]) -> None:
    now = time.time()
    visits.hear(CONNECTED, now)
    visits.watch(now + LASTING_S)
    assert re.fullmatch(r"\d\d:\d\d:\d\d a client is connected", said[0])
    assert said[0].startswith(time.strftime("%H:%M:%S", time.localtime(now)))
