"""What tune finds out about drafts is known to the next question."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from fwlocal import llama
from fwlocal.bench.measured import Entrant
from fwlocal.draft import KnownWidths
from fwlocal.draft.widths import CPU_WIDTHS
from fwlocal.interrupts import Interrupt
from fwlocal.loader import EngineOptions, Library, open_file
from fwlocal.loader.ahead import drafting_for
from fwlocal.loader.options import request_of
from fwlocal.loader.planning import look_around, settle
from fwlocal.tune import view
from fwlocal.tune.exactness import find_out
from tests.paired_llama import write_pair

OPTIONS = EngineOptions(n_threads=1, n_gpu_layers=0, tuned=False)
ALL = KnownWidths(CPU_WIDTHS, (), CPU_WIDTHS, ())


@pytest.fixture
def entrant(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> Entrant:
    """Of Q8_0 weights, which are computed to the same bits however many rows there are."""
    monkeypatch.setenv("FWLOCAL_CACHE", str(tmp_path / "cache"))
    pair = write_pair(tmp_path, n_target_layers=2)
    return Entrant("", *open_file(str(pair.target), library))


def test_the_next_question_knows_it(entrant: Entrant, tmp_path: Path) -> None:
    with closing(llama.Model(entrant.file.path, llama.LoadOptions())) as model:
        found = find_out(entrant, model, OPTIONS, 1024, Interrupt())
        assert found is not None
        assert not (tmp_path / "cache" / "exact").exists(), "kept with the settings, not before"
        found.keep()

        question = EngineOptions(n_threads=1, n_gpu_layers=0, brief=True)
        site = look_around((), 1)
        request = request_of(question, entrant.header)
        settled = settle(entrant.file.path, entrant.header, site, request)
        drafting = drafting_for(
            model, entrant.header, settled, None, Interrupt(), lookup=True, lossless=None
        )

    assert found.known == ALL
    assert drafting._steering.widths.known == ALL


def test_a_run_that_is_stopped_keeps_nothing(entrant: Entrant, tmp_path: Path) -> None:
    interrupt = Interrupt()
    interrupt.set(2)
    with closing(llama.Model(entrant.file.path, llama.LoadOptions())) as model:
        assert find_out(entrant, model, OPTIONS, 1024, interrupt) is None

    assert not (tmp_path / "cache" / "exact").exists()


def test_it_is_told() -> None:
    assert view.exact(KnownWidths((2, 3), (), (), ())) == (
        "drafts: 2, 3 tokens at once are exact up to 256 tokens of context, none beyond"
    )
    assert "none are used" in view.exact(KnownWidths((), (), (), ()))
