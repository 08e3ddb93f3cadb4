"""A base and its delta: the sums to the last bit, and mismatches named before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convert.sources.checkpoint import Shards
from convert.sources.delta import DeltaSource, add
from convert.sources.safetensors_file import SafetensorsFile
from convert.sources.source_file import Bytes
from convert.sources.tensors import FLOATS
from convert.sources.weight_file import WeightFile
from tests.convert.checkpoints import cast, from_bf16, to_bf16, write_safetensors
from tests.convert.refused import refused

Array = npt.NDArray[Any]
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def open_pair(folder: Path, base: Mapping[str, Array], delta: Mapping[str, Array]) -> DeltaSource:
    """Both written and opened."""
    write_safetensors(folder / "base.safetensors", base)
    write_safetensors(folder / "delta.safetensors", delta)
    return DeltaSource(
        *(
            Shards([SafetensorsFile(WeightFile(folder / f"{name}.safetensors"))])
            for name in ("base", "delta")
        )
    )


def as_bytes(array: Array) -> Bytes:
    return np.frombuffer(array.tobytes(), np.uint8)


def as_float64(array: Array) -> npt.NDArray[np.float64]:
    """The exact numbers; uint16 are bfloat16."""
    return (from_bf16(array) if array.dtype == np.uint16 else array).astype(np.float64)


def rounded(exact: npt.NDArray[np.float64], dtype: str) -> Array:
    """To the nearest, ties to even. What is exact in float64 is rounded once.

    For bfloat16 by arithmetic, not by its bits: to the nearest whole number of units in the last
    of its 8 places.
    """
    if dtype != "BF16":
        return exact.astype({"F32": np.float32, "F16": np.float16}[dtype])
    _, exponent = np.frexp(exact)
    unit = np.ldexp(1.0, np.maximum(exponent - 8, -133))  # subnormal numbers have one unit
    nearest = (np.rint(exact / unit) * unit).astype(np.float32)
    bits: npt.NDArray[np.uint32] = nearest.view(np.uint32)
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype(np.uint16)


@pytest.mark.parametrize("base_dtype", FLOATS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_are_sums_in_the_deltas_dtype(base_dtype: str, dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    base, delta = random.normal(0, 0.02, (2, 50, 64)).astype(np.float32)
    stored_base, stored_delta = cast(base, base_dtype), cast(delta / 8, dtype)
    first = rounded(as_float64(stored_base), dtype)  # the base, cast
    expected = rounded(as_float64(first) + as_float64(stored_delta), dtype)
    with closing(open_pair(tmp_path, {"w": stored_base}, {"w": stored_delta})) as source:
        assert (source.tensors["w"].dtype, source.tensors["w"].shape) == (dtype, (50, 64))
        assert source.read_rows("w", 0, 50).tobytes() == expected.tobytes()
        assert source.read_rows("w", 7, 3).tobytes() == expected[7:10].tobytes()
        assert [file.path.stem for file in source.files] == ["delta", "base"]


BF16 = hnp.arrays(
    np.uint16, 8, elements=st.integers(0, 0xFFFF).filter(lambda n: n & 0x7F80 < 0x7F00)
)


@settings(deadline=None)
@given(base=BF16, delta=BF16)
def test_bfloat16_sums_of_any_numbers(base: Array, delta: Array) -> None:
    total = add(as_bytes(base), "BF16", as_bytes(delta), "BF16").view("<u2")
    # Rounding to float64 or float32 on the way changes nothing: 24 places are 2 * 8 + 2 or more.
    expected = rounded(as_float64(base) + as_float64(delta), "BF16")
    assert np.array_equal(as_float64(total), as_float64(expected))


@pytest.mark.parametrize(
    ("base", "delta", "total"),
    [
        (1.0, 2.0**-8, 1.0),  # a tie, down to the even
        (1 + 2.0**-7, 2.0**-8, 1 + 2.0**-6),  # a tie, up to the even
        (1.0, 2.0**-8 + 2.0**-15, 1 + 2.0**-7),  # just over a tie
        (-1.0, 1.0, 0.0),
        (3.0e38, 3.0e38, np.inf),
        (np.inf, -np.inf, np.nan),
    ],
)
def test_bfloat16_ties_and_limits(base: float, delta: float, total: float) -> None:
    left, right = (
        as_bytes((np.array([x], np.float32).view(np.uint32) >> 16).astype("<u2"))
        for x in (base, delta)
    )
    found = from_bf16(add(left, "BF16", right, "BF16").view("<u2"))
    assert np.array_equal(found, np.array([total], np.float32), equal_nan=True)


@settings(deadline=None)
@given(
    base=hnp.arrays(np.uint16, 8),
    delta=hnp.arrays(np.uint16, 8),
)
def test_float16_sums_are_numpys(base: Array, delta: Array) -> None:
    with np.errstate(all="ignore"):
        expected = base.view(np.float16) + delta.view(np.float16)
    found = add(as_bytes(base), "F16", as_bytes(delta), "F16").view("<f2")
    assert np.array_equal(found, expected, equal_nan=True)


@settings(deadline=None)
@given(values=hnp.arrays(np.float32, 8, elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_a_float32_base_is_cast_as_ties_to_even(values: Array) -> None:
    zero = as_bytes(np.zeros(8, np.uint16))
    found = add(as_bytes(values), "F32", zero, "BF16").view("<u2")
    assert np.array_equal(from_bf16(found), from_bf16(to_bf16(values)))
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    assert np.array_equal(add(as_bytes(values), "F32", zero, "F16").view("<f2"), expected)


def matrix(rows: int = 4, columns: int = 8) -> Array:
    return np.ones((rows, columns), np.float16)


ROTARY = "model.layers.0.self_attn.rotary_emb.inv_freq"


@pytest.mark.parametrize(
    ("base", "delta", "file", "what"),
    [
        ({"w": matrix()}, {"w": matrix(), "v": matrix()}, "delta", "v is in the delta but not in"),
        ({"w": matrix(), "v": matrix()}, {"w": matrix()}, "base", "v is in the base but not in"),
        ({"w": matrix(5)}, {"w": matrix(4)}, "delta", "w: shapes differ: [4, 8] in the delta"),
        (
            {EMBEDDING: matrix(32001)},
            {EMBEDDING: matrix(32000)},
            "delta",
            f"{EMBEDDING}: vocabularies differ: [32000, 8] in the delta, [32001, 8] in the base",
        ),
        ({OUTPUT: matrix(5)}, {OUTPUT: matrix(4)}, "delta", "vocabularies differ"),
        ({"w": np.ones(3)}, {"w": np.ones(3, np.float32)}, "base", "w: F64 cannot be added"),
        ({"w": np.ones(3, np.float32)}, {"w": np.arange(3)}, "delta", "w: I64 cannot be added"),
    ],
)
def test_a_pair_that_does_not_match(
    base: Mapping[str, Array], delta: Mapping[str, Array], file: str, what: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{file}.safetensors"
    refused(lambda: open_pair(tmp_path, base, delta), path, what, "name")


@pytest.mark.parametrize("where", ["base", "delta", "both"])
def test_rotary_buffers_need_no_partner(where: str, tmp_path: Path) -> None:
    plain, with_buffer = {"w": matrix()}, {"w": matrix(), ROTARY: np.ones(4)}
    base = plain if where == "delta" else with_buffer
    delta = plain if where == "base" else with_buffer
    with closing(open_pair(tmp_path, base, delta)) as source:
        assert (source.read_rows("w", 0, 4).view("<f2") == 2).all()
