"""The reference for quantization: the installed llama.cpp, through ctypes.

``quantize`` is ``llama_model_quantize``, as llama-quantize calls it. ``compute_types`` asks the
same code only for its choice of types, for a model of any size, through the functions of
llama.cpp's ``src/llama-ext.h``. Those are C++, found by their Itanium-mangled names, as GCC and
Clang make them. Importing the bindings quietens the library's log.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fwlocal.gguf import GGML_TYPES
from fwlocal.llama.bindings import call, lib, library, log

Array = npt.NDArray[np.float32]

_INIT = "_Z16llama_quant_initPK11llama_modelPK27llama_model_quantize_params"
_FREE = "_Z16llama_quant_freeP19quantize_state_impl"
_MODEL = "_Z31llama_quant_model_from_metadataPK22llama_quant_model_desc"
_TYPES = (
    "_Z25llama_quant_compute_typesP19quantize_state_impl11llama_ftypePP11ggml_tensorP9ggml_typem"
)


def file_type(level: str) -> int:
    """The number of LLAMA_FTYPE_* for a level such as "Q4_K_M"."""
    name = "ALL_F32" if level == "F32" else f"MOSTLY_{level}"
    return int(getattr(lib, f"LLAMA_FTYPE_{name}"))


def quantize(
    source: Path,
    target: Path,
    level: str,
    *,
    imatrix: Mapping[str, Array] | None = None,
    n_threads: int = 2,
) -> None:
    """Quantize the GGUF ``source`` into the file ``target``, as llama-quantize does.

    ``imatrix``: float32 weights of each column (n_per_row of them), by GGUF tensor name.
    Raises RuntimeError with llama.cpp's own words when it fails.
    """
    params = lib.llama_model_quantize_default_params()
    params.nthread = n_threads
    params.ftype = file_type(level)
    arrays = {
        name: np.ascontiguousarray(data, np.float32) for name, data in (imatrix or {}).items()
    }
    if imatrix is not None:
        params.imatrix = _imatrix_entries(arrays)
    log.clear()
    paths = str(source).encode(), str(target).encode()
    if lib.llama_model_quantize(*paths, ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama_model_quantize({source}, {level}): {log.last_error()}")


def _imatrix_entries(arrays: Mapping[str, Array]) -> Any:
    """The entries and one without a name, which ends them; they point into ``arrays``."""
    entries = (lib.llama_model_imatrix_data * (len(arrays) + 1))()
    for entry, (name, data) in zip(entries, arrays.items(), strict=False):
        entry.name = name.encode()
        entry.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = data.size
    return entries


class _ModelDesc(ctypes.Structure):
    """llama_quant_model_desc."""

    _fields_ = [
        ("architecture", ctypes.c_char_p),
        ("n_embd", ctypes.c_uint32),
        ("n_ff", ctypes.c_uint32),
        ("n_layer", ctypes.c_uint32),
        ("n_head", ctypes.c_uint32),
        ("n_head_kv", ctypes.c_uint32),
        ("n_expert", ctypes.c_uint32),
        ("n_embd_head_k", ctypes.c_uint32),
        ("n_embd_head_v", ctypes.c_uint32),
    ]


class _InitParams(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = [
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    ]


def compute_types(
    level: str,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    *,
    n_layer: int,
    n_head: int,
    n_head_kv: int,
) -> dict[str, str]:
    """The type llama.cpp gives each tensor without an importance matrix.

    ``tensors``: GGUF names in llama.cpp's order, shapes of one or two dimensions with the
    outermost first. What it does not quantize stays F32.
    """
    desc = _ModelDesc(b"llama", n_layer=n_layer, n_head=n_head, n_head_kv=n_head_kv)
    params = lib.llama_model_quantize_default_params()
    types = (ctypes.c_int * len(tensors))()
    llama = library("llama")
    model = ctypes.c_void_p(call(llama, _MODEL, ctypes.c_void_p, ctypes.byref(desc)))
    state = ctypes.c_void_p(call(llama, _INIT, ctypes.c_void_p, model, ctypes.byref(params)))
    try:
        with _ggml_tensors(tensors) as made:
            count = ctypes.c_size_t(len(tensors))
            call(llama, _TYPES, None, state, file_type(level), made, types, count)
    finally:
        call(llama, _FREE, None, state)
        lib.llama_model_free(model)
    return {name: GGML_TYPES[kind][0] for (name, _), kind in zip(tensors, types, strict=True)}


@contextmanager
def _ggml_tensors(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> Iterator[Any]:
    """An array of F32 ggml tensors without data."""
    base = library("ggml-base")
    overhead = call(base, "ggml_tensor_overhead", ctypes.c_size_t)
    params = _InitParams(overhead * len(tensors), None, True)
    context = ctypes.c_void_p(call(base, "ggml_init", ctypes.c_void_p, params))
    made = (ctypes.c_void_p * len(tensors))()
    try:
        for index, (name, shape) in enumerate(tensors):
            sizes = (ctypes.c_int64 * len(shape))(*reversed(shape))
            tensor = call(base, "ggml_new_tensor", ctypes.c_void_p, context, 0, len(shape), sizes)
            made[index] = tensor
            call(base, "ggml_set_name", ctypes.c_void_p, ctypes.c_void_p(tensor), name.encode())
        yield made
    finally:
        call(base, "ggml_free", None, context)
