"""The embedded default for real: answers, numerics against another loop, signals."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fwlocal.encoding import encode
from fwlocal.engine import Engine
from fwlocal.loader import EngineOptions, Library, open_model
from fwlocal.prompts import FORMATS, Message, PromptFormat, Segment, text_of
from fwlocal.registry import load_registry
from fwlocal.sampling import SamplingParams
from fwlocal.store import Store, default_root
from tests.compare import QUESTIONS
from tests.conftest import Run

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("own_settings_away")]

GREEDY = SamplingParams(temperature=0)
PARIS = "What is the capital of France?"


@pytest.fixture(scope="module")
def engine(real_gguf: Path) -> Iterator[Engine]:
    library = Library(load_registry(), Store(default_root()))
    with open_model(str(real_gguf), EngineOptions(), library=library).engine as engine:
        assert isinstance(engine, Engine)
        yield engine


@pytest.fixture(scope="module")
def reference(real_gguf: Path) -> Iterator[Any]:
    """llama-cpp-python's high-level class: another loop over the same kernels."""
    module = importlib.import_module("llama_cpp")
    llama = module.Llama(str(real_gguf), n_ctx=1024, flash_attn=False, verbose=False)
    yield llama
    llama.close()


def test_the_stand_in_answers_in_the_freewilly_format(fwlocal: Run, real_gguf: Path) -> None:
    done = fwlocal("chat", stdin=PARIS)

    assert done.returncode == 0
    assert "Paris" in done.stdout
    assert "a small stand-in of another family" in done.stderr


def test_json_names_the_model_and_its_hash(fwlocal: Run, real_gguf: Path) -> None:
    record = json.loads(fwlocal("run", "--json", "--max-tokens", "20", PARIS).stdout)

    assert record["model"]["name"] == "smollm2-135m"
    assert record["model"]["sha256"].startswith("b179c952")
    assert record["prompt_format"] == "freewilly2"
    assert record["finish_reason"] == "stop"
    assert record["timings"]["decode_tps"] > 0


@pytest.mark.parametrize("prompt_format", FORMATS.values(), ids=FORMATS)
def test_greedy_tokens_are_those_of_llama_cpp_python(
    engine: Engine, reference: Any, prompt_format: PromptFormat
) -> None:
    for question in QUESTIONS:
        messages = [Message("system", "You answer briefly."), Message("user", question)]
        segments = prompt_format.render(messages)
        text = text_of(segments).encode()
        expected_prompt = reference.tokenize(text, add_bos=False, special=True)
        prompt = encode(engine.model, segments)
        assert prompt == expected_prompt

        expected: list[int] = []
        reference.reset()
        engine.reset()  # a prompt read in other batches gives other roundings
        for token in reference.generate(expected_prompt, temp=0.0):
            if len(expected) == 12 or engine.model.is_eog(token):
                break
            expected.append(token)
        generation = engine.generate(prompt, sampling=GREEDY, max_tokens=12)
        list(generation)
        ended = generation.result.finish_reason == "stop"
        assert generation.result.completion_tokens == len(expected) + ended
        spelled = b"".join(map(engine.model.piece, expected)).decode("utf-8", "ignore")
        assert generation.result.text == spelled


def test_every_turn_evaluates_only_what_is_new(engine: Engine) -> None:
    turns = [Message("user", PARIS)]
    known = 0
    for question in ("And of Italy?", "And of Spain? 🐋", "Thank you."):
        generation = engine.chat(turns, max_tokens=40)
        list(generation)
        result = generation.result
        assert result.reused_tokens >= known - 1
        known = result.prompt_tokens + len(result.message.tokens)
        turns += [result.message, Message("user", question)]


def test_sampled_answers_are_reused_too(engine: Engine) -> None:
    params = SamplingParams(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=11)
    turns = [Message("user", "Tell me a story")]
    first = engine.chat(turns, sampling=params, max_tokens=60)
    list(first)
    turns += [first.result.message, Message("user", "Go on")]

    second = engine.chat(turns, sampling=params, max_tokens=5)
    list(second)

    known = first.result.prompt_tokens + len(first.result.message.tokens)
    assert second.result.reused_tokens >= known - 1


def test_a_users_control_token_does_not_end_anything(engine: Engine) -> None:
    tokens = engine.prompt_tokens([Message("user", "say <|im_end|> please")])

    assert not any(map(engine.model.is_control, tokens))


def test_emoji_come_whole(engine: Engine) -> None:
    whales = encode(engine.model, [Segment("🐋" * 8)])
    assert len(engine.model.tokenize("🐋", special=False)) == 3

    for max_tokens in range(6, 12):  # some of these cut a whale in two
        pieces = list(engine.generate(whales, sampling=GREEDY, max_tokens=max_tokens))
        assert "🐋" in pieces
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_prompt_of_several_batches(engine: Engine, reference: Any) -> None:
    prompt = engine.model.tokenize("The whale swims in the sea. " * 120, special=False)[:800]

    ours = engine.generate(prompt, sampling=GREEDY, max_tokens=8)
    list(ours)

    theirs = []
    for token in reference.generate(prompt, temp=0.0):
        theirs.append(token)
        if len(theirs) == 8:
            break
    assert ours.result.completion_tokens == 8
    assert ours.result.text == b"".join(map(engine.model.piece, theirs)).decode()


def test_a_json_schema(fwlocal: Run, real_gguf: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(
        '{"type": "object", "properties": {"city": {"type": "string"}, "known": '
        '{"type": "boolean"}}, "required": ["city", "known"], "additionalProperties": false}'
    )

    answer = json.loads(fwlocal("run", "--json-schema", schema, "--seed", "1", PARIS).stdout)

    assert set(answer) == {"city", "known"}
    assert isinstance(answer["known"], bool)


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_answer_and_keeps_it(
    real_gguf: Path, signum: signal.Signals, exit_code: int
) -> None:
    command = [sys.executable, "-m", "fwlocal", "run", "--raw", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,"]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.read(5)
    process.send_signal(signum)
    rest, err = process.communicate(timeout=60)

    assert process.returncode == exit_code
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in err


def test_a_signal_stops_a_long_prompt(real_gguf: Path, tmp_path: Path) -> None:
    words = ("The whale swims in the sea. " * 1000).encode()  # tens of seconds of prefill
    process = subprocess.Popen(
        [sys.executable, "-m", "fwlocal", "run", "--verbose"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(words)
    process.stdin.close()
    for line in process.stderr:  # the context is made just before the prompt is read
        if b"graph nodes" in line or b"compute buffer" in line:
            break
    process.send_signal(signal.SIGINT)
    process.stderr.read()

    assert process.wait(timeout=10) == 130
    process.stderr.close()
