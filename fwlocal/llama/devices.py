"""What llama.cpp was built with, and the devices that it sees."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from fwlocal.errors import FwlocalError
from fwlocal.hardware import Device
from fwlocal.llama.bindings import call, lib, library

_KINDS = ("CPU", "GPU", "IGPU", "ACCEL", "META")  # ggml_backend_dev_type


class _Properties(ctypes.Structure):
    """``ggml_backend_dev_props``, with the five flags of ``ggml_backend_dev_caps``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("caps", ctypes.c_bool * 5),
    )


_kept: list[object] = []  # callbacks that native code holds on to


def devices() -> tuple[Device, ...]:
    """The devices of llama.cpp's backends, with their memory now."""
    return tuple(_device(_properties(handle), _backend(handle)) for handle in _handles())


def _properties(handle: ctypes.c_void_p) -> _Properties:
    found = _Properties()
    call(library("ggml-base"), "ggml_backend_dev_get_props", None, handle, ctypes.byref(found))
    return found


def _backend(handle: ctypes.c_void_p) -> str:
    base = library("ggml-base")
    registry = call(base, "ggml_backend_dev_backend_reg", ctypes.c_void_p, handle)
    return _text("ggml_backend_reg_name", ctypes.c_void_p(registry))


def _device(found: _Properties, backend: str) -> Device:
    return Device(
        name=_decoded(found.name),
        description=_decoded(found.description),
        backend=backend,
        kind=_KINDS[found.type],
        free_bytes=found.memory_free,
        total_bytes=found.memory_total,
        device_id=_decoded(found.device_id),
    )


def device_handles(names: Sequence[str]) -> list[ctypes.c_void_p]:
    """The ``ggml_backend_dev_t`` of the devices called so. Raises FwlocalError for one that is not
    there (any more)."""
    known = {_text("ggml_backend_dev_name", handle): handle for handle in _handles()}
    for name in names:
        if name not in known:
            raise FwlocalError(f"llama.cpp has no device {name}; see `fwlocal doctor`")
    return [known[name] for name in names]


def _handles() -> list[ctypes.c_void_p]:
    ggml = library("ggml")
    count = call(ggml, "ggml_backend_dev_count", ctypes.c_size_t)
    return [
        ctypes.c_void_p(call(ggml, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t(index)))
        for index in range(count)
    ]


def _text(function: str, argument: ctypes.c_void_p) -> str:
    return _decoded(call(library("ggml-base"), function, ctypes.c_char_p, argument))


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode("utf-8", "replace")


def version() -> str:
    """llama.cpp's version."""
    return str(lib.llama_version().decode("utf-8", "replace"))


def build_info() -> str:
    """llama.cpp's version and the CPU features it was built with."""
    system = lib.llama_print_system_info().decode("utf-8", "replace").strip()
    return f"llama.cpp {version()}: {system}"


def supports_rpc() -> bool:
    """Whether remote machines can serve as devices."""
    return bool(lib.llama_supports_rpc())


def exit_on_abort(report: Callable[[str], None]) -> None:
    """Have ``report`` called with the message before a failed check in llama.cpp ends the process;
    ``report`` must not return. For programs, not for libraries."""
    callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(
        lambda message: report(message.decode("utf-8", "replace"))
    )
    _kept.append(callback)
    call(library("ggml-base"), "ggml_set_abort_callback", ctypes.c_void_p, callback)
