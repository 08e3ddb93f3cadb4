"""An engine in a process of its own says what one in this process says, and its death is an error
that the next call gets over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import psutil
import pytest

from fwlocal.answer import Generation, Result
from fwlocal.conversation import Conversation
from fwlocal.engine import Engine, EngineLike
from fwlocal.errors import (
    BadGrammar,
    BadModelFile,
    Interrupted,
    NetworkError,
    PromptTooLong,
    UsageError,
    WorkerLost,
)
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.loader.isolation import IsolatedEngine
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams
from tests import tiny_llama
from tests.loader.engine_child import Job

ENGINE_CHILD = "tests.loader.engine_child"
GREEDY = SamplingParams(temperature=0, seed=1)
HELLO = [Message("user", "the whale sings")]
OPTIONS = EngineOptions(prompt_format="freewilly2", n_threads=1)
LETTERS = SamplingParams(temperature=0, seed=1, grammar='root ::= "a"{8}')
ENDLESS = SamplingParams(temperature=0, grammar='root ::= "a" root')


@pytest.fixture
def job(tiny_gguf: Path) -> Job:
    return Job(tiny_gguf, OPTIONS)


@pytest.fixture(scope="module")
def long_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on enough tokens that an answer never ends by itself."""
    shape = tiny_llama.Shape(max_position_embeddings=65536)
    return tiny_llama.write_gguf(tmp_path_factory.mktemp("long") / "long.gguf", shape)


@pytest.fixture(scope="module")
def shared(tiny_gguf: Path) -> Iterator[IsolatedEngine]:
    """One engine for the tests that leave it as it was."""
    with isolated(Job(tiny_gguf, OPTIONS)) as engine:
        yield engine


@pytest.fixture
def endless(long_gguf: Path) -> Iterator[IsolatedEngine]:
    with isolated(Job(long_gguf, OPTIONS)) as engine:
        yield engine


def isolated(
    job: Job,
    interrupt: Interrupt | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> IsolatedEngine:
    return IsolatedEngine(
        lambda: job, interrupt=interrupt, on_progress=on_progress, module=ENGINE_CHILD
    )


def pid(engine: IsolatedEngine) -> int:
    return cast("dict[str, int]", engine.extra)["pid"]


def finished(generation: Generation) -> Result:
    """The result, less the times that differ from run to run."""
    text = "".join(generation)
    assert text == generation.result.text
    return replace(generation.result, timings=None)  # type: ignore[arg-type]


def answers(engine: EngineLike) -> list[Result]:
    """What an engine makes of two turns, of a raw prompt, and of a seed."""
    engine.reset()
    first = finished(engine.chat(HELLO, sampling=GREEDY, max_tokens=12))
    turns = [*HELLO, first.message, Message("user", "and the sea")]
    second = finished(engine.chat(turns, sampling=GREEDY, max_tokens=8))
    raw = engine.text_tokens("<s>the whale</s> sings")
    third = finished(engine.generate(raw, sampling=GREEDY, max_tokens=8))
    seeded = SamplingParams(temperature=1.5, top_k=0, top_p=1, seed=7)
    fourth = finished(engine.chat(HELLO, sampling=seeded, max_tokens=9))
    return [first, second, third, fourth, *answers_that_go_on(engine)]


def answers_that_go_on(engine: EngineLike) -> list[Result]:
    """An answer that was cut, its rest, and a last one without the turns before."""
    chat = Conversation("be kind")
    results = []
    for question in ("the whale sings", "and the sea", "and the whale"):
        chat.ask(question * 5)
        results.append(finished(engine.chat(chat.messages, sampling=LETTERS, max_tokens=4)))
        chat.answered(results[-1])
        chat.go_on()
        results.append(finished(engine.chat(chat.messages, sampling=LETTERS, logprobs=2)))
        chat.continued(results[-1])
    assert [turn.content for turn in chat.turns[1::2]] == ["aaaaaaaa"] * 3
    chat.ask("and?")
    chat.n_left = 1
    return [*results, finished(engine.chat(chat.messages, sampling=LETTERS, may_shift=True))]


def test_both_kinds_of_engine_have_one_face(tiny_engine: Engine, shared: IsolatedEngine) -> None:
    here: EngineLike = tiny_engine
    there: EngineLike = shared

    for name in ("system", "sampling", "max_tokens", "stop", "limit"):
        assert getattr(there, name) == getattr(here, name), name
    assert there.load_s > 0
    assert there.prompt_tokens(HELLO) == here.prompt_tokens(HELLO)
    assert there.count(HELLO) == here.count(HELLO) == len(here.prompt_tokens(HELLO))
    assert there.text_tokens("<s>sea</s>") == here.text_tokens("<s>sea</s>")


def test_answers_are_those_of_an_engine_in_this_process(
    tiny_engine: Engine, shared: IsolatedEngine
) -> None:
    expected = answers(tiny_engine)

    assert answers(shared) == expected
    assert expected[1].reused_tokens > 0
    assert expected[5].logprobs
    assert expected[-1].reused_tokens > expected[4].prompt_tokens


def test_it_lives_in_another_process(shared: IsolatedEngine) -> None:
    assert pid(shared) != os.getpid()
    assert psutil.Process(pid(shared)).ppid() == os.getpid()


def test_pieces_come_one_by_one(endless: IsolatedEngine) -> None:
    generation = endless.chat(HELLO, sampling=ENDLESS)

    assert [next(generation) for _ in range(5)] == ["a"] * 5


def test_the_time_that_loading_took_includes_the_context(job: Job) -> None:
    with isolated(job) as engine:
        loaded_s = engine.load_s
        generation = engine.chat(HELLO, sampling=GREEDY, max_tokens=2)
        finished(generation)

        assert engine.load_s == generation.result.timings.load_s > loaded_s


def test_the_engines_own_defaults_can_be_changed(tiny_gguf: Path) -> None:
    with isolated(Job(tiny_gguf, OPTIONS)) as engine:
        engine.sampling, engine.max_tokens = GREEDY, 4
        result = finished(engine.chat(HELLO))
        assert (result.completion_tokens, result.finish_reason) == (4, "length")
        engine.max_tokens = None
        engine.stop = (result.text[:2],)
        assert finished(engine.chat(HELLO)).text == ""


def test_progress_of_the_load_is_told(job: Job) -> None:
    told: list[float] = []
    with isolated(job, on_progress=told.append):
        assert told == sorted(told)
        assert told[-1] == 1.0


def test_interrupt_ends_an_answer_at_once_and_keeps_it(endless: IsolatedEngine) -> None:
    generation = endless.chat(HELLO, sampling=ENDLESS)
    said = next(generation)
    started = time.monotonic()
    endless.interrupt.set()

    said += "".join(generation)

    assert time.monotonic() - started < 1
    assert generation.result.finish_reason == "interrupt"
    assert generation.result.text == said
    endless.interrupt.clear()
    after = endless.chat(HELLO, sampling=ENDLESS, max_tokens=5)
    assert "".join(after) == "aaaaa"
    assert after.result.finish_reason == "length"


def test_interrupt_before_the_prompt_is_read(shared: IsolatedEngine) -> None:
    for _ in range(20):  # a message that follows would come too late in some
        generation = shared.chat(HELLO, sampling=GREEDY)
        shared.interrupt.set()

        assert list(generation) == []
        assert generation.result.finish_reason == "interrupt"
        assert generation.result.completion_tokens == 0
        shared.interrupt.clear()
        finished(shared.chat(HELLO, sampling=GREEDY, max_tokens=2))


def test_interrupt_stops_the_reading_of_a_prompt(endless: IsolatedEngine) -> None:
    generation = endless.generate([5] * 60_000, sampling=GREEDY, max_tokens=5)
    endless.interrupt.set()

    assert list(generation) == []
    assert generation.result.finish_reason == "interrupt"


def test_an_answer_left_half_read_is_stopped(endless: IsolatedEngine) -> None:
    abandoned = endless.chat(HELLO, sampling=ENDLESS)
    next(abandoned)
    started = time.monotonic()

    again = endless.chat(HELLO, sampling=GREEDY, max_tokens=6)

    assert finished(again).completion_tokens == 6
    assert list(abandoned) == []
    assert time.monotonic() - started < 5


def test_a_closed_answer_makes_no_more_work(endless: IsolatedEngine) -> None:
    abandoned = endless.chat(HELLO, sampling=ENDLESS)
    next(abandoned)
    abandoned.close()
    time.sleep(0.3)  # it ends its token

    process = psutil.Process(pid(endless))
    before = sum(process.cpu_times()[:2])
    time.sleep(0.3)

    assert sum(process.cpu_times()[:2]) - before < 0.1


def test_an_answer_that_was_never_read_harms_nothing(shared: IsolatedEngine) -> None:
    expected = finished(shared.chat(HELLO, sampling=GREEDY, max_tokens=6)).text
    unread = shared.chat(HELLO, sampling=GREEDY, max_tokens=6)

    again = finished(shared.chat(HELLO, sampling=GREEDY, max_tokens=6))

    assert again.text == expected
    assert list(unread) == []


def test_wrong_input_is_an_error_before_anything_is_generated(shared: IsolatedEngine) -> None:
    with pytest.raises(UsageError, match="empty"):
        shared.generate([])
    with pytest.raises(UsageError, match="max_tokens is 0"):
        shared.chat(HELLO, max_tokens=0)
    with pytest.raises(UsageError, match="a message is"):
        shared.chat([{"role": "robot", "content": "x"}])
    with pytest.raises(BadGrammar, match="Undefined rule"):
        shared.chat(HELLO, sampling=SamplingParams(grammar="root ::= nothing"))
    with pytest.raises(PromptTooLong, match="trained on 512 tokens; shorten"):
        shared.generate([5] * 600)


def test_a_failed_load_is_the_loads_own_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF is not enough")

    with pytest.raises(BadModelFile, match=r"broken\.gguf"):
        isolated(Job(broken, OPTIONS))


def test_interrupt_stops_a_load(job: Job) -> None:
    interrupt = Interrupt()

    def on_progress(fraction: float) -> None:
        interrupt.set(signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        isolated(replace(job, slow_load=0.2), interrupt, on_progress)
    assert caught.value.exit_code == 143


def test_closing_ends_the_process(job: Job) -> None:
    engine = isolated(job)
    generation = engine.chat(HELLO, sampling=GREEDY)
    next(generation)

    engine.close()
    engine.close()

    assert not psutil.pid_exists(pid(engine))
    assert list(generation) == []
    with pytest.raises(RuntimeError, match="closed"):
        engine.chat(HELLO)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_process_is_an_error_and_the_next_call_goes_on(endless: IsolatedEngine) -> None:
    expected = finished(endless.chat(HELLO, sampling=GREEDY, max_tokens=6)).text
    generation = endless.chat(HELLO, sampling=ENDLESS)
    next(generation)
    killed = pid(endless)
    os.kill(killed, signal.SIGKILL)

    with pytest.raises(WorkerLost) as caught:
        list(generation)

    assert str(caught.value) == (
        "the engine's process was lost in mid-answer (ended by SIGKILL); run the command again"
    )
    assert finished(endless.chat(HELLO, sampling=GREEDY, max_tokens=6)).text == expected
    assert pid(endless) != killed


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_process_that_dies_between_two_answers_is_replaced(job: Job) -> None:
    with isolated(job) as engine:
        engine.sampling = GREEDY
        os.kill(pid(engine), signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid(engine))], timeout=5)
        engine.reset()

        assert finished(engine.chat(HELLO, max_tokens=6)).completion_tokens == 6
        assert engine.sampling == GREEDY


def test_a_lost_worker_is_told_with_the_way_back(job: Job) -> None:
    jobs = iter([replace(job, abort_after=3), job])
    with IsolatedEngine(lambda: next(jobs), module=ENGINE_CHILD) as engine:
        generation = engine.chat(HELLO, sampling=GREEDY, max_tokens=20)
        said = next(generation)

        with pytest.raises(WorkerLost) as caught:
            said += "".join(generation)

        assert str(caught.value) == (
            "a worker was lost in mid-answer; start it again, then run the command again"
        )
        assert caught.value.exit_code == 4
        whole = finished(engine.chat(HELLO, sampling=GREEDY, max_tokens=20)).text
        assert whole.startswith(said)
        assert len(whole) > len(said)


def test_a_worker_that_is_still_missing_is_named_again(job: Job) -> None:
    def starts() -> Iterator[object]:
        yield replace(job, abort_after=0)
        yield None
        yield job

    jobs = starts()

    def start() -> object:
        job = next(jobs)
        if job is None:
            raise NetworkError("no worker answers at 127.0.0.1:50052; start it there")
        return job

    with IsolatedEngine(start, module=ENGINE_CHILD) as engine:
        with pytest.raises(WorkerLost):
            list(engine.chat(HELLO, sampling=GREEDY))
        with pytest.raises(NetworkError, match="no worker answers"):
            engine.chat(HELLO)
        assert finished(engine.chat(HELLO, sampling=GREEDY, max_tokens=6)).completion_tokens == 6


def test_a_worker_lost_while_loading_is_told(job: Job) -> None:
    def start() -> object:
        return replace(job, abort_load=True)

    with pytest.raises(WorkerLost, match="a worker was lost while loading; start it again"):
        IsolatedEngine(start, module=ENGINE_CHILD)
