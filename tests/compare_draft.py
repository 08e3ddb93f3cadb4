"""What drafting brings: ``python -m tests.compare_draft [--model FILE ...] [--prompts N]``.

Prints, as Markdown tables: (1) prompt lookup on edits, summaries and free text, against decoding
one by one, with the default model in Q4_0 and Q8_0 unless others are named: of all prompts, and of
those whose answer repeats the text that it is about, as a small model's often does not; (2) a
draft model, by a pair of synthetic models that agree 60 % of the time (``tests.paired_llama``),
against what its acceptance, counted in the models, and the mean costs of a batch and of a draft
predict; (3) how many of many
answers by the pair differ from those without drafts, by tokens.

The two sides run in turns, so that a machine whose speed drifts favours neither; a ratio is the
median of the rounds' ratios. Times are of decoding alone. What is exact on this machine is found
out before (1), unless ``--unexplored`` leaves that to the first answers. In (1) the answers follow
each other as in a chat; with ``--anew`` each is the first one of its process, as with ``run``, and
knows of the others no more than is kept in files.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from fwlocal import llama
from fwlocal.cli.bench_levels import Asked, enter
from fwlocal.draft import (
    Controller,
    Drafter,
    KnownWidths,
    PromptLookup,
    Steering,
    Widths,
    explore,
)
from fwlocal.encoding import encode
from fwlocal.hardware import physical_cores
from fwlocal.loader import Library, open_file
from fwlocal.prompts import FORMATS, Message
from fwlocal.registry import DEFAULT_MODEL
from fwlocal.sampling import SamplingParams
from tests.compare import QUESTIONS
from tests.draft.compare_pair import compare_pair
from tests.draft.forced import Forced
from tests.draft.machine import (
    EXACT,
    GREEDY,
    Machine,
    Said,
    in_turns,
    opened_pair,
    spread,
)
from tests.draft.prompts import CODE, DATA, EDITS, STORY, SUMMARIES
from tests.paired_llama import N_SPECIAL
from tests.tiny_llama import vocabulary

# Of byte tokens, which the pair has: letters and digits in turn.
GRAMMAR = 'root ::= ([a-z] [a-z] [0-9])+ "."'


def compare_lookup(path: Path, arguments: argparse.Namespace) -> None:
    """Table 1."""
    options = llama.ContextOptions(
        n_ctx=1024,
        n_threads=arguments.threads,
        kv_type=arguments.kv_type,
        flash_attn=arguments.flash_attn,
    )
    with closing(Machine(path, options)) as machine:
        known = None if arguments.unexplored else explored(machine)
        steering = Steering(Controller(), Widths(lossless=True, known=known, tell=print))
        costs: dict[int, float] = {}
        for name, questions, goal in (
            ("edits", EDITS, "≥ 1.3"),
            ("summaries", SUMMARIES, "≥ 1.3"),
            ("free text", QUESTIONS[: arguments.free], "≥ 0.97"),
        ):
            chatml = FORMATS["chatml"]
            prompts = [
                encode(machine.model, chatml.render([Message("user", question)]))
                for question in questions
            ]
            timers = [_timed(machine, prompt, steering, costs, arguments) for prompt in prompts]
            rounds = [[next(timer) for timer in timers] for _ in range(arguments.rounds)]
            answers = list(zip(*rounds, strict=True))
            print(f"| {name} | {path.stem} | {_row(answers)} {goal} |", flush=True)
            repeating = [
                pairs
                for prompt, pairs in zip(prompts, answers, strict=True)
                if _repeats(prompt, pairs[0][0].tokens)
            ]
            if repeating and name != "free text":
                print(
                    f"| {name} that repeat | {path.stem} | {_row(repeating)} {goal} |", flush=True
                )


def models(named: Sequence[str] | None) -> list[Path]:
    """The files, the default model's levels made where they are missing."""
    if not named:
        found = enter(Asked(DEFAULT_MODEL, ("Q4_0", "Q8_0")), Library.default())
        return [entrant.file.path for entrant in found.entrants]
    return [open_file(name, Library.default(), print)[0].path for name in named]


def explored(machine: Machine) -> KnownWidths:
    """What is exact here, as it is found once and kept."""
    text = machine.model.tokenize(f"{STORY}\n{CODE}\n{DATA}\n" * 3, special=False)
    return explore(machine.cache, text)


def _timed(
    machine: Machine,
    prompt: Sequence[int],
    steering: Steering,
    costs: dict[int, float],
    arguments: argparse.Namespace,
) -> Iterator[tuple[Said, Said]]:
    """An answer without drafts and with them, round after round; ``costs`` is what one process
    leaves to the next."""

    def answer(*drafters: Drafter) -> Said:
        if not arguments.anew:
            return machine.answer(prompt, arguments.tokens, drafters, steering)
        controller = Controller(known=costs)
        said = machine.answer(
            prompt, arguments.tokens, drafters, replace(steering, controller=controller)
        )
        costs.update(controller.costs.measured)
        return said

    for number in itertools.count():
        yield in_turns(answer, lambda: answer(PromptLookup()), number)


def _row(answers: Sequence[Sequence[tuple[Said, Said]]]) -> str:
    """Of ``answers``, for each prompt those of each round: speed, ratio, acceptance, sameness."""
    rounds = [tuple(zip(*pairs, strict=True)) for pairs in zip(*answers, strict=True)]
    plain_s = [sum(said.seconds for said in plain) for plain, _ in rounds]
    ours_s = [sum(said.seconds for said in ours) for _, ours in rounds]
    everything = [pair for pairs in answers for pair in pairs]
    n_tokens = sum(len(plain.tokens) for plain in rounds[0][0])
    speed = n_tokens / statistics.median(plain_s)
    ratios = [plain / ours for plain, ours in zip(plain_s, ours_s, strict=True)]
    figures = [ours.figures for _, ours in everything]
    accepted = sum(one.n_accepted for one in figures)
    drafted = sum(one.n_drafted for one in figures)
    n_same = sum(plain.tokens == ours.tokens for plain, ours in everything)
    return (
        f"{len(answers)} | {speed:.1f} | {spread(ratios)} | {accepted} of {drafted} | "
        f"{n_same} of {len(everything)} |"
    )


def _repeats(prompt: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether half of the answer's tokens or more end four that stand in the prompt, in a row."""
    known = set(_fours(prompt))
    return 2 * sum(four in known for four in _fours(answer)) >= len(answer)


def _fours(tokens: Sequence[int]) -> Iterable[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(4)), strict=False)


def compare_answers(arguments: argparse.Namespace) -> None:
    """Table 3."""
    settings: dict[str, Callable[[int], SamplingParams]] = {
        "greedy": lambda seed: replace(GREEDY, seed=seed),
        "temperature 0.8": lambda seed: SamplingParams(temperature=0.8, seed=seed),
        "greedy, repeat penalty or grammar": lambda seed: replace(
            GREEDY,
            seed=seed,
            repeat_penalty=1.3 if seed % 2 else 1.0,
            grammar=None if seed % 2 else GRAMMAR,
        ),
    }
    print("\n| sampling | prompts | tokens | drafted | accepted | answers that differ | goal |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with opened_pair(arguments.threads) as at_work:
        answer = at_work.machine.answer
        steering = Steering(Forced(), Widths(lossless=True, known=EXACT))
        for name, setting in settings.items():
            n_differ = n_tokens = n_drafted = n_accepted = 0
            for seed in range(arguments.prompts):
                prompt = _prompt(seed)
                plain = answer(prompt, arguments.short, [], steering, setting(seed))
                drafters: list[Drafter] = [PromptLookup(), at_work.drafter]
                ours = answer(prompt, arguments.short, drafters, steering, setting(seed))
                n_differ += plain.tokens != ours.tokens
                n_tokens += len(plain.tokens)
                n_drafted += ours.figures.n_drafted
                n_accepted += ours.figures.n_accepted
            print(
                f"| {name} | {arguments.prompts} | {n_tokens} | {n_drafted} | {n_accepted} | "
                f"{n_differ} | 0 |",
                flush=True,
            )


def _prompt(seed: int) -> list[int]:
    """A few tokens, some of which repeat."""
    chances = random.Random(seed)
    tokens = [chances.randrange(N_SPECIAL, len(vocabulary())) for _ in range(5 + seed % 40)]
    return tokens + tokens[: seed % 7]


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="*", help="[default: smollm2-135m in Q4_0 and Q8_0]")
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--kv-type", default="f16", choices=list(llama.KV_TYPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=150, help="of an answer whose time counts")
    parser.add_argument("--short", type=int, default=32, help="of an answer that is compared")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--free", type=int, default=8, help="questions of free text")
    parser.add_argument("--unexplored", action="store_true", help="as before anything is known")
    parser.add_argument(
        "--anew", action="store_true", help="each answer in its own process, as it were"
    )
    parser.add_argument("--flash-attn", default="on", choices=list(llama.FLASH_ATTENTION))
    parser.add_argument("--only", choices=["lookup", "pair", "answers"])
    arguments = parser.parse_args()
    if arguments.only in (None, "lookup"):
        print(
            "| prompt lookup on | model | prompts | plain tok/s | ratio (spread) | accepted | same "
            "| goal |"
        )
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for path in models(arguments.model):
            compare_lookup(path, arguments)
    if arguments.only in (None, "pair"):
        compare_pair(arguments)
    if arguments.only in (None, "answers"):
        compare_answers(arguments)
    print(f"\n{arguments.threads} threads, {arguments.rounds} rounds.")


if __name__ == "__main__":
    main()
