"""``fwlocal models`` on terminals of any width, and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fwlocal import catalogue
from fwlocal.library import Library


def shown(library: Library, width: int, *, is_terminal: bool = True) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=is_terminal, color_system=None)
    catalogue.show(library.registry, library.store, console)
    return screen.getvalue().splitlines()


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_it_is_readable_on_a_narrow_terminal(library: Library, width: int) -> None:
    lines = shown(library, width)

    assert all(len(line) <= width for line in lines)
    text = " ".join(lines)
    assert all(name in text for name in library.registry.models)
    assert "ON DISK" in lines[0]
    assert ("non-commercial" in text) == (width > 40)
    broken = [line for line in lines if line.split() and line.split()[-1] in ("non-", "commercial")]
    assert not broken


def test_in_a_pipe_every_model_is_a_line(library: Library) -> None:
    heading, *lines = shown(library, 40, is_terminal=False)

    assert heading.endswith("  ON DISK")
    assert len(lines) == len(library.registry.models)
    assert "Q2_K 29.3, Q4_K_M 41.4, Q5_K_M 48.8" in lines[1]
    assert all(line == line.rstrip() for line in (heading, *lines))
