"""States are written beside the answers, and nobody waits long for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fwlocal.prefix_cache import Outcome, PrefixCache, Setting, Writer
from tests.prefix_cache.kept import BOUND, SETTING, Machine, roomy, state_of

FIRST, SECOND, THIRD = ([1000 * n + i for i in range(400)] for n in (1, 2, 3))


class SlowCache(PrefixCache):
    """A cache whose disk waits until a test lets it go on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, BOUND, free_bytes=roomy)
        self.disk, self.begun = threading.Event(), threading.Event()
        self.written: list[int] = []
        self.was_given_up = False

    def put(
        self,
        setting: Setting,
        tokens: Sequence[int],
        state: Any,
        prefill_s: float,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        self.begun.set()
        while not self.disk.wait(0.005):
            if give_up():
                self.was_given_up = True
                return "given up"
        self.written.append(tokens[0])
        return super().put(setting, tokens, state, prefill_s, give_up)


@pytest.fixture
def slow(root: Path) -> SlowCache:
    """A cache on a slow disk."""
    return SlowCache(root)


def give(writer: Writer, tokens: list[int]) -> None:
    writer.give(SETTING, tokens, state_of(tokens), 10.0)


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(5000):
        if is_so():
            return
        time.sleep(0.002)
    pytest.fail("it never was")


def test_what_was_given_is_there_once_it_is_closed(machine: Machine) -> None:
    writer = Writer(machine.cache)

    give(writer, FIRST)
    writer.close()

    assert machine.common(FIRST) == 399


def test_giving_does_not_wait(slow: SlowCache) -> None:
    writer = Writer(slow)
    give(writer, FIRST)
    assert slow.begun.wait(5)

    give(writer, SECOND)

    assert not slow.written
    slow.disk.set()
    writer.close()
    assert slow.written[0] == FIRST[0]


def test_only_the_newest_waits(slow: SlowCache) -> None:
    writer = Writer(slow)
    for tokens in (FIRST, SECOND, THIRD):
        give(writer, tokens)
    slow.disk.set()
    wait_until(lambda: len(slow.written) == 2)
    writer.close()

    assert slow.written == [FIRST[0], THIRD[0]]


def test_the_end_waits_for_what_is_being_written_and_no_other(slow: SlowCache) -> None:
    writer = Writer(slow)
    give(writer, FIRST)
    give(writer, SECOND)
    threading.Timer(0.05, slow.disk.set).start()

    writer.close()

    assert slow.written == [FIRST[0]]


def test_a_disk_that_hangs_keeps_nobody(slow: SlowCache) -> None:
    writer = Writer(slow)
    give(writer, FIRST)

    writer.close(patience_s=0.02)

    assert slow.was_given_up
    assert not slow.written


def test_nobody_waits_longer_than_the_entry_saves(slow: SlowCache) -> None:
    writer = Writer(slow)
    writer.give(SETTING, FIRST, state_of(FIRST), prefill_s=0.02)

    started = time.monotonic()
    writer.close(patience_s=60)

    assert slow.was_given_up
    assert time.monotonic() - started < 20


def test_another_one_after_the_first(machine: Machine) -> None:
    writer = Writer(machine.cache)
    give(writer, FIRST)
    wait_until(lambda: not writer.is_busy)
    give(writer, SECOND)
    writer.close()
    writer.close()
    give(writer, THIRD)

    assert [machine.common(tokens) for tokens in (FIRST, SECOND, THIRD)] == [399, 399, 0]


class FailingCache(PrefixCache):
    """A cache with a bug that shows at the first entry."""

    n_failed = 0

    def put(
        self,
        setting: Setting,
        tokens: Sequence[int],
        state: Any,
        prefill_s: float,
        give_up: Callable[[], bool] = lambda: False,
    ) -> Outcome:
        if not self.n_failed:
            self.n_failed += 1
            raise RuntimeError("a bug")
        return super().put(setting, tokens, state, prefill_s, give_up)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unexpected_error_does_not_stop_the_writer_for_good(root: Path) -> None:
    writer = Writer(FailingCache(root, BOUND, free_bytes=roomy))
    give(writer, FIRST)
    wait_until(lambda: not writer.is_busy)

    give(writer, SECOND)
    writer.close()

    machine = Machine(root)
    assert [machine.common(tokens) for tokens in (FIRST, SECOND)] == [0, 399]


def test_whether_another_one_has_a_chance(machine: Machine) -> None:
    writer = Writer(machine.cache)
    give(writer, FIRST)
    wait_until(lambda: not writer.is_busy)
    assert not writer.is_hopeless

    machine.disk_bytes = 0
    give(writer, SECOND)
    writer.close()

    assert writer.is_hopeless
