"""What is said of those who take part, before anything is measured."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from fwlocal.bench.measured import Entrant
from fwlocal.bench.remarks import fallen_back, same_bytes, share_outside, why_reference
from fwlocal.gguf import GGUFArray, GGUFHeader, TensorInfo
from fwlocal.store import ModelFile


def entrant(
    level: str, *, made_of: str = "", derived: bool = False, row: int = 256, kind: str = "Q4_K"
) -> Entrant:
    """With one matrix of rows of that length."""
    path = Path(f"whale-{level}.gguf")
    names = struct.pack("<Q", len(made_of)) + made_of.encode()
    keys = {"fwlocal.source.files": GGUFArray("string", 1, names)} if made_of else {}
    tensors = (TensorInfo("blk.0.ffn_up.weight", (row, 1000), kind, 0, row * 500),)
    header = GGUFHeader(path, 3, keys, tensors, 0, row * 500)
    return Entrant(level, ModelFile("whale", path), header, derived)


BEST = entrant("Q8_0")
CHILD, OTHER_CHILD = (
    entrant(level, made_of="whale-Q8_0.gguf", derived=True) for level in ("Q4_0", "Q2_K")
)


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ((CHILD, OTHER_CHILD), "which the others were made from"),
        ((CHILD,), "which Q4_0 is made from"),
        ((CHILD, entrant("Q6_K")), "which Q4_0 was made from"),
        ((entrant("Q6_K", derived=True),),
         "the most bits per weight of those not made from a quantized file"),
        ((entrant("Q6_K"),), "the most bits per weight"),
    ],
)  # fmt: skip
def test_why_it_is_the_reference(others: tuple[Entrant, ...], why: str) -> None:
    assert why_reference(BEST, (BEST, *others)) == f"reference: Q8_0, {why}"


def test_copies_are_named() -> None:
    assert same_bytes({"a": "1", "b": "2", "c": "1"}) == "a and c are the same bytes"
    assert same_bytes({"a": "1", "b": "2"}) == ""


def test_levels_that_fell_back_are_named_with_their_bits() -> None:
    k, plain = entrant("Q6_K", row=576, kind="Q8_0"), entrant("Q8_0", row=576, kind="Q8_0")
    assert fallen_back((plain, entrant("Q4_K_M"))) == ""
    assert fallen_back((plain, k)) == (
        "much of Q6_K (4.0 bits per weight) is in other types than the name says: rows of this "
        "model do not fit blocks of 256; it is larger than such levels of other models"
    )
    assert share_outside(k.header) == 1.0
    assert share_outside(entrant("F16", row=576, kind="F16").header) == 0.0
