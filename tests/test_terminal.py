"""The chat in a real pseudo-terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect") if sys.platform != "win32" else None
pytestmark = pytest.mark.skipif(pexpect is None, reason="pexpect needs a POSIX terminal")

PROMPT = r"> "


@pytest.fixture
def chat(home: Path, tiny_gguf: Path) -> Iterator[pexpect.spawn]:
    """``fwlocal chat`` on the tiny model, at its first prompt."""
    arguments = ["-m", "fwlocal", "chat", "-m", str(tiny_gguf), "--max-tokens", "8", "--temp", "0"]
    child = pexpect.spawn(sys.executable, arguments, timeout=30, dimensions=(24, 80))
    child.expect(r"tiny \(gguf\)\. /help lists the commands\.")
    child.expect(PROMPT)
    yield child
    child.close(force=True)


def leaves(chat: pexpect.spawn) -> bool:
    """Whether it ended with exit code 0."""
    chat.expect(pexpect.EOF)
    chat.close()
    return bool(chat.exitstatus == 0)


def test_a_message_is_answered(chat: pexpect.spawn) -> None:
    chat.send("the whale sings\r")
    chat.expect(r"\(cut\)")
    chat.expect(PROMPT)
    chat.send("/exit\r")
    assert leaves(chat)


def test_ctrl_d_leaves(chat: pexpect.spawn) -> None:
    chat.sendeof()
    assert leaves(chat)


def test_ctrl_c_at_the_prompt_does_not_leave(chat: pexpect.spawn) -> None:
    chat.sendintr()
    chat.expect(r"\(Ctrl-D or /exit leaves\)")
    chat.expect(PROMPT)
    chat.send("/help\r")
    chat.expect("forget the conversation")
    chat.sendeof()
    assert leaves(chat)


@pytest.mark.model
def test_ctrl_c_stops_an_answer_and_not_the_program(home: Path, real_gguf: Path) -> None:
    arguments = ["-m", "fwlocal", "chat", "-m", str(real_gguf), "--temp", "0"]
    child = pexpect.spawn(sys.executable, arguments, timeout=60, dimensions=(24, 80))
    child.expect(PROMPT)
    child.send("Count from 1 to 1000 in words, with a story about each number.\r")
    child.expect(r"\r\n.{40}")
    child.sendintr()
    child.expect(r"\(stopped\)")
    child.expect(PROMPT)
    child.send("/reset\r")
    child.expect("starts anew")
    child.sendeof()
    assert leaves(child)
