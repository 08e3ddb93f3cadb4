"""Which audits are kept: contexts of many sizes are made, and most say nothing new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fwlocal.audit import Audit, DeviceAudit
from fwlocal.loader.auditor import is_news

MIB = 2**20
FULL = {"weights": 100 * MIB, "kv": 8 * MIB, "compute": 2 * MIB}
KNOWN = Audit(
    file="/m/whale.gguf",
    llama_cpp="b1",
    n_gpu_layers=0,
    n_layers=2,
    n_ctx=4096,
    kv_type="f16",
    devices=(DeviceAudit("host", FULL, FULL),),
    made="2026-01-01T00:00:00+00:00",
)
OFF = (DeviceAudit("host", FULL, {**FULL, "weights": 300 * MIB}),)


@pytest.mark.parametrize(
    ("audit", "kept"),
    [
        (replace(KNOWN, made="2026-01-02T00:00:00+00:00"), False),
        (replace(KNOWN, n_ctx=512), False),
        (replace(KNOWN, n_ctx=8192), True),
        (replace(KNOWN, llama_cpp="b2"), True),
        (replace(KNOWN, n_ctx=512, devices=OFF), True),
    ],
)
def test_what_is_kept_beside_a_known_one(audit: Audit, kept: bool) -> None:
    assert is_news(audit, KNOWN) is kept


def test_the_first_is_kept_however_small() -> None:
    assert is_news(replace(KNOWN, n_ctx=512), None)
