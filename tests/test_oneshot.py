"""What goes in and what comes out of ``fwlocal run``, without a model."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.answer import FinishReason, Generation, Result, Timings
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.offload import OffloadPlan, Share, where_layers_are
from fwlocal.oneshot import Output, ending_in_one_newline, read_prompt, write_answer
from fwlocal.store import ModelFile

FILE = ModelFile("tiny", Path("tiny.gguf"), sha256="ab")


def generation(*pieces: str, finish_reason: FinishReason = "stop") -> Generation:
    """An answer that needs no model."""

    def steps() -> Generator[str, None, Result]:
        yield from pieces
        timings = Timings(0.1, 0.2, 0.2, 0.3, 100.0, 10.0)
        return Result("".join(pieces), (), finish_reason, 12, 3, 4, 42, timings)

    return Generation(steps())


SHARES = (Share("CUDA0", 20, 10**9, 10**8, 10**7, 10**10, 10**10), Share("CPU", 0, 1, 0, 1, 2, 2))
PLAN = OffloadPlan(SHARES, 20, 20, 4096, "f16", "auto", 512, 512, mmap=True, mlock=False)


def output(
    *, as_json: bool = False, stats: bool = False
) -> tuple[Output, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Output(out, err, as_json, stats), out, err


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


def test_the_answer_alone_goes_to_stdout() -> None:
    target, out, err = output()

    write_answer(generation("Pa", "ris.\n", "\n"), target, FILE, "freewilly2", PLAN)

    assert out.getvalue() == "Paris.\n"
    assert err.getvalue() == ""


def test_stats_go_to_stderr() -> None:
    target, out, err = output(stats=True)

    write_answer(generation("Paris."), target, FILE, "freewilly2", PLAN)

    assert out.getvalue() == "Paris.\n"
    assert "12 tokens (4 reused) at 100.0 tok/s" in err.getvalue()
    assert "seed 42" in err.getvalue()
    assert where_layers_are(PLAN) in err.getvalue()
    assert "context" not in err.getvalue()  # it may have grown since the plan


def test_json_is_one_object() -> None:
    target, out, _ = output(as_json=True)

    write_answer(generation("Pa", "ris 🐋"), target, FILE, "freewilly2", PLAN)

    assert json.loads(out.getvalue()) == {
        "text": "Paris 🐋",
        "finish_reason": "stop",
        "model": {"name": "tiny", "file": "tiny.gguf", "sha256": "ab"},
        "prompt_format": "freewilly2",
        "layers": {"CUDA0": 20},
        "kv_type": "f16",
        "seed": 42,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "reused_tokens": 4,
        "timings": {
            "load_s": 0.1,
            "ttft_s": 0.2,
            "prefill_s": 0.2,
            "decode_s": 0.3,
            "prefill_tps": 100.0,
            "decode_tps": 10.0,
        },
    }


@given(st.lists(st.text(alphabet="a\n ", max_size=4)))
def test_one_newline_ends_every_answer(pieces: list[str]) -> None:
    written = "".join(ending_in_one_newline(pieces))

    assert written == "".join(pieces).rstrip("\n") + "\n"
