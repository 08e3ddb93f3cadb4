"""The engine on a tiny random Llama: the right tokens, each evaluated once, and an orderly end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fwlocal import llama
from fwlocal.conversation import Conversation
from fwlocal.engine import Engine
from fwlocal.errors import BadGrammar, DoesNotFit, PromptTooLong, UsageError
from fwlocal.kv_cache import KVCache
from fwlocal.loader import EngineOptions, Library, open_model
from fwlocal.prompts import FREEWILLY2, Message
from fwlocal.sampling import SamplingParams
from tests import tiny_llama

GREEDY = SamplingParams(temperature=0)
HELLO = [Message("user", "the whale sings")]


def answer(engine: Engine, prompt: list[int], **options: object) -> tuple[str, list[int]]:
    """The text and all tokens of a greedy continuation."""
    generation = engine.generate(prompt, sampling=GREEDY, **options)  # type: ignore[arg-type]
    return "".join(generation), list(generation.result.tokens)


def letters(count: int) -> SamplingParams:
    """Sampling that says "a" so many times, and then ends."""
    return SamplingParams(temperature=0, grammar=f'root ::= "a"{{{count}}}')


def test_greedy_tokens_are_those_of_a_reference_in_numpy(tiny_engine: Engine) -> None:
    weights, shape = tiny_llama.checkpoint(tiny_llama.Shape()), tiny_llama.Shape()
    prompt = tiny_engine.prompt_tokens(HELLO)

    generation = tiny_engine.generate(prompt, sampling=GREEDY, max_tokens=12)
    list(generation)

    expected: list[int] = []
    for _ in range(generation.result.completion_tokens):
        expected.append(int(np.argmax(tiny_llama.forward(weights, shape, prompt + expected))))
    said = [token for token in expected if token != tiny_llama.EOS]
    spelled = b"".join(map(tiny_engine.model.piece, said)).decode("utf-8", "replace")
    assert generation.result.text == spelled
    assert len(said) >= 8


def test_a_second_turn_evaluates_only_what_is_new(tiny_engine: Engine) -> None:
    first = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=8)
    list(first)
    turns = [*HELLO, first.result.message, Message("user", "and the sea")]

    second = tiny_engine.chat(turns, sampling=GREEDY, max_tokens=8)
    list(second)

    known = first.result.prompt_tokens + len(first.result.message.tokens)
    assert second.result.reused_tokens >= known - 1
    assert second.result.prompt_tokens == len(tiny_engine.prompt_tokens(turns))


def test_the_twentieth_turn_evaluates_no_more_than_the_second(long_engine: Engine) -> None:
    turns, n_evaluated = [Message("system", "be kind to the sea. " * 130)], []
    for number in range(20):
        turns.append(Message("user", f"{number:02d} the whale sings of the sea, and then?"))
        generation = long_engine.chat(turns, sampling=letters(20))
        list(generation)
        result = generation.result
        turns.append(result.message)
        n_evaluated.append(result.prompt_tokens - result.reused_tokens)

    assert result.prompt_tokens > 3000
    assert n_evaluated[19] == n_evaluated[1] < 80


def test_turns_that_leave_cost_nothing_but_the_new_message(long_engine: Engine) -> None:
    chat = Conversation("be kind")
    for number in range(6):
        chat.ask(f"{number} the whale sings")
        generation = long_engine.chat(chat.messages, sampling=letters(50))
        list(generation)
        chat.answered(generation.result)
    chat.ask("6 the whale sings")
    known = long_engine.count(chat.messages)
    chat.n_left = 3

    shifted = long_engine.chat(chat.messages, sampling=letters(50), may_shift=True)
    list(shifted)

    assert shifted.result.prompt_tokens < known - 150
    n_evaluated = shifted.result.prompt_tokens - shifted.result.reused_tokens
    assert n_evaluated == generation.result.prompt_tokens - generation.result.reused_tokens
    chat.answered(shifted.result)
    chat.ask("7 the whale sings")
    after = long_engine.chat(chat.messages, sampling=letters(50))
    list(after)
    assert after.result.prompt_tokens - after.result.reused_tokens == n_evaluated


def test_reuse_changes_no_answer(tiny_engine: Engine) -> None:
    prompts = [[1, *range(10, 10 + n)] for n in (5, 30, 12, 12, 40, 3)]

    kept = [answer(tiny_engine, prompt, max_tokens=6) for prompt in prompts]
    fresh = []
    for prompt in prompts:
        tiny_engine.reset()
        fresh.append(answer(tiny_engine, prompt, max_tokens=6))

    assert kept == fresh


def test_the_same_prompt_again_evaluates_one_token(tiny_engine: Engine) -> None:
    prompt = tiny_engine.prompt_tokens(HELLO)
    answer(tiny_engine, prompt, max_tokens=2)

    again = tiny_engine.generate(prompt, sampling=GREEDY, max_tokens=2)
    list(again)

    assert again.result.reused_tokens == len(prompt) - 1


def test_an_answer_left_half_read_harms_nothing(tiny_engine: Engine) -> None:
    prompt = tiny_engine.prompt_tokens(HELLO)
    whole = answer(tiny_engine, prompt, max_tokens=10)

    abandoned = tiny_engine.generate(prompt, sampling=GREEDY, max_tokens=10)
    next(abandoned)
    again = answer(tiny_engine, prompt, max_tokens=10)

    assert again == whole
    assert list(abandoned) == []


def test_max_tokens_cuts(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=3)
    list(generation)

    assert generation.result.finish_reason == "length"
    assert generation.result.completion_tokens == 3


def test_a_stop_string_ends_and_is_not_shown(tiny_engine: Engine) -> None:
    prompt = tiny_engine.prompt_tokens(HELLO)
    text, _ = answer(tiny_engine, prompt, max_tokens=20)
    stop = text[len(text) // 2 :][:3]

    generation = tiny_engine.generate(prompt, sampling=GREEDY, max_tokens=20, stop=[stop])

    assert "".join(generation) == text[: text.index(stop)]
    assert generation.result.finish_reason == "stop"


def test_the_same_seed_gives_the_same_text(tiny_engine: Engine) -> None:
    def sampled(seed: int) -> str:
        params = SamplingParams(temperature=1.5, top_k=0, top_p=1, seed=seed)
        return "".join(tiny_engine.chat(HELLO, sampling=params, max_tokens=20))

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(5)}) > 1


def test_interrupt_ends_an_answer_and_keeps_it(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=50)
    said = next(generation)
    tiny_engine.interrupt.set()

    said += "".join(generation)

    assert generation.result.finish_reason == "interrupt"
    assert generation.result.text == said
    tiny_engine.interrupt.clear()
    after = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=5)
    assert "".join(after)
    assert after.result.finish_reason == "length"


def test_interrupt_before_the_prompt_is_read(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY)
    tiny_engine.interrupt.set()

    assert list(generation) == []
    assert generation.result.finish_reason == "interrupt"
    assert generation.result.completion_tokens == 0


def test_prompts_longer_than_a_batch(tiny_gguf: Path) -> None:
    prompt = [1, *(3 + i % 200 for i in range(400))]
    texts = []
    for n_batch in (64, 512):
        model = llama.Model(tiny_gguf, llama.LoadOptions())
        options = llama.ContextOptions(n_ctx=0, n_threads=1, n_batch=n_batch, n_ubatch=32)
        cache = KVCache(model, options, lambda: False)
        with Engine(model, cache, render=FREEWILLY2.render) as engine:
            texts.append(answer(engine, prompt, max_tokens=4))
    assert texts[0] == texts[1]


def test_a_prompt_that_does_not_fit_names_both_counts(tiny_gguf: Path, library: Library) -> None:
    options = EngineOptions(n_ctx=256)
    with (
        open_model(str(tiny_gguf), options, library=library).engine as engine,
        pytest.raises(PromptTooLong, match=r"300 tokens.* 256; --n-ctx 512"),
    ):
        engine.generate([5] * 300)


def test_a_prompt_longer_than_the_model_knows(tiny_engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="trained on 512 tokens; shorten"):
        tiny_engine.generate([5] * 600)


def test_an_answer_ends_with_the_context(tiny_engine: Engine) -> None:
    generation = tiny_engine.generate([5] * 500, sampling=letters(100))
    list(generation)

    assert generation.result.finish_reason == "length"
    assert generation.result.completion_tokens == 12


def test_wrong_input_is_an_error_before_anything_is_generated(tiny_engine: Engine) -> None:
    with pytest.raises(UsageError, match="empty"):
        tiny_engine.generate([])
    with pytest.raises(UsageError, match="max_tokens is 0"):
        tiny_engine.chat(HELLO, max_tokens=0)
    with pytest.raises(UsageError, match="a message is"):
        tiny_engine.chat([{"role": "robot", "content": "x"}])
    with pytest.raises(BadGrammar, match="Undefined rule"):
        tiny_engine.chat(HELLO, sampling=SamplingParams(grammar="root ::= nothing"))


def test_a_grammar_is_obeyed(tiny_engine: Engine) -> None:
    params = SamplingParams(temperature=1, seed=3, grammar='root ::= " sea" [a-h]{3} "!"')

    generation = tiny_engine.chat(HELLO, sampling=params, max_tokens=40)
    text = "".join(generation)

    assert text.startswith(" sea")
    assert text.endswith("!")
    assert len(text) == 8
    assert set(text[4:7]) <= set("abcdefgh")
    assert generation.result.finish_reason == "stop"


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("flash_attn", ["auto", "on"])
def test_kv_types_and_flash_attention(
    tmp_path: Path, library: Library, kv_type: str, flash_attn: str
) -> None:
    shape = tiny_llama.Shape(hidden_size=128)  # heads of 32: a block of q8_0 and q4_0
    path = tiny_llama.write_gguf(tmp_path / "wide.gguf", shape)
    options = EngineOptions(kv_type=kv_type, flash_attn=flash_attn, prompt_format="chatml")
    with open_model(str(path), options, library=library).engine as engine:
        assert "".join(engine.chat(HELLO, sampling=GREEDY, max_tokens=8))


@pytest.fixture
def long_engine(tmp_path: Path, library: Library) -> Iterator[Engine]:
    """A model trained on 16384 tokens, whose context starts at 4096."""
    shape = tiny_llama.Shape(max_position_embeddings=16384)
    path = tiny_llama.write_gguf(tmp_path / "long.gguf", shape)
    options = EngineOptions(prompt_format="freewilly2", n_threads=1)
    with open_model(str(path), options, library=library).engine as engine:
        assert isinstance(engine, Engine)
        yield engine


def test_a_growing_context_evaluates_nothing_again(long_engine: Engine) -> None:
    prompt = [1, *(3 + i % 200 for i in range(3900))]
    sizes, reused = [], []
    for _ in range(4):
        generation = long_engine.generate(prompt, sampling=GREEDY, max_tokens=1)
        list(generation)
        sizes.append(long_engine.cache.n_ctx)
        reused.append(generation.result.reused_tokens)
        prompt = [*prompt, *([7] * 300)]

    assert sizes == [4096, 8192, 8192, 8192]
    assert reused == [0, 3901, 4201, 4501]


def test_an_answer_outgrows_its_context(long_engine: Engine) -> None:
    generation = long_engine.generate([5] * 3000, sampling=letters(1200))
    text = "".join(generation)

    assert text == "a" * 1200
    assert generation.result.finish_reason == "stop"
    assert long_engine.cache.n_ctx == 8192


def test_growth_changes_no_answer(tiny_gguf: Path) -> None:
    prompt, texts = [1, *(3 + i % 200 for i in range(250))], []
    for n_first in (256, 512):
        model = llama.Model(tiny_gguf, llama.LoadOptions())
        options = llama.ContextOptions(n_ctx=n_first, n_threads=1)
        cache = KVCache(model, options, lambda: False)
        cache.limit = 512
        with Engine(model, cache, render=FREEWILLY2.render) as engine:
            texts.append(answer(engine, prompt, max_tokens=40))
            assert cache.n_ctx == 512
    assert texts[0] == texts[1]


def test_a_context_that_is_refused_leaves_the_smaller_one(tiny_gguf: Path) -> None:
    opened: list[int] = []

    def refuse(context: llama.Context) -> None:
        opened.append(context.n_ctx)
        if context.n_ctx > 256:
            context.close()
            raise DoesNotFit("no room on CUDA0")

    model = llama.Model(tiny_gguf, llama.LoadOptions())
    options = llama.ContextOptions(n_ctx=256, n_threads=1)
    cache = KVCache(model, options, lambda: False, on_open=refuse)
    cache.limit = 512
    with Engine(model, cache, render=FREEWILLY2.render) as engine:
        list(engine.generate([5] * 200, max_tokens=1))
        with pytest.raises(DoesNotFit, match=r"for a context of 512 tokens .*start with --n-ctx"):
            engine.generate([5] * 300)
        again = engine.generate([5] * 200, max_tokens=1)
        list(again)
        assert again.result.reused_tokens == 199
    assert opened == [256, 512, 256]


def test_an_answer_ends_where_the_memory_does(tiny_gguf: Path) -> None:
    def refuse(n_ctx_now: int, n_ctx: int) -> None:
        raise DoesNotFit(f"{n_ctx} tokens are too many")

    model = llama.Model(tiny_gguf, llama.LoadOptions())
    cache = KVCache(model, llama.ContextOptions(n_ctx=256, n_threads=1), lambda: False, refuse)
    cache.limit = 512
    with Engine(model, cache, render=FREEWILLY2.render) as engine:
        generation = engine.generate([5] * 250, sampling=letters(100))
        list(generation)
        assert generation.result.finish_reason == "length"
        with pytest.raises(DoesNotFit):
            engine.generate([5] * 300)


def test_a_prompt_that_does_not_fit_leaves_the_cache(tiny_engine: Engine) -> None:
    prompt = tiny_engine.prompt_tokens(HELLO)
    answer(tiny_engine, prompt, max_tokens=1)
    with pytest.raises(PromptTooLong):
        tiny_engine.generate([5] * 600)

    again = tiny_engine.generate(prompt, sampling=GREEDY, max_tokens=1)
    list(again)

    assert again.result.reused_tokens == len(prompt) - 1


def test_a_closed_engine_says_so(tiny_gguf: Path, library: Library) -> None:
    engine = open_model(str(tiny_gguf), library=library).engine
    prompt = engine.prompt_tokens(HELLO)
    engine.close()
    engine.close()

    with pytest.raises(RuntimeError, match="closed"):
        engine.generate(prompt)
    with pytest.raises(RuntimeError, match="closed"):
        engine.prompt_tokens([Message("user", "something new")])


def test_the_readers_time_is_not_the_decoders(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=10)
    for _ in generation:
        time.sleep(0.02)

    assert generation.result.timings.decode_s < 0.1


def test_an_exception_in_an_abort_question_comes_out(tiny_gguf: Path) -> None:
    def fail() -> bool:
        raise TimeoutError("too late")

    model = llama.Model(tiny_gguf, llama.LoadOptions())
    context = llama.Context(model, llama.ContextOptions(n_ctx=256, n_threads=1), fail)
    with pytest.raises(TimeoutError, match="too late"):
        context.decode([1, 2, 3])
    context.close()
    model.close()


def test_the_result_is_there_only_at_the_end(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=4)

    with pytest.raises(RuntimeError, match="has not ended"):
        _ = generation.result
    list(generation)

    timings = generation.result.timings
    assert timings.ttft_s >= timings.prefill_s > 0
    assert timings.prefill_tps > 0
    assert timings.decode_tps > 0
    assert timings.load_s > 0
