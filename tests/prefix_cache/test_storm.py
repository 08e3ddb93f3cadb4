"""Several processes, kills, damages and clocks that jump: no wrong state, and the bound holds.

``python -m tests.prefix_cache.storm`` does it for longer.
"""

from __future__ import annotations

from pathlib import Path

from tests.prefix_cache.storm import BOUND_BYTES, FOUND, LOST, PUT, SPOILT, WRONG, storm


def test_four_processes_and_kills(tmp_path: Path) -> None:
    outcome = storm(tmp_path / "prefixes", n_operations=250)

    assert outcome.counts[WRONG] == 0
    assert outcome.most_bytes <= BOUND_BYTES
    assert outcome.n_left == 0
    counts = outcome.counts
    assert min(counts[FOUND], counts[PUT], 3 * outcome.n_kills) >= 3, "it was no storm"
    assert counts[LOST] <= counts[SPOILT] + counts[PUT], "what is not handed out was damaged"
