"""Speed of a model alone and with a draft: ``python -m tests.gpu.measure_speed MODEL DRAFT``.

Loads both on the first GPU that llama.cpp sees, and prints what it measured as one line of JSON
(``tests.gpu.speed_report.Speeds``). How the acceptance is forced, ``tests.gpu.forced`` says. Each
round has the settings in turns, those of one acceptance beside an answer without drafts; the next
round has them in reverse. Answers before the first round warm both up and do not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from fwlocal import llama
from fwlocal.draft import GPU_ROW_COST
from fwlocal.errors import FwlocalError
from fwlocal.hardware import default_threads
from tests.gpu.forced import (
    ROOM,
    Answer,
    LoadedPair,
    Recording,
    RecordingForced,
    opened_pair,
    predicted_tps,
    prompt_of,
)
from tests.gpu.measure import N_PREFILL, check_gpu
from tests.gpu.speed_report import AS_IT_DECIDES, ForcedSpeed, Speeds

N_WARM = 24  # tokens


@dataclass
class Setting:
    """One acceptance and one draft length, what decides of it, and its answers, each with the one
    without drafts beside it. A controller that decides keeps what it learned."""

    acceptance: float
    n_drafted: int
    controller: Recording
    turns: list[tuple[Answer, Answer]] = field(default_factory=list)

    def speed(self) -> ForcedSpeed:
        """What all of its turns show."""
        logs = [ours.log for _, ours in self.turns]
        n_batches = sum(len(log.batches) for log in logs)
        n_decided = sum(log.n_decided for log in logs)
        return ForcedSpeed(
            acceptance=self.acceptance,
            n_drafted=self.n_drafted,
            tps=tuple(ours.decode_tps for _, ours in self.turns),
            ratios=tuple(ours.decode_tps / plain.decode_tps for plain, ours in self.turns),
            predicted=tuple(
                predicted_tps(ours.log, self.acceptance) / plain.decode_tps
                for plain, ours in self.turns
            ),
            mean_drafted=sum(log.n_drafted for log in logs) / n_batches if n_batches else None,
            accepted=sum(log.n_right for log in logs) / n_decided if n_decided else None,
        )


def setting(acceptance: float, n_drafted: int) -> Setting:
    """Before its first answer."""
    is_free = n_drafted == AS_IT_DECIDES
    controller = Recording(GPU_ROW_COST) if is_free else RecordingForced(n_drafted + 1)
    return Setting(acceptance, n_drafted, controller)


def measure(
    pair: LoadedPair,
    acceptances: Sequence[float],
    lengths: Sequence[int],
    *,
    rounds: int,
    n_prefill: int,
    n_tokens: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Speeds:
    """All settings, in turns: each of ``lengths``, and AS_IT_DECIDES, at each acceptance."""
    prompt = prompt_of(n_prefill)
    groups = [[setting(a, n) for n in (*lengths, AS_IT_DECIDES)] for a in acceptances]
    pair.answer(prompt, N_WARM, Recording(GPU_ROW_COST))
    for one in chain(*groups):
        pair.answer(prompt, N_WARM, one.controller, one.acceptance)
    plains: list[Answer] = []
    for number in range(rounds):
        step = -1 if number % 2 else 1
        for group in groups[::step]:
            plains.append(pair.answer(prompt, n_tokens, Recording(GPU_ROW_COST)))
            for one in group[::step]:
                ours = pair.answer(prompt, n_tokens, one.controller, one.acceptance, number)
                one.turns.append((plains[-1], ours))
        tell(f"round {number + 1} of {rounds}: {plains[-1].decode_tps:.1f} tok/s without drafts")
    return Speeds(
        prefill_tps=tuple(n_prefill / plain.prefill_s for plain in plains),
        decode_tps=tuple(plain.decode_tps for plain in plains),
        forced=tuple(one.speed() for one in chain(*groups)),
    )


def gpu() -> str:
    """llama.cpp's name of the first one. Raises FwlocalError where it sees none."""
    check_gpu()
    return next(device.name for device in llama.devices() if device.kind in ("GPU", "IGPU"))


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m tests.gpu.measure_speed", description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("draft", type=Path)
    options.add_argument("--acceptances", type=float, nargs="+", default=[0.6])
    options.add_argument("--lengths", type=int, nargs="+", default=[4], help="tokens drafted")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--prefill", type=int, default=N_PREFILL, help="tokens of the prompt")
    options.add_argument("--tokens", type=int, default=128, help="of an answer")
    options.add_argument("--threads", type=int, default=default_threads())
    options.add_argument("--cpu", action="store_true", help="to try it without a GPU")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; stdout has the speeds, stderr progress or an error in one line."""
    found = parser().parse_args(arguments)
    n_ctx = found.prefill + found.tokens + ROOM
    options = llama.ContextOptions(n_ctx=n_ctx, n_threads=found.threads)
    try:
        device = None if found.cpu else gpu()
        with opened_pair(found.model, found.draft, device, options) as pair:
            speeds = measure(
                pair,
                found.acceptances,
                found.lengths,
                rounds=found.rounds,
                n_prefill=found.prefill,
                n_tokens=found.tokens,
                tell=lambda line: print(line, file=sys.stderr, flush=True),
            )
    except FwlocalError as error:
        print(f"measure_speed: {error}", file=sys.stderr)
        return error.exit_code
    print(speeds.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
