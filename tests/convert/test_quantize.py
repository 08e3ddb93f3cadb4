"""The kernels through ctypes, against numpy and gguf's own Python quantizers."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from convert.quantize import available_cores, build_tables, library_version, quantize_rows, widen
from convert.sources.tensors import row_bytes

VALUES = np.random.default_rng(3).normal(size=(6, 512)).astype(np.float32)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0"])
def test_rows_are_quantized_as_gguf_does(kind: str) -> None:
    build_tables(kind)
    out = np.empty(6 * row_bytes(kind, 512), np.uint8)
    quantize_rows(VALUES, 512, kind, out)
    expected = gguf.quantize(VALUES, gguf.GGMLQuantizationType[kind])
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
def test_rows_are_widened_as_gguf_does(kind: str) -> None:
    build_tables(kind)
    out = np.empty(6 * row_bytes(kind, 512), np.uint8)
    quantize_rows(VALUES, 512, kind, out)
    expected = gguf.dequantize(out.reshape(6, -1), gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(widen(out, kind, VALUES.size).reshape(6, 512), expected, rtol=1e-6)


def test_an_importance_matrix_moves_the_blocks() -> None:
    plain, weighted = (np.empty(6 * row_bytes("Q4_K", 512), np.uint8) for _ in "ab")
    quantize_rows(VALUES, 512, "Q4_K", plain)
    quantize_rows(VALUES, 512, "Q4_K", weighted, np.linspace(1, 100, 512, dtype=np.float32))
    assert plain.tobytes() != weighted.tobytes()


def test_the_library_and_the_machine_are_known() -> None:
    assert "llama-cpp-python 0." in library_version()
    assert "ggml " in library_version()
    assert available_cores() >= 1
