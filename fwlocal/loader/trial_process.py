"""``python -m fwlocal.loader.trial_process``: the child that loads are tried in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fwlocal import llama
from fwlocal.children import Parent
from fwlocal.loader.connecting import add_workers
from fwlocal.loader.native_plan import context_options, load_options
from fwlocal.loader.trial import Trial


def try_load(parent: Parent, trial: object) -> Iterator[object]:
    """The buffers of one load, which is then given up."""
    if not isinstance(trial, Trial):
        raise TypeError(f"no trial: {trial!r}")
    add_workers(parent, trial.workers)
    model = llama.Model(trial.path, load_options(trial.plan, dry=trial.dry))
    try:
        context = llama.Context(model, context_options(trial.plan, trial.n_threads), lambda: False)
        context.close()
    finally:
        model.close()
    yield (*model.buffers, *context.buffers)


if __name__ == "__main__":
    parent = Parent()
    parent.report_aborts()
    parent.serve(partial(try_load, parent))
