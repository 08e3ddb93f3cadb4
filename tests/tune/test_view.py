"""What is told of a finding, and of them all."""

from __future__ import annotations

from dataclasses import replace

from fwlocal.tune import view
from fwlocal.tuned import Finding, Settings, Tuned, Where

TAKEN = Finding("n_ubatch", "512", "128", "taken", 1.2, 1.1, 1.3)
NOISY = Finding("n_threads", "2", "1", "noisy", 6.13, 0.78, 48.11)
NOT_TRIED = Finding("numa", "none", "none", "none", note="one node, nothing to choose")
DEFAULT = Finding("mmap", "on", "on", "default", note="off is 0.90 times as fast")
HERE = Where("Whale 9000", 4, 8, 16, (), "llama.cpp 1")


def known(*findings: Finding, **settings: int) -> Tuned:
    made = "2030-01-01T00:00:00+00:00"
    return Tuned("whale:Q4_0", "ab" * 32, HERE, "CPU", Settings(**settings), findings, made)  # type: ignore[arg-type]


def test_a_line_for_each() -> None:
    assert view.line(TAKEN) == "n_ubatch: 128 is 1.20x (1.10 to 1.30) as fast as 512, taken"
    assert view.line(NOISY) == (
        "n_threads: 1 is 0.78x to 48.11x as fast as 2, too noisy to tell; try again when the "
        "machine is quiet"
    )
    assert view.line(NOT_TRIED) == "numa: none, not tried (one node, nothing to choose)"


def test_the_table_says_what_was_too_noisy() -> None:
    (row,) = view.table([NOISY]).rows

    assert row[3:] == (
        "0.78x to 48.11x",
        "too noisy to tell; try again when the machine is quiet",
    )


def test_the_conclusion() -> None:
    taken, noisy = known(TAKEN, n_ubatch=128), known(DEFAULT, NOISY)
    again = "; too noisy to tell; try again when the machine is quiet: n_threads"

    assert view.conclusion(taken, [TAKEN]) == (
        "whale:Q4_0 is loaded with n_ubatch 128 from now on, where nothing else is asked for"
    )
    assert view.conclusion(taken, [TAKEN, NOISY]).endswith(f"asked for{again}")
    assert view.conclusion(noisy, noisy.findings) == f"whale:Q4_0: nothing is changed{again}"


def test_the_defaults_fit_where_something_was_measured() -> None:
    measured, nothing = known(DEFAULT, NOT_TRIED), known(NOT_TRIED)

    assert "the defaults fit this machine" in view.conclusion(measured, measured.findings)
    assert view.conclusion(nothing, nothing.findings) == "whale:Q4_0: nothing is changed"
    assert (measured.n_measured, nothing.n_measured) == (1, 0)
    assert replace(measured, findings=(NOISY,)).n_measured == 0
