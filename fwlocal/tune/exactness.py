"""How many tokens at once are computed to the bit as one by one, found out with what was tuned, so
that drafts are used from the first answer on; otherwise a few answers find it out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from fwlocal import llama
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import plan_level
from fwlocal.bench.text import read_text, tokens_of
from fwlocal.draft import N_TOKENS, KnownWidths, explore
from fwlocal.interrupts import Interrupt
from fwlocal.kv_cache import KVCache
from fwlocal.loader import EngineOptions
from fwlocal.loader.exact_rows import ExactRows
from fwlocal.loader.native_plan import context_options
from fwlocal.offload.context import rounded_n_ctx


@dataclass(frozen=True)
class Exactness:
    """What was found, and where it is to be remembered."""

    known: KnownWidths
    rows: ExactRows

    def keep(self) -> None:
        """Remember it."""
        self.rows.keep(self.known)


def find_out(
    entrant: Entrant,
    model: llama.Model,
    options: EngineOptions,
    n_ctx: int,
    interrupt: Interrupt,
) -> Exactness | None:
    """What is exact for a question by these options; None where drafts need not be exact (on
    GPUs), or cannot be used. Nothing is remembered yet. Raises DoesNotFit."""
    settled = plan_level(entrant, replace(options, brief=True), n_ctx, interrupt)
    if settled.plan.gpus or model.keeps_state or n_ctx < N_TOKENS:
        return None
    native = context_options(settled.plan, settled.site.n_threads)
    tokens = tokens_of(model, read_text(None))
    in_short = replace(native, n_ctx=rounded_n_ctx(N_TOKENS))
    with closing(KVCache(model, in_short, interrupt.is_set)) as cache:
        known = explore(cache, tokens, interrupt.is_set)
    if interrupt.is_set():
        return None
    return Exactness(known, ExactRows(entrant.header, settled.plan, native))
