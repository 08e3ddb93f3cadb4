"""Other machines that lend their devices: their addresses, and whether they are really there.

llama.cpp ends the process when anything is wrong with a worker, so this speaks the beginning of
its RPC protocol first, in Python and with bounds. What is computed there, and how a worker is made
a device of llama.cpp, it does not know. Protocol and sizes: llama.cpp's ggml/src/ggml-rpc.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fwlocal.errors import FwlocalError, NetworkError, UsageError
from fwlocal.hardware import Device

Version = tuple[int, int, int]

# The protocol of the pinned llama-cpp-python; a test holds it against a real worker.
RPC_VERSION: Version = (7, 0, 0)
DEFAULT_PORT = 50052
MAX_DEVICES = 15  # GGML_SCHED_MAX_BACKENDS, of which the CPU is one
TIMEOUT_S = 3.0
_LINE_S = 0.5  # for the answer to an empty line

_GET_DEVICE_MEMORY, _HELLO, _DEVICE_COUNT = 11, 14, 15  # rpc_cmd
_CAPABILITIES = bytes(24)  # of the connection; none: RPC over RDMA is not asked for
_HELLO_REPLIES = range(3, 129)  # bytes: now 28; every version's begins with its three numbers
_MAX_BYTES = 2**50  # of one device; a larger figure is none

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_-]+)*\.?")
_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a worker listens: a host name or an IPv4 address, and a TCP port."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """As llama.cpp takes it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class WorkerDevice:
    """The memory of one of a worker's devices, as the worker tells it."""

    free_bytes: int
    total_bytes: int


def parse_address(text: str) -> Address:
    """``HOST`` or ``HOST:PORT``, spaces around it ignored. Raises UsageError."""
    shown = text.strip()
    if scheme := _SCHEME.match(shown):
        raise UsageError(f"{shown!r} is no worker's address; write HOST:PORT, without {scheme[0]}")
    if shown.startswith("[") or shown.count(":") > 1:
        raise UsageError(
            f"{shown} is an IPv6 address, and llama.cpp's RPC knows IPv4 only; give the worker's "
            "IPv4 address, or a name that has one"
        )
    host, colon, port = shown.lower().partition(":")
    if not _is_host(host):
        raise UsageError(f"{shown!r} is no worker's address; write HOST or HOST:PORT")
    if not colon:
        return Address(host)
    if not _PORT.fullmatch(port) or not 0 < int(port) < 2**16:
        raise UsageError(f"{shown!r} has no port that could be one; write a number from 1 to 65535")
    return Address(host, int(port))


def _is_host(host: str) -> bool:
    if not _HOST.fullmatch(host):
        return False
    if set(host) <= set("0123456789."):  # no short forms such as 127.1
        with contextlib.suppress(ValueError):
            return ipaddress.IPv4Address(host) is not None
        return False
    return True


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Addresses with commas between them, in order. Raises UsageError; for one given twice too."""
    if text.endswith(","):
        raise UsageError(f"--workers {text}: there is a comma too many at the end")
    addresses = tuple(map(parse_address, text.split(",")))
    _check_distinct(addresses, addresses)
    return addresses


def _check_distinct(keys: Iterable[object], addresses: tuple[Address, ...]) -> None:
    """One worker cannot be two: it serves one connection, and the second would wait for ever."""
    seen: dict[object, Address] = {}
    for key, address in zip(keys, addresses, strict=True):
        if key in seen:
            raise UsageError(
                f"the workers {seen[key]} and {address} are one and the same; name it once"
            )
        seen[key] = address


def worker_devices(
    addresses: tuple[Address, ...], *, version: Version = RPC_VERSION, timeout_s: float = TIMEOUT_S
) -> tuple[Device, ...]:
    """Every worker's devices, named RPC0, RPC1, ... as llama.cpp will name them when the workers
    are added in this order.

    Raises what ``probe`` does, UsageError for two names of one worker, and FwlocalError for more
    devices than llama.cpp takes.
    """
    _check_distinct([(resolve(address), address.port) for address in addresses], addresses)
    found = [
        (address, device)
        for address in addresses
        for device in probe(address, version, timeout_s=timeout_s)
    ]
    if len(found) > MAX_DEVICES:
        raise FwlocalError(
            f"the workers have {len(found)} devices, and llama.cpp takes {MAX_DEVICES}; name fewer"
        )
    return tuple(
        Device(f"RPC{index}", str(address), "RPC", "GPU", device.free_bytes, device.total_bytes)
        for index, (address, device) in enumerate(found)
    )


def resolve(address: Address) -> str:
    """The IPv4 address that ``address`` means. Raises NetworkError."""
    try:
        found = socket.getaddrinfo(address.host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the idna codec refuses some names
        raise NetworkError(
            f"worker {address}: its name has no IPv4 address here; give its address as numbers"
        ) from error
    return str(found[0][4][0])


def probe(
    address: Address, expected_version: Version = RPC_VERSION, *, timeout_s: float = TIMEOUT_S
) -> tuple[WorkerDevice, ...]:
    """The devices of a worker that can be used now, within ``timeout_s`` seconds (finding its
    name apart). The connection is closed again, so that the worker is free.

    Raises NetworkError when nobody or something else answers or the worker is busy, FwlocalError
    when it speaks another version or has nothing to lend.
    """
    deadline = time.monotonic() + timeout_s
    with _connected(address, resolve(address), timeout_s) as connection:
        talk = _Talk(address, connection, deadline, timeout_s)
        _check_version(address, talk.hello(), expected_version)
        count = talk.device_count()
        if count == 0:
            raise FwlocalError(f"worker {address} has no device to lend; look at its own output")
        if count > MAX_DEVICES:
            raise talk.no_worker()
        devices = tuple(talk.device_memory(index) for index in range(count))
    for index, device in enumerate(devices):
        if device.total_bytes == 0:
            raise FwlocalError(
                f"worker {address}: its device {index} tells no memory; start it there with "
                "`fwlocal worker --device NAME` and another device"
            )
    return devices


def _connected(address: Address, ip: str, timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection((ip, address.port), timeout=timeout_s)
    except TimeoutError as error:
        raise NetworkError(
            f"worker {address} cannot be reached within {timeout_s:g} s: the machine is off, a "
            f"firewall is between, or many wait for it; start it there with {_command(address, ip)}"
        ) from error
    except OSError as error:
        raise NetworkError(
            f"worker {address}: no one listens there ({error.strerror or error}); start it there "
            f"with {_command(address, ip)}"
        ) from error


def _command(address: Address, ip: str) -> str:
    """What starts a worker that can be reached at ``address``; no advice to face the Internet."""
    is_near = not ipaddress.IPv4Address(ip).is_global
    network = "" if ip.startswith("127.") or not is_near else f" --host {ip} --allow-network"
    port = "" if address.port == DEFAULT_PORT else f" --port {address.port}"
    return f"`fwlocal worker{network}{port}`"


def _check_version(address: Address, version: Version, expected: Version) -> None:
    if version != expected:
        theirs, ours = (".".join(map(str, numbers)) for numbers in (version, expected))
        raise FwlocalError(
            f"worker {address} speaks RPC {theirs}, this machine's llama.cpp {ours}; install the "
            "same llama-cpp-python on both"
        )


@dataclass(frozen=True)
class _Talk:
    """Questions on a connection, and their answers: a request is a command byte and a reply
    nothing, then each has its size (uint64, little-endian) and its data."""

    address: Address
    connection: socket.socket
    deadline: float
    timeout_s: float

    def hello(self) -> Version:
        """The worker's version."""
        reply = self._ask(_HELLO, _CAPABILITIES, lambda size: size in _HELLO_REPLIES)
        return reply[0], reply[1], reply[2]

    def device_count(self) -> int:
        """How many devices it says it has."""
        return int(struct.unpack("<I", self._ask(_DEVICE_COUNT, b"", lambda size: size == 4))[0])

    def device_memory(self, index: int) -> WorkerDevice:
        """The memory of one of them; no more than there can be."""
        reply = self._ask(_GET_DEVICE_MEMORY, struct.pack("<I", index), lambda size: size == 16)
        free, total = struct.unpack("<QQ", reply)
        if free > total or total > _MAX_BYTES:
            raise self.no_worker()
        return WorkerDevice(free, total)

    def no_worker(self) -> NetworkError:
        """What is said of an answer that no worker gives."""
        return NetworkError(
            f"{self.address} answers, but is no fwlocal worker; check the port, which `fwlocal "
            "worker` tells where it runs"
        )

    def _ask(self, command: int, data: bytes, is_size: Callable[[int], bool]) -> bytes:
        try:
            self.connection.settimeout(self._left_s())
            self.connection.sendall(struct.pack("<BQ", command, len(data)) + data)
            (size,) = struct.unpack("<Q", self._read(8))
            if not is_size(size):
                raise self.no_worker()
            return self._read(size)
        except TimeoutError as error:
            if self._answers_a_line():
                raise self.no_worker() from error
            raise NetworkError(
                f"worker {self.address} takes the connection but does not answer within "
                f"{self.timeout_s:g} s; it may be serving another machine: wait for that, or "
                "start it again there"
            ) from error
        except (OSError, EOFError) as error:
            raise NetworkError(
                f"{self.address} closes the connection: it is no fwlocal worker, or one of another "
                "llama.cpp; install the same llama-cpp-python there and start `fwlocal worker`"
            ) from error

    def _answers_a_line(self) -> bool:
        """Whether this is a server of lines, as HTTP's, which has been waiting for the end of one:
        what a worker says of itself has no visible character."""
        with contextlib.suppress(OSError):
            self.connection.settimeout(_LINE_S)
            self.connection.sendall(b"\r\n\r\n")
            return self.connection.recv(1) >= b" "
        return False

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            self.connection.settimeout(self._left_s())
            part = self.connection.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _left_s(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
