"""The verb that lends this machine's devices to another one's fwlocal.

The server is llama.cpp's own and blocks in native code, in a thread; another one reads what it
prints; the main thread tells of it and waits for signals. What is asked of the devices, this does
not know.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import queue
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import click

from fwlocal.cli.output import notify
from fwlocal.errors import FwlocalError, NetworkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwlocal.hardware import Device, Memory
    from fwlocal.workers import Address
    from fwlocal.workers.cache import TensorCache

WARNING = (
    "warning: never expose a worker to an open network: its protocol has neither password nor "
    "encryption, and llama.cpp calls it experimental and not secure"
)
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 (listened on only with --allow-network)
_POLL_S = 0.05
_WATCH_S = 0.5  # also how long Ctrl-C may take on Windows


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen on this address.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=50052,
    show_default=True,
    help="Listen on this port; 0 takes a free one.",
)
@click.option(
    "--device",
    "names",
    metavar="NAME",
    multiple=True,
    help="Lend this device of `fwlocal doctor`; may be given again. [default: every GPU, or else "
    "the CPU]",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of the CPU device. [default: the fast physical cores]",
)
@click.option("--cache", is_flag=True, help="Keep large tensors on this disk, by their hash.")
@click.option(
    "--allow-network", is_flag=True, help="Listen where other machines can reach it: not secure."
)
def worker(
    host: str,
    port: int,
    names: tuple[str, ...],
    threads: int | None,
    cache: bool,
    allow_network: bool,
) -> None:
    """Lend this machine's devices to another one, until Ctrl-C.

    The other one names it, as in `fwlocal run --workers HOST:PORT`. One client at a time is served.
    """
    from fwlocal.workers import Address

    ip = listening_ip(host, is_network_allowed=allow_network)
    from fwlocal import hardware, llama
    from fwlocal.llama import rpc

    rpc.require_rpc()
    devices = rpc.lendable(names)
    address = Address(ip, free_port(ip, port))
    llama.exit_on_abort(_report_abort)
    kept = _opened_cache() if cache else None
    ram = hardware.memory()
    for line in (*(device_line(device, ram) for device in devices), *network_warning(address)):
        notify(line)
    _serve(address, devices, threads or hardware.default_threads(), kept)


def listening_ip(host: str, *, is_network_allowed: bool) -> str:
    """The IPv4 address to listen on, all that llama.cpp knows. Raises UsageError for one that
    other machines can reach, unless that is allowed."""
    from fwlocal.workers import Address, resolve

    try:
        ip = resolve(Address(host.strip()))
    except NetworkError as error:
        raise UsageError(
            f"--host {host}: this is no IPv4 address, and no name of one; llama.cpp's RPC knows "
            "IPv4 only"
        ) from error
    if not _is_loopback(ip) and not is_network_allowed:
        raise UsageError(
            f"--host {host} lets other machines in, and a worker has neither password nor "
            "encryption; reach it through an SSH tunnel, or say --allow-network on a network of "
            "your own"
        )
    return ip


def network_warning(address: Address) -> tuple[str, ...]:
    """What is said of an address that other machines can reach, with the safer way; nothing of
    127.0.0.0/8."""
    if _is_loopback(address.host):
        return ()
    there = next(iter(_reachable(address.host)), "THIS-MACHINE")
    port = address.port
    return (
        WARNING,
        "safer: leave --host and --allow-network out, and on the other machine "
        f"`ssh -N -L {port}:127.0.0.1:{port} {there}`, then --workers 127.0.0.1:{port}",
    )


def clients_commands(address: Address) -> tuple[str, ...]:
    """What to type on another machine; nothing for an address that only this one can reach."""
    if _is_loopback(address.host):
        return ()
    hosts = _reachable(address.host) or ("ADDRESS",)
    return tuple(
        f"{'or' if index else 'on the other machine'}: "
        f"`fwlocal run --workers {host}:{address.port}`"
        for index, host in enumerate(hosts)
    )


def _reachable(ip: str) -> tuple[str, ...]:
    """The addresses by which others reach what listens on ``ip``."""
    from fwlocal.workers.reach import own_addresses

    return own_addresses() if ip == ANY_ADDRESS else (ip,)


def _is_loopback(ip: str) -> bool:
    return ipaddress.IPv4Address(ip).is_loopback


def free_port(ip: str, port: int) -> int:
    """``port``, or for 0 one that is free. Raises FwlocalError when it cannot be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        if os.name == "posix":  # as llama.cpp does; on Windows it would share another's port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((ip, port))
            taken.listen(1)
        except OSError as error:
            raise FwlocalError(
                f"{ip}:{port} cannot be listened on ({error.strerror or error}); choose another "
                "--port, or check --host"
            ) from error
        return int(taken.getsockname()[1])


def device_line(device: Device, ram: Memory) -> str:
    """A device and its free memory; llama.cpp itself takes all RAM there is for free."""
    from fwlocal.files import sized

    free = (
        min(device.free_bytes, ram.available_bytes) if device.kind == "CPU" else device.free_bytes
    )
    memory = f"{sized(free)} of {sized(device.total_bytes)} free"
    return f"lending {device.name}: {device.description}, {memory}"


def _opened_cache() -> TensorCache:
    from fwlocal.files import sized
    from fwlocal.workers.cache import TensorCache, default_folder

    kept = TensorCache(default_folder())
    notify(f"keeping large tensors in {kept.folder}, {sized(kept.size_bytes)} so far")
    return kept


def _serve(
    address: Address, devices: Sequence[Device], n_threads: int, kept: TensorCache | None
) -> NoReturn:
    """Serve until a signal ends the process, with its exit code."""
    from fwlocal.llama import rpc
    from fwlocal.workers.visits import Visits

    names = [device.name for device in devices]
    folder = kept.folder if kept else None
    visits, printed = Visits(notify), _native_lines()
    server = threading.Thread(
        target=rpc.serve, args=(str(address), names, n_threads, folder), daemon=True
    )
    try:
        server.start()
        if _is_served(address, server):
            for line in (f"serving on {address}; Ctrl-C stops", *clients_commands(address)):
                notify(line)
        while server.is_alive() or not printed.empty():
            try:
                visits.hear(*printed.get(timeout=_WATCH_S))
            except queue.Empty:
                visits.watch(time.time())
            if kept:
                kept.watch()
        raise FwlocalError(f"llama.cpp stopped serving on {address}; its own lines above say why")
    except (KeyboardInterrupt, FwlocalError) as ended:
        if kept:
            with contextlib.suppress(OSError):  # then the next one forgets what this one wrote
                kept.close()
        notify(str(ended) or "interrupted")
        # Not by way of the interpreter: the server still uses what its end would take down.
        os._exit(ended.exit_code if isinstance(ended, FwlocalError) else 130)


def _is_served(address: Address, server: threading.Thread) -> bool:
    """Wait until a client is answered; False if the server has ended."""
    from fwlocal.workers import Address, probe

    reachable = Address("127.0.0.1", address.port) if address.host == ANY_ADDRESS else address
    while server.is_alive():
        with contextlib.suppress(NetworkError):
            probe(reachable)
            return server.is_alive()
        time.sleep(_POLL_S)
    return False


def _native_lines() -> queue.SimpleQueue[tuple[str, float]]:
    """llama.cpp prints what it does to C's stdout: from now on its lines come here, each with its
    time. Whoever reads them may be slow: the server never waits for that."""
    lines: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    sys.stdout.flush()
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.close(writing)

    def read() -> None:
        with (
            contextlib.suppress(OSError),
            open(reading, encoding="utf-8", errors="replace") as printed,
        ):
            for line in printed:
                lines.put((line.rstrip("\n"), time.time()))

    threading.Thread(target=read, daemon=True).start()
    return lines


def _report_abort(message: str) -> NoReturn:
    """The last words before a failed check inside llama.cpp would abort the process."""
    notify(f"llama.cpp failed a check of its own: {message}; start the worker again")
    os._exit(1)
