"""What memory llama.cpp took, as its log tells."""

from __future__ import annotations

import pytest

from fwlocal.hardware import Device
from fwlocal.llama.buffers import (
    MIB,
    Buffer,
    RefusedBuffer,
    buffer_in,
    buffer_names,
    refused_buffer,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB\n",
            Buffer("CPU", "weights", round(92.10 * MIB), True),
        ),
        (
            "load_tensors:   CPU_REPACK model buffer size =     8.00 MiB\n",
            Buffer("CPU", "weights", 8 * MIB, False),
        ),
        (
            "llama_kv_cache: RPC0[127.0.0.1:50052] KV buffer size =    21.00 MiB\n",
            Buffer("RPC0[127.0.0.1:50052]", "kv", 21 * MIB, False),
        ),
        (
            "sched_reserve:      CUDA0 compute buffer size =   220.00 MiB\n",
            Buffer("CUDA0", "compute", 220 * MIB, False),
        ),
        (
            "llama_context:  CUDA_Host  output buffer size =     0.12 MiB\n",
            Buffer("CUDA_Host", "compute", round(0.12 * MIB), False),
        ),
        (
            "llama_memory_recurrent:      CUDA0 RS buffer size =     1.50 MiB\n",
            Buffer("CUDA0", "kv", round(1.5 * MIB), False),
        ),
        ("load_tensors: offloaded 15/31 layers to GPU\n", None),
    ],
)
def test_a_line_of_the_log(line: str, expected: Buffer | None) -> None:
    assert buffer_in(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "alloc_tensor_range: failed to allocate RPC0[a:1] buffer of size 4096",
            RefusedBuffer("RPC0[a:1]", 4096),
        ),
        ("error loading model: unable to allocate CUDA0 buffer", RefusedBuffer("CUDA0", None)),
        ("failed to open file", None),
    ],
)
def test_a_refusal(text: str, expected: RefusedBuffer | None) -> None:
    assert refused_buffer(text) == expected


def test_a_workers_buffers_are_called_by_its_address() -> None:
    devices = [
        Device("RPC0", "den:50052", "RPC", "GPU", 1, 1),
        Device("RPC1", "den:50052", "RPC", "GPU", 1, 1),
        Device("RPC2", "attic:50052", "RPC", "GPU", 1, 1),
        Device("CUDA0", "a card", "CUDA", "GPU", 1, 1),
    ]

    assert buffer_names(devices) == {
        "RPC0[den:50052]": "RPC0",
        "RPC1[den:50052]": "RPC1",
        "RPC0[attic:50052]": "RPC2",
        "CUDA0": "CUDA0",
    }
