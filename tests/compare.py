"""Side by side with llama.cpp's own tools: ``python -m tests.compare BIN [--model FILE]``.

Prints, as a Markdown table, decode and prefill speed through Engine against llama-bench, the start
of ``--help``, and whether greedy text is that of llama-completion. Attention is that of ``run`` for
a brief question, which llama.cpp takes too. Nothing is drafted, taken from the prefix cache or
tuned: this is plain evaluation, with the weights where a load puts them by default, and mapped, as
llama-bench has them. numpy is imported, as it is in ``fwlocal bench``: where it is, it finds the
likeliest token. The sides run in turns, so that a machine whose speed drifts favours none; a ratio
is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy  # noqa: F401

from fwlocal.answer import Result
from fwlocal.encoding import encode
from fwlocal.engine import Engine
from fwlocal.hardware import physical_cores
from fwlocal.loader import EngineOptions, Library, open_file, open_model
from fwlocal.offload import OffloadPlan
from fwlocal.prompts import FORMATS, Message, text_of
from fwlocal.sampling import SamplingParams
from tests.compare_oneshot import measured

GREEDY = SamplingParams(temperature=0)
N_TOKENS = 129  # of tg128: the first one comes with the prompt
QUESTIONS = (
    "What is the capital of France?",
    "Write a poem about the sea.",
    "Explain gravity in one sentence.",
    "List three fruits.",
    "Translate 'good morning' into German.",
    "What is 17 plus 25?",
    "Who wrote Hamlet?",
    "Name a whale that sings. 🐋",
    "Was ist die größte Stadt Japans?",
    "Continue: once upon a time",
    "def fibonacci(n):",
    "Give me a recipe for bread.",
    "Why is the sky blue?",
    "Summarise: The cat sat on the mat. It was warm.",
    "What does HTTP stand for?",
    "  Leading and   inner   spaces",
    "A line\nand another\n\nand one more",
    "Tell me a joke about computers.",
    "日本の首都はどこですか？",
    "Is 91 a prime number?",
)


def speed(
    engines: Mapping[str, Engine], binary: Path, model: Path, threads: int, rounds: int
) -> list[str]:
    """Rows for prefill (pp512) and decode (tg128) by each engine, by the names of ``engines``."""
    command = [str(binary / "llama-bench"), "-m", str(model), "-t", str(threads), "-r", "1"]
    rows = []
    start = _start(next(iter(engines.values())))
    for test, options in (("pp512", ["-n", "0"]), ("tg128", ["-p", "0"])):

        def theirs(options: list[str] = options) -> float:
            done = subprocess.run(
                [*command, *options, "-o", "json"], capture_output=True, check=True
            )
            return float(json.loads(done.stdout)[0]["avg_ts"])

        sides = {"": theirs}
        for name, engine in engines.items():
            sides[name] = partial(_engine_speed, engine, test, start)
        found: list[dict[str, float]] = []
        for number in range(rounds + 1):  # the first round warms all sides up
            order = list(sides) if number % 2 else list(reversed(sides))
            found.append({name: sides[name]() for name in order})
        llama_bench = [values[""] for values in found[1:]]
        for name in engines:
            label = f"{test} tok/s, Engine{name} and llama-bench"
            rows.append(_row(label, [values[name] for values in found[1:]], llama_bench, "≥ 0.98"))
    return rows


def _engine_speed(engine: Engine, name: str, start: Sequence[int]) -> float:
    """Behind a run that warms up: as llama-bench, all of a prefill, or a token."""
    tokens, answer = (_any_tokens(engine), 1) if name == "pp512" else (start, N_TOKENS)
    for n_tokens in (1, answer):
        result = _answer(engine, tokens, n_tokens)
    if result.completion_tokens != answer:
        raise SystemExit(f"the model ended after {result.completion_tokens} tokens")
    timings = result.timings
    return timings.prefill_tps if name == "pp512" else timings.decode_tps


def _start(engine: Engine) -> Sequence[int]:
    """The fewest tokens that the model goes on from for as long as is measured."""
    story = engine.model.tokenize("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,", special=False)
    for n_tokens in range(1, len(story)):
        start = story[:n_tokens]
        if _answer(engine, start, N_TOKENS).completion_tokens == N_TOKENS:
            return start
    raise SystemExit("the model ends soon, whatever it begins with")


def _answer(engine: Engine, tokens: Sequence[int], n_tokens: int) -> Result:
    engine.reset()
    generation = engine.generate(tokens, sampling=GREEDY, max_tokens=n_tokens)
    list(generation)
    return generation.result


def _any_tokens(engine: Engine) -> list[int]:
    """512 tokens that make no text, as llama-bench's."""
    return random.Random(0).choices(range(engine.model.n_vocab), k=512)


def start_up(rounds: int) -> str:
    """A row for ``fwlocal --help``."""
    command = [str(Path(sys.executable).with_name("fwlocal")), "--help"]
    seconds = statistics.median(measured(command).seconds for _ in range(rounds))
    return f"| fwlocal --help, s | {seconds:.3f} | | | < 0.15 |"


def greedy(
    engine: Engine, binary: Path, model: Path, threads: int, flash_attn: str = "off"
) -> list[str]:
    """A row per prompt format: how many of the questions get the same text. ``flash_attn`` is the
    engine's, which rounds otherwise than plain attention, the default on a CPU."""
    rows = []
    command = [str(binary / "llama-completion"), "-m", str(model), "-t", str(threads)]
    command += ["-fa", flash_attn]
    for prompt_format in FORMATS.values():
        same = 0
        for question in QUESTIONS:
            messages = [Message("system", "You answer briefly."), Message("user", question)]
            segments = prompt_format.render(messages)
            prompt = text_of(segments)
            expected = _completion(command, prompt)
            engine.reset()
            generation = engine.generate(
                encode(engine.model, segments), sampling=GREEDY, max_tokens=48
            )
            text = "".join(generation)
            same += text.strip() == expected.strip()
            if text.strip() != expected.strip():
                print(f"{prompt_format.name}: {question!r}\n  {text!r}\n  {expected!r}")
        label = f"greedy text as llama-completion's, {prompt_format.name}"
        rows.append(f"| {label} | {same} of {len(QUESTIONS)} | | | all |")
    return rows


def _completion(command: list[str], prompt: str) -> str:
    options = ["-p", prompt, "--no-escape", "-n", "48", "--temp", "0", "-no-cnv"]
    options += ["--no-display-prompt"]
    done = subprocess.run(
        [*command, *options], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    return done.stdout.decode("utf-8", "ignore").replace("[end of text]", "")


def _row(label: str, ours: list[float], theirs: list[float], goal: str) -> str:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    a, b = statistics.median(ours), statistics.median(theirs)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return f"| {label} | {a:.4g} | {b:.4g} | {statistics.median(ratios):.3f} ({spread}) | {goal} |"


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bin", type=Path, help="folder with llama-bench and llama-completion")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    threads = physical_cores()
    file, _ = open_file(arguments.model, Library.default(), print)
    print("| what | ours | llama.cpp's | ratio (spread) | goal |")
    print("|---|---|---|---|---|")
    options = EngineOptions(
        n_ctx=1024, n_threads=threads, tuned=False, lookup=False, prefix_bytes=0, brief=True
    )
    binary, rounds = arguments.bin, arguments.rounds
    with ExitStack() as stack:
        loaded = open_model(str(file.path), options, draft="off")
        mapped = open_model(str(file.path), replace(options, mmap=True), draft="off")
        engines = {}
        for name, one in ((_held(loaded.plan), loaded), (", mapped,", mapped)):
            stack.enter_context(one.engine)
            if not isinstance(one.engine, Engine):
                raise TypeError("the engine is in another process")
            engines[name] = one.engine
        print(*speed(engines, binary, file.path, threads, rounds), sep="\n", flush=True)
        print(start_up(21))
        engine = engines[_held(loaded.plan)]
        print(*greedy(engine, binary, file.path, threads, loaded.plan.flash_attn), sep="\n")
    print(f"\n{threads} threads; medians of {rounds} rounds.")


def _held(plan: OffloadPlan) -> str:
    return ", mapped," if plan.mmap else ", in huge pages,"


if __name__ == "__main__":
    main()
