"""The plan for this machine as it is now: what it has, is asked; what is not sure, is tried.

Deciding is ``fwlocal.offload``'s. Compute buffers, which a formula only estimates, are measured
by metadata-only loads before a plan is settled on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fwlocal import hardware, llama
from fwlocal.audit import HOST, compare
from fwlocal.errors import DoesNotFit, FwlocalError
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware import Machine
from fwlocal.interrupts import Interrupt
from fwlocal.loader.remembered import Chosen, as_asked, placed, with_tuned
from fwlocal.loader.trial import Trial, Trials
from fwlocal.offload import (
    Footprint,
    OffloadPlan,
    Request,
    Share,
    footprint,
    make_plan,
    resized,
    roles_of,
    with_one_more,
)
from fwlocal.offload.compute import Measured, Role
from fwlocal.sizes import gib
from fwlocal.workers import parse_addresses, worker_devices

MAX_ROUNDS = 8  # of measuring and planning again; two are enough as a rule
RISKY_BYTES = 256 << 20  # a plan that leaves less of a GPU free is tried first
MISSING_TIMEOUT_S = 1.0
NEAR_FULL = 0.8  # of the RAM: from here on a formula is not good enough for the CPU alone


@dataclass(frozen=True)
class Site:
    """A machine with its workers and what llama.cpp calls their devices; the workers' are
    part of ``machine``."""

    machine: Machine
    workers: tuple[str, ...] = ()
    n_threads: int = 1

    @property
    def buffer_names(self) -> Mapping[str, str]:
        """The GPUs by the names of their buffers."""
        return llama.buffer_names(self.machine.gpus)


@dataclass(frozen=True)
class Settled:
    """A plan for a file, and all that is needed to make another one."""

    path: Path
    model: Footprint
    site: Site
    request: Request
    plan: OffloadPlan
    measured: Measured

    @property
    def caps(self) -> dict[str, int]:
        """What may be used of each GPU that has a share, by name."""
        return {share.device: share.free_bytes for share in self.plan.gpus}

    def usable_bytes(self, share: Share) -> int:
        """How much more of a GPU may be used than its ``share``; negative where that is too large
        already. The CPU has no bound but what is free."""
        own = next((gpu for gpu in self.plan.gpus if gpu.device == share.device), None)
        if own is None:
            return share.free_bytes
        is_chosen = self.request.n_gpu_layers is None
        return (own.budget_bytes if is_chosen else own.free_bytes) - share.total_bytes

    def at(self, n_ctx: int) -> OffloadPlan:
        """The same layers on the same devices with another context."""
        plan = resized(self.model, self.site.machine, self.plan, n_ctx, self.measured)
        now = self.plan
        return replace(
            plan,
            n_threads=now.n_threads,
            n_threads_batch=now.n_threads_batch,
            numa=now.numa,
            tuned=now.tuned,
        )


def look_around(workers: Sequence[str] = (), n_threads: int | None = None) -> Site:
    """What this machine and the ``workers`` have free now.

    Raises NetworkError for a worker that is not there, UsageError for an address that is none.
    """
    addresses = parse_addresses(",".join(workers)) if workers else ()
    machine = hardware.machine(llama.devices(), worker_devices(addresses))
    return Site(machine, tuple(map(str, addresses)), n_threads or hardware.default_threads())


def missing_worker(workers: Sequence[str]) -> str:
    """Which of the workers does not answer now, in words."""
    addresses = parse_addresses(",".join(workers)) if workers else ()
    if len(addresses) == 1:
        return f"worker {addresses[0]}"
    for address in addresses:
        try:
            worker_devices((address,), timeout_s=MISSING_TIMEOUT_S)
        except FwlocalError:
            return f"worker {address}"
    return "a worker"


def settle(
    path: Path,
    header: GGUFHeader,
    site: Site,
    request: Request,
    interrupt: Interrupt | None = None,
) -> Settled:
    """The plan for the file at ``path``, its compute buffers measured where they matter; with what
    ``fwlocal tune`` remembered, where nobody asked for other settings, and no layer leaves a GPU
    for it. What is shared with ``workers`` was never measured.

    Raises DoesNotFit; NetworkError for a worker that does not answer; Interrupted.
    """
    if not site.workers:
        tuned = _tuned(path, header, site, request, interrupt)
        if tuned is not None:
            return tuned
    return _settle(path, header, site, request, as_asked(request, site.n_threads), interrupt)


def recalled(header: GGUFHeader, site: Site, request: Request) -> tuple[OffloadPlan, Chosen] | None:
    """The plan without what `fwlocal tune` found, and the request with it; None where nothing was
    found. Raises DoesNotFit."""
    if not request.unasked:
        return None
    plain = make_plan(footprint(header), site.machine, request)
    gpus, n_threads = site.machine.gpus, site.n_threads
    found = with_tuned(request, header, plain, gpus=gpus, n_threads=n_threads)
    return None if found is None else (plain, found)


def _tuned(
    path: Path, header: GGUFHeader, site: Site, request: Request, interrupt: Interrupt | None
) -> Settled | None:
    """The plan with what was remembered; None where that is nothing, or would be worse."""
    try:
        remembered = recalled(header, site, request)
        if remembered is None:
            return None
        plain, found = remembered
        settled = _settle(path, header, site, request, found, interrupt)
    except DoesNotFit:
        return None
    is_so_placed = placed(settled.plan) == placed(plain)
    return settled if is_so_placed and settled.plan.n_gpu_layers >= plain.n_gpu_layers else None


def _settle(
    path: Path,
    header: GGUFHeader,
    site: Site,
    asked: Request,
    chosen: Chosen,
    interrupt: Interrupt | None,
) -> Settled:
    """The plan by ``chosen``. What was ``asked`` is kept beside it, for a plan to be made anew."""
    model, measured, request = footprint(header), dict[Role, int](), chosen.request
    plan = make_plan(model, site.machine, request, measured)
    with Trials(interrupt) as trials:
        for _ in range(MAX_ROUNDS):
            # One layer more must be known not to fit.
            unsure = [
                possible
                for possible in (plan, with_one_more(model, plan, site.machine))
                if possible is not None and not measured.keys() >= {*roles_of(model, possible)}
            ]
            if not unsure or not _matters(plan, site.machine):
                break
            found = [_measure(trials, path, possible, site) for possible in unsure]
            if not all(found) and request.kv_type == "auto" and plan.kv_type != "f16":
                # Flash attention, which a quantized cache needs, may not be possible here.
                request, asked = replace(request, kv_type="f16"), replace(asked, kv_type="f16")
            for possible, measurement in zip(unsure, found, strict=True):
                roles = roles_of(model, possible)
                shares = [share.compute_bytes for share in possible.shares]
                measured |= zip(roles, measurement or shares, strict=True)
            plan = make_plan(model, site.machine, request, measured)
    plan = replace(
        plan,
        n_threads=chosen.n_threads,
        n_threads_batch=chosen.n_threads_batch,
        numa=request.numa,
        tuned=chosen.names,
    )
    return Settled(path, model, site, asked, plan, measured)


def is_risky(settled: Settled) -> bool:
    """Whether a GPU of this machine would be so full that it may refuse."""
    local = {d.name for d in settled.site.machine.gpus if d.backend != "RPC"}
    return any(
        share.free_bytes - share.total_bytes < RISKY_BYTES
        for share in settled.plan.gpus
        if share.device in local
    )


def try_out(settled: Settled, interrupt: Interrupt | None = None) -> None:
    """Load everything once in a process of its own. Raises DoesNotFit when that fails."""
    site = settled.site
    with Trials(interrupt) as trials:
        trials.buffers(Trial(settled.path, settled.plan, site.workers, site.n_threads, dry=False))


def with_less(
    settled: Settled,
    refusal: DoesNotFit,
    header: GGUFHeader,
    interrupt: Interrupt | None = None,
) -> tuple[Settled, str]:
    """The plan after a GPU refused what was planned for it, and a line that says so.

    Its budget becomes what it has free now; where it claims to have enough, an eighth less than
    was planned. Raises the refusal itself where it was not a GPU's.
    """
    gpus = settled.plan.gpus
    refused = llama.refused_buffer(str(refusal))
    names = settled.site.buffer_names
    own = [share for share in gpus if refused is None or names.get(refused.name) == share.device]
    if not own:
        raise refusal
    share = own[-1]
    site = look_around(settled.site.workers, settled.site.n_threads)
    free = next((d.free_bytes for d in site.machine.gpus if d.name == share.device), 0)
    margin = settled.request.margin_bytes
    fitting = free - margin if free - margin < share.total_bytes else share.total_bytes * 7 // 8
    caps = settled.caps | {share.device: max(0, fitting) + margin}
    request = replace(
        settled.request,
        n_gpu_layers=None,
        gpu_memory=tuple(
            caps.get(device.name, device.free_bytes)
            for device in sorted(site.machine.gpus, key=lambda d: hardware.listing_order(d.name))
        ),
    )
    again = settle(settled.path, header, site, request, interrupt)
    missing = share.total_bytes - max(0, fitting)
    counts = settled.plan.n_gpu_layers, again.plan.n_gpu_layers
    changes = [
        f"{counts[1]} instead of {counts[0]} layers on the GPU" if counts[0] != counts[1] else "",
        f"the KV cache in {again.plan.kv_type}" * (again.plan.kv_type != settled.plan.kv_type),
    ]
    return again, (
        f"{share.device} refused {gib(share.total_bytes)}, {gib(missing)} too much; again with "
        f"{' and '.join(filter(None, changes)) or 'less of it'}"
    )


def check_growth(settled: Settled, n_ctx_now: int, n_ctx: int) -> None:
    """Raise DoesNotFit when a context of ``n_ctx`` tokens (one of ``n_ctx_now``, or none, being
    there) does not fit beside the layers: in what is free now, and in what may be used at all."""
    free = {device.name: device.free_bytes for device in llama.devices()}
    free[HOST] = hardware.memory().available_bytes
    before = settled.at(n_ctx_now).shares if n_ctx_now else None
    for index, share in enumerate(settled.at(n_ctx).shares):
        held = before[index].kv_bytes + before[index].compute_bytes if before else 0
        needed = share.kv_bytes + share.compute_bytes - held
        usable = min(free.get(share.device, needed), settled.usable_bytes(share) + needed)
        if needed > usable:
            smaller = f"take less than {n_ctx} tokens"
            planned = f"start with --n-ctx {n_ctx}, so that it is planned for"
            instead = "" if settled.plan.kv_type != "f16" else ", or --kv-type q8_0"
            raise DoesNotFit(
                f"a context of {n_ctx} tokens needs {gib(needed)} more on {share.device}, where "
                f"{gib(max(0, usable))} may be used; {planned if settled.plan.gpus else smaller}"
                f"{instead}"
            )


def _matters(plan: OffloadPlan, machine: Machine) -> bool:
    """Whether it makes a difference how large compute buffers are, to the byte."""
    return bool(machine.gpus) or plan.host.total_bytes > NEAR_FULL * plan.host.free_bytes


def _measure(trials: Trials, path: Path, plan: OffloadPlan, site: Site) -> list[int]:
    """The compute buffers of a plan's devices, in the order of its shares; none where a dry load
    cannot be made."""
    trial = Trial(path, plan, site.workers, site.n_threads, dry=True)
    buffers = trials.dry_buffers(trial)
    if buffers is None:
        return []
    return [d.actual["compute"] for d in compare(plan, buffers, site.buffer_names)]
