"""What a person sees of a conversion, and what a log gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pexpect
import pytest

from convert import display
from convert.display import duration, shown
from convert.job import Request, prepare
from convert.pipeline import Progress
from convert.recipes import LEVELS
from convert.sources.checkpoint import locate
from tests.convert.checkpoints import write_checkpoint
from tests.tiny_llama import Shape


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (45, "45 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_a_plain_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "m")
    job = prepare(Request(locate(str(source)), (LEVELS["Q8_0"],), tmp_path))
    with shown(job) as update:
        update(Progress("a.weight", 1, 20, 100, 1000))
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(display, "PLAIN_EVERY_S", 0)
        update(Progress("b.weight", 7, 20, 500, 1000))
    job.close()
    line = capsys.readouterr().err
    assert line.startswith("fwlocal: Q8_0: 50%, 7 of 20 tensors (b.weight), ")
    assert line.endswith(" left\n")


@pytest.mark.parametrize("columns", [40, 120])
def test_a_terminal_shows_how_far_it_is_and_is_left_clean(columns: int, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", Shape(512, 1024, 6, 8, 4, vocab_size=512))
    arguments = ["-m", "fwlocal", "convert", str(source), "-q", "Q4_K_M,Q8_0", "-o", str(tmp_path)]
    child = pexpect.spawn(sys.executable, arguments, dimensions=(24, columns), encoding="utf-8")
    child.expect(r"\d+%", timeout=60)
    child.expect("left", timeout=60)
    child.expect("wrote 2 files", timeout=60)
    child.expect(pexpect.EOF, timeout=60)
    assert "Q8_0.gguf" in (child.before or "").replace("\r\n", "")
    child.close()
    assert child.exitstatus == 0
