"""`fwlocal worker`: a real worker on loopback, its options, its end, and what it keeps."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fwlocal.cli.worker import device_line, free_port
from fwlocal.errors import FwlocalError, NetworkError, UsageError
from fwlocal.hardware import Device, Memory
from fwlocal.llama.rpc import choose, rebuild_command
from fwlocal.workers import RPC_VERSION, Address, parse_address, probe, worker_devices
from tests import tiny_llama
from tests.conftest import Run
from tests.workers.loopback import LoopbackWorker

CPU = Device("CPU", "EPYC", "CPU", "CPU", 8_000_000_000, 8_000_000_000)
BLAS = Device("BLAS", "OpenBLAS", "BLAS", "ACCEL", 0, 0)
CUDA0 = Device("CUDA0", "A", "CUDA", "GPU", 1, 2)
CUDA1 = Device("CUDA1", "B", "CUDA", "GPU", 3, 4)
posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX's")

LOAD = """
import sys
from pathlib import Path
from fwlocal.llama.model import LoadOptions, Model
from fwlocal.llama.rpc import add_worker
for _ in range(2):
    add_worker(sys.argv[1])
Model(Path(sys.argv[2]), LoadOptions({"RPC0": 99}, mmap=False)).close()
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[LoopbackWorker]:
    """A worker that the tests of this file share."""
    with LoopbackWorker() as running:
        yield running


def test_a_real_worker_speaks_our_version(worker: LoopbackWorker) -> None:
    (device,) = probe(parse_address(worker.address), RPC_VERSION)
    assert 0 < device.free_bytes <= device.total_bytes
    with pytest.raises(FwlocalError, match=r"speaks RPC 7\.0\.0, this machine's llama\.cpp 6\.1"):
        probe(parse_address(worker.address), (6, 1, 0))


def test_a_real_workers_devices_are_named_as_llama_cpp_does(worker: LoopbackWorker) -> None:
    code = (
        "import sys\n"
        "from fwlocal.llama.devices import devices\n"
        "from fwlocal.llama.rpc import add_worker\n"
        "add_worker(sys.argv[1])\n"
        "print([(d.name, d.description, d.backend, d.kind) for d in devices()][-1:])\n"
    )
    done = in_a_process(code, worker.address)
    (ours,) = worker_devices((parse_address(worker.address),))
    assert done.stdout.strip() == str([(ours.name, ours.description, ours.backend, ours.kind)])


def test_a_real_worker_with_a_client_is_busy(worker: LoopbackWorker) -> None:
    with socket.create_connection(("127.0.0.1", worker.port)):
        time.sleep(0.1)
        with pytest.raises(NetworkError, match="it may be serving another machine"):
            probe(parse_address(worker.address), timeout_s=0.3)
    assert probe(parse_address(worker.address))


def test_a_real_worker_outlives_strangers(worker: LoopbackWorker) -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"", bytes(100), b"\x0e" + b"\xff" * 100):
        with socket.create_connection(("127.0.0.1", worker.port)) as stranger:
            stranger.sendall(noise)
    assert probe(parse_address(worker.address))


def test_what_it_lends_is_told_on_stderr(worker: LoopbackWorker) -> None:
    said = worker.log.splitlines()
    assert said[0].startswith("fwlocal: lending CPU: ")
    assert said[0].endswith(" free")
    assert said[1] == f"fwlocal: serving on {worker.address}; Ctrl-C stops"
    assert all(line.endswith((" is connected", " it is gone")) for line in said[2:])


def test_a_client_that_stays_is_told() -> None:
    with LoopbackWorker() as worker:
        with socket.create_connection(("127.0.0.1", worker.port)):
            said = wait_for("a client is connected\n", worker)
        assert re.search(r"\nfwlocal: \d\d:\d\d:\d\d a client is connected\n$", said)
        said = wait_for("it is gone\n", worker)
        assert re.search(r"\nfwlocal: \d\d:\d\d:\d\d it is gone\n$", said)
        assert "Accepted client connection" not in said  # which llama.cpp prints


def wait_for(text: str, worker: LoopbackWorker) -> str:
    """What a worker has said, when it has said ``text``."""
    deadline = time.monotonic() + 20
    while text not in (log := worker.log):
        assert time.monotonic() < deadline, log
        time.sleep(0.02)
    return log


def test_a_taken_port_is_one_line(worker: LoopbackWorker, fwlocal: Run) -> None:
    done = fwlocal("worker", "--port", str(worker.port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fwlocal: {worker.address} cannot be listened on (")
    assert done.stderr.endswith("); choose another --port, or check --host\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0 lets other machines in, and a worker has neither"),
        (("--host", "::1"), "llama.cpp's RPC knows IPv4 only"),
        (("--device", "CUDA99"), "there is no device 'CUDA99'; there are: "),
        (("--port", "65536"), "'--port'"),
        (("--threads", "0"), "'--threads'"),
    ],
)
def test_options_that_make_no_sense(options: tuple[str, ...], says: str, fwlocal: Run) -> None:
    done = fwlocal("worker", *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr


@posix
@pytest.mark.parametrize(
    ("signum", "exit_code", "says"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_it_at_once(signum: int, exit_code: int, says: str) -> None:
    with (
        LoopbackWorker() as worker,
        socket.create_connection(("127.0.0.1", worker.port)),  # a client changes nothing
    ):
        started = time.monotonic()
        assert worker.signal(signum) == exit_code
        assert time.monotonic() - started < 2
        assert worker.log.endswith(f"fwlocal: {says}\n")


def test_it_comes_back_on_its_port() -> None:
    with LoopbackWorker() as worker:
        address, pid = worker.address, worker.pid
        with socket.create_connection(("127.0.0.1", worker.port)):
            worker.restart()
        assert (worker.address, worker.pid) != (address, pid)
        assert worker.address == address
        assert probe(parse_address(address))
    with pytest.raises(NetworkError, match="no one listens there"):
        probe(parse_address(address))


@posix
def test_its_memory_can_be_limited() -> None:
    resource = pytest.importorskip("resource")
    with LoopbackWorker(memory_limit_bytes=4 << 30) as worker:
        if hasattr(resource, "prlimit"):
            assert resource.prlimit(worker.pid, resource.RLIMIT_AS) == (4 << 30, 4 << 30)
        assert probe(parse_address(worker.address))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
def test_a_server_that_gives_up_is_an_error() -> None:
    import resource

    with LoopbackWorker() as worker:
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))  # it can accept nobody
        socket.create_connection(("127.0.0.1", worker.port)).close()
        assert worker.process.wait(10) == 1
        assert f"fwlocal: llama.cpp stopped serving on {worker.address}; its" in worker.log


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127/8 is there on Linux alone")
def test_it_listens_where_it_is_told_to() -> None:
    with LoopbackWorker(options=["--host=127.0.0.2"]) as worker:
        assert worker.address == f"127.0.0.2:{worker.port}"
        assert probe(parse_address(worker.address))
        assert free_port("127.0.0.1", worker.port) == worker.port  # and nowhere else
        assert "warning" not in worker.log


def test_devices_by_default_as_llama_cpp_chooses_them() -> None:
    assert choose([CUDA0, CPU, CUDA1, BLAS], ()) == (CUDA0, CUDA1)
    assert choose([BLAS, CPU], ()) == (CPU,)
    assert choose([CUDA0, CPU], ("cpu", "CUDA0", "CPU")) == (CPU, CUDA0)
    with pytest.raises(UsageError, match="no device 'Metal'; there are: CUDA0, CPU"):
        choose([CUDA0, CPU], ("CPU", "Metal"))


def test_of_ram_only_what_is_available_counts_as_free() -> None:
    ram = Memory(3_000_000_000, 8_000_000_000)
    assert device_line(CPU, ram) == "lending CPU: EPYC, 3.0 GB of 8.0 GB free"
    assert device_line(CUDA1, ram) == "lending CUDA1: B, 3 B of 4 B free"


def test_building_anew_keeps_the_other_backends() -> None:
    start = 'CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_RPC=ON" pip install --force-reinstall '
    assert rebuild_command(["CPU", "CUDA"]).startswith(start)
    assert rebuild_command(["CPU"]).startswith('CMAKE_ARGS="-DGGML_RPC=ON" pip install ')


def test_a_model_is_sent_once(tmp_path: Path) -> None:
    # Its three feed-forward tensors have more than the 10 MiB from which llama.cpp keeps them.
    shape = tiny_llama.Shape(num_hidden_layers=1, intermediate_size=48 << 10)
    model = tiny_llama.write_gguf(tmp_path / "wide.gguf", shape)
    tensor_bytes = shape.hidden_size * shape.intermediate_size * 4
    with (
        LoopbackWorker(cache_folder=tmp_path / "cache") as worker,
        counting(worker.port) as (port, sent),
    ):
        totals = [0]
        for _ in range(2):
            in_a_process(LOAD, f"127.0.0.1:{port}", str(model))
            probe(Address("127.0.0.1", port))  # answered when all before it has been passed on
            totals.append(sum(sent))
        kept = [path for path in (tmp_path / "cache" / "rpc").iterdir() if len(path.name) == 16]
    assert [path.stat().st_size for path in kept] == [tensor_bytes] * 3
    first, second = totals[1], totals[2] - totals[1]
    assert first > 3 * tensor_bytes
    assert second < first - 3 * tensor_bytes + 10_000


def in_a_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Native code that meets workers may end its process: not this one."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@contextlib.contextmanager
def counting(target: int) -> Iterator[tuple[int, list[int]]]:
    """A port that leads to ``target``, and the numbers of bytes that went there, in order."""
    sent: list[int] = []

    def pass_on(source: socket.socket, sink: socket.socket, *, is_counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 20):
                sink.sendall(data)
                sent.append(len(data) * is_counted)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            client = server.accept()[0]
            if not client.recv(1, socket.MSG_PEEK):
                client.close()
                return
            with client, socket.create_connection(("127.0.0.1", target)) as worker:
                back = threading.Thread(
                    target=pass_on, args=(worker, client), kwargs={"is_counted": False}
                )
                back.start()
                pass_on(client, worker, is_counted=True)
                back.join()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        yield port, sent
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join(10)
        assert not thread.is_alive()
