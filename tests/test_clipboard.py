"""Text into the clipboard: which way is taken, and what reaches it."""

from __future__ import annotations

import base64
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwlocal.clipboard import MOST_OSC52_BYTES, PROGRAMS, copy, osc52, run_program
from fwlocal.errors import FwlocalError


class Machine:
    """One that has ``installed`` programs, of which those in ``broken`` fail."""

    def __init__(
        self, *installed: str, broken: Sequence[str] = (), platform: str = "linux", **environ: str
    ) -> None:
        self.installed, self.broken = installed, broken
        self.platform, self.environ = platform, environ
        self.got: dict[str, bytes] = {}
        self.terminal = io.StringIO()

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.installed else None

    def run(self, arguments: Sequence[str], data: bytes) -> bool:
        self.got[arguments[0]] = data
        return arguments[0] not in self.broken

    def copy(self, text: str) -> str:
        return copy(
            text,
            terminal=self.terminal,
            environ=self.environ,
            platform=self.platform,
            which=self.which,
            run=self.run,
        )


ALL = tuple(program.name for program in PROGRAMS)


@pytest.mark.parametrize(
    ("machine", "taken"),
    [
        (Machine(*ALL, WAYLAND_DISPLAY="wayland-0", DISPLAY=":0"), "wl-copy"),
        (Machine(*ALL, DISPLAY=":0"), "xclip"),
        (Machine("xsel", DISPLAY=":0"), "xsel"),
        (Machine(*ALL, platform="darwin"), "pbcopy"),
        (Machine(*ALL, platform="win32"), "clip.exe"),
        (Machine(*ALL, WSL_DISTRO_NAME="Debian"), "clip.exe"),
        (Machine(*ALL, TERMUX_VERSION="0.118"), "termux-clipboard-set"),
        (Machine(*ALL, TMUX="/tmp/tmux-0/default,1,0"), "tmux"),
        (Machine(*ALL, DISPLAY="localhost:10.0", SSH_TTY="/dev/pts/0"), "xclip"),
    ],
)
def test_the_program_of_the_place_gets_the_text(machine: Machine, taken: str) -> None:
    assert machine.copy("whale") == f"Copied 5 characters with {taken}."
    assert list(machine.got) == [taken]
    assert machine.terminal.getvalue() == ""


def test_windows_gets_utf16_and_others_utf8() -> None:
    windows, other = Machine("clip.exe", platform="win32"), Machine("xclip", DISPLAY=":0")
    windows.copy("鯨")
    other.copy("鯨")

    assert windows.got["clip.exe"].decode("utf-16") == "鯨"
    assert other.got["xclip"] == "鯨".encode()


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine(*ALL),  # without a display
        Machine("xclip", broken=["xclip"], DISPLAY=":0"),
        Machine("pbcopy", platform="darwin", SSH_CONNECTION="1.2.3.4 5 6.7.8.9 22"),
    ],
)
def test_without_a_program_the_terminal_is_asked(machine: Machine) -> None:
    assert (
        machine.copy("w") == "Copied 1 character through the terminal, if it allows that (OSC 52)."
    )
    assert machine.terminal.getvalue() == "\x1b]52;c;dw==\x07"


def test_the_next_program_is_tried_when_one_fails() -> None:
    machine = Machine("wl-copy", "xclip", broken=["wl-copy"], WAYLAND_DISPLAY="w", DISPLAY=":0")

    assert machine.copy("whale") == "Copied 5 characters with xclip."


def test_a_text_too_long_for_a_terminal_is_refused() -> None:
    machine = Machine()
    machine.copy("x" * MOST_OSC52_BYTES)
    written = machine.terminal.getvalue()

    with pytest.raises(
        FwlocalError, match=r"has 74,995 bytes, and a terminal takes 74,994 .*install"
    ):
        machine.copy("x" * (MOST_OSC52_BYTES + 1))
    assert machine.terminal.getvalue() == written
    assert len(written) <= 100_000


def test_where_there_is_no_clipboard_it_is_said() -> None:
    with pytest.raises(FwlocalError, match="there is no clipboard here; install wl-copy or xclip"):
        Machine(TERM="dumb").copy("whale")
    with pytest.raises(FwlocalError, match="there is no clipboard here"):
        copy("whale", environ={}, which=lambda name: None)  # no stream of the tests is a terminal


@given(st.text())
def test_no_text_can_end_the_sequence(text: str) -> None:
    data = text.encode()
    sequence = osc52(data, {})

    head, tail = "\x1b]52;c;", "\x07"
    assert sequence.startswith(head)
    assert base64.b64decode(sequence[len(head) : -len(tail)], validate=True) == data


def test_tmux_and_screen_pass_it_on() -> None:
    plain = osc52(b"whale", {})
    assert osc52(b"whale", {"TMUX": "/tmp/x"}) == f"\x1bPtmux;\x1b{plain}\x1b\\"

    chunks = osc52(b"whale" * 200, {"STY": "1.pts"}).split("\x1b\\")
    assert all(chunk.startswith("\x1bP") and len(chunk) < 768 for chunk in chunks[:-1])
    assert "".join(chunk[2:] for chunk in chunks) == osc52(b"whale" * 200, {})


def test_lone_surrogates_do_no_harm() -> None:
    machine = Machine("xclip", DISPLAY=":0")
    machine.copy("caf\udce9")

    assert machine.got["xclip"] == b"caf?"


Script = Callable[[str], list[str]]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A program that keeps its stdin, and then does more."""

    def write(more: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(
            "import pathlib, sys\n"
            f"pathlib.Path({str(tmp_path / 'got')!r}).write_bytes(sys.stdin.buffer.read())\n" + more
        )
        return [sys.executable, str(path)]

    return write


def test_a_real_program_gets_all_of_it(script: Script, tmp_path: Path) -> None:
    data = b"whale\n" * 100_000

    assert run_program(script("print('noise')"), data)
    assert (tmp_path / "got").read_bytes() == data


def test_a_program_that_fails_or_is_gone_did_not_take_it(script: Script) -> None:
    assert not run_program(script("sys.exit(1)"), b"whale")
    assert not run_program(["no-such-program"], b"whale")


@pytest.mark.skipif(shutil.which("sleep") is None, reason="no sleep")
def test_a_program_that_stays_in_the_background_is_not_waited_for(script: Script) -> None:
    stays = "import subprocess; print(subprocess.Popen(['sleep', '3']).pid, flush=True)"

    assert run_program(script(stays), b"whale")
