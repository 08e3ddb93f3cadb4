"""A node of llama.cpp's graph, as the callback of an evaluation is shown it, and its data as numpy.

The structure is the pinned version's, and its size is held against the library's own before any is
read. What a node means is for others.

Source: ``struct ggml_tensor`` in ``ggml/include/ggml.h``.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import TYPE_CHECKING, Any

from fwlocal.errors import FwlocalError
from fwlocal.llama.bindings import call, library

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

F32, I32 = 0, 26  # ggml_type
_DIMS = 4
_OBJECT_BYTES = 32  # struct ggml_object, which ggml_tensor_overhead() counts, too
_LAST_OP = 128  # more than there are; asking for one that is not there would read beyond a table


class Node(ctypes.Structure):
    """``struct ggml_tensor``; ``ne`` counts elements, ``nb`` strides in bytes, innermost first."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * _DIMS),
        ("nb", ctypes.c_size_t * _DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    ]


def check_layout(expected_bytes: int = ctypes.sizeof(Node)) -> None:
    """Raise FwlocalError unless the library's tensors are as large as ``Node``."""
    size = call(library("ggml-base"), "ggml_tensor_overhead", ctypes.c_size_t) - _OBJECT_BYTES
    if size != expected_bytes:
        raise FwlocalError(
            f"this llama.cpp's tensors have {size} bytes, not the {expected_bytes} of the version "
            "that fwlocal is made for; `fwlocal doctor` says how to install that"
        )


def op_ids(*names: str) -> tuple[int, ...]:
    """The numbers of operations in this library, by their names there, such as MUL_MAT."""
    ids: dict[str, int] = {}
    for number in itertools.takewhile(lambda _: not ids.keys() >= {*names}, range(_LAST_OP)):
        ids[call(library("ggml-base"), "ggml_op_name", ctypes.c_char_p, number).decode()] = number
    return tuple(ids[name] for name in names)


def source(node: Node, index: int) -> Node:
    """One of the nodes that ``node`` is computed from."""
    return Node.from_address(node.src[index])


def weight_name(node: Node) -> str:
    """A weight's name in the file: ``CUDA0#blk.0.attn_k.weight#0`` is a copy of one."""
    name: str = node.name.decode("utf-8", "replace")
    parts = name.split("#")
    return parts[1] if len(parts) > 1 else name


def values(node: Node) -> npt.NDArray[np.float32]:
    """A node's F32 numbers, outermost dimension first: where they are, or copied from a GPU; valid
    until the evaluation goes on."""
    import numpy as np

    found: npt.NDArray[np.float32] = _array(node, np.dtype(np.float32))
    return found


def numbers(node: Node) -> npt.NDArray[np.int32]:
    """The same of I32."""
    import numpy as np

    found: npt.NDArray[np.int32] = _array(node, np.dtype(np.int32))
    return found


def _array(node: Node, dtype: np.dtype[Any]) -> Any:
    import numpy as np

    return np.ndarray(tuple(node.ne)[::-1], dtype, _bytes(node), strides=tuple(node.nb)[::-1])


def _bytes(node: Node) -> Any:
    base, pointer = library("ggml-base"), ctypes.byref(node)
    size = call(base, "ggml_nbytes", ctypes.c_size_t, pointer)
    is_host = call(base, "ggml_backend_buffer_is_host", ctypes.c_bool, ctypes.c_void_p(node.buffer))
    if is_host:
        return (ctypes.c_char * size).from_address(node.data)
    copy = (ctypes.c_char * size)()
    start, length = ctypes.c_size_t(0), ctypes.c_size_t(size)
    call(base, "ggml_backend_tensor_get", None, pointer, copy, start, length)
    return copy
