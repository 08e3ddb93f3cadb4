"""Answers of a pool are those of one prompt at a time, to the token."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.answer import Result
from fwlocal.engine import Engine
from fwlocal.errors import BadGrammar, PromptTooLong
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.parallel import Failed, Finished, Job, Need, Pool, PoolSize, pool_size
from fwlocal.parallel.lanes import Lanes
from fwlocal.sampling import SamplingParams
from tests.parallel.tiny_q8 import write_q8
from tests.tiny_llama import BYTES, Shape

LIMIT = 1024
ON_X86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="other kernels round otherwise"
)
OPTIONS = llama.ContextOptions(n_ctx=LIMIT, n_threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama.Model]:
    """Of Q8_0 weights: several rows are computed as one."""
    path = tmp_path_factory.mktemp("q8") / "tiny.gguf"
    found = llama.Model(write_q8(path, Shape(max_position_embeddings=LIMIT)), llama.LoadOptions())
    yield found
    found.close()


@pytest.fixture(scope="module")
def f32_model(tiny_gguf: Path) -> Iterator[llama.Model]:
    """Of f32 weights: several rows are computed otherwise."""
    found = llama.Model(tiny_gguf, llama.LoadOptions())
    yield found
    found.close()


def prompt(text: str) -> tuple[int, ...]:
    """Its bytes as the tiny vocabulary's byte tokens."""
    return tuple(BYTES + byte for byte in text.encode())


def job(key: int, text: str, max_tokens: int = 24, **changes: object) -> Job:
    sampling = replace(SamplingParams(temperature=0, seed=key), **changes)  # type: ignore[arg-type]
    return Job(key, prompt(text), sampling, max_tokens)


def questions(n: int) -> list[Job]:
    """Of several lengths; every other one is drawn."""
    return [
        job(key, f"{key} whales sing" * (1 + key % 3), 12 + 5 * key, temperature=float(key % 2))
        for key in range(n)
    ]


@contextlib.contextmanager
def opened(
    model: llama.Model, size: PoolSize, told: list[str] | None = None, *, on_cpu: bool = True
) -> Iterator[Pool]:
    def open_sequences(n_ctx: int) -> llama.Sequences:
        options = replace(OPTIONS, n_ctx=n_ctx)
        return llama.Sequences(model, options, size.all_lanes, lambda: False)

    lanes = Lanes(size, open_sequences)
    tell = (lambda line: None) if told is None else told.append
    try:
        yield Pool(model, lanes, tell=tell, on_cpu=on_cpu)
    finally:
        lanes.close()


def sized(asked: Sequence[Job], n_parallel: int, *, keeps_prefix: bool = False) -> PoolSize:
    needs = [Need(len(job.tokens), job.max_tokens) for job in asked]
    return pool_size(needs, n_parallel, LIMIT, keeps_prefix=keeps_prefix)


def answers(pool: Pool, asked: Sequence[Job]) -> dict[int, Result]:
    waiting = iter(asked)
    found = {}
    for end in pool.answers(lambda: next(waiting, None)):
        assert isinstance(end, Finished), end
        found[end.key] = end.result
    return found


def alone(model: llama.Model, asked: Sequence[Job]) -> dict[int, Result]:
    """As ``fwlocal run`` answers each."""
    cache = KVCache(model, OPTIONS, lambda: False)
    engine = Engine(model, cache, render=lambda messages: ())
    found = {}
    for one in asked:
        engine.reset()
        generation = engine.generate(
            one.tokens, sampling=one.sampling, max_tokens=one.max_tokens, stop=one.stop
        )
        list(generation)
        found[one.key] = generation.result
    cache.close()
    return found


def same(found: dict[int, Result], expected: dict[int, Result]) -> bool:
    def essence(results: dict[int, Result]) -> dict[int, object]:
        return {
            key: (r.text, r.tokens, r.finish_reason, r.prompt_tokens, r.completion_tokens, r.seed)
            for key, r in results.items()
        }

    return essence(found) == essence(expected)


@pytest.mark.parametrize("n_parallel", [1, 3, 8])
def test_texts_are_those_of_one_at_a_time(model: llama.Model, n_parallel: int) -> None:
    asked = questions(11)
    with opened(model, sized(asked, n_parallel)) as pool:
        found = answers(pool, asked)

    assert same(found, alone(model, asked))


@ON_X86
def test_where_several_rows_are_computed_as_one_nothing_is_told(model: llama.Model) -> None:
    asked, told = questions(11), list[str]()
    with opened(model, sized(asked, 8), told) as pool:
        answers(pool, asked)

    assert not told


@ON_X86
def test_also_where_several_rows_are_computed_otherwise(f32_model: llama.Model) -> None:
    asked, told = questions(6), list[str]()
    with opened(f32_model, sized(asked, 3), told) as pool:
        found = answers(pool, asked)

    assert same(found, alone(f32_model, asked))
    assert len(told) == 1
    assert "one at a time" in told[0]


@ON_X86
def test_a_gpu_would_decode_those_together_and_say_so(f32_model: llama.Model) -> None:
    asked, told = questions(6), list[str]()
    with opened(f32_model, sized(asked, 3), told, on_cpu=False) as pool:
        assert answers(pool, asked).keys() == set(range(6))

    assert len(told) == 1
    assert "--parallel 1" in told[0]


def test_neighbours_make_no_difference(model: llama.Model) -> None:
    asked = questions(9)
    with opened(model, sized(asked, 4)) as pool:
        some = answers(pool, asked[:5])
        others = answers(pool, [asked[4], asked[2], asked[8], asked[0]])

    assert {others[key].text for key in (0, 2, 4)} == {some[key].text for key in (0, 2, 4)}


def test_a_common_beginning_is_evaluated_once(model: llama.Model) -> None:
    system = "The whale sings to the sea. " * 8
    asked = [job(key, system + f"What does whale {key} sing? " * (1 + key)) for key in range(6)]
    with opened(model, sized(asked, 2, keeps_prefix=True)) as pool:
        found = answers(pool, asked)

    assert same(found, alone(model, asked))
    assert max(result.reused_tokens for result in found.values()) >= 192
    assert found[0].reused_tokens == 0


def test_also_of_short_prompts(model: llama.Model) -> None:
    asked = [job(key, f"You are a whale. What does {key} sing?") for key in range(6)]
    with opened(model, sized(asked, 2, keeps_prefix=True)) as pool:
        found = answers(pool, asked)

    assert same(found, alone(model, asked))
    assert [found[key].reused_tokens for key in (0, 5)] == [0, 24]


def test_an_answer_may_outgrow_its_lane(model: llama.Model) -> None:
    asked = [job(0, "a" * 200, 400), job(1, "b" * 90, 30), job(2, "c" * 230, 300)]
    small = PoolSize(n_lanes=2, n_ctx=256, limit=LIMIT)
    with opened(model, small) as pool:
        found = answers(pool, asked)

    assert same(found, alone(model, asked))
    assert found[0].prompt_tokens + found[0].completion_tokens > 256


def test_an_answer_ends_with_the_context(model: llama.Model) -> None:
    asked = [replace(job(0, "a" * (LIMIT - 20)), max_tokens=None), job(1, "b")]
    with opened(model, sized(asked, 2)) as pool:
        found = answers(pool, asked)

    assert same(found, alone(model, asked))
    assert found[0].completion_tokens <= 20


def test_a_stop_string_ends_one_answer_alone(model: llama.Model) -> None:
    whole = alone(model, [job(0, "whale", 40)])[0].text
    stop = whole[8:10]
    asked = [replace(job(0, "whale", 40), stop=(stop,)), job(1, "whale", 40)]
    with opened(model, sized(asked, 2)) as pool:
        found = answers(pool, asked)

    assert found[0].text == whole[: whole.index(stop)]
    assert found[0].finish_reason == "stop"
    assert found[1].text == whole


def test_a_grammar_binds_one_answer_alone(model: llama.Model) -> None:
    asked = [job(0, "whale", 8, grammar='root ::= "t"+'), job(1, "whale", 8)]
    with opened(model, sized(asked, 2)) as pool:
        found = answers(pool, asked)

    assert set(found[0].text) == {"t"}
    assert same(found, alone(model, asked))


def test_what_cannot_be_asked_leaves_the_others_alone(model: llama.Model) -> None:
    asked = [job(0, "a"), job(1, "b" * LIMIT), job(2, "c", grammar="root ::= ("), job(3, "d")]
    waiting = iter(asked)
    with opened(model, PoolSize(2, 256, LIMIT)) as pool:
        ends = list(pool.answers(lambda: next(waiting, None)))

    failed = {end.key: type(end.error) for end in ends if isinstance(end, Failed)}
    assert failed == {1: PromptTooLong, 2: BadGrammar}
    assert {end.key for end in ends if isinstance(end, Finished)} == {0, 3}


def test_a_free_lane_takes_the_next_at_once(model: llama.Model) -> None:
    """A short answer's lane is used again while the long one still runs."""
    asked = [job(0, "long", 120), *(job(key, f"short {key}", 4) for key in range(1, 6))]
    with opened(model, sized(asked, 2)) as pool:
        waiting = iter(asked)
        order = [end.key for end in pool.answers(lambda: next(waiting, None))]

    assert order[-1] == 0
    assert order[:-1] == [1, 2, 3, 4, 5]


def test_nothing_comes_once_it_was_interrupted(model: llama.Model) -> None:
    asked = questions(6)
    waiting, interrupt, found = iter(asked), Interrupt(), []
    size = sized(asked, 2)

    def open_sequences(n_ctx: int) -> llama.Sequences:
        return llama.Sequences(model, replace(OPTIONS, n_ctx=n_ctx), size.all_lanes, lambda: False)

    lanes = Lanes(size, open_sequences)
    pool = Pool(model, lanes, interrupt=interrupt)
    for end in pool.answers(lambda: next(waiting, None)):
        found.append(end.key)
        interrupt.set()
    lanes.close()

    assert len(found) == 1
