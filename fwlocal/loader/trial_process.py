"""``python -m fwlocal.loader.trial_process``: the child that loads are tried in."""

from __future__ import annotations

from collections.abc import Iterator

from fwlocal.children import serve
from fwlocal.loader.trial import Trial


def try_load(trial: object) -> Iterator[object]:
    """The buffers of one load, which is then given up."""
    # Here, so that a llama.cpp that cannot be loaded is told to the parent.
    from fwlocal import llama
    from fwlocal.llama.rpc import add_worker
    from fwlocal.loader.native_plan import context_options, load_options

    if not isinstance(trial, Trial):
        raise TypeError(f"no trial: {trial!r}")
    for worker in trial.workers:
        add_worker(worker)
    model = llama.Model(trial.path, load_options(trial.plan, dry=trial.dry))
    try:
        context = llama.Context(model, context_options(trial.plan, trial.n_threads), lambda: False)
        context.close()
    finally:
        model.close()
    yield (*model.buffers, *context.buffers)


if __name__ == "__main__":
    serve(try_load, reports_aborts=True)
