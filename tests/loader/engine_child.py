"""The engine's process of tests/test_isolation.py: as the real one, with a small job, and able to
die where a test wants it to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fwlocal.children import Parent
from fwlocal.engine import Engine, EngineLike
from fwlocal.library import Library
from fwlocal.llama import bindings
from fwlocal.loader import EngineOptions, load, open_file
from fwlocal.loader.engine_process import serve
from fwlocal.registry import load_registry
from fwlocal.store import Store

RPC_ABORT = b"Remote RPC server crashed or returned malformed response"


@dataclass(frozen=True)
class Job:
    """``abort_after`` so many tokens, or in the midst of the load, as when a worker is lost;
    ``slow_load`` seconds for each step of the load."""

    path: Path
    options: EngineOptions
    abort_after: int | None = None
    abort_load: bool = False
    slow_load: float = 0.0


def loading(
    job: Job, on_progress: Callable[[float], None], parent: Parent
) -> tuple[EngineLike, object]:
    def slowly(fraction: float) -> None:
        on_progress(fraction)
        if job.abort_load:
            _lose_worker()
        time.sleep(job.slow_load)

    library = Library(load_registry(), Store(job.path.parent / "models"))
    file, header = open_file(str(job.path), library)
    loaded = load(file, header, job.options, on_progress=slowly, interrupt=parent.interrupt)
    if job.abort_after is not None:
        _abort_after(loaded.engine, job.abort_after)
    return loaded.engine, {"pid": os.getpid()}


def _lose_worker() -> None:
    """Fail the check that fails in llama.cpp's RPC client."""
    ggml = bindings.library("ggml-base")
    bindings.call(ggml, "ggml_abort", None, b"/src/ggml-rpc.cpp", 354, RPC_ABORT)


def _abort_after(engine: EngineLike, n_tokens: int) -> None:
    assert isinstance(engine, Engine)
    evaluate_one = engine.cache.evaluate_one
    left = n_tokens

    def evaluate(token: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            _lose_worker()
        evaluate_one(token)

    engine.cache.evaluate_one = evaluate  # type: ignore[method-assign]


if __name__ == "__main__":
    serve(loading)
