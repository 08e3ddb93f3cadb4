"""Greedy answers per level: what is asked, what comes back, and where it parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.answer import Generation
from fwlocal.bench import answers
from fwlocal.bench.answers import Prompt, answers_of, compare, prompts_of, read_prompts
from fwlocal.bench.entrants import Entry, entrants_of
from fwlocal.bench.measured import Entrant
from fwlocal.engine import Engine, EngineLike
from fwlocal.errors import FwlocalError, Interrupted, PromptTooLong, UsageError
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions
from fwlocal.sampling import SamplingParams
from fwlocal.store import ModelFile
from tests import tiny_llama

OPTIONS = EngineOptions(n_threads=1, n_ctx=256)
TOKENS = st.lists(st.integers(0, 2), max_size=5).map(tuple)


def written(path: Path, *lines: dict[str, object] | str) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def entrant(path: Path) -> Entrant:
    ((found,), _) = entrants_of([Entry(ModelFile("tiny", path))])
    return found


@pytest.fixture
def tiny(tiny_gguf: Path) -> Entrant:
    return entrant(tiny_gguf)


# What is asked


def test_lines_as_a_batch_takes_them(tmp_path: Path, tiny: Entrant) -> None:
    path = written(
        tmp_path / "p.jsonl",
        {"prompt": "the whale"},
        "",
        {"messages": [{"role": "user", "content": "sea"}], "max_tokens": 3, "stop": "x"},
        {"prompt": "the whale", "system": "sings", "temperature": 1.5, "json_schema": {}},
    )
    first, second, third = prompts_of(read_prompts(path), tiny, OPTIONS)
    assert (first.number, second.number, third.number) == (1, 3, 4)
    assert (second.max_tokens, second.stop) == (3, ("x",))
    assert len(third.tokens) > len(first.tokens)
    assert "root" in (third.grammar or "")
    assert first.grammar is None


def test_bad_lines_are_named_before_anything_is_loaded(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl", {"prompt": "a"}, {"promt": "b"}, {"prompt": "c"}, "{", {"prompt": ""}
    )
    with pytest.raises(UsageError) as refusal:
        read_prompts(path)
    said = str(refusal.value)
    assert said.startswith(f"{path}: line 2: unknown key 'promt'")
    assert said.endswith("nor can these lines be asked: 4, 5")
    assert "\n" not in said


def test_no_line_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no line"):
        read_prompts(written(tmp_path / "p.jsonl", ""))
    with pytest.raises(FwlocalError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl")


def test_a_prompt_longer_than_the_context(tmp_path: Path, tiny: Entrant) -> None:
    path = written(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "whale " * 300})
    with pytest.raises(PromptTooLong, match=r"^p.jsonl: line 2: .* the context holds 256"):
        prompts_of(read_prompts(path), tiny, OPTIONS, name=path.name)


def test_a_raw_prompt_is_taken_as_it_stands(tmp_path: Path) -> None:
    bare = entrant(tiny_llama.write_gguf(tmp_path / "bare.gguf"))
    path = written(tmp_path / "p.jsonl", {"prompt": "the whale"})
    with pytest.raises(UsageError, match="no chat template"):
        prompts_of(read_prompts(path), bare, OPTIONS)
    raw = EngineOptions(n_threads=1, raw=True)
    (prompt,) = prompts_of(read_prompts(path, raw=True), bare, raw)
    assert prompt.tokens[0] == tiny_llama.BOS
    assert len(prompt.tokens) <= 1 + len(" the whale")  # and none of a template


# What comes back


def test_answers_are_greedy_tokens(tmp_path: Path, tiny: Entrant) -> None:
    path = written(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b", "max_tokens": 2})
    prompts = prompts_of(read_prompts(path), tiny, OPTIONS)
    heard: list[tuple[int, ...]] = []
    with answers.loaded(tiny, OPTIONS) as engine:
        found = answers_of(engine, prompts, 6, lambda index, tokens: heard.append(tokens))
        again = answers_of(engine, prompts[::-1], 6)
        assert isinstance(engine, Engine)
        greedy = SamplingParams(temperature=0.0)
        generation = engine.generate(prompts[0].tokens, sampling=greedy, max_tokens=6)
        list(generation)
    assert found[0] == generation.result.tokens
    assert 0 < len(found[0]) <= 6
    assert len(found[1]) <= 2
    assert tuple(heard) == found
    assert again == found[::-1]


def test_a_level_of_its_own_answers_its_own_way(tmp_path: Path, tiny: Entrant) -> None:
    other = entrant(tiny_llama.write_gguf(tmp_path / "other.gguf", seed=5))  # has no template
    path = written(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "the whale sings"})
    prompts = prompts_of(read_prompts(path), tiny, OPTIONS)
    found = []
    for level in (tiny, tiny, other):
        with answers.loaded(level, OPTIONS) as engine:
            found.append(answers_of(engine, prompts, 8))
    assert compare(found[0], found[1]).n_identical == 2
    assert compare(found[0], found[2]).n_identical == 0


class Overheard:
    """An engine whose generations are kept."""

    def __init__(self, engine: EngineLike) -> None:
        self.engine = engine
        self.heard: list[Generation] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, *arguments: Any, **options: Any) -> Generation:
        self.heard.append(self.engine.generate(*arguments, **options))
        return self.heard[-1]


def test_no_prompt_profits_from_the_one_before(tiny: Entrant) -> None:
    prompts = [Prompt(1, (1, 5, 6, 7)), Prompt(2, (1, 5, 6, 8))]
    with answers.loaded(tiny, OPTIONS) as engine:
        overheard = Overheard(engine)
        answers_of(cast("EngineLike", overheard), prompts, 4)
    assert [generation.result.reused_tokens for generation in overheard.heard] == [0, 0]


def test_an_interrupt_ends_it_between_tokens(tiny: Entrant) -> None:
    interrupt = Interrupt()
    prompts = [Prompt(1, (1, 5)), Prompt(2, (1, 6))]

    def stop(index: int, tokens: tuple[int, ...]) -> None:
        heard.append(index)
        interrupt.set()

    heard: list[int] = []
    with (
        answers.loaded(tiny, OPTIONS, interrupt=interrupt) as engine,
        pytest.raises(Interrupted),
    ):
        answers_of(engine, prompts, 4, stop, interrupt)
    assert heard == [0]


# Where it parts


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((1, 2, 3), (1, 5, 3), 1),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 2), 2),
        ((), (4,), 0),
        ((), (), None),
    ],
)
def test_the_first_token_that_differs(
    one: tuple[int, ...], other: tuple[int, ...], where: int | None
) -> None:
    assert compare([one], [other]).first_difference == (where,)


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=4))
def test_before_it_all_is_the_same(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    found = compare([a for a, _ in pairs], [b for _, b in pairs])
    assert found.n_identical == sum(a == b for a, b in pairs)
    for (one, other), where in zip(pairs, found.first_difference, strict=True):
        if where is not None:
            assert one[:where] == other[:where]
            assert one[where : where + 1] != other[where : where + 1]


def test_answers_to_other_prompts_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([(1,), (2,)], [(1,)])
