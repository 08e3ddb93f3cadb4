"""``python -m fwlocal.tune.load_process``: the child that a load is timed in."""

from __future__ import annotations

from collections.abc import Iterator

from fwlocal.bench.context_tests import ContextTests
from fwlocal.bench.measured import Entrant
from fwlocal.bench.opening import open_level
from fwlocal.children import serve
from fwlocal.errors import FwlocalError
from fwlocal.interrupts import Interrupt
from fwlocal.llama.numa import use_numa
from fwlocal.tune.loads import LoadTimes, LoadTrial
from fwlocal.whole import read_whole


def load(trial: object) -> Iterator[object]:
    """What one load and its tests take. Raises FwlocalError where the weights cannot be locked."""
    if not isinstance(trial, LoadTrial):
        raise TypeError(f"no trial: {trial!r}")
    use_numa(trial.options.numa)
    entrant = Entrant(trial.file.name, trial.file, read_whole(trial.file.path))
    with open_level(entrant, trial.options, trial.n_ctx) as opened:
        if trial.options.mlock and any("mlock" in line for line in opened.model.warnings):
            raise FwlocalError("the model could not be locked in RAM; raise the limit (ulimit -l)")
        runner = ContextTests(opened.model, opened.context(), 0, Interrupt())
        seconds = tuple(runner.run(test).seconds for test in trial.tests)
        yield LoadTimes(opened.load_s, seconds)


if __name__ == "__main__":
    serve(load, reports_aborts=True)
