"""How likely each token of an answer was, held against a softmax of the model's logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fwlocal.engine import Engine
from fwlocal.errors import UsageError
from fwlocal.prompts import Message
from fwlocal.sampling import SamplingParams
from tests import tiny_llama

HELLO = [Message("user", "the whale sings")]
GREEDY = SamplingParams(temperature=0)


def test_they_are_those_of_a_reference_in_numpy(tiny_engine: Engine) -> None:
    weights, shape = tiny_llama.checkpoint(tiny_llama.Shape()), tiny_llama.Shape()
    prompt = tiny_engine.prompt_tokens(HELLO)
    sampling = SamplingParams(temperature=1.5, top_k=5, seed=3, repeat_penalty=1.3)

    generation = tiny_engine.generate(prompt, sampling=sampling, max_tokens=8, logprobs=5)
    list(generation)

    logprobs = generation.result.logprobs
    assert tuple(one.token for one in logprobs) == generation.result.tokens
    for index, one in enumerate(logprobs):
        said = [other.token for other in logprobs[:index]]
        logits = tiny_llama.forward(weights, shape, prompt + said).astype(np.float64)
        expected = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
        assert one.logprob == pytest.approx(expected[one.token], abs=0.1)
        best = np.argsort(-expected)[:5]
        assert [t.logprob for t in one.top] == pytest.approx(expected[best], abs=0.1)


def test_they_are_exactly_those_of_the_logits_it_had(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=1, logprobs=20)
    list(generation)
    (one,) = generation.result.logprobs

    logits = tiny_engine.cache.context.logits().astype(np.float64)

    expected = logits - np.logaddexp.reduce(logits)
    assert one.logprob == pytest.approx(expected[one.token], abs=1e-9)
    assert [t.token for t in one.top] == list(np.argsort(-expected)[:20])
    assert [t.logprob for t in one.top] == sorted((t.logprob for t in one.top), reverse=True)
    assert one.token == one.top[0].token  # it is greedy
    assert sum(math.exp(t.logprob) for t in one.top) <= 1


def test_tokens_are_spelled_in_text_and_bytes(tiny_engine: Engine) -> None:
    says = SamplingParams(temperature=0, grammar='root ::= "é the"')

    generation = tiny_engine.chat(HELLO, sampling=says, logprobs=1)
    text = "".join(generation)

    logprobs = generation.result.logprobs
    assert bytes(byte for one in logprobs for byte in one.bytes).decode() == text == "é the"
    assert (logprobs[0].text, logprobs[0].bytes) == ("\ufffd", (0xC3,))
    assert [len(one.top) for one in logprobs] == [1] * len(logprobs)


def test_they_end_where_the_text_does(tiny_engine: Engine) -> None:
    prompt = tiny_engine.prompt_tokens(HELLO)
    says = SamplingParams(temperature=0, grammar='root ::= "aeahetheaeah"')

    generation = tiny_engine.generate(prompt, sampling=says, stop=["the"], logprobs=2)
    text = "".join(generation)

    spelled = b"".join(bytes(one.bytes) for one in generation.result.logprobs).decode()
    assert spelled.startswith(text)
    assert "the" not in spelled


def test_nobody_gets_what_was_not_asked_for(tiny_engine: Engine) -> None:
    generation = tiny_engine.chat(HELLO, sampling=GREEDY, max_tokens=3)
    list(generation)

    assert generation.result.logprobs == ()


@pytest.mark.parametrize("wrong", [-1, 21])
def test_more_than_twenty_are_refused(tiny_engine: Engine, wrong: int) -> None:
    with pytest.raises(UsageError, match=f"logprobs is {wrong}; it must be between 0 and 20"):
        tiny_engine.chat(HELLO, logprobs=wrong)
