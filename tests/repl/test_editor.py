"""Writing in the chat, in a real pseudo-terminal whose screen is emulated."""

from __future__ import annotations

import shlex
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.repl.editor_terminal import PATIENCE_S, Terminal

termios: Any = pytest.importorskip("termios")
pexpect: Any = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")

ALT_ENTER, CTRL_J, SHIFT_ENTER = "\x1b\r", "\n", "\x1b[13;2u"
CTRL_C, CTRL_D, CTRL_L, CTRL_R, CTRL_UNDO = "\x03", "\x04", "\x0c", "\x12", "\x1f"
ESCAPE, UP, RIGHT, TAB = "\x1b", "\x1b[A", "\x1b[C", "\t"


def pasted(text: str | bytes) -> bytes:
    """As a terminal sends it."""
    data = text.encode() if isinstance(text, str) else text
    return b"\x1b[200~" + data + b"\x1b[201~"


Open = Callable[..., Terminal]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Terminals, each at its first prompt unless it is ``plain``."""
    terminals = []

    def make(*arguments: Any, plain: bool = False, **options: Any) -> Terminal:
        terminals.append(Terminal(*arguments, **options))
        if not plain:
            terminals[-1].prompts()
        return terminals[-1]

    yield make
    for terminal in terminals:
        terminal.close()


@pytest.fixture(scope="module")
def one_for_all() -> Iterator[Terminal]:
    terminal = Terminal()
    terminal.prompts()
    yield terminal
    terminal.close()


@pytest.fixture
def terminal(one_for_all: Terminal) -> Terminal:
    """At an empty prompt, on an empty screen."""
    one_for_all.until(lambda text: text.endswith("the toolbar"))  # it is at a prompt
    one_for_all.send(CTRL_C)
    one_for_all.until(lambda text: one_for_all.message == ">" and text.endswith("the toolbar"))
    one_for_all.send(CTRL_L)
    one_for_all.until(lambda text: text.startswith(">\n"))
    return one_for_all


@pytest.mark.parametrize("newline", [ALT_ENTER, CTRL_J, SHIFT_ENTER])
def test_enter_sends_and_others_begin_a_new_line(terminal: Terminal, newline: str) -> None:
    terminal.send(f"two{newline}lines")
    terminal.shows("> two\n. lines")
    terminal.send("\r")
    terminal.shows(r"GOT 'two\nlines'")


def test_between_triple_quotes_enter_begins_a_new_line(terminal: Terminal) -> None:
    terminal.send('"""\r/etc\r  is a folder"""\r')

    terminal.shows(r"GOT '//etc\n  is a folder'")


def test_500_pasted_lines_are_one_message_that_is_not_sent(terminal: Terminal) -> None:
    lines = [f"line {n} of what is pasted, as long as lines mostly are" for n in range(500)]
    started = time.monotonic()
    terminal.send(pasted("\r\n".join(lines)))
    terminal.shows("line 499")
    terminal.send("!")
    shown = terminal.shows("lines mostly are!")
    took_s = time.monotonic() - started

    assert "GOT" not in shown
    assert "^M" not in shown
    assert took_s < 5
    terminal.send("\r")
    terminal.shows(f"GOT 500 lines of {sum(map(len, lines)) + 1} characters")


def test_what_is_pasted_cannot_drive_the_terminal_nor_break_the_text(terminal: Terminal) -> None:
    before = len(terminal.raw)
    terminal.send(pasted(b"a\tb\x1b]52;c;aGk=\x07 \x9b31m caf\xe9 \xc2\x9b2J"))
    shown = terminal.shows("> a   b^[]52;c;aGk=^G")

    drawn = terminal.raw[before:]
    assert b"\x1b]52" not in drawn
    assert b"\x9b" not in drawn
    assert "<9b>2J" in shown
    terminal.send("\r")
    terminal.shows(r"GOT 'a\tb\x1b]52;c;aGk=\x07 �31m caf� \x9b2J'")


def test_bytes_that_are_no_utf8_are_replaced_when_typed(terminal: Terminal) -> None:
    terminal.send(b"caf\xe9!\r")

    terminal.shows("GOT 'caf�!'")


def test_ctrl_c_clears_a_message_before_it_interrupts(terminal: Terminal) -> None:
    terminal.send("never mind")
    terminal.holds("> never mind")
    terminal.send(CTRL_C)
    assert "INTERRUPTED" not in terminal.prompts()

    terminal.send(CTRL_UNDO)
    terminal.holds("> never mind")
    terminal.send(CTRL_C)
    terminal.prompts()
    terminal.send(CTRL_C)
    terminal.shows("INTERRUPTED")


def test_commands_are_completed_with_what_they_are(terminal: Terminal) -> None:
    terminal.send("/f" + TAB)
    terminal.shows("/file PATH", "attach a text file", "/format NAME")
    terminal.send(TAB + TAB + "\r")  # the second one; Enter closes the menu
    terminal.holds("> /format")
    terminal.send(TAB + "ch" + TAB)
    terminal.shows("> /format chatml")
    terminal.send("\r")
    terminal.shows("GOT '/format chatml'")


def test_paths_are_completed(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "some notes").mkdir()
    (tmp_path / "some notes" / "whale.txt").write_text("sings")
    (tmp_path / ".hidden").write_text("")

    terminal.send(f"/file {tmp_path}/" + TAB)
    terminal.until(
        lambda text: text.replace("\n", "").startswith(f"> /file {tmp_path}/some notes/")
    )
    terminal.send(TAB)
    terminal.until(lambda text: "some notes/whale.txt" in text.replace("\n", ""))
    terminal.send("\r")
    terminal.until(lambda text: "some notes/whale.txt'" in text.replace("\n", ""))


def test_a_short_answer_is_asked_for_on_a_line_of_its_own(terminal: Terminal) -> None:
    terminal.send("line\r")
    terminal.shows("sure?")
    terminal.send("yes\r")
    terminal.shows("LINE 'yes'")


def test_what_is_typed_while_an_answer_streams_is_unseen_and_then_there(terminal: Terminal) -> None:
    terminal.send("stream 0.4\r")
    terminal.shows("streaming")
    before = len(terminal.raw)
    terminal.send("first\rsecxond")
    terminal.shows("streamed")
    assert b"first" not in terminal.raw[before : terminal.raw.index(b"streamed", before)]

    shown = terminal.shows("GOT 'first'", "> secxond")
    assert "INTERRUPTED" not in shown
    assert shown.count("first") == 2


def test_a_paste_while_an_answer_streams_is_not_sent_line_by_line(terminal: Terminal) -> None:
    terminal.send("stream 0.4\r")
    terminal.shows("streaming")
    assert terminal.raw.rindex(b"\x1b[?2004h") > terminal.raw.rindex(b"\x1b[?2004l")
    terminal.send(pasted("one\ntwo\nthree"))

    assert "GOT" not in terminal.shows("streamed", "> one\n. two\n. three")


def test_ctrl_c_while_an_answer_streams_leaves_no_trace_and_loses_no_key(
    terminal: Terminal,
) -> None:
    terminal.send("stream 30\r")
    terminal.shows("streaming")
    terminal.send("kept" + CTRL_C)

    assert "^C" not in terminal.shows("stopped", "> kept")


def test_keys_before_the_first_answer_and_between_prompts_are_not_lost(terminal: Terminal) -> None:
    terminal.send("one\rtwo\rthree\r")

    terminal.shows("GOT 'one'", "GOT 'two'", "GOT 'three'")


def test_a_resize_while_typing_keeps_the_message(opened: Open) -> None:
    terminal = opened()
    terminal.send("a message that has some words in it")
    terminal.shows("> a message that has some words in it")
    terminal.resize(10, 20)
    terminal.shows("words in it")
    terminal.resize(5, 1)
    terminal.send("!")
    terminal.until(lambda text: "!" in text)
    terminal.resize(24, 60)
    terminal.shows("some words in it!")
    terminal.send("\r")
    terminal.shows("GOT 'a message that has some words in it!'")


@pytest.mark.parametrize("columns", [40, 3, 1])
def test_narrow_terminals_will_do(opened: Open, columns: int) -> None:
    terminal = opened(columns=columns, rows=50, plain=True)
    terminal.until(lambda text: text.endswith("the toolbar"[:columns]))
    terminal.send("whale 鯨 " + ALT_ENTER + "sings" + TAB)
    shown = terminal.until(lambda text: "sings" in "".join(text.split()))
    assert (">" in shown) is (columns == 40)  # where there is no room, none goes to the prompt
    terminal.send("\r")
    terminal.until(lambda text: r"GOT'whale鯨\nsings'" in "".join(text.split()).replace("\0", ""))
    terminal.send(CTRL_D)
    terminal.until(lambda text: "LEFT" in "".join(text.split()))


def test_after_ctrl_z_keys_are_as_unseen_as_before(opened: Open) -> None:
    terminal = opened()
    terminal.send("stream 30\r")
    terminal.shows("streaming")
    settings = termios.tcgetattr(terminal.child.child_fd)
    settings[3] |= termios.ECHO | termios.ICANON  # as a shell leaves it
    termios.tcsetattr(terminal.child.child_fd, termios.TCSANOW, settings)
    terminal.child.kill(signal.SIGCONT)  # ``fg``
    end = time.monotonic() + PATIENCE_S
    while termios.tcgetattr(terminal.child.child_fd)[3] & termios.ECHO:
        assert time.monotonic() < end, "keys can be seen"
        time.sleep(0.01)
    terminal.send("typed\r" + CTRL_C)
    terminal.shows("stopped", "GOT 'typed'")


def test_history_lives_on_and_is_searched(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "data" / "history.jsonl"
    first = opened(path)
    for line in ("/format chatml", "sing of whales", " a secret", 'two"\\' + ALT_ENTER + "lines"):
        first.send(f"{line}\r")
    first.shows("lines'")
    first.send(CTRL_D)
    first.ends()

    assert "secret" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = opened(path)
    second.send(UP)
    second.holds('> two"\\\n. lines')
    second.send(CTRL_C + UP + UP + UP)
    second.holds("> sing of whales")  # up in a message of two lines goes through them
    second.send(CTRL_C + CTRL_R + "chat")
    second.shows("/format chatml", "search")
    second.send("\r\r")
    second.shows("GOT '/format chatml'")


def test_the_last_message_that_began_so_is_suggested(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text('"tell me of whales"\n')
    terminal = opened(path)
    terminal.send("tell")
    terminal.shows("> tell me of whales")
    terminal.send("\r")
    terminal.shows("GOT 'tell'")
    terminal.send("tell me o")
    terminal.holds("> tell me of whales")
    terminal.send(RIGHT + "\r")
    terminal.shows("GOT 'tell me of whales'")


def test_without_colours_nothing_is_coloured_nor_suggested(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text('"tell me of whales"\n')
    terminal = opened(path, NO_COLOR="1")
    terminal.send("tell")
    terminal.holds("> tell")
    terminal.send(RIGHT)
    terminal.send("\r")

    assert "whales" not in terminal.shows("GOT 'tell'")
    assert b"\x1b[3" not in terminal.raw
    assert b"\x1b[9" not in terminal.raw


def test_a_history_that_cannot_be_kept_is_told_once(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    terminal = opened(tmp_path / "file" / "history")
    terminal.send("one\r")
    terminal.shows("GOT 'one'", "is not kept for the next chat")
    terminal.send("two\r")
    terminal.shows("GOT 'two'")
    terminal.send(UP + UP)
    terminal.holds("> one")
    assert "".join(terminal.text.split()).count("notkept") == 1


def test_vi_keys(opened: Open) -> None:
    terminal = opened(None, "vi")
    terminal.send("whale sings")
    terminal.holds("> whale sings")
    terminal.send(ESCAPE)
    terminal.send("0")
    terminal.send("dwiThe one" + ALT_ENTER + "who ")
    terminal.holds("> The one\n. who sings")
    terminal.send("\r")
    terminal.shows(r"GOT 'The one\nwho sings'")


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_no_escape_sequence(opened: Open, tmp_path: Path, term: str) -> None:
    terminal = opened(tmp_path / "history", plain=True, TERM=term)
    terminal.shows(">")
    terminal.send("hello\r")
    terminal.shows("GOT 'hello'")
    terminal.send('"""\rtwo\rlines"""\r')
    terminal.shows(r"GOT 'two\nlines'")
    terminal.send("stream 0.4\r")
    terminal.shows("streaming")
    terminal.send("typed ahead\r")
    terminal.shows("streamed", "GOT 'typed ahead'")
    terminal.send(b"caf\xe9\r")
    terminal.shows("GOT 'caf�'")
    terminal.send(CTRL_C)
    terminal.shows("INTERRUPTED")
    terminal.send(CTRL_D)
    terminal.ends()
    assert b"\x1b" not in terminal.raw


def test_ctrl_d_leaves_and_the_terminal_is_as_it_was(opened: Open) -> None:
    terminal = opened()
    terminal.send("not yet" + CTRL_D)
    terminal.holds("> not yet")
    terminal.send(CTRL_C + CTRL_D)
    terminal.shows("LEFT")
    while terminal.child.isalive():
        time.sleep(0.01)
    settings = termios.tcgetattr(terminal.child.child_fd)
    wanted = termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN
    assert settings[3] & (wanted | termios.NOFLSH) == wanted
    assert settings[0] & termios.ICRNL
    assert terminal.raw.rindex(b"\x1b[?2004l") > terminal.raw.rindex(b"\x1b[?2004h")


def test_a_terminal_that_disappears_ends_the_chat(opened: Open) -> None:
    terminal = opened(ignore_sighup=True)
    terminal.child.ptyproc.fileobj.close()
    end = time.monotonic() + PATIENCE_S
    while terminal.child.ptyproc.isalive():
        assert time.monotonic() < end, "it goes on without a terminal"
        time.sleep(0.01)


def script(folder: Path, code: str) -> str:
    """An editor that runs ``code`` on the text of the file."""
    path = folder / "editor.py"
    path.write_text(
        "import pathlib, sys, os\n"
        "file = pathlib.Path(sys.argv[-1])\n"
        "text = file.read_text()\n" + code,
    )
    return shlex.join([sys.executable, str(path)])


def test_a_text_is_edited_in_the_users_editor(opened: Open, tmp_path: Path) -> None:
    editor = script(tmp_path, "file.write_text(text.upper() + input('name? ') + '\\n')")
    terminal = opened(EDITOR=editor)
    terminal.send("edit whale\r")
    terminal.shows("name?")  # the editor has an ordinary terminal
    terminal.send("Orca\r")
    terminal.holds("> WHALE\n. Orca")
    terminal.send("\r")
    terminal.shows(r"GOT 'WHALE\nOrca'")


@pytest.mark.parametrize("editor", ["no-such-editor", "false", "'"])
def test_an_editor_that_fails_is_one_line(opened: Open, editor: str) -> None:
    terminal = opened(EDITOR=editor, columns=200)
    terminal.send("edit whale\r")

    shown = terminal.shows("ERROR", "set VISUAL or EDITOR to an editor that works")
    assert len([line for line in shown.split("\n") if "ERROR" in line]) == 1
    terminal.send("on\r")
    terminal.shows("GOT 'on'")


def test_an_editor_that_saves_nothing_changes_nothing(opened: Open, tmp_path: Path) -> None:
    terminal = opened(EDITOR=script(tmp_path, ""))
    terminal.send("edit whale\r")

    terminal.holds("> whale")


def test_ctrl_c_in_the_editor_is_the_editors(opened: Open, tmp_path: Path) -> None:
    code = (
        "import signal\n"
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    file.write_text('caught')\n"
    )
    terminal = opened(EDITOR=script(tmp_path, code))
    terminal.send("edit whale\r")
    terminal.shows("waiting")
    terminal.send(CTRL_C)

    terminal.shows("> caught")
