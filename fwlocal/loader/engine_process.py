"""The process that an engine lives in: ``fwlocal.loader.isolation``'s messages become calls of it.

It is started as ``python -m fwlocal.loader.engine_process`` and ends with the one that started it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from fwlocal import llama, loader
from fwlocal.answer import Generation
from fwlocal.children import Parent
from fwlocal.engine import EngineLike
from fwlocal.loader.connecting import add_workers
from fwlocal.loader.messages import Call, Load, Progress, Ready, Returned, Stream
from fwlocal.whole import read_whole

OnProgress = Callable[[float], None]
Loading = Callable[[Any, OnProgress, Parent], tuple[EngineLike, object]]


class EngineProcess:
    """Answers the messages. ``loading`` makes an engine, of a job; what
    it returns beside it goes into ``Ready.extra``."""

    def __init__(self, parent: Parent, loading: Loading) -> None:
        self._parent = parent
        self._loading = loading
        self._engine: EngineLike | None = None
        self._generation: Generation | None = None

    def handle(self, message: object) -> Iterator[object]:
        """The replies to one message."""
        if isinstance(message, Load):
            yield self._load(message)
        elif isinstance(message, Call):
            yield Returned(self._call(message))
        elif isinstance(message, Stream):
            yield from self._stream(message)

    def _load(self, message: Load) -> Ready:
        self._parent.report_aborts()
        # What modules deep down log reads as the parent's own lines.
        logging.basicConfig(format="fwlocal: %(message)s", level=logging.WARNING)
        llama.set_verbose(message.verbose)

        def on_progress(fraction: float) -> None:
            self._parent.send(Progress(fraction))

        engine, extra = self._loading(message.job, on_progress, self._parent)
        self._engine = engine
        return Ready(
            system=engine.system,
            sampling=engine.sampling,
            max_tokens=engine.max_tokens,
            stop=engine.stop,
            limit=engine.limit,
            load_s=engine.load_s,
            extra=extra,
        )

    def _call(self, message: Call) -> object:
        """A Generation stays here, to be streamed."""
        method = getattr(self._engine, message.method)
        value: object = method(*message.arguments, **message.options)
        if not isinstance(value, Generation):
            return value
        self._generation = value
        return None

    def _stream(self, message: Stream) -> Iterator[object]:
        if self._generation is None:
            raise RuntimeError("no answer was begun")
        if message.signal is not None:
            self._parent.interrupt.set(message.signal)
        yield from self._generation
        yield Returned(self._generation.result)


def serve(loading: Loading) -> NoReturn:
    """Be the process of an engine that ``loading`` loads."""
    parent = Parent()
    parent.serve(EngineProcess(parent, loading).handle)


def load_job(job: loader.Job, on_progress: OnProgress, parent: Parent) -> tuple[EngineLike, object]:
    """Load what the loader settled on, with the devices of its workers; and what it took."""
    add_workers(parent, job.settled.site.workers)
    loaded = loader.load_planned(job, read_whole(job.file.path), on_progress, parent.interrupt)
    return loaded.engine, (loaded.audit, loaded.remarks)


if __name__ == "__main__":
    serve(load_job)
