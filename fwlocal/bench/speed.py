"""One level's part of a round: loaded, warmed up, every speed test once, freed. What was stopped
goes on at the next test, after another load.

Which level's turn it is and what follows from the figures, it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from fwlocal.bench import page_cache
from fwlocal.bench.context_tests import ContextTests, Spent
from fwlocal.bench.measured import EnergyUsed, Entrant, Round
from fwlocal.bench.memory import PeakRss
from fwlocal.bench.opening import Opened, open_level
from fwlocal.bench.result import SpeedTest
from fwlocal.gguf import GGUFHeader
from fwlocal.hardware.energy import Meter, counters
from fwlocal.interrupts import Interrupt
from fwlocal.loader.opening import silent
from fwlocal.loader.options import EngineOptions
from fwlocal.loader.planning import Settled
from fwlocal.offload.context import rounded_n_ctx
from fwlocal.splits import parts_of

DEFAULT_DEPTHS = (0, 2048, 4096)
NVIDIA = "CUDA"  # the backend


def series(n_prompt: int, n_gen: int, depths: Sequence[int]) -> tuple[SpeedTest, ...]:
    """Prefill of ``n_prompt`` and decoding of ``n_gen`` tokens at each depth; 0 is no test."""
    return tuple(
        test
        for depth in depths
        for test in (SpeedTest(n_prompt, 0, depth), SpeedTest(0, n_gen, depth))
        if test.n_prompt or test.n_gen
    )


DEFAULT_TESTS = series(512, 128, DEFAULT_DEPTHS)


def possible(tests: Sequence[SpeedTest], header: GGUFHeader) -> tuple[SpeedTest, ...]:
    """Those no deeper than what a model was trained on; beyond it, what is timed may still lie."""
    trained = header.number("{arch}.context_length") or 0
    return tuple(test for test in tests if not trained or test.n_depth <= trained)


def needed_n_ctx(tests: Sequence[SpeedTest]) -> int:
    """Tokens of a context that all tests fit in, as llama.cpp rounds it."""
    return rounded_n_ctx(max(map(_n_tokens, tests), default=1))


def measure(
    entrant: Entrant,
    options: EngineOptions,
    tests: Sequence[SpeedTest],
    *,
    cold: bool,
    seed: int = 0,
    before: Round | None = None,
    on_test: Callable[[SpeedTest], None] = lambda test: None,
    on_tested: Callable[[Round], None] = lambda so_far: None,
    notify: Callable[[str], None] = silent,
    interrupt: Interrupt | None = None,
) -> Round:
    """Load the level, run each of ``tests`` once, free it. ``cold`` loads it once more, before,
    from the disk alone; ``on_test`` is told each test as it begins, and ``on_tested`` gets what
    the round is after it. ``before`` is the same round as it was stopped: only what it lacks is
    run, in a context of the same size.

    The shallow ones are run first, since the deep ones go on from what they left; results are in
    the order of ``tests``. Raises the errors of ``open_level``; Interrupted.
    """
    interrupt = interrupt or Interrupt()
    n_ctx = needed_n_ctx(tests)
    done = {test for test, _ in before.speeds} if before else set()
    left = [test for test in tests if test not in done]
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def opened_again() -> Opened:
        return open_level(entrant, options, n_ctx, notify=notify, interrupt=interrupt)

    files = parts_of(entrant.file.path)
    load_cold_s = None
    if cold and page_cache.put_out(files):
        with opened_again() as opened:
            load_cold_s = opened.load_s
    page_cache.bring_in(files, interrupt)
    with PeakRss() as peak, opened_again() as opened:
        meter = Meter(counters(_gpus_used(opened.settled)))
        empty = replace(_empty(opened), load_cold_s=load_cold_s, started=started)

        def whole(found: Mapping[SpeedTest, Spent]) -> Round:
            energy = energy_of(found, meter.source)
            now = replace(empty, speeds=_speeds(found), energy=energy, peak_rss_bytes=peak.bytes)
            return joined(before, now, tests)

        def tested(found: Mapping[SpeedTest, Spent]) -> None:
            on_tested(whole(found))

        found = _run_all(opened, left, seed, meter, on_test, tested, interrupt)
    return whole(found)


def _empty(opened: Opened) -> Round:
    """A round of which nothing is measured but the load."""
    plan = opened.settled.plan
    return Round((), opened.load_s, None, None, plan.n_gpu_layers, plan.n_layers, opened.devices)


def _speeds(found: Mapping[SpeedTest, Spent]) -> tuple[tuple[SpeedTest, float], ...]:
    return tuple((test, _timed(test) / spent.seconds) for test, spent in found.items())


def joined(before: Round | None, found: Round, tests: Sequence[SpeedTest]) -> Round:
    """A round that was stopped, ``before``, if it was, and what was measured now, in the order of
    ``tests``: its time and loads are those of the first, and energy must have been counted in all
    of it."""
    tps = {**(dict(before.speeds) if before else {}), **dict(found.speeds)}
    speeds = tuple((test, tps[test]) for test in tests if test in tps)
    if before is None:
        return replace(found, speeds=speeds)
    peaks = [one.peak_rss_bytes for one in (before, found) if one.peak_rss_bytes]
    energies = (before.energy, found.energy)
    return replace(
        found,
        speeds=speeds,
        load_warm_s=before.load_warm_s,
        load_cold_s=before.load_cold_s or found.load_cold_s,
        peak_rss_bytes=max(peaks, default=None),
        energy=_summed([one for one in energies if one is not None], len(energies)),
        started=before.started or found.started,
    )


def _summed(used: Sequence[EnergyUsed], n_wanted: int) -> EnergyUsed | None:
    """Of all parts together; None unless all counted, by the same counters."""
    if len(used) < n_wanted or len({one.source for one in used}) != 1:
        return None
    return EnergyUsed(
        used[0].source,
        sum(one.prefill_j for one in used),
        sum(one.n_prefilled for one in used),
        sum(one.decode_j for one in used),
        sum(one.n_decoded for one in used),
    )


def _run_all(
    opened: Opened,
    tests: Sequence[SpeedTest],
    seed: int,
    meter: Meter,
    on_test: Callable[[SpeedTest], None],
    on_tested: Callable[[Mapping[SpeedTest, Spent]], None],
    interrupt: Interrupt,
) -> dict[SpeedTest, Spent]:
    """Warm up, and run every test."""
    found: dict[SpeedTest, Spent] = {}
    runner = ContextTests(opened.model, opened.context(), seed, interrupt, meter)
    runner.warm_up(tests)
    for test in sorted(tests, key=lambda test: test.n_depth):
        on_test(test)
        found[test] = runner.run(test)
        on_tested(found)
    return found


def energy_of(found: Mapping[SpeedTest, Spent], source: str) -> EnergyUsed | None:
    """What the counters called ``source`` told of all tests; None where they did not, or not
    always. A test of both kinds counts as neither."""
    known = {test: spent.joules for test, spent in found.items() if spent.joules is not None}
    if not known or len(known) < len(found):
        return None
    prefills = [test for test in known if not test.n_gen]
    decodes = [test for test in known if not test.n_prompt]
    return EnergyUsed(
        source,
        sum(known[test] for test in prefills),
        sum(map(_timed, prefills)),
        sum(known[test] for test in decodes),
        sum(map(_timed, decodes)),
    )


def _gpus_used(settled: Settled) -> list[str] | None:
    """The PCI addresses of the NVIDIA GPUs that have a share; None, for all, where one tells none.
    Others' energy is not this level's."""
    used = {share.device for share in settled.plan.gpus}
    gpus = [gpu for gpu in settled.site.machine.gpus if gpu.name in used and gpu.backend == NVIDIA]
    addresses = [gpu.device_id for gpu in gpus]
    return addresses if all(addresses) else None


def _timed(test: SpeedTest) -> int:
    """Tokens that are timed."""
    return test.n_prompt + test.n_gen


def _n_tokens(test: SpeedTest) -> int:
    return test.n_depth + _timed(test)
