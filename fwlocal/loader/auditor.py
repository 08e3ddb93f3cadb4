"""Takes down what a load really takes, as its contexts are made."""

from __future__ import annotations

import dataclasses
import logging
from datetime import datetime, timezone

from fwlocal import llama
from fwlocal.audit import Audit, compare, lines, read, save
from fwlocal.loader.planning import Settled
from fwlocal.store import default_root

log = logging.getLogger(__name__)


class Auditor:
    """The audit of one load: ``audit`` is there once a context was made. ``verbose`` tells it."""

    def __init__(self, settled: Settled, model: llama.Model, *, verbose: bool) -> None:
        self.audit: Audit | None = None
        self._settled, self._model, self._verbose = settled, model, verbose

    def note(self, context: llama.Context) -> None:
        """A context was made: compare, keep it where it is news, tell it."""
        settled, plan = self._settled, self._settled.at(context.n_ctx)
        buffers = (*self._model.buffers, *context.buffers)
        self.audit = Audit(
            file=str(settled.path.absolute()),
            llama_cpp=llama.version(),
            n_gpu_layers=plan.n_gpu_layers,
            n_layers=plan.n_layers,
            n_ctx=plan.n_ctx,
            kv_type=plan.kv_type,
            devices=compare(plan, buffers, settled.site.buffer_names),
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        root = default_root()
        known = read(root, self.audit.file)
        if is_news(self.audit, known):
            save(root, self.audit)
        if self._verbose:
            for line in lines(self.audit):
                log.warning("%s", line)


def is_news(audit: Audit, known: Audit | None) -> bool:
    """Whether to keep an audit: a context that is made for a short question, and taken as it was
    planned, says no more than the larger one that is ``known``, and each is of another size."""
    if known is None:
        return True
    if audit.n_ctx < known.n_ctx and not audit.is_off:
        return False
    return dataclasses.replace(known, made=audit.made) != audit
