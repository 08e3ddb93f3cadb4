"""The formula of compute buffers against what llama.cpp's log said of metadata-only loads.

The figures (MiB) are of sparse GGUFs with these shapes, n_ubatch 512, over RPC devices.
"""

from __future__ import annotations

import pytest

from fwlocal.offload.compute import Role, Setting, compute_bytes, gpu_role, host_role
from tests.offload.models import MIB, model

FLASH_4K = Setting(4096, "f16", flash_attn=True, n_ubatch=512)
FLASH_32K = Setting(32768, "f16", flash_attn=True, n_ubatch=512)
PLAIN_4K = Setting(4096, "f16", flash_attn=False, n_ubatch=512)


def gpu(setting: Setting, index: int = 0, count: int = 1, *, has_all: bool = False) -> Role:
    devices = [f"RPC{number}" for number in range(count)]
    return gpu_role(setting, devices, index, n_repeating=20, n_on_host=0 if has_all else 20)


def host(setting: Setting, n_gpus: int = 1, *, has_all: bool = False) -> Role:
    return host_role(setting, ["RPC0", "RPC1"][:n_gpus], 0 if has_all else 20)


@pytest.mark.parametrize(
    ("size", "role", "logged_mib"),
    [
        ("7B", gpu(FLASH_4K), 92.51),
        ("13B", gpu(FLASH_4K), 115.01),
        ("70B", gpu(FLASH_4K), 220.01),
        ("70B", gpu(FLASH_32K, has_all=True), 248.01),
        ("7B", gpu(PLAIN_4K), 312.01),
        ("70B", gpu(PLAIN_4K), 588.01),
        ("7B", host(FLASH_4K, 0), 100.51),
        ("70B", host(FLASH_4K), 236.01),
        ("70B", host(FLASH_4K, has_all=True), 36.01),
        ("13B", host(PLAIN_4K, has_all=True), 48.01),
        ("7B", gpu(FLASH_4K, 0, 2, has_all=True), 136.54),
        ("7B", gpu(FLASH_4K, 1, 2, has_all=True), 168.55),
        ("70B", gpu(PLAIN_4K, 1, 2, has_all=True), 752.03),
        ("70B", host(FLASH_4K, 2, has_all=True), 96.05),
        ("7B", host(PLAIN_4K, 2, has_all=True), 136.04),
    ],
)
def test_the_formula_is_what_llama_cpp_reserves(size: str, role: Role, logged_mib: float) -> None:
    assert compute_bytes(model(size), role, {}) / MIB == pytest.approx(logged_mib, abs=0.4)


def test_what_was_measured_goes_before_the_formula() -> None:
    role = gpu(FLASH_4K)

    assert compute_bytes(model("7B"), role, {role: 123}) == 123
    assert compute_bytes(model("7B"), gpu(FLASH_32K), {role: 123}) > 123
