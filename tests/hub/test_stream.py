"""Many spans as one run of bytes, fetched ahead within bounds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fwlocal.errors import NetworkError
from fwlocal.hub.remote_file import RemoteFile
from fwlocal.hub.stream import Span, Stream
from tests.hub.conftest import CONTENT, NAME
from tests.hub_server import Fault, HubServer

WINDOW = 1 << 20


@contextmanager
def streaming(spans: Sequence[Span], window_bytes: int = WINDOW) -> Iterator[Stream]:
    with closing(Stream(spans, window_bytes=window_bytes)) as stream:
        yield stream


def take(stream: Stream, count: int) -> bytes:
    data = bytearray(count)
    stream.read_into(memoryview(data))
    return bytes(data)


def settled(hub: HubServer) -> int:
    """The bytes sent, once no more come."""
    before = -1
    while before != hub.sent_bytes:
        before = hub.sent_bytes
        time.sleep(0.3)
    return before


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_spans_read_in_any_pieces(file: RemoteFile, data: st.DataObject) -> None:
    ends = st.integers(0, len(CONTENT))
    pairs = data.draw(st.lists(st.tuples(ends, ends).map(sorted), min_size=1, max_size=4))
    spans = [Span(file, begin, end) for begin, end in pairs]
    expected = b"".join(CONTENT[begin:end] for begin, end in pairs)
    window = data.draw(st.integers(1, 1 << 21))
    window = max(window, len(expected) // 5)  # not thousands of requests
    with streaming(spans, window) as stream:
        got = b""
        while len(got) < len(expected):
            got += take(stream, data.draw(st.integers(1, len(expected) - len(got))))
        assert stream.position == len(expected)
    assert got == expected


def test_no_further_ahead_than_the_window(hub: HubServer, file: RemoteFile) -> None:
    with streaming([Span(file, 0, file.size_bytes)]) as stream:
        take(stream, 10)
        assert WINDOW / 2 <= settled(hub) <= WINDOW + 10
        take(stream, 500_000)
        assert settled(hub) <= WINDOW + 500_010


def test_no_further_than_is_allowed(hub: HubServer, file: RemoteFile) -> None:
    with streaming([Span(file, 0, file.size_bytes)], 400_000) as stream:
        stream.allow(600_000)
        take(stream, 550_000)
        assert settled(hub) <= 600_000
        stream.allow(len(CONTENT))
        assert take(stream, len(CONTENT) - 550_000) == CONTENT[550_000:]


def test_a_reader_is_never_kept_waiting_by_what_is_allowed(file: RemoteFile) -> None:
    with streaming([Span(file, 0, file.size_bytes)], 400_000) as stream:
        stream.allow(1)
        assert take(stream, len(CONTENT)) == CONTENT


def test_nothing_is_fetched_before_the_first_read(hub: HubServer, file: RemoteFile) -> None:
    with streaming([Span(file, 0, file.size_bytes)]):
        assert settled(hub) == 0


def test_cuts_do_not_show(hub: HubServer, file: RemoteFile) -> None:
    chance = random.Random(2)
    hub.cut([chance.randrange(len(CONTENT)) for _ in range(10)])
    with streaming([Span(file, 0, file.size_bytes)]) as stream:
        assert take(stream, len(CONTENT)) == CONTENT


def test_a_failure_reaches_the_reader(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, where="cdn", skip=2, etag='"another"'))
    with (
        streaming([Span(file, 0, file.size_bytes)]) as stream,
        pytest.raises(NetworkError, match="has changed"),
    ):
        take(stream, len(CONTENT))


def test_past_the_end(file: RemoteFile) -> None:
    with streaming([Span(file, 0, 100)]) as stream:
        take(stream, 100)
        with pytest.raises(ValueError, match="past the end"):
            take(stream, 1)


def test_closing_ends_a_stall_soon(hub: HubServer, file: RemoteFile) -> None:
    hub.plan(Fault(path=NAME, where="cdn", after_bytes=100, stall_s=600, times=9))
    stream = Stream([Span(file, 0, file.size_bytes)], window_bytes=WINDOW)
    ended: list[str] = []

    def read() -> None:
        with pytest.raises(ValueError, match="past the end"):
            take(stream, 10_000)
        ended.append("so")

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.3)
    started = time.monotonic()
    stream.close()
    reader.join()
    assert ended
    assert time.monotonic() - started < 5
