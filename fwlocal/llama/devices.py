"""What llama.cpp was built with, and the devices that it sees."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from fwlocal.hardware import Device
from fwlocal.llama.bindings import call, lib, library

_KINDS = ("CPU", "GPU", "IGPU", "ACCEL", "META")  # ggml_backend_dev_type
_kept: list[object] = []  # callbacks that native code holds on to


def devices() -> tuple[Device, ...]:
    """The devices of llama.cpp's backends, with their memory now."""
    ggml, base = (library(name) for name in ("ggml", "ggml-base"))
    found = []
    for index in range(call(ggml, "ggml_backend_dev_count", ctypes.c_size_t)):
        handle = ctypes.c_void_p(
            call(ggml, "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t(index))
        )
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        pointers = ctypes.byref(free), ctypes.byref(total)
        call(base, "ggml_backend_dev_memory", None, handle, *pointers)
        registry = ctypes.c_void_p(
            call(base, "ggml_backend_dev_backend_reg", ctypes.c_void_p, handle)
        )
        name, description, backend = (
            call(base, function, ctypes.c_char_p, argument).decode("utf-8", "replace")
            for function, argument in (
                ("ggml_backend_dev_name", handle),
                ("ggml_backend_dev_description", handle),
                ("ggml_backend_reg_name", registry),
            )
        )
        kind = _KINDS[call(base, "ggml_backend_dev_type", ctypes.c_int, handle)]
        found.append(Device(name, description, backend, kind, free.value, total.value))
    return tuple(found)


def build_info() -> str:
    """llama.cpp's version and the CPU features it was built with."""
    version = lib.llama_version().decode("utf-8", "replace")
    system = lib.llama_print_system_info().decode("utf-8", "replace").strip()
    return f"llama.cpp {version}: {system}"


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
