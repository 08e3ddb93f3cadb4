"""An engine in a process of its own, with the face of ``fwlocal.engine.Engine``.

When a machine that it computes on is lost, llama.cpp ends the process. Here that is an error: the
conversation survives it, and the next call starts the engine anew. It knows nothing of models and
devices: what is loaded is a job, which ``fwlocal.loader.engine_process`` understands.
"""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from fwlocal.answer import Generation, Result
from fwlocal.chatting import Chatting
from fwlocal.children import Child, ChildDied, ChildFailed
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted, WorkerLost
from fwlocal.interrupts import Interrupt
from fwlocal.loader.messages import Call, Load, Progress, Ready, Stream
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams

log = logging.getLogger(__name__)

ENGINE_PROCESS = "fwlocal.loader.engine_process"
PATIENCE_S = 20.0  # a worker finishes its batch first, and one that hangs never does
TOLD_AFTER_S = 3.0

_POLL_S = 0.05  # how soon Ctrl-C is passed on
_SOURCE_LINE = re.compile(r"^.*?:\d+: ")  # before the words of llama.cpp's failed checks


def _final(refusal: DoesNotFit) -> object:
    raise refusal


class IsolatedEngine(Chatting):
    """An engine in a child; loaded when this is made, and again after it was lost.

    ``start`` gives the job for each load; its errors, and those of the load, are raised by
    whichever call needs the engine. ``who_is_lost`` names the worker that is not there any more;
    ``on_refusal`` gives another job after a device refused.
    ``on_progress`` gets the fraction loaded. Raises Interrupted
    when ``interrupt`` is set while loading, and WorkerLost when the process ends. Any call ends an
    answer that is only half read.
    """

    def __init__(
        self,
        start: Callable[[], object],
        *,
        on_progress: Callable[[float], None] = lambda fraction: None,
        interrupt: Interrupt | None = None,
        verbose: bool = False,
        module: str = ENGINE_PROCESS,
        who_is_lost: Callable[[], str] = lambda: "a worker",
        on_refusal: Callable[[DoesNotFit], object] = _final,
    ) -> None:
        self.interrupt = interrupt or Interrupt()
        self._start, self._on_progress = start, on_progress
        self._module, self._verbose = module, verbose
        self._child: Child | None = None
        self._running: Generation | None = None
        self._who_is_lost, self._on_refusal = who_is_lost, on_refusal
        self._is_closed = self._is_due = False  # due: the last message's answer has not ended
        self._has_answered = False  # since it was loaded
        self._stopped_at: float | None = None
        ready = self._launch()
        self.system, self.stop = ready.system, ready.stop
        self.sampling, self.max_tokens = ready.sampling, ready.max_tokens

    def __enter__(self) -> IsolatedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        self._end_running()
        self._drop()

    def reset(self) -> None:
        """Forget the KV cache."""
        if self._child is not None and self._child.is_alive:
            self._call("reset")

    def prompt_tokens(self, messages: Iterable[Message | dict[str, str]]) -> list[int]:
        """The ids of the prompt that asks for the answer to ``messages``."""
        return self._call("prompt_tokens", list(messages))  # type: ignore[no-any-return]

    def text_tokens(self, text: str) -> list[int]:
        """The ids of a raw prompt, in which control tokens are parsed."""
        return self._call("text_tokens", text)  # type: ignore[no-any-return]

    def count(self, messages: Iterable[Message | dict[str, str]]) -> int:
        """How many tokens that prompt has."""
        return self._call("count", list(messages))  # type: ignore[no-any-return]

    def generate(
        self,
        prompt: Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        said: str = "",
        may_shift: bool = False,
        logprobs: int = 0,
    ) -> Generation:
        """The continuation of a prompt's token ids; see Chatting."""
        options = {
            "sampling": sampling or self.sampling,
            "max_tokens": self.max_tokens if max_tokens is None else max_tokens,
            "stop": tuple(stop),
            "said": said,
            "may_shift": may_shift,
            "logprobs": logprobs,
        }
        begin = Call("generate", (list(prompt),), options)
        self._be_ready()
        self._renewed(lambda: self._ask(begin), lambda: self._ask(begin))
        self._running = Generation(self._pieces(begin))
        return self._running

    def _pieces(self, begin: Call) -> Generator[str, None, Result]:
        def first() -> Any:
            self._send(Stream(self.interrupt.signal))
            return self._receive(" in mid-answer")

        def again() -> Any:
            self._ask(begin)
            return first()

        try:
            reply = self._renewed(first, again)
            while isinstance(reply, str):
                yield reply
                reply = self._receive(" in mid-answer")
        finally:
            self._stop(signal.SIGINT)  # if it is left half read
        result: Result = reply.value
        self.load_s = result.timings.load_s
        self._has_answered = True
        return result

    def _renewed(self, action: Callable[[], Any], again: Callable[[], Any]) -> Any:
        """What ``action`` returns; or, where a worker was started anew since the last answer and
        knows nothing of us any more, what ``again`` does with an engine that is loaded anew."""
        try:
            return action()
        except WorkerLost as lost:
            if not self._has_answered:
                raise
            log.warning("%s loading again", lost.lost.rpartition("; ")[0] + ";")
        self._has_answered = False
        self._launch()
        return again()

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        self._be_ready()
        return self._ask(Call(method, arguments, options))

    def _ask(self, call: Call) -> Any:
        self._send(call)
        return self._receive().value

    def _be_ready(self) -> None:
        """See that there is an engine, and that it has nothing else to do."""
        if self._is_closed:
            raise RuntimeError("the engine is closed")
        self._end_running()
        self._skip_rest()
        if self._child is None or not self._child.is_alive:
            self._drop()
            self._launch()

    def _end_running(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None

    def _skip_rest(self) -> None:
        """Read to the end of an answer that nobody wants."""
        self._stop(signal.SIGINT)
        self._stopped_at = time.monotonic()
        while self._is_due:
            with contextlib.suppress(FwlocalError, ChildFailed):
                self._receive()

    def _launch(self) -> Ready:
        """Start a child and have it load; with less, as long as a device refuses."""
        job = self._start()
        while True:
            try:
                return self._load(job)
            except DoesNotFit as refusal:
                job = self._on_refusal(refusal)

    def _load(self, job: object) -> Ready:
        self._child = Child(self._module)
        reply = None
        try:
            self._send(Load(job, self._verbose))
            while not isinstance(reply, Ready):
                if self.interrupt.is_set():
                    raise Interrupted(exit_code=self.interrupt.exit_code)
                reply = self._poll(" while loading")
                if isinstance(reply, Progress):
                    self._on_progress(reply.fraction)
        except BaseException:
            self._drop()
            raise
        self.limit, self.load_s, self.extra = reply.limit, reply.load_s, reply.extra
        return reply

    def _send(self, message: object) -> None:
        self._stopped_at = None
        self._is_due = True
        try:
            self._open_child().send(message)
        except ChildDied as died:
            raise self._lost(died, "") from died

    def _receive(self, doing: str = "") -> Any:
        """The next reply; a stop that is asked for here is passed on, once."""
        reply, is_told = None, False
        while reply is None:
            if self.interrupt.signal is not None:
                self._stop(self.interrupt.signal)
            waited_s = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
            if waited_s > TOLD_AFTER_S and not is_told:
                log.warning("waiting for %s to finish its batch", self._who_is_lost())
                is_told = True
            if waited_s > PATIENCE_S:
                self._drop()
                raise WorkerLost(
                    f"{self._who_is_lost()} did not stop within {PATIENCE_S:.0f} s, and was left; "
                    "see whether it hangs, then"
                )
            reply = self._poll(doing)
        return reply

    def _poll(self, doing: str) -> Any:
        """The next reply, or None when there is none for a moment."""
        try:
            reply = self._open_child().receive(_POLL_S)
        except TimeoutError:
            return None
        except ChildDied as died:
            raise self._lost(died, doing) from died
        except (FwlocalError, ChildFailed):
            self._is_due = False
            raise
        self._is_due = isinstance(reply, (str, Progress))
        return reply

    def _stop(self, signum: int) -> None:
        """Have the child stop what is due, if anything is."""
        if self._child is not None and self._is_due and self._stopped_at is None:
            self._child.interrupt(signum)
            self._stopped_at = time.monotonic()

    def _open_child(self) -> Child:
        if self._child is None:
            raise RuntimeError("the engine is closed")
        return self._child

    def _drop(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
        self._child, self._is_due = None, False

    def _lost(self, died: ChildDied, doing: str) -> WorkerLost:
        """The child's death as an error, and no child any more."""
        self._drop()
        if "rpc" in (died.last_words or "").lower():
            return WorkerLost(f"{self._who_is_lost()} was lost{doing}; start it again, then")
        cause = " ".join(_SOURCE_LINE.sub("", str(died)).split())
        return WorkerLost(f"the engine's process was lost{doing} ({cause});")
