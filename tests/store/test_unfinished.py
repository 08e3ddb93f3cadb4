"""What is said of a level that is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fwlocal.store.beginnings import Beginning
from fwlocal.store.models import Unfinished
from fwlocal.store.unfinished import command, in_words


def unfinished(root: Path, name: str, beginning: Beginning | None) -> Unfinished:
    path = root / name / f"{name}-Q4_0.gguf"
    return Unfinished(name, "Q4_0", (path,), (path,), (), 5_000_000, None, beginning)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A models folder with one level in it."""
    (tmp_path / "whale").mkdir()
    (tmp_path / "whale" / "whale-F16.gguf").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "source", "way"),
    [
        ("whale", "whale-F16", "fwlocal bench -m whale --levels Q4_0"),
        ("whale-imatrix", "whale-F16", "fwlocal bench -m whale --levels Q4_0 --imatrix FILE"),
        ("whale-imatrix", "o/Whale", "fwlocal bench -m whale --levels Q4_0 --imatrix FILE"),
        ("whale", "o/whale", "fwlocal pull o/whale:Q4_0 --from-source"),
    ],
)
def test_what_a_bench_began_goes_on_by_a_bench(
    root: Path, name: str, source: str, way: str
) -> None:
    found = unfinished(root, name, Beginning("convert", source))
    assert command(found, None) == way
    assert in_words(found, None) == f"{name}:Q4_0: 5 MB so far, unfinished; go on with `{way}`"


def test_of_a_model_elsewhere_nobody_knows_the_command(root: Path) -> None:
    found = unfinished(root, "orca-imatrix", Beginning("convert", "orca-F16"))
    assert command(found, None) == ""
    assert in_words(found, None).endswith(
        "unfinished; repeat the command that began it, or remove it with `fwlocal rm "
        "orca-imatrix:Q4_0`"
    )
