"""One budget of GPU memory: ``python -m tests.gpu.measure MODEL [--budget-bytes N]``.

Loads the model as the loader plans it and prints, as one line of JSON, what was foretold and what
was taken on each device, and how fast it is (``tests.gpu.report.Measurement``). Run as a process of
its own, so that nothing of it stays on the GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from fwlocal.engine import Engine
from fwlocal.errors import FwlocalError
from fwlocal.loader import EngineOptions, LoadedModel, open_model
from fwlocal.sampling import SamplingParams
from tests.gpu.report import DeviceUse, Measurement, Parts
from tests.tiny_llama import BYTES

N_PREFILL, N_DECODE = 512, 64  # tokens
N_WARM = 8
GREEDY = SamplingParams(temperature=0)


def speeds(
    engine: Engine, rounds: int, n_prefill: int = N_PREFILL, n_decode: int = N_DECODE
) -> tuple[float, float]:
    """Tokens per second of prefill and of decode, medians of ``rounds`` after a short warm-up.

    Raises FwlocalError when an answer ends early.
    """
    prompt = [BYTES + number % 256 for number in range(n_prefill)]
    _speed(engine, prompt[:N_WARM], N_WARM)
    pairs = [_speed(engine, prompt, n_decode) for _ in range(rounds)]
    prefill, decode = zip(*pairs, strict=True)
    return statistics.median(prefill), statistics.median(decode)


def _speed(engine: Engine, prompt: list[int], n_decode: int) -> tuple[float, float]:
    engine.reset()
    generation = engine.generate(prompt, sampling=GREEDY, max_tokens=n_decode + 1)
    for _ in generation:
        pass
    result = generation.result
    if result.completion_tokens != n_decode + 1:  # the first comes of the prefill
        raise FwlocalError(f"the model ended after {result.completion_tokens} tokens; use another")
    return result.timings.prefill_tps, result.timings.decode_tps
