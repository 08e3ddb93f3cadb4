"""Late turns of a long chat against early ones: ``python -m tests.compare_chat [--model FILE]``.

A chat of twenty turns and about 3,000 tokens, every message of the same length. Prints, as a
Markdown table, the time to first token of turn 20 against turn 2's, what of each prompt was
evaluated, with flash attention and with plain attention. Rounds take turns; a ratio is the median
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics

from fwlocal.answer import Result
from fwlocal.conversation import Conversation
from fwlocal.engine import EngineLike
from fwlocal.loader import EngineOptions, open_model
from fwlocal.registry import DEFAULT_MODEL
from fwlocal.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)
MESSAGE = "Tell me one more thing about the whales of the sea, number {:02}, and make it longer."
N_TURNS, EARLY, LATE = 20, 2, 20
ANSWER_TOKENS = 110  # with the message, 3,000 tokens in twenty turns


def chat(engine: EngineLike) -> list[Result]:
    """The results of all turns of a new chat."""
    engine.reset()
    conversation, results = Conversation(None), []
    for number in range(1, N_TURNS + 1):
        conversation.ask(MESSAGE.format(number))
        generation = engine.chat(
            conversation.messages, sampling=GREEDY, max_tokens=ANSWER_TOKENS, may_shift=True
        )
        list(generation)
        conversation.answered(generation.result)
        results.append(generation.result)
    return results


def row(name: str, rounds: list[list[Result]]) -> str:
    """One line of the table."""
    early = [results[EARLY - 1] for results in rounds]
    late = [results[LATE - 1] for results in rounds]
    ratios = [b.timings.ttft_s / a.timings.ttft_s for a, b in zip(early, late, strict=True)]
    new = [result.prompt_tokens - result.reused_tokens for result in (early[0], late[0])]
    speeds = [statistics.median(r.timings.decode_tps for r in some) for some in (early, late)]
    return (
        f"| {name} | {late[0].prompt_tokens} | {new[0]}, {new[1]} "
        f"| {statistics.median(r.timings.ttft_s for r in early):.3f}, "
        f"{statistics.median(r.timings.ttft_s for r in late):.3f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {speeds[0]:.0f}, {speeds[1]:.0f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds: dict[str, list[list[Result]]] = {"on": [], "off": []}
    for _ in range(given.rounds):
        for flash_attn, results in rounds.items():
            options = EngineOptions(
                n_ctx=4096, flash_attn=flash_attn, prompt_format="chatml", kv_type="f16"
            )
            with open_model(given.model, options).engine as engine:
                results.append(chat(engine))
    print(
        f"| flash attention | prompt of turn {LATE} | evaluated, turns {EARLY} and {LATE} "
        "| first token, s | ratio | decode, tok/s |\n|---|---|---|---|---|---|"
    )
    for name, results in rounds.items():
        print(row(name, results))


if __name__ == "__main__":
    main()
