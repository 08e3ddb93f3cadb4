"""What a draft model brings, against what its acceptance and its costs predict."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fwlocal.draft import Controller, Drafter, Kind, Steering, Widths
from tests.draft.forced import Forced
from tests.draft.machine import EXACT, PairAtWork, Said, in_turns, opened_pair, spread
from tests.paired_llama import Pair

PROMPT = (50, 51, 52)  # the pair's; any of its tokens would do


class Recording(Forced):
    """A forced controller that adds up what it is told."""

    def __init__(self, n_rows: int) -> None:
        super().__init__(n_rows)
        self.single_s: list[float] = []
        self.batch_s: list[float] = []
        self.draft_s: list[float] = []

    def decoded(self, seconds: float) -> None:
        super().decoded(seconds)
        self.single_s.append(seconds)

    def drafted(self, kind: Kind, n_tokens: int, seconds: float) -> None:
        super().drafted(kind, n_tokens, seconds)
        self.draft_s.append(seconds)

    def evaluated(self, kind: Kind, width: int, n_tokens: int, seconds: float) -> None:
        super().evaluated(kind, width, n_tokens, seconds)
        self.batch_s.append(seconds)


class Silent:
    """A Drafter that has no guess: each token is decoded alone, by the clock."""

    is_free = True
    kind = Kind("silent", 0.5)

    def prepare(self, tokens: Sequence[int]) -> float:
        return 0.0

    def propose(self, tokens: Sequence[int], n_max: int) -> Sequence[int]:
        return ()


def compare_pair(arguments: argparse.Namespace) -> None:
    """Table 2."""
    print("\n| draft model | agrees | batch, draft, rest | predicted | measured (spread) | off |")
    print("|---|---|---|---|---|---|", flush=True)
    with opened_pair(arguments.threads) as at_work:
        for n_rows in (2, 3, 4):
            print(_pair_row(at_work, n_rows, arguments), flush=True)
        ratios = []
        for number in range(3 * arguments.rounds):  # what is lost is little beside the noise
            alone, ours = _both(at_work, Controller(), number)
            ratios.append(alone.seconds / ours.seconds)
        print(f"| as it decides, ≥ 0.97 | | | | {spread(ratios)} | |")


@dataclass(frozen=True)
class Round:
    """What a round took, in times of a token of the answer without drafts, and brought. ``rest_s``
    is what a token takes beside its evaluation: to be drawn, and looked after."""

    batch_s: float
    draft_s: float
    rest_s: float
    share: float
    ratio: float

    def predicted(self, n_rows: int) -> float:
        """A draft and a batch bring 1 + a + a² + ... tokens, each of which is drawn."""
        n_tokens = sum(self.share**n for n in range(n_rows))
        return n_tokens / (self.draft_s + self.batch_s + n_tokens * self.rest_s)


def _pair_row(at_work: PairAtWork, n_rows: int, arguments: argparse.Namespace) -> str:
    """For a draft length."""
    rounds = [measured(at_work, n_rows, number) for number in range(arguments.rounds)]

    def median(of: Callable[[Round], float]) -> float:
        return statistics.median(map(of, rounds))

    costs = [median(of) for of in (lambda r: r.batch_s, lambda r: r.draft_s, lambda r: r.rest_s)]
    off = median(lambda r: r.ratio / r.predicted(n_rows)) - 1
    return (
        f"| {n_rows - 1} at a time | {rounds[0].share:.2f} | "
        f"{', '.join(f'{cost:.2f}' for cost in costs)} | "
        f"{median(lambda r: r.predicted(n_rows)):.2f} | {spread([r.ratio for r in rounds])} | "
        f"{off:+.0%} |"
    )


def measured(at_work: PairAtWork, n_rows: int, number: int) -> Round:
    """A round. Times of batches and drafts are those of the answer itself; what a token takes
    beside its evaluation is that of a third one, with drafts that never come."""
    recording, waiting = Recording(n_rows), Recording(1)
    alone, ours = _both(at_work, recording, number)
    idle = _answer(at_work, [Silent()], waiting)
    if not alone.tokens == ours.tokens == idle.tokens:
        raise SystemExit("the answers differ")
    token_s = alone.seconds / (len(alone.tokens) - 1)
    idle_s = idle.seconds / (len(idle.tokens) - 1)
    return Round(
        batch_s=statistics.mean(recording.batch_s) / token_s,
        draft_s=statistics.mean(recording.draft_s) / token_s,
        rest_s=max(idle_s - statistics.mean(waiting.single_s), 0.0) / token_s,
        share=agreement(at_work.pair, alone.tokens),
        ratio=alone.seconds / ours.seconds,
    )


def _both(at_work: PairAtWork, drafting: Controller, number: int) -> tuple[Said, Said]:
    """An answer without drafts and with."""
    return in_turns(
        lambda: _answer(at_work, [], Controller()),
        lambda: _answer(at_work, [at_work.drafter], drafting),
        number,
    )


def _answer(at_work: PairAtWork, drafters: Sequence[Drafter], controller: Controller) -> Said:
    n_tokens = 200  # with the prompt no more than 256, where all is exact
    steering = Steering(controller, Widths(lossless=True, known=EXACT))
    return at_work.machine.answer(PROMPT, n_tokens, drafters, steering)


def agreement(pair: Pair, said: Sequence[int]) -> float:
    """How often the draft would say the same."""
    same = (pair.draft_table[token] == pair.target_table[token] for token in said)
    return sum(same) / len(said)
