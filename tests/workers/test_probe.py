"""Workers are looked at in Python before native code may meet them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fwlocal.errors import FwlocalError, NetworkError, UsageError
from fwlocal.workers import (
    DEFAULT_PORT,
    RPC_VERSION,
    Address,
    WorkerDevice,
    probe,
    worker_devices,
)

Answer = Callable[[socket.socket], None]
SHORT_S = 0.3


def reply(data: bytes) -> bytes:
    """A reply as RPC frames it."""
    return struct.pack("<Q", len(data)) + data


def hello(version: tuple[int, int, int] = RPC_VERSION) -> bytes:
    """The first reply: three numbers, a byte of padding, 24 of capabilities."""
    return reply(bytes([*version, 0, *bytes(24)]))


def memory(free: int, total: int) -> bytes:
    """The reply about a device."""
    return reply(struct.pack("<QQ", free, total))


def speaking(
    version: tuple[int, int, int] = RPC_VERSION,
    devices: tuple[tuple[int, int], ...] = ((6, 8),),
    count: int | None = None,
) -> Answer:
    """A worker that reads every request whole before it answers, as llama.cpp's does."""

    def answer(connection: socket.socket) -> None:
        with connection.makefile("rb") as requests:
            while header := requests.read(9):
                command, size = struct.unpack("<BQ", header)
                data = requests.read(size)
                if command == 14:
                    assert data == bytes(24)
                    connection.sendall(hello(version))
                elif command == 15:
                    said = len(devices) if count is None else count
                    connection.sendall(reply(struct.pack("<I", said)))
                else:
                    assert command == 11
                    connection.sendall(memory(*devices[struct.unpack("<I", data)[0]]))

    return answer


def sending(data: bytes) -> Answer:
    """Someone who says the same whatever is asked, and then nothing more."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)
        silence(connection)

    return answer


def silence(connection: socket.socket) -> None:
    """Someone who reads and says nothing, until the other side has had enough."""
    while connection.recv(4096):
        pass


def waiting_for_a_line(connection: socket.socket) -> None:
    """Someone who speaks of lines, as HTTP's servers do."""
    with connection.makefile("rb") as lines:
        lines.readline()
        connection.sendall(b"HTTP/1.1 400 Bad request syntax\r\n\r\n")
        while lines.readline():
            pass


def late(connection: socket.socket) -> None:
    """A worker that answers just when one has given up."""
    data = b""
    while b"\r\n" not in data:
        data += connection.recv(4096)
    connection.sendall(hello())
    silence(connection)


def hanging_up(connection: socket.socket) -> None:
    """Someone who reads a little and closes."""
    connection.recv(9)


@contextlib.contextmanager
def listening(answer: Answer) -> Iterator[Address]:
    """A server on loopback that answers one connection after another."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                with contextlib.suppress(ConnectionError):
                    connection = server.accept()[0]
                    with connection:
                        if connection.recv(1, socket.MSG_PEEK):
                            answer(connection)
                        else:
                            return  # connected to only to end this

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = Address("127.0.0.1", server.getsockname()[1])
        yield address
        socket.create_connection((address.host, address.port)).close()
        thread.join(10)
        assert not thread.is_alive(), "a client was left connected"


def test_a_worker_tells_its_devices_memory() -> None:
    with listening(speaking(devices=((6, 8), (0, 24), (2**40, 2**40)))) as address:
        assert probe(address) == (
            WorkerDevice(6, 8),
            WorkerDevice(0, 24),
            WorkerDevice(2**40, 2**40),
        )


def test_devices_are_numbered_through_all_workers() -> None:
    with (
        listening(speaking(devices=((1, 2), (3, 4)))) as first,
        listening(speaking(devices=((5, 6),))) as second,
    ):
        devices = worker_devices((first, second))
    assert [(d.name, d.description, d.free_bytes, d.total_bytes) for d in devices] == [
        ("RPC0", str(first), 1, 2),
        ("RPC1", str(first), 3, 4),
        ("RPC2", str(second), 5, 6),
    ]
    assert {(device.backend, device.kind) for device in devices} == {("RPC", "GPU")}


def test_a_probe_leaves_the_worker_free() -> None:
    with listening(speaking()) as address:
        assert probe(address) == probe(address)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (sending(b"SSH-2.0-OpenSSH_9.6\r\n"), NetworkError, "answers, but is no fwlocal worker"),
        (sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), NetworkError, "is no fwlocal worker"),
        (sending(reply(b"ok")), NetworkError, "is no fwlocal worker"),
        (sending(struct.pack("<Q", 2**63)), NetworkError, "is no fwlocal worker"),
        (sending(hello() + reply(b"")), NetworkError, "is no fwlocal worker"),
        (speaking(count=16), NetworkError, "is no fwlocal worker"),
        (speaking(devices=((9, 8),)), NetworkError, "is no fwlocal worker"),
        (speaking(devices=((1, 2**63),)), NetworkError, "is no fwlocal worker"),
        (hanging_up, NetworkError, "closes the connection: .* or one of another llama.cpp"),
        (waiting_for_a_line, NetworkError, "answers, but is no fwlocal worker; check the port"),
        (late, NetworkError, "does not answer within 0.3 s; it may be serving another"),
        (silence, NetworkError, "does not answer within 0.3 s; it may be serving another"),
        (sending(hello()[:20]), NetworkError, "does not answer within 0.3 s"),
        (speaking(count=0), FwlocalError, "has no device to lend"),
        (speaking(devices=((6, 8), (0, 0))), FwlocalError, "device 1 tells no memory"),
    ],
)
def test_what_is_no_usable_worker_is_told_in_one_line(
    answer: Answer, error: type[FwlocalError], says: str
) -> None:
    with listening(answer) as address:
        with pytest.raises(error, match=says) as raised:
            probe(address, timeout_s=SHORT_S)
        assert str(address) in str(raised.value)
        assert raised.value.exit_code == error.exit_code


@pytest.mark.parametrize("version", [(6, 1, 0), (7, 0, 1), (7, 1, 0), (8, 0, 0)])
def test_another_version_is_named_with_ours(version: tuple[int, int, int]) -> None:
    theirs = ".".join(map(str, version))
    says = f"speaks RPC {theirs}, this machine's llama.cpp 7.0.0; install the same"
    with listening(speaking(version)) as address, pytest.raises(FwlocalError, match=says):
        probe(address, (7, 0, 0))


def test_versions_before_capabilities_are_named_too() -> None:
    with (
        listening(sending(reply(bytes([2, 0, 1])))) as address,
        pytest.raises(FwlocalError, match=r"speaks RPC 2\.0\.1, "),
    ):
        probe(address)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address("127.0.0.1", server.getsockname()[1])
    says = rf"no one listens there .*; start it there with `fwlocal worker --port {address.port}`$"
    with pytest.raises(NetworkError, match=says):
        probe(address)


@pytest.mark.parametrize(
    ("ip", "port", "command"),
    [
        ("127.0.0.1", DEFAULT_PORT, "`fwlocal worker`"),
        ("127.0.0.1", 50071, "`fwlocal worker --port 50071`"),
        ("10.0.0.2", DEFAULT_PORT, "`fwlocal worker --host 10.0.0.2 --allow-network`"),
        ("100.64.0.2", 1, "`fwlocal worker --host 100.64.0.2 --allow-network --port 1`"),
        ("8.8.8.8", DEFAULT_PORT, "`fwlocal worker`"),  # never on the open Internet
    ],
)
def test_the_command_that_starts_a_worker_where_none_is(
    monkeypatch: pytest.MonkeyPatch, ip: str, port: int, command: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(NetworkError) as raised:
        probe(Address(ip, port))
    assert str(raised.value).endswith(f"start it there with {command}")


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "a..b", "-a" + "b" * 70])
def test_a_name_that_means_nothing(host: str) -> None:
    with pytest.raises(NetworkError, match="its name has no IPv4 address here"):
        probe(Address(host))


def test_a_worker_with_a_client_is_said_to_be_busy() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:  # which accepts nobody
        address = Address("127.0.0.1", server.getsockname()[1])
        with pytest.raises(NetworkError, match="it may be serving another machine"):
            probe(address, timeout_s=SHORT_S)


def test_the_time_counts_for_all_answers_together() -> None:
    def drop_by_drop(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in hello():
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    started = time.monotonic()
    with listening(drop_by_drop) as address:
        with pytest.raises(NetworkError, match=r"does not answer within 0\.3 s"):
            probe(address, timeout_s=SHORT_S)
        assert time.monotonic() - started < 1.5


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120))
def test_whatever_is_answered_is_an_error_of_ours(noise: bytes) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(noise)

    with listening(answer) as address, pytest.raises(FwlocalError) as raised:
        probe(address)
    assert "\n" not in str(raised.value)


def test_two_names_of_one_worker_are_one_worker() -> None:
    with (
        listening(speaking()) as address,
        pytest.raises(UsageError, match=r"localhost:\d+ are one and the same; name it once"),
    ):
        worker_devices((address, Address("localhost", address.port)))


def test_more_devices_than_llama_cpp_takes() -> None:
    eight = speaking(devices=((1, 2),) * 8)
    with listening(eight) as first, listening(eight) as second:
        assert len(worker_devices((first,))) == 8
        with pytest.raises(FwlocalError, match=r"16 devices, and llama\.cpp takes 15"):
            worker_devices((first, second))
