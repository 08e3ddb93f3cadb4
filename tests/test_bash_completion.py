"""A TAB in a real bash, which takes words apart at colons and equals signs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fwlocal.bash_completion import ColonBashComplete
from fwlocal.cli import cli

pexpect: Any = pytest.importorskip("pexpect")

Completed = Callable[[str], str]


def bash_version() -> tuple[int, ...]:
    """Of the bash that is here, (0,) for none."""
    bash = shutil.which("bash")
    if bash is None or sys.platform == "win32":
        return (0,)
    done = subprocess.run([bash, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else (0,)


pytestmark = pytest.mark.skipif(bash_version() < (4, 4), reason="no bash of 4.4 or later")


@pytest.fixture
def completed(home: Path, tmp_path: Path) -> Iterator[Completed]:
    """What a line becomes after a TAB at its end, where whale:F32 and a file are on this disk."""
    (home / "whale").mkdir(parents=True)
    (home / "whale" / "whale-F32.gguf").write_bytes(b"GGUF")
    work, programs = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    (work / "lonely.gguf").touch()
    programs.mkdir()
    (programs / "fwlocal").write_text(f'#!/bin/sh\nexec {sys.executable} -m fwlocal "$@"\n')
    (programs / "fwlocal").chmod(0o700)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    child = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile"],
        cwd=str(work),
        env={**os.environ, "PATH": path, "TERM": "dumb", "PS1": "ready> "},
        encoding="utf-8",
        timeout=30,
        dimensions=(24, 200),
    )
    child.sendline('eval "$(_FWLOCAL_COMPLETE=bash_source fwlocal)"; echo is"" set')
    child.expect("is set")

    def complete(line: str) -> str:
        child.send(f"{line}\t")
        child.send("\x01echo '<<\x05>>'\r")  # to the line's begin and to its end
        child.expect(r"\n<<(.*)>>")
        return str(child.match[1])

    yield complete
    child.close(force=True)


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("fwlocal where whale:F", "fwlocal where whale:F32 "),
        ("fwlocal where whale:", "fwlocal where whale:F32 "),
        ("fwlocal where whale:f3", "fwlocal where whale:F32 "),
        ("fwlocal run hi -m whale:", "fwlocal run hi -m whale:F32 "),
        ("fwlocal run --model=freewilly2", "fwlocal run --model=freewilly2 "),
        ("fwlocal run --model=whale:F", "fwlocal run --model=whale:F32 "),
        ("fwlocal run --prompt-format ch", "fwlocal run --prompt-format chatml "),
        ("fwlocal show wh", "fwlocal show whale"),  # or whale:F32
        ("fwlocal show lone", "fwlocal show lonely.gguf "),
        ("fwlocal verify whale:F32 lone", "fwlocal verify whale:F32 lonely.gguf "),
        ("fwlocal li", "fwlocal list "),
    ],
)
def test_a_tab(completed: Completed, line: str, becomes: str) -> None:
    assert completed(line) == becomes


def test_the_script_is_what_the_program_prints() -> None:
    script = ColonBashComplete(cli, {}, "fwlocal", "_FWLOCAL_COMPLETE").source()
    assert "complete -o nosort -F _fwlocal_completion fwlocal" in script
