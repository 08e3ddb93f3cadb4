"""The speed part of a run: rounds, in each of which every level has its turn, so that a machine
that warms up favours none."""

from __future__ import annotations

from collections.abc import Callable

from fwlocal.bench import speed
from fwlocal.bench.kept import Kept
from fwlocal.bench.order import Keys, Order
from fwlocal.bench.progress import View
from fwlocal.bench.result import SpeedTest
from fwlocal.bench.state import Level, State
from fwlocal.errors import FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt

DECODED = 5.0  # tokens prefilled in the time of one decoded, about: for the progress alone
LOADING = 100.0  # ... and in that of a load


def weight(test: SpeedTest) -> float:
    """How much work a test is, in tokens prefilled, about."""
    return test.n_prompt + DECODED * test.n_gen + test.n_depth / 2


def work(order: Order, level: Level) -> float:
    """How much is to be done for a level."""
    tests = speed.possible(order.settings.tests, level.entrant.header)
    n_left = max(0, order.settings.repetitions - len(level.rounds)) if tests else 0
    return n_left * (LOADING + sum(map(weight, tests)))


def recall(order: Order, state: State, keys: Keys, kept: Kept) -> None:
    """Take over the rounds that were measured before."""
    for level in state.sound if order.settings.tests else ():
        key = keys.rounds(level)
        if order.fresh:
            kept.forget(key)
        level.rounds = kept.rounds(key)[: order.settings.repetitions]


def run(
    order: Order,
    state: State,
    keys: Keys,
    kept: Kept,
    view: View,
    interrupt: Interrupt,
    finished: Callable[[Level], None],
) -> None:
    """Measure until every level that can be has all its rounds; ``finished`` is told of each that
    has one more. A level that fails has a problem from then on. Raises Interrupted."""
    for n_before in range(order.settings.repetitions if order.settings.tests else 0):
        for level in state.sound:
            if len(level.rounds) <= n_before:
                _measure(order, level, keys, kept, view, interrupt)
                finished(level)


def _measure(
    order: Order, level: Level, keys: Keys, kept: Kept, view: View, interrupt: Interrupt
) -> None:
    n_before, n_all = len(level.rounds), order.settings.repetitions
    doing = f"{level.label}, round {n_before + 1} of {n_all}"
    tests = speed.possible(order.settings.tests, level.entrant.header)
    view.step(f"{doing}: loading", LOADING)
    try:
        found = speed.measure(
            level.entrant,
            order.options,
            tests,
            cold=order.cold and not n_before,
            seed=order.settings.seed,
            on_test=lambda test: view.step(f"{doing}: {test.name}", weight(test)),
            notify=view.note,
            interrupt=interrupt,
        )
    except Interrupted:
        raise
    except FwlocalError as error:
        level.problem = str(error)
        return
    level.rounds.append(found)
    kept.add_round(keys.rounds(level), found)
