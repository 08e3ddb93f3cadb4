"""Devices as llama.cpp tells them: read by our own structure, held against its own functions."""

from __future__ import annotations

import ctypes

from fwlocal.hardware import Device
from fwlocal.llama.bindings import call, library
from fwlocal.llama.devices import _KINDS, _device, _handles, _Properties, _text, devices

GIB = 1 << 30


def test_the_structure_says_what_the_functions_say() -> None:
    base = library("ggml-base")
    found = devices()
    assert "CPU" in {device.name for device in found}
    for device, handle in zip(found, _handles(), strict=True):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        pointers = ctypes.byref(free), ctypes.byref(total)
        call(base, "ggml_backend_dev_memory", None, handle, *pointers)
        kind = call(base, "ggml_backend_dev_type", ctypes.c_int, handle)
        assert device.name == _text("ggml_backend_dev_name", handle)
        assert device.description == _text("ggml_backend_dev_description", handle)
        assert device.kind == _KINDS[kind]
        assert device.total_bytes == total.value


def test_where_a_card_sits() -> None:
    found = _Properties(b"CUDA1", b"RTX 3090", 20 * GIB, 24 * GIB, 1, b"0000:c1:00.0")
    assert _device(found, "CUDA") == Device(
        "CUDA1", "RTX 3090", "CUDA", "GPU", 20 * GIB, 24 * GIB, "0000:c1:00.0"
    )


def test_a_device_that_tells_no_place() -> None:
    found = _Properties(b"CPU", b"EPYC", GIB, GIB, 0, None)
    assert _device(found, "CPU").device_id == ""


def test_the_structure_is_as_long_as_llama_cpps() -> None:
    # Six words of 8 bytes (the type has padding behind it), five flags, padding to a word.
    assert ctypes.sizeof(ctypes.c_void_p) != 8 or ctypes.sizeof(_Properties) == 56
