"""Rows of weights to blocks of a ggml type, by llama.cpp's own kernels.

``ggml_quantize_chunk`` and its kin are called in the library that llama-cpp-python ships; the call
releases Python's lock, so that threads use all cores.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.sources.source_file import Bytes
from fwlocal.errors import FwlocalError
from fwlocal.gguf import GGML_TYPES

F32s = npt.NDArray[np.float32]

_TYPE_IDS = {name: type_id for type_id, (name, _, _) in GGML_TYPES.items()}
_LIBRARY = {"win32": "ggml-base.dll", "darwin": "libggml-base.dylib"}
_SETUP = threading.Lock()


class _TypeTraits(ctypes.Structure):
    """ggml.h, struct ggml_type_traits."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


@cache
def _ggml() -> Any:
    """libggml-base, its functions declared."""
    library = ctypes.CDLL(str(_library_path()))
    pointer, i64 = ctypes.c_void_p, ctypes.c_int64
    declared: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "ggml_quantize_chunk": (
            ctypes.c_size_t,
            (ctypes.c_int, pointer, pointer, i64, i64, i64, pointer),
        ),
        "ggml_quantize_init": (None, (ctypes.c_int,)),
        "ggml_fp16_to_fp32_row": (None, (pointer, pointer, i64)),
        "ggml_bf16_to_fp32_row": (None, (pointer, pointer, i64)),
        "ggml_get_type_traits": (ctypes.POINTER(_TypeTraits), (ctypes.c_int,)),
        "ggml_version": (ctypes.c_char_p, ()),
        "ggml_commit": (ctypes.c_char_p, ()),
    }
    for name, (result, arguments) in declared.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _library_path() -> Path:
    """Beside libllama, where llama-cpp-python looks for it too."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    spec = importlib.util.find_spec("llama_cpp")
    if override is None and (spec is None or not spec.submodule_search_locations):
        raise FwlocalError("llama-cpp-python is not installed; `fwlocal doctor` says how to")
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(override) if override else Path((places or [""])[0]) / "lib"
    path = folder / _LIBRARY.get(sys.platform, "libggml-base.so")
    if not path.exists():
        raise FwlocalError(f"{path}: missing; `fwlocal doctor` says how to install it again")
    return path


def library_version() -> str:
    """Whose kernels these are: the bindings' version, and ggml's with llama.cpp's commit."""
    bindings = importlib.metadata.version("llama-cpp-python")
    version, commit = _ggml().ggml_version().decode(), _ggml().ggml_commit().decode()
    return f"llama-cpp-python {bindings}, ggml {version} ({commit})"


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def build_tables(type_name: str) -> None:
    """Build a type's tables, once and before threads use them."""
    with _SETUP:
        _ggml().ggml_quantize_init(_TYPE_IDS[type_name])


def widen(data: Bytes, dtype: str, n_elements: int) -> F32s:
    """``data``, whole blocks of ``dtype``, as float32; float32 itself is not copied."""
    if dtype == "F32":
        return data.view(np.float32)
    values = np.empty(n_elements, np.float32)
    source, target = data.ctypes.data, values.ctypes.data
    if dtype == "F16":
        _ggml().ggml_fp16_to_fp32_row(source, target, n_elements)
    elif dtype == "BF16":
        _ggml().ggml_bf16_to_fp32_row(source, target, n_elements)
    else:
        traits = _ggml().ggml_get_type_traits(_TYPE_IDS[dtype])
        traits.contents.to_float(source, target, n_elements)
    return values


def quantize_rows(
    values: F32s, n_per_row: int, type_name: str, out: Bytes, importance: F32s | None = None
) -> None:
    """Quantize whole rows into ``out``, which they fill exactly.

    ``importance`` weighs the columns (n_per_row values). The values must be finite: on others the
    kernels may end the process.
    """
    weights = None if importance is None else importance.ctypes.data
    n_rows = values.size // n_per_row
    written = _ggml().ggml_quantize_chunk(
        _TYPE_IDS[type_name], values.ctypes.data, out.ctypes.data, 0, n_rows, n_per_row, weights
    )
    if written != out.size:
        raise RuntimeError(f"ggml wrote {written} bytes of {type_name} instead of {out.size}")
