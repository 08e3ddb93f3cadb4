"""Compute buffers: what a device holds while a micro-batch is on its way through its layers.

The formula was fitted on metadata-only loads (``no_alloc``) of the shapes of Llama 1B, 7B, 8B, 13B
and 70B at contexts of 2k to 32k, with llama.cpp 0c1e57098 over RPC devices: exact there, or too
large by one ``embd``. A metadata-only load on the machine itself tells the truth for any other
(``fwlocal.loader.trial``); it is kept as ``Measured`` and goes before the formula.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fwlocal.offload.footprint import Footprint

PIPELINE_COPIES = 4  # GGML_SCHED_MAX_COPIES
HOST = "CPU"
MANY = 2  # layers, from which on a buffer grows no more
_SLACK = 64 << 10


@dataclass(frozen=True)
class Role:
    """What a device does, as far as its compute buffer depends on it. ``device`` "CPU" is the
    host; it holds ``n_repeating`` layers, and the host ``n_on_host``: none, one, or MANY;
    ``is_first`` of several GPUs gets its input from the host; ``is_pipelined`` when several GPUs
    hold all layers."""

    device: str
    n_repeating: int
    n_on_host: int
    has_output: bool
    is_first: bool
    is_pipelined: bool
    n_ctx: int
    kv_type: str
    flash_attn: bool
    n_ubatch: int

    @property
    def is_host(self) -> bool:
        """Whether it is the CPU."""
        return self.device == HOST


Measured = Mapping[Role, int]


@dataclass(frozen=True)
class Setting:
    """What besides the layers' number decides how much memory is taken."""

    n_ctx: int
    kv_type: str
    flash_attn: bool
    n_ubatch: int


def gpu_role(
    setting: Setting,
    devices: Sequence[str],
    index: int,
    *,
    n_repeating: int,
    n_on_host: int,
) -> Role:
    """The role of the ``index``-th of the GPUs, which holds so many repeating layers."""
    return Role(
        device=devices[index],
        n_repeating=min(n_repeating, MANY),
        n_on_host=min(n_on_host, MANY),
        has_output=index == len(devices) - 1,
        is_first=len(devices) > 1 and index == 0,
        is_pipelined=len(devices) > 1 and not n_on_host,
        **vars(setting),
    )


def host_role(setting: Setting, devices: Sequence[str], n_repeating: int) -> Role:
    """The role of the CPU, with so many repeating layers, beside these GPUs."""
    return Role(
        device=HOST,
        n_repeating=min(n_repeating, MANY),
        n_on_host=min(n_repeating, MANY),
        has_output=not devices,
        is_first=False,
        is_pipelined=len(devices) > 1 and not n_repeating,
        **vars(setting),
    )


def compute_bytes(model: Footprint, role: Role, measured: Measured) -> int:
    """Bytes of the compute buffer of a device in its ``role``."""
    known = measured.get(role)
    return _formula(model, role) if known is None else known


def _formula(model: Footprint, role: Role) -> int:
    """Float32 rows of a micro-batch: the widest moment of a layer (three of the FFN's width), the
    logits, or attention's scores where there is no flash attention, and what lies beside them."""
    rows = 4 * role.n_ubatch
    embd, ff, logits = rows * model.n_embd, rows * model.n_ff, rows * model.n_vocab
    kv = rows * model.n_embd_k
    copies = PIPELINE_COPIES if role.is_pipelined else 1
    mask = copies * role.n_ctx * role.n_ubatch * (2 if role.flash_attn else 4)
    beside = _beside(role) * embd
    moments = [(1 + copies) * embd + mask]
    if not role.flash_attn:
        moments[0] += 2 * copies * kv
    if role.n_repeating:
        moments.append(3 * ff + beside + mask)
        if not role.flash_attn:
            scores = rows * model.n_head * role.n_ctx
            moments.append(scores + mask + beside + embd + 2 * copies * kv)
    if role.has_output:
        moments.append(logits + max(beside - 2 * embd, embd) + mask * role.is_pipelined)
    return max(moments) + (4 * model.n_vocab if role.is_host else 0) + _SLACK


def _beside(role: Role) -> int:
    """Rows of the embedding's width that lie beside the widest moment."""
    if role.is_host:
        return 4
    if role.is_pipelined:
        return 7 if role.is_first else 11
    return 3
