"""Non-finite scales, held against ``ggml_validate_row_data`` of the installed llama.cpp."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.scales import FIELDS, first_not_finite
from convert.sources.source_file import Bytes
from convert.sources.tensors import BLOCKS
from fwlocal.gguf import GGML_TYPES

TYPE_IDS = {name: type_id for type_id, (name, _, _) in GGML_TYPES.items()}
# ggml refuses Q8_1 as a whole: it is no type of a file.
TYPES = tuple(name for name in TYPE_IDS if name != "Q8_1")

# Infinities and NaNs of each float format, little-endian; they are tried at every offset.
PATTERNS = {
    "f16 inf": b"\x00\x7c",
    "f16 -inf": b"\x00\xfc",
    "f16 nan": b"\x01\x7c",
    "bf16 inf": b"\x80\x7f",
    "bf16 nan": b"\xc1\xff",
    "f32 inf": b"\x00\x00\x80\x7f",
    "f32 nan": b"\x01\x00\x80\xff",
    "f64 inf": b"\x00\x00\x00\x00\x00\x00\xf0\x7f",
    "f64 nan": b"\x01\x00\x00\x00\x00\x00\xf0\xff",
    "e8m0 nan": b"\xff",
    "iq1_m nan": b"\x00\x10\x00\x00\x00\xc0\x00\x70",
    "ones": b"\xff" * 8,
}

IsSound = Callable[[str, Bytes], bool]


@pytest.fixture(scope="session")
def is_sound() -> IsSound:
    """ggml's own opinion. It tells its reasons on stderr, too."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    found = sorted(path for path in folder.glob("*ggml-base*") if path.suffix != ".lib")
    validate = ctypes.CDLL(str(found[0])).ggml_validate_row_data
    validate.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    validate.restype = ctypes.c_bool
    return lambda name, data: bool(validate(TYPE_IDS[name], data.ctypes.data, data.size))


def blocks(type_name: str, count: int, fill: int = 0x11) -> Bytes:
    """``count`` blocks of one byte value, in which all floats are small."""
    return np.full(count * BLOCKS[type_name][1], fill, np.uint8)


@pytest.mark.parametrize("type_name", BLOCKS)
@pytest.mark.parametrize("fill", [0x00, 0x11, 0x3B])
def test_clean_blocks_are_finite(type_name: str, fill: int) -> None:
    assert first_not_finite(type_name, blocks(type_name, 5, fill)) is None
    assert first_not_finite(type_name, blocks(type_name, 0)) is None


@pytest.mark.parametrize("type_name", TYPES)
def test_agrees_with_ggml_wherever_nan_or_inf_stands(type_name: str, is_sound: IsSound) -> None:
    size = BLOCKS[type_name][1]
    n_refused = 0
    for pattern in PATTERNS.values():
        for offset in range(size - len(pattern) + 1):
            data = blocks(type_name, 3)
            data[size + offset : size + offset + len(pattern)] = list(pattern)
            expected = None if is_sound(type_name, data) else 1
            assert first_not_finite(type_name, data) == expected, (pattern, offset)
            n_refused += expected == 1
    assert (n_refused > 0) == (type_name in FIELDS)


@settings(max_examples=200)
@given(type_name=st.sampled_from(TYPES), seed=st.integers(0, 2**32 - 1))
def test_finds_the_first_block_that_ggml_refuses(
    type_name: str, seed: int, is_sound: IsSound
) -> None:
    size = BLOCKS[type_name][1]
    data = np.random.default_rng(seed).integers(0, 256, 40 * size, np.uint8)
    found = first_not_finite(type_name, data)
    if found is None:
        assert is_sound(type_name, data)
    else:
        assert is_sound(type_name, data[: found * size])
        assert not is_sound(type_name, data[found * size : (found + 1) * size])


@pytest.mark.parametrize("bits", [0x47EF_FFFF_EFFF_FFFF, 0x47EF_FFFF_F000_0000])
def test_a_double_must_be_finite_as_a_float(bits: int, is_sound: IsSound) -> None:
    data = np.array([bits], "<u8").view(np.uint8)
    assert (first_not_finite("F64", data) is None) == is_sound("F64", data)


@pytest.mark.parametrize("offset", [0, 2])
def test_q8_1_has_two_scales(offset: int) -> None:
    data = blocks("Q8_1", 3)
    data[36 + offset : 38 + offset] = (0x00, 0x7C)
    assert first_not_finite("Q8_1", data) == 1


@pytest.mark.parametrize(("type_name", "offset"), [("F32", 0), ("Q4_K", 2), ("MXFP4", 0)])
def test_looks_at_the_last_block_of_long_data(type_name: str, offset: int) -> None:
    size, count = BLOCKS[type_name][1], 200_001
    data = blocks(type_name, count)
    assert first_not_finite(type_name, data) is None
    for index in (count - 1, 70_000):
        data[index * size + offset : index * size + size] = 0xFF
        assert first_not_finite(type_name, data) == index


def test_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    data = np.array([1, np.inf, np.nan], np.float32).view(np.uint8)
    assert first_not_finite("F32", data) == 1
    assert first_not_finite("F32", data.reshape(3, 4)) == 1
    assert capfd.readouterr() == ("", "")
