"""``fwlocal plan`` in this process: quicker, for what asks no Hub."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from click.testing import CliRunner

from fwlocal.cli.plan import plan
from fwlocal.errors import FwlocalError


def ask_here(*arguments: str | Path, **settings: str) -> CompletedProcess[str]:
    """What it answers, with these settings of the environment."""
    result = CliRunner(env=settings).invoke(plan, list(map(str, arguments)))
    if not isinstance(result.exception, FwlocalError):
        return CompletedProcess((), result.exit_code, result.stdout, result.stderr)
    code, text = result.exception.exit_code, f"fwlocal: {result.exception}\n"
    return CompletedProcess((), code, result.stdout, text)


def data_of(done: CompletedProcess[str]) -> dict[str, Any]:
    """The JSON of an answer."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
