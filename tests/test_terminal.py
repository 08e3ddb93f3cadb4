"""The chat in a real pseudo-terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pexpect: Any = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

PROMPT = ">"


def spawn(*arguments: str | Path) -> Any:
    """``fwlocal chat`` in a terminal of 80 by 24 that cannot report its cursor."""
    return pexpect.spawn(
        sys.executable,
        ["-m", "fwlocal", "chat", *map(str, arguments), "--temp", "0"],
        timeout=60,
        dimensions=(24, 80),
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
    )


@pytest.fixture
def chat(home: Path, tiny_gguf: Path) -> Iterator[Any]:
    """A chat with the tiny model, at its first prompt."""
    child = spawn("-m", tiny_gguf, "--max-tokens", "8")
    child.expect(r"tiny \(gguf\)\. /help lists the commands\.")
    child.expect(PROMPT)
    yield child
    child.close(force=True)


def leaves(chat: Any) -> bool:
    """Whether it ended with exit code 0."""
    chat.expect(pexpect.EOF)
    chat.close()
    return bool(chat.exitstatus == 0)


def test_a_message_is_answered(chat: Any) -> None:
    chat.send("the whale sings\r")
    chat.expect(r"\n[^>]+\r\n")
    chat.expect(PROMPT)
    chat.send("/exit\r")
    assert leaves(chat)


def test_ctrl_d_leaves(chat: Any) -> None:
    chat.sendeof()
    assert leaves(chat)


def test_ctrl_c_at_the_prompt_does_not_leave(chat: Any) -> None:
    chat.sendintr()
    chat.expect(r"\(Ctrl-D or /exit leaves\)")
    chat.expect(PROMPT)
    chat.send("/help\r")
    chat.expect("begin a new conversation")
    chat.expect(PROMPT)
    chat.sendeof()
    assert leaves(chat)


@pytest.mark.model
def test_ctrl_c_stops_an_answer_and_not_the_program(home: Path, real_gguf: Path) -> None:
    child = spawn("-m", real_gguf)
    child.expect(PROMPT)
    child.send("Count from 1 to 1000 in words, with a story about each number.\r")
    child.expect(r"\n[^>]{40}")
    child.sendintr()
    child.expect(r"\(stopped\)")
    child.expect(PROMPT)
    child.send("/reset\r")
    child.expect("starts anew")
    child.expect(PROMPT)
    child.sendeof()
    assert leaves(child)
