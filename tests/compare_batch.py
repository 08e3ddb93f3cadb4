"""Many prompts at once beside one at a time: ``python -m tests.compare_batch [--model FILE]``.

Prints, as a Markdown table, the tokens per second of a pool of lanes against those of an Engine
that answers the same prompts one after the other, and how many of the texts are the same. The two
sides run in turns, so that a machine whose speed drifts favours neither; a ratio is the median of
the rounds' ratios. A round's time is that of all prompts, with their prefill and with the pool's
trials of what may be decoded together.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fwlocal import llama
from fwlocal.encoding import encode
from fwlocal.engine import Engine
from fwlocal.hardware import physical_cores
from fwlocal.kv_cache import KVCache
from fwlocal.loader import Library, open_file
from fwlocal.parallel import Finished, Job, Need, Pool, pool_size
from fwlocal.parallel.lanes import Lanes
from fwlocal.prompts import FORMATS, Message
from fwlocal.sampling import SamplingParams
from tests.compare import QUESTIONS

SUFFIXES = ("", " Answer in two sentences.")
SYSTEM = "You are a helpful assistant who answers briefly and to the point."
LIMIT = 2048


def jobs(model: llama.Model, max_tokens: int) -> list[Job]:
    """40 questions in ChatML, the first half greedy and the second half drawn."""
    chatml = FORMATS["chatml"]
    found = []
    for key, question in enumerate(q + suffix for suffix in SUFFIXES for q in QUESTIONS):
        asked = [Message("system", SYSTEM), Message("user", question)]
        segments = chatml.render(asked)
        sampling = SamplingParams(temperature=0 if key < len(QUESTIONS) else 0.8, seed=key)
        tokens = tuple(encode(model, segments))
        found.append(Job(key, tokens, sampling, max_tokens, chatml.stop))
    return found


def together(
    model: llama.Model, options: llama.ContextOptions, asked: Sequence[Job], n_parallel: int
) -> tuple[float, dict[int, str]]:
    """Seconds and texts, all by one pool."""
    needs = [Need(len(job.tokens), job.max_tokens) for job in asked]
    size = pool_size(needs, n_parallel, LIMIT, keeps_prefix=True)

    def open_sequences(n_ctx: int) -> llama.Sequences:
        sized = replace(options, n_ctx=n_ctx)
        return llama.Sequences(model, sized, size.all_lanes, lambda: False)

    lanes = Lanes(size, open_sequences)
    waiting: Iterator[Job] = iter(asked)
    started = time.perf_counter()
    texts = {}
    for end in Pool(model, lanes, tell=print).answers(lambda: next(waiting, None)):
        if not isinstance(end, Finished):
            raise end.error
        texts[end.key] = end.result.text
    seconds = time.perf_counter() - started
    lanes.close()
    return seconds, texts


def one_by_one(engine: Engine, asked: Sequence[Job]) -> tuple[float, dict[int, str], int]:
    """Seconds, texts and tokens, as ``fwlocal run`` would have answered each."""
    started = time.perf_counter()
    texts, n_tokens = {}, 0
    for job in asked:
        engine.reset()
        generation = engine.generate(
            job.tokens, sampling=job.sampling, max_tokens=job.max_tokens, stop=job.stop
        )
        texts[job.key] = "".join(generation)
        n_tokens += generation.result.completion_tokens
    return time.perf_counter() - started, texts, n_tokens


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--parallel", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--threads", type=int, default=physical_cores())
    arguments = parser.parse_args()
    file, _ = open_file(arguments.model, Library.default(), print)
    compare(file.path, arguments)


def compare(path: Path, arguments: argparse.Namespace) -> None:
    """Print a row for each number of prompts at once."""
    model = llama.Model(path, llama.LoadOptions())
    options = llama.ContextOptions(n_ctx=LIMIT, n_threads=arguments.threads)
    engine = Engine(model, KVCache(model, options, lambda: False), render=lambda messages: ())
    asked = jobs(model, arguments.max_tokens)[: arguments.prompts]
    engine.generate(asked[0].tokens, max_tokens=1)
    print("| at once | tok/s | one at a time | ratio (spread) | same texts |", flush=True)
    print("|---|---|---|---|---|")
    speeds: dict[int, list[tuple[float, float]]] = {n: [] for n in arguments.parallel}
    same: dict[int, int] = {}
    for _ in range(arguments.rounds):
        for n_parallel, found in speeds.items():
            alone_s, expected, n_tokens = one_by_one(engine, asked)
            pool_s, texts = together(model, options, asked, n_parallel)
            found.append((n_tokens / pool_s, n_tokens / alone_s))
            same[n_parallel] = sum(texts[key] == text for key, text in expected.items())
    for n_parallel, found in speeds.items():
        ratios = sorted(ours / alone for ours, alone in found)
        ours, alone = (statistics.median(side) for side in zip(*found, strict=True))
        print(
            f"| {n_parallel} | {ours:.1f} | {alone:.1f} | {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {same[n_parallel]} of {len(asked)} |"
        )
    print(f"\n{arguments.threads} threads, {len(asked)} prompts, {arguments.rounds} rounds.")
    engine.close()


if __name__ == "__main__":
    main()
