"""The speed part of a run: rounds, in each of which every level has its turn, so that a machine
that warms up favours none.

One process at a time measures speed, by a lock beside what is kept: two would time each other.
Rounds of one number were measured in turns where they are of one run; where they are not, a note
tells it.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fwlocal.bench import speed
from fwlocal.bench.kept import Kept
from fwlocal.bench.measured import Round
from fwlocal.bench.order import Keys, Order
from fwlocal.bench.progress import View
from fwlocal.bench.result import SpeedTest
from fwlocal.bench.state import Level, State
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted
from fwlocal.interrupts import Interrupt
from fwlocal.locks import Busy, held, holder_of

DECODED = 5.0  # tokens prefilled in the time of one decoded, about: for the progress alone
LOADING = 100.0  # ... and in that of a load
LOCK = "speed"  # in the folder of what is kept
POLL_S = 0.2


def weight(test: SpeedTest) -> float:
    """How much work a test is, in tokens prefilled, about."""
    return test.n_prompt + DECODED * test.n_gen + test.n_depth / 2


def work(order: Order, level: Level) -> float:
    """How much is to be done for a level."""
    if not level.tests:
        return 0.0
    n_whole = len(level.whole_rounds)
    done = {test for one in level.rounds[n_whole:] for test, _ in one.speeds}
    n_left = max(0, order.settings.repetitions - n_whole)
    return n_left * (LOADING + sum(map(weight, level.tests))) - sum(map(weight, done))


def recall(order: Order, state: State, keys: Keys, kept: Kept) -> None:
    """Take over the rounds that were measured before, up to the first that was stopped, and what
    there is of that."""
    for level in state.sound:
        if not level.tests:
            continue
        level.rounds = kept.rounds(keys.rounds(level))[: order.settings.repetitions]
        n_whole = next(
            (n for n, one in enumerate(level.rounds) if len(one.speeds) < len(level.tests)),
            len(level.rounds),
        )
        level.rounds = level.rounds[: n_whole + 1]


def forget(order: Order, state: State, keys: Keys, kept: Kept) -> None:
    """Have every round measured again."""
    for level in state.sound:
        if level.tests:
            kept.forget(keys.rounds(level))


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
    if not any(work(order, level) for level in state.sound):
        return
    with _alone(kept.folder, view, interrupt) as has_waited:
        if has_waited:
            recall(order, state, keys, kept)  # the other may have measured the same
        for n_before in range(order.settings.repetitions):
            for level in state.sound:
                if level.tests and len(level.whole_rounds) <= n_before:
                    _measure(order, level, keys, kept, view, interrupt)
                    finished(level)


@contextlib.contextmanager
def _alone(folder: Path, view: View, interrupt: Interrupt) -> Iterator[bool]:
    """While inside, no other process measures speed; whether there was one to wait for, of which
    the view is told. Where no lock can be made, nothing is waited for. Raises Interrupted."""
    path, has_waited = folder / LOCK, False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(path, "measuring speed"))
                break
            except Busy:
                if not has_waited:
                    who = holder_of(path) or "another process is measuring speed"
                    view.note(f"{who}, and two would slow each other; waiting until it is done")
                has_waited = True
            except OSError:
                break
            if interrupt.is_set():
                raise Interrupted(exit_code=interrupt.exit_code)
            time.sleep(POLL_S)
        yield has_waited


def _measure(
    order: Order, level: Level, keys: Keys, kept: Kept, view: View, interrupt: Interrupt
) -> None:
    number, n_all = len(level.whole_rounds), order.settings.repetitions
    doing = f"{level.label}, round {number + 1} of {n_all}"

    def keep(found: Round) -> None:
        level.check_file()
        level.rounds[number:] = [replace(found, run_id=order.run_id)]
        kept.add_round(keys.rounds(level), level.rounds[number], number)

    view.step(f"{doing}: loading", LOADING)
    try:
        level.check_file()
        found = speed.measure(
            level.entrant,
            order.options,
            level.tests,
            cold=order.cold and not level.rounds,
            seed=order.settings.seed,
            before=next(iter(level.rounds[number:]), None),
            on_test=lambda test: view.step(f"{doing}: {test.name}", weight(test)),
            on_tested=keep,
            notify=view.note,
            interrupt=interrupt,
        )
        keep(found)
    except Interrupted:
        raise
    except DoesNotFit as error:
        level.problem = advised(str(error))
    except FwlocalError as error:
        level.problem = str(error)


def advised(problem: str) -> str:
    """Why a context for the tests does not fit, with what makes them smaller."""
    problem = problem.replace("a smaller --n-ctx", "less of -p, -n or -d")
    return re.sub(r"(a smaller )?--n-ctx (\d+)", r"-p, -n and -d of \2 tokens in all", problem)


def apart(order: Order, levels: Sequence[Level]) -> str:
    """A line that tells which of the rounds that are kept were not, or will not be, measured in
    turns with the other levels'; "" where all were."""
    odd: dict[str, str] = {}
    for number in range(order.settings.repetitions):
        groups: dict[str, list[Level]] = defaultdict(list)
        for level in (level for level in levels if level.tests):
            is_whole = number < len(level.whole_rounds)
            groups[level.rounds[number].run_id if is_whole else order.run_id].append(level)
        if len(groups) < 2:
            continue
        if groups.pop(order.run_id, None) is None:  # else the others will be measured now
            newest = {run: max(one.rounds[number].started for one in groups[run]) for run in groups}
            groups.pop(max(groups, key=lambda run: (len(groups[run]), newest[run])))
        for group in groups.values():
            odd |= {level.label: level.rounds[number].started for level in group}
    if not odd:
        return ""
    times = sorted({f"{text[:10]} ({text[11:16]} UTC)" for text in odd.values() if text})
    when = f"on {times[0]}" if len(times) == 1 else f"from {times[0]} on" if times else "earlier"
    return (
        f"rounds of {', '.join(odd)} were measured {when}, apart from the others; --fresh measures "
        "all in turns"
    )
