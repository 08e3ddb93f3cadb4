"""What llama.cpp was built with, and the devices that it sees."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from fwlocal.errors import FwlocalError
from fwlocal.hardware import Device
from fwlocal.llama.bindings import call, lib, library

_KINDS = ("CPU", "GPU", "IGPU", "ACCEL", "META")  # ggml_backend_dev_type
_kept: list[object] = []  # callbacks that native code holds on to


def devices() -> tuple[Device, ...]:
    """The devices of llama.cpp's backends, with their memory now."""
    base = library("ggml-base")
    found = []
    for handle in _handles():
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        pointers = ctypes.byref(free), ctypes.byref(total)
        call(base, "ggml_backend_dev_memory", None, handle, *pointers)
        registry = ctypes.c_void_p(
            call(base, "ggml_backend_dev_backend_reg", ctypes.c_void_p, handle)
        )
        description = _text("ggml_backend_dev_description", handle)
        backend = _text("ggml_backend_reg_name", registry)
        kind = _KINDS[call(base, "ggml_backend_dev_type", ctypes.c_int, handle)]
        name = _text("ggml_backend_dev_name", handle)
        found.append(Device(name, description, backend, kind, free.value, total.value))
    return tuple(found)


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
    text: bytes = call(library("ggml-base"), function, ctypes.c_char_p, argument)
    return text.decode("utf-8", "replace")


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
