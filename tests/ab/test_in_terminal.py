"""/ab as a person sees it: two levels side by side in a real pseudo-terminal, and the pick."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals here", allow_module_level=True)

from tests.ab.levels import FORMAT, stored
from tests.terminal import Terminal, fwlocal

CHAT = ("chat", "-m", "whale:Q4_0", "--prompt-format", FORMAT, "--temp", 0, "--max-tokens", 12)


@pytest.fixture
def whales(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two levels in the store, and sessions that are nobody's."""
    monkeypatch.setenv("FWLOCAL_SESSIONS", str(home / "sessions"))
    for level in ("Q4_0", "Q8_0"):
        stored(home, level)
    return home


def test_two_levels_side_by_side_and_one_goes_on(whales: Path) -> None:
    with Terminal(fwlocal(*CHAT), columns=100, rows=40) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("the whale sings")
        terminal.send("/ab Q4_0 Q8_0")
        terminal.wait_for(r"^1 or 2, or Enter for neither:")
        rows = [line for line in terminal.lines() if " │" in line]
        assert [half.strip() for half in rows[0].split("│")] == ["Q4_0", "Q8_0"]
        assert {line.index("│") for line in rows} == {49}
        assert sum("tok/s" in half for line in rows for half in line.split("│")) == 2
        terminal.send("2")
        terminal.wait_for(r"Going on with Q8_0\.")
        terminal.wait_for_prompt()
        assert "whale:Q8_0" in "\n".join(terminal.ask("/model"))
        terminal.send("/exit")
        assert terminal.exit_code() == 0

    (saved,) = (whales / "sessions").glob("*.jsonl")
    assert saved.read_text().splitlines()[-1].count('"level": "Q8_0"') == 1


def test_ctrl_c_at_the_pick_keeps_neither_on_a_narrow_screen(whales: Path) -> None:
    with Terminal(fwlocal(*CHAT), columns=40, rows=60, env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_for_prompt()
        terminal.send("/ab Q8_0 Q4_0 the sea")
        terminal.wait_for(r"^1 or 2, or Enter")
        assert "│" not in terminal.text()
        assert terminal.text().count("«") == 2
        terminal.type("\x03")
        terminal.wait_for("Neither is kept")
        terminal.wait_for_prompt()
        terminal.send("/ab Q6_K Q4_0 the sea")
        terminal.wait_for(r"no level\s+'Q6_K'")
