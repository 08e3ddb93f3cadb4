"""Text into the user's clipboard: by the program for it, else by asking the terminal (OSC 52).

It is called by the user's own command and nothing else: what a model says never gets here by
itself. The text is passed on as it is, to a program's stdin or as base64.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from fwlocal.errors import FwlocalError

TIMEOUT_S = 5.0
MOST_OSC52_BYTES = 74_994  # of text: 100,000 of the whole sequence are what terminals take
_SCREEN_CHUNK = 256  # GNU screen passes strings of up to 768 bytes through

Run = Callable[[Sequence[str], bytes], bool]
Which = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Program:
    """A program that puts its stdin into the clipboard of this machine. It is of use where one of
    the variables ``needs`` is set, or anywhere on ``platform``; ``is_remote`` says that it also is
    the right one when the user sits elsewhere, at the other end of an SSH connection."""

    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    platform: str = ""
    encoding: str = "utf-8"
    is_remote: bool = False

    @property
    def name(self) -> str:
        """How it is called."""
        return self.arguments[0]

    def serves(self, environ: Mapping[str, str], platform: str) -> bool:
        """Whether it may reach the user's clipboard."""
        far = any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY"))
        here = self.platform == platform or any(environ.get(name) for name in self.needs)
        return here and (self.is_remote or not far)


PROGRAMS = (
    Program(("wl-copy",), needs=("WAYLAND_DISPLAY",), is_remote=True),
    Program(("xclip", "-selection", "clipboard"), needs=("DISPLAY",), is_remote=True),
    Program(("xsel", "--clipboard", "--input"), needs=("DISPLAY",), is_remote=True),
    Program(("pbcopy",), platform="darwin"),
    Program(("clip.exe",), ("WSL_DISTRO_NAME",), platform="win32", encoding="utf-16"),
    Program(("termux-clipboard-set",), needs=("TERMUX_VERSION",)),
    # tmux keeps it, and hands it on to the terminal outside, as it would no sequence of ours.
    Program(("tmux", "load-buffer", "-w", "-"), needs=("TMUX",), is_remote=True),
)


def run_program(arguments: Sequence[str], data: bytes) -> bool:
    """Whether a program took ``data``, within TIMEOUT_S. Its output leads nowhere: xclip goes on in
    the background, and would hold a pipe open."""
    nowhere = subprocess.DEVNULL
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            arguments, input=data, stdout=nowhere, stderr=nowhere, timeout=TIMEOUT_S, check=False
        )
        return done.returncode == 0
    return False


def copy(
    text: str,
    *,
    terminal: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    which: Which = shutil.which,
    run: Run = run_program,
) -> str:
    """Put ``text`` into the clipboard; returns a sentence on how.

    ``terminal`` is where OSC 52 may be written; without it, stdout or stderr is taken if it is a
    terminal. Raises FwlocalError when there is no way, or the text is too long for the only one.
    """
    what = "1 character" if len(text) == 1 else f"{len(text):,} characters"
    for program in PROGRAMS:
        data = text.encode(program.encoding, "replace")
        is_here = program.serves(environ, platform) and which(program.name) is not None
        if is_here and run(program.arguments, data):
            return f"Copied {what} with {program.name}."
    terminal = terminal or _terminal()
    if terminal is None or environ.get("TERM", "") in ("dumb", "unknown"):
        raise FwlocalError(f"there is no clipboard here; {_install(platform)}, or /export the chat")
    data = text.encode("utf-8", "replace")
    if len(data) > MOST_OSC52_BYTES:
        raise FwlocalError(
            f"the text has {len(data):,} bytes, and a terminal takes {MOST_OSC52_BYTES:,} into the "
            f"clipboard; {_install(platform)}, or /export the chat"
        )
    terminal.write(osc52(data, environ))
    terminal.flush()
    return f"Copied {what} through the terminal, if it allows that (OSC 52)."


def osc52(data: bytes, environ: Mapping[str, str]) -> str:
    """The sequence that asks a terminal to put ``data`` into its clipboard, wrapped so that tmux or
    GNU screen, where one is between, pass it on.

    Source: xterm's "Control Sequences", OSC Ps = 52; tmux(1), ``allow-passthrough``; screen(1),
    "Virtual Terminal", Device Control String.
    """
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
    if environ.get("TMUX"):
        doubled = sequence.replace("\x1b", "\x1b\x1b")
        return f"\x1bPtmux;{doubled}\x1b\\"
    if environ.get("STY"):
        return "".join(f"\x1bP{chunk}\x1b\\" for chunk in _chunks(sequence))
    return sequence


def _chunks(sequence: str) -> Iterator[str]:
    for start in range(0, len(sequence), _SCREEN_CHUNK):
        yield sequence[start : start + _SCREEN_CHUNK]


def _terminal() -> TextIO | None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed and stream.isatty():
            return stream
    return None


def _install(platform: str) -> str:
    return "install wl-copy or xclip" if platform.startswith("linux") else "use another terminal"
