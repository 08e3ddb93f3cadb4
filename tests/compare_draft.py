"""What drafting brings: ``python -m tests.compare_draft [--model FILE ...] [--prompts N]``.

Prints, as Markdown tables: (1) prompt lookup on edits, summaries and free text, against decoding
one by one, with the default model in Q4_0 and Q8_0 unless others are named; (2) a draft model, by
a pair of synthetic models that agree 60 % of the time (``tests.paired_llama``), against what its
acceptance and its costs, each measured on its own, predict; (3) how many of many answers by the
pair differ from those without drafts, by tokens.

The two sides run in turns, so that a machine whose speed drifts favours neither; a ratio is the
median of the rounds' ratios. Times are of decoding alone. What is exact on this machine is found
out before (1), unless ``--unexplored`` leaves that to the first answers.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
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
from tests.paired_llama import N_SPECIAL
from tests.tiny_llama import vocabulary

STORY = (
    "The whale sings in the sea at night. It was a quiet night, and the captain of the ship stood "
    "on the deck and listened to the song for hours. Nobody knew where it came from, but everybody "
    "on board was sure that it was a whale. In the morning the song had ended, and the sea was as "
    "calm as before."
)
CODE = (
    "def area(width, height):\n    if width < 0 or height < 0:\n        raise ValueError('-')\n"
    "    return width * height\n\ndef volume(width, height, depth):\n    if depth < 0:\n"
    "        raise ValueError('negative')\n    return area(width, height) * depth\n"
)
DATA = (
    '[{"name": "Ada", "born": 1815, "city": "London"}, {"name": "Emmy", "born": 1882, "city": '
    '"Erlangen"}, {"name": "Sofia", "born": 1850, "city": "Moscow"}]'
)
EDITS = (
    f"Copy this text and write 'dolphin' instead of 'whale':\n\n{STORY}",
    f"Correct the spelling of this text and give the whole text back:\n\n{STORY}",
    f"Rename area to surface in this code and write all of it:\n\n{CODE}",
    f"Add a key 'known' with the value true to each of these, and write all of it:\n\n{DATA}",
)
NEWS = (
    "The city council decided on Tuesday to close the old harbour bridge for repairs. The work "
    "will begin in March and take about nine months. Ferries will cross the river every ten "
    "minutes between six in the morning and midnight. The mayor said that the bridge, which was "
    "built in 1931, would not have lasted another winter."
)
SUMMARIES = (
    f"Quote the two most important sentences of this text:\n\n{STORY}",
    f"Summarise this text in its own words:\n\n{STORY}",
    f"Summarise this report in two sentences:\n\n{NEWS}",
    f"List the facts of this report:\n\n{NEWS}",
)
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
            row = _lookup_row(machine, prompts, steering, arguments)
            print(f"| {name} | {path.stem} | {row} {goal} |", flush=True)


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


def _lookup_row(
    machine: Machine,
    prompts: Sequence[Sequence[int]],
    steering: Steering,
    arguments: argparse.Namespace,
) -> str:
    ratios, speeds, n_same, n_answers = [], [], 0, 0
    n_drafted = n_accepted = 0
    for number in range(arguments.rounds):
        plain_s = ours_s = 0.0
        n_tokens = 0
        for prompt in prompts:

            def plain(prompt: Sequence[int] = prompt) -> Said:
                return machine.answer(prompt, arguments.tokens, [], steering)

            def drafted(prompt: Sequence[int] = prompt) -> Said:
                return machine.answer(prompt, arguments.tokens, [PromptLookup()], steering)

            alone, ours = in_turns(plain, drafted, number)
            plain_s, ours_s = plain_s + alone.seconds, ours_s + ours.seconds
            n_tokens += len(alone.tokens)
            n_same += alone.tokens == ours.tokens
            n_answers += 1
            n_drafted += ours.figures.n_drafted
            n_accepted += ours.figures.n_accepted
        ratios.append(plain_s / ours_s)
        speeds.append(n_tokens / plain_s)
    accepted = f"{n_accepted} of {n_drafted}"
    speed = statistics.median(speeds)
    return f"{speed:.1f} | {spread(ratios)} | {accepted} | {n_same} of {n_answers} |"


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
    parser.add_argument("--flash-attn", default="on", choices=list(llama.FLASH_ATTENTION))
    parser.add_argument("--only", choices=["lookup", "pair", "answers"])
    arguments = parser.parse_args()
    if arguments.only in (None, "lookup"):
        print(
            "| prompt lookup on | model | plain tok/s | ratio (spread) | accepted | same | goal |"
        )
        print("|---|---|---|---|---|---|---|", flush=True)
        for path in models(arguments.model):
            compare_lookup(path, arguments)
    if arguments.only in (None, "pair"):
        compare_pair(arguments)
    if arguments.only in (None, "answers"):
        compare_answers(arguments)
    print(f"\n{arguments.threads} threads, {arguments.rounds} rounds.")


if __name__ == "__main__":
    main()
