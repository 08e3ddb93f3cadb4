"""The chat as a person has it: typed, pasted, stopped, resized, and read on a screen."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fwlocal.repl.commands import COMMANDS

pytest.importorskip("pexpect")
pytest.importorskip("pyte")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

if sys.platform != "win32":
    import termios

    from tests.terminal import Terminal, fwlocal

AT_WORK = Path(__file__).with_name("chat_at_work.py")
SECTION = """\
## Part {n}

Some **bold** and *slanted* words of part {n}, long enough that the row must be broken somewhere.

- first of {n}
- second of {n}

```python
def part_{n}(x):
    return x + {n}
```

| name | value |
|------|------:|
| a{n} | {n} |

"""
LONG_ANSWER = "".join(SECTION.format(n=n) for n in range(1, 14))  # more than 200 lines
Start = Callable[..., "Terminal"]


@pytest.fixture
def reciting(tmp_path: Path, home: Path) -> Iterator[Start]:
    """A chat whose every answer is ``text``."""
    with ExitStack() as open_ones:

        def start(text: str, pause_s: float = 0.0, columns: int = 80, rows: int = 24) -> Terminal:
            answer = tmp_path / "answer.md"
            answer.write_text(text, encoding="utf-8")
            command = [sys.executable, str(AT_WORK), str(answer), str(pause_s)]
            terminal = open_ones.enter_context(Terminal(command, columns=columns, rows=rows))
            terminal.wait_for_prompt()
            return terminal

        yield start


@pytest.fixture
def chat(tiny_gguf: Path, home: Path) -> Iterator[Terminal]:
    """``fwlocal chat`` with the tiny model, at its first prompt."""
    command = fwlocal("chat", "-m", tiny_gguf, "--temp", "0", "--max-tokens", "6")
    with Terminal(command, columns=100, rows=40) as terminal:
        terminal.wait_for_prompt()
        yield terminal


def test_an_answer_longer_than_the_screen_is_there_once(reciting: Start) -> None:
    terminal = reciting(LONG_ANSWER)
    shown = "\n".join(terminal.ask("tell me all"))

    assert len(LONG_ANSWER.splitlines()) > 200
    for n in range(1, 14):
        for once in (f"Part {n}\n", f"first of {n}\n", f"def part_{n}(x):", f"return x + {n}\n"):
            assert shown.count(once) == 1, once
        assert re.search(rf"^ *a{n} .*{n}$", shown, re.MULTILINE)
    assert "**" not in shown
    assert shown.count("```") == 2 * 13


def test_raw_shows_it_as_it_comes(reciting: Start) -> None:
    terminal = reciting(LONG_ANSWER, columns=120)
    terminal.ask("/raw")

    shown = terminal.ask("tell me all")

    assert [line for line in LONG_ANSWER.splitlines() if line] == [
        line for line in shown if line != "> tell me all"
    ]


def test_a_resize_in_mid_answer_loses_nothing(reciting: Start) -> None:
    terminal = reciting(LONG_ANSWER, pause_s=0.001)
    terminal.send("tell me all")
    for columns, part in ((50, 2), (100, 5), (1, 7), (80, 9)):
        seen = f"return x + {part}"
        terminal.until(lambda seen=seen: seen in squeezed(terminal))  # type: ignore[misc]
        terminal.resize(columns, 24)
    terminal.wait_for_prompt()

    shown = squeezed(terminal)
    assert all(f"Part {n}" in shown and f"second of {n}" in shown for n in range(10, 14))
    assert terminal.ask("/raw")[-1] == "Answers are shown as they come."


def squeezed(terminal: Terminal) -> str:
    """What was written, whatever the terminal's width did to it."""
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", terminal.output).decode("utf-8", "replace")
    return re.sub(r"\s+", " ", text)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(reciting: Start) -> None:
    terminal = reciting(LONG_ANSWER, pause_s=0.01)
    terminal.send("tell me all")
    terminal.wait_for(r"first of 1")
    terminal.type("\x03")
    terminal.wait_for(r"^\(stopped\)")
    terminal.wait_for_prompt()

    assert "^C" not in terminal.text()
    assert "Part 13" not in terminal.text()
    assert any("the last question" in line for line in terminal.ask("/tokens"))


def test_what_is_typed_meanwhile_waits_for_the_prompt(reciting: Start) -> None:
    terminal = reciting("one two three. " * 30, pause_s=0.005)
    terminal.send("go")
    terminal.wait_for("three")
    terminal.type("/help")
    terminal.until(lambda: terminal.cursor_line() == "> /help")

    assert terminal.text().count("/help") == 1


def test_500_lines_are_pasted_as_one_message(reciting: Start) -> None:
    terminal = reciting("Thank you.")
    lines = "\r".join(f"line {n} of the text" for n in range(500))
    terminal.type(f"\x1b[200~{lines}\x1b[201~")
    terminal.until(lambda: "line 499 of the text" in terminal.text())
    assert "Thank you." not in terminal.text()
    terminal.type("\r")
    terminal.wait_for("Thank you")
    terminal.wait_for_prompt()

    assert "2502" in " ".join(terminal.ask("/tokens"))  # words: five a line, and "Thank you."


def test_control_sequences_in_an_answer_are_shown_inert(reciting: Start) -> None:
    terminal = reciting("a\x1b]0;owned\x07b\x1b[31mc\x1b[?1049hd\x9be")
    shown = "\n".join(terminal.ask("attack"))

    assert terminal.screen.title == ""
    assert "a␛]0;owned␇b␛[31mc␛[?1049hd\ufffde" in shown


def test_it_is_usable_on_a_narrow_screen(reciting: Start) -> None:
    terminal = reciting(LONG_ANSWER, columns=40)
    shown = terminal.ask("tell me all")
    listed = terminal.ask("/help")

    assert all(len(line) <= 40 for line in [*shown, *listed])
    assert any("must be broken" in line or line.endswith("must be") for line in shown)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours(tmp_path: Path, home: Path, env: dict[str, str]) -> None:
    (tmp_path / "answer.md").write_text(LONG_ANSWER)
    command = [sys.executable, str(AT_WORK), str(tmp_path / "answer.md")]
    with Terminal(command, env=env) as terminal:
        terminal.wait_for(r"^>")
        terminal.send("tell me all")
        terminal.wait_for("return x . 13")
        terminal.settle()

    colours = re.findall(rb"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d)(?:;\d+)*m", terminal.output)
    assert colours == []
    if "TERM" in env:
        assert b"\x1b" not in terminal.output


def test_every_command_answers(chat: Terminal, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the whale sings\n")
    typed = {
        "/help": "show this",
        "/retry": "nothing to ask again",
        "/continue": "no answer to go on with",
        "/edit": "nothing was asked yet",
        "/undo": "cannot be undone",
        "/reset": "starts anew",
        "/system": "no system text",
        f"/file {tmp_path}/notes.txt": "notes.txt",
        "/file clear": "No file",
        "/copy": "no answer to copy",
        "/model": "tiny",
        "/format": "gguf",
        "/ab": "/ab",
        "/set": "temp",
        "/raw": "as they come",
        "/stats": "no answer yet",
        "/tokens": "free",
        "/plan": "layers:",
        "/history": "Nothing was said",
        "/save": "Saved",
        "/load nothing": "no session nothing",
        "/sessions": "chat",
        f"/export {tmp_path}/out.md": "Written to",
    }
    names = {line.split()[0] for line in typed}
    assert names == {command.name for command in COMMANDS} - {"/exit"}

    for line, says in typed.items():
        assert says in " ".join(chat.ask(line)), line
    chat.send("/exit")
    assert chat.exit_code() == 0


def test_messages_retried_edited_and_undone(
    tiny_gguf: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "the song of the whale" > "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    command = fwlocal("chat", "-m", tiny_gguf, "--max-tokens", "6", "--seed", "1")
    with Terminal(command) as chat:
        chat.wait_for_prompt()
        chat.ask("the whale sings")
        chat.ask("/retry")
        chat.ask("/edit")
        chat.ask("/undo")
        chat.ask("the whale sleeps")
        chat.ask(f"/export {tmp_path}/chat.json")

    messages = json.loads((tmp_path / "chat.json").read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["the whale sleeps"]
    events = next((tmp_path / "sessions").glob("*.jsonl")).read_text().splitlines()
    assert any("the song of the whale" in event for event in events)


def test_tab_completes_commands_and_paths(chat: Terminal, tmp_path: Path) -> None:
    (tmp_path / "whales.txt").write_text("sing")
    chat.type("/sess\t")
    chat.until(lambda: chat.cursor_line().startswith("> /sessions"))
    chat.type("\x03")
    chat.wait_for_prompt()
    chat.type(f"/file {tmp_path}/wha\t")
    chat.until(lambda: "whales.txt" in chat.text())


def test_an_unknown_command_offers_the_nearest(chat: Terminal) -> None:
    assert "did you mean /help?" in " ".join(chat.ask("/hlep"))


def test_ctrl_c_as_soon_as_keys_are_quiet_leaves_the_terminal_as_it_was(
    tiny_gguf: Path, home: Path
) -> None:
    with Terminal(fwlocal("chat", "-m", tiny_gguf)) as early:
        before = termios.tcgetattr(early.child.child_fd)[3]
        early.until(lambda: b"\x1b[?2004h" in early.output)
        early.type("\x03")
        early.until(lambda: not early.take())

        assert termios.tcgetattr(early.child.child_fd)[3] == before


def test_stdin_that_closes_ends_the_chat(chat: Terminal) -> None:
    chat.type("\x04")

    assert chat.exit_code() == 0
