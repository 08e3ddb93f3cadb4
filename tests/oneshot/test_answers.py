"""What goes in and what comes out of ``fwlocal run``, without a model."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.answer import FinishReason, Generation, Result, Timings
from fwlocal.attachments import MOST_BYTES, Attachment
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.interrupts import Interrupt
from fwlocal.loader import LoadedModel
from fwlocal.offload import OffloadPlan, Share, where_layers_are
from fwlocal.oneshot import (
    Form,
    Output,
    Request,
    answer,
    check_turns,
    ending_in_one_newline,
    joined,
    parse_messages,
    read_messages,
    read_prompt,
    stats_line,
)
from fwlocal.oneshot.writing import Writer, without_separators
from fwlocal.prompts import Message, Role
from fwlocal.sampling import SamplingParams
from fwlocal.store import ModelFile


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON's lists and objects, with the fields of a message among them."""
    field = st.sampled_from(["role", "content"]) | st.text(max_size=2)
    return st.lists(inner, max_size=3) | st.dictionaries(field, inner, max_size=3)


def generation(*pieces: str, finish_reason: FinishReason = "stop") -> Generation:
    """An answer that needs no model."""

    def steps() -> Generator[str, None, Result]:
        yield from pieces
        timings = Timings(0.1, 0.2, 0.2, 0.3, 100.0, 10.0)
        return Result("".join(pieces), (), finish_reason, 12, 3, 4, 42, timings)

    return Generation(steps())


def written(*answers: Generation, form: Form = Form.TEXT, n: int | None = None) -> str:
    """What is on stdout after these answers."""
    out, err = io.StringIO(), io.StringIO()
    writer = Writer(Output(out, err, form), n, lambda result: {"text": result.text})
    for one in answers:
        writer.write(one)
    writer.end()
    assert err.getvalue() == ""
    return out.getvalue()


def test_argument_and_stdin_are_joined_by_a_blank_line() -> None:
    assert read_prompt("Write a commit message", io.BytesIO(b"diff --git a b\n")) == (
        "Write a commit message\n\ndiff --git a b"
    )


def test_either_alone() -> None:
    assert read_prompt("hi", None) == "hi"
    assert read_prompt(None, io.BytesIO("hé\r\nho".encode())) == "hé\nho"
    assert read_prompt("hi", io.BytesIO(b"")) == "hi"


def test_a_byte_order_mark_is_dropped() -> None:
    assert read_prompt(None, io.BytesIO("\ufeffhi".encode())) == "hi"


@pytest.mark.parametrize("stdin", [None, io.BytesIO(b""), io.BytesIO(b" \n\n")])
def test_an_empty_prompt(stdin: io.BytesIO | None) -> None:
    with pytest.raises(UsageError, match="the prompt is empty; give"):
        read_prompt("", stdin)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"ab\xff", r"not UTF-8 \(byte 2\)"), (b"a\0b", "NUL byte at 1")],
)
def test_bytes_that_are_no_text(data: bytes, says: str) -> None:
    with pytest.raises(FwlocalError, match=says):
        read_prompt("x", io.BytesIO(data))


def test_an_argument_that_is_no_text() -> None:
    with pytest.raises(FwlocalError, match="not valid UTF-8"):
        read_prompt("a\udcff", None)


def test_files_stand_before_the_prompt_and_stdin_behind_it() -> None:
    files = [Attachment("a.txt", "one\n"), Attachment("b.txt", "two")]

    assert joined("Sum up", files, "more") == (
        "# a.txt\n\n```\none\n```\n\n# b.txt\n\n```\ntwo\n```\n\nSum up\n\nmore"
    )


def test_the_answer_alone_goes_to_stdout() -> None:
    assert written(generation("Pa", "ris.\n", "\n")) == "Paris.\n"


def test_several_answers_are_separated_by_lines() -> None:
    answers = written(generation("one\n"), generation("two"), generation("three"), n=3)

    assert answers == "one\n--- 2 of 3 ---\ntwo\n--- 3 of 3 ---\nthree\n"


def test_a_separator_is_always_the_programs_own() -> None:
    answers = written(generation("a\n--- 2 o", "f 2 ---\nb"), generation("--- 2 of 2 ---"), n=2)

    assert answers == "a\n --- 2 of 2 ---\nb\n--- 2 of 2 ---\n --- 2 of 2 ---\n"


def test_one_answer_is_never_touched() -> None:
    assert written(generation("--- 2 of 2 ---")) == "--- 2 of 2 ---\n"


@given(st.lists(st.sampled_from(["-", "--- ", "1", "2 of 2", " ---", "\n", "a", "\u2028", ""])))
def test_separating_changes_nothing_else(pieces: list[str]) -> None:
    text = "".join(without_separators(pieces))
    lines = "".join(pieces).split("\n")
    expected = [f" {x}" if re.fullmatch(r"--- \d+ of \d+ ---\s*", x) else x for x in lines]

    assert text.split("\n") == expected


def test_json_is_one_object_or_an_array() -> None:
    assert json.loads(written(generation("Pa", "ris"), form=Form.JSON)) == {"text": "Paris"}
    two = written(generation("a"), generation("b"), form=Form.JSON, n=2)
    assert json.loads(two) == [{"text": "a"}, {"text": "b"}]
    assert json.loads(written(generation("a"), form=Form.JSON, n=1)) == [{"text": "a"}]


def test_json_drives_no_terminal_and_has_one_line_for_all_readers() -> None:
    text = "\x1b[2J\x9b2J\x7f\u2028é\n"
    line = written(generation(text), form=Form.JSON)

    assert [character for character in line if not " " <= character <= "~"] == ["é", "\n"]
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"text": text}


def test_events_are_lines_of_json() -> None:
    lines = written(generation("Pa", "ris\n"), form=Form.EVENTS).splitlines()

    assert [json.loads(line) for line in lines] == [
        {"event": "piece", "answer": 1, "text": "Pa"},
        {"event": "piece", "answer": 1, "text": "ris\n"},
        {"event": "end", "answer": 1, "text": "Paris\n"},
    ]


SHARES = (Share("CUDA0", 20, 10**9, 10**8, 10**7, 10**10, 10**10), Share("CPU", 0, 1, 0, 1, 2, 2))
HEADER = GGUFHeader(Path("tiny.gguf"), 3, {}, (), 0, 0)
PLAN = OffloadPlan(SHARES, 20, 20, 4096, "f16", "auto", 512, 512, mmap=True, mlock=False)


class Saying:
    """An engine that says the same whatever is asked; ``asked`` are the sampling and the stops."""

    system, stop, max_tokens, sampling = "be kind", ("</s>",), None, SamplingParams()
    limit = 100

    def __init__(self, *pieces: str, finish_reason: FinishReason = "stop") -> None:
        self.pieces, self.finish_reason = pieces, finish_reason
        self.interrupt = Interrupt()
        self.asked: list[dict[str, Any]] = []

    def prompt_tokens(self, messages: object) -> list[int]:
        return [1]

    def generate(self, prompt: object, **options: Any) -> Generation:
        self.asked.append(options)
        return generation(*self.pieces, finish_reason=self.finish_reason)


def answered(
    engine: Saying, *, max_tokens: int | None = None, n: int | None = None, **options: Any
) -> tuple[str, str]:
    """stdout and stderr after an answer of ``engine``."""
    file = ModelFile("tiny", Path("tiny.gguf"), sha256="ab")
    loaded = LoadedModel(cast(EngineLike, engine), file, HEADER, "chatml", PLAN)
    out, err = io.StringIO(), io.StringIO()
    request = Request((Message("user", "hi"),), None, max_tokens, {}, ("END",), n)
    with contextlib.suppress(FwlocalError):
        assert answer(loaded, request, Output(out, err, **options)) == 0
    return out.getvalue(), err.getvalue()


def test_stats_go_to_stderr_with_where_the_layers_are() -> None:
    out, err = answered(Saying("Paris."), stats=True)

    assert out == "Paris.\n"
    assert where_layers_are(PLAN) in err
    assert "context" not in err  # it may have grown since the plan


def test_the_formats_stops_and_the_users_hold() -> None:
    engine = Saying("Paris.")
    answered(engine)

    assert engine.asked[0]["stop"] == ("</s>", "END")


def test_a_cut_that_nobody_asked_for_is_told() -> None:
    cut = Saying("Pa", finish_reason="length")

    assert "the answer was cut after 3 tokens; --max-tokens" in answered(cut)[1]
    assert answered(cut, max_tokens=3) == answered(cut, quiet=True) == ("Pa\n", "")
    assert "answer 1 of 2 was cut" in answered(cut, n=2)[1]


def test_a_cut_by_the_context_names_the_context() -> None:
    cut = Saying("Pa", finish_reason="length")
    cut.limit = 5

    assert "where the context was full; --n-ctx allows more" in answered(cut, max_tokens=3)[1]


def test_a_signal_while_the_model_is_hashed_loses_no_answer(tmp_path: Path) -> None:
    engine, file = Saying("Paris."), ModelFile("tiny", tmp_path / "tiny.gguf")
    file.path.write_bytes(b"GGUF")
    engine.interrupt.set()
    loaded = LoadedModel(cast(EngineLike, engine), file, HEADER, "chatml", PLAN)
    out = io.StringIO()

    request = Request((Message("user", "hi"),), None, None, {})
    assert answer(loaded, request, Output(out, io.StringIO(), Form.JSON)) == 130
    record = json.loads(out.getvalue())
    assert (record["text"], record["model"]["sha256"]) == ("Paris.", None)


def test_stats_are_one_line() -> None:
    answer = generation("Paris.")
    list(answer)

    assert stats_line(answer.result, PLAN) == (
        "[stop] prompt 12 tokens (4 reused) at 100.0 tok/s, answer 3 tokens at 10.0 tok/s, "
        "load 0.10 s, first token 0.20 s, seed 42; layers: 20 on CUDA0"
    )


def test_stats_tell_what_saved_work_and_what_was_tuned() -> None:
    answer = generation("Paris.")
    list(answer)
    result = replace(answer.result, n_restored=4, n_drafted=9, n_accepted=5)

    line = stats_line(result, replace(PLAN, tuned=("n_threads", "mmap")))

    assert "prompt 12 tokens (4 reused, from the prefix cache) at" in line
    assert "answer 3 tokens at 10.0 tok/s (5 of 9 drafted accepted), load" in line
    assert line.endswith("; layers: 20 on CUDA0; tuned: n_threads, mmap")


def test_stats_of_a_prompt_that_was_not_read_to_its_end() -> None:
    timings = Timings(0.1, 2.0, 2.0, 0.0, 250.0, 0.0)
    result = Result("", (), "interrupt", 2430, 0, 12, 42, timings)

    assert stats_line(result, PLAN) == (
        "[interrupt] prompt 512 of 2430 tokens (12 reused) at 250.0 tok/s, no answer, "
        "load 0.10 s, seed 42; layers: 20 on CUDA0"
    )


def test_stats_tell_why_a_prompt_is_not_kept() -> None:
    answer = generation("Paris.")
    list(answer)

    assert stats_line(answer.result, PLAN, "/x is no folder").endswith(
        "; layers: 20 on CUDA0; the prompt is not kept: /x is no folder"
    )


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"role": "user"}, "x.json: is an object, not a list"),
        ([], "holds no message"),
        (["hi"], "message 0: is a text, not an object"),
        ([{"role": "user"}], "message 0: has no 'content'"),
        ([{"role": 1, "content": ""}], "message 0: 'role' is a number, not a text"),
        ([{"role": "user", "content": [{}]}], "message 0: 'content' is a list, not a text"),
        ([{"role": "tool", "content": ""}], "'role' is 'tool'; it must be one of system"),
        ([{"role": "user", "content": "", "name": "x"}], "unknown field 'name'"),
    ],
)
def test_messages_of_wrong_types(data: object, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_messages(data, "x.json")

    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_other_commands_wrote_is_a_conversation(tmp_path: Path) -> None:
    hi = {"role": "user", "content": "hi", "time": "2026-11-22"}
    exported, printed = tmp_path / "session.json", tmp_path / "answer.json"
    exported.write_text(json.dumps({"session": "x", "messages": [hi]}))
    printed.write_text(json.dumps({"text": "ho ", "messages": [hi]}))

    assert read_messages(str(exported), None) == (Message("user", "hi"),)
    assert read_messages(str(printed), None) == (Message("user", "hi"), Message("assistant", "ho"))


def test_stdin_that_never_ends() -> None:
    with pytest.raises(FwlocalError, match="stdin: has more than 16 MiB; pipe a part"):
        read_prompt("x", io.BytesIO(b"a" * (MOST_BYTES + 9)))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), _containers))
def test_any_json_is_messages_or_a_users_error(data: object) -> None:
    with contextlib.suppress(FwlocalError):
        assert len(parse_messages(data, "x")) > 0


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        (["user", "system"], "message 1: role 'system' must come first"),
        (["user", "assistant"], "message 1: role 'assistant', but the last message is the one"),
        (["system"], "message 0: role 'system', but the last"),
    ],
)
def test_conversations_that_ask_nothing(roles: list[Role], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_turns([Message(role, "x") for role in roles], "x")


@pytest.mark.parametrize("content", ["", " \n"])
def test_a_question_that_is_empty(content: str) -> None:
    with pytest.raises(UsageError, match="message 0: 'content' is empty"):
        check_turns([Message("user", content)], "x")


@given(st.lists(st.text(alphabet="a\n ", max_size=4)))
def test_one_newline_ends_every_answer(pieces: list[str]) -> None:
    written = "".join(ending_in_one_newline(pieces))

    assert written == "".join(pieces).rstrip("\n") + "\n"
