"""A real worker on this machine: `fwlocal worker` as a process, on a free port of loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
START_S = 60.0  # on a busy machine
_SERVING = re.compile(r"serving on (127\.[\d.]+:\d+);")
_LIMITED = (
    "import os, resource, sys\n"
    "limit = int(sys.argv[1])\n"
    "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
)


class LoopbackWorker:
    """``with LoopbackWorker() as worker``: it serves at ``worker.address`` from the first line on,
    and is gone after the last. ``memory_limit_bytes`` of address space are for POSIX only."""

    def __init__(
        self,
        *,
        cache_folder: Path | None = None,
        n_threads: int = 1,
        memory_limit_bytes: int | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.address = ""
        self._cache_folder = cache_folder
        self.memory_limit_bytes = memory_limit_bytes
        self._options = [f"--threads={n_threads}", *options, *["--cache"] * bool(cache_folder)]
        self._folder = tempfile.TemporaryDirectory(prefix="worker-")
        self._log = Path(self._folder.name) / "stderr"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LoopbackWorker:
        try:
            self._start(0)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that runs now."""
        assert self._process is not None, "the worker does not run"
        return self._process

    @property
    def pid(self) -> int:
        """Of the process that serves."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has said on stderr."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def signal(self, signum: int) -> int:
        """Send a signal that ends it; its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(START_S)

    def kill(self) -> None:
        """End it at once, as a crash or a pulled plug would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """End it and start another one on the same port."""
        self.kill()
        self._start(self.port)

    def _start(self, port: int) -> None:
        arguments = ["-m", "fwlocal", "worker", f"--port={port}", *self._options]
        if self.memory_limit_bytes is not None:
            arguments = ["-c", _LIMITED, str(self.memory_limit_bytes), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if self._cache_folder is not None:
            environment["FWLOCAL_CACHE"] = str(self._cache_folder)
        with self._log.open("wb") as log:
            if self.memory_limit_bytes:  # or each thread may take 64 MiB of it, by chance
                environment["MALLOC_ARENA_MAX"] = "1"
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )
        self._await_serving()

    def _await_serving(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := _SERVING.search(self.log):
                self.address = found[1]
                return
            time.sleep(0.02)
        raise RuntimeError(f"the worker does not serve: {self.log}")
