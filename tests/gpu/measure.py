"""One budget of GPU memory: ``python -m tests.gpu.measure MODEL [--budget-bytes N]``.

Loads the model as the loader plans it and prints, as one line of JSON, what was foretold and what
was taken on each device, and how fast it is (``tests.gpu.report.Measurement``). It is a process of
its own so that nothing of it stays on the GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from fwlocal import llama
from fwlocal.engine import EngineLike
from fwlocal.errors import FwlocalError
from fwlocal.loader import EngineOptions, LoadedModel, open_model
from fwlocal.sampling import SamplingParams
from tests.gpu.report import DeviceUse, Measurement, Parts
from tests.tiny_llama import BYTES

N_PREFILL, N_DECODE = 512, 64  # tokens
N_WARM = 8
GREEDY = SamplingParams(temperature=0)


def speeds(
    engine: EngineLike, rounds: int, n_prefill: int = N_PREFILL, n_decode: int = N_DECODE
) -> tuple[float, float]:
    """Tokens per second of prefill and of decode, medians of ``rounds`` after a short warm-up.

    Raises FwlocalError when an answer ends early.
    """
    prompt = [BYTES + number % 256 for number in range(n_prefill)]
    _speed(engine, prompt[:N_WARM], N_WARM)
    pairs = [_speed(engine, prompt, n_decode) for _ in range(rounds)]
    prefill, decode = zip(*pairs, strict=True)
    return statistics.median(prefill), statistics.median(decode)


def _speed(engine: EngineLike, prompt: list[int], n_decode: int) -> tuple[float, float]:
    engine.reset()
    generation = engine.generate(prompt, sampling=GREEDY, max_tokens=n_decode + 1)
    for _ in generation:
        pass
    result = generation.result
    if result.completion_tokens != n_decode + 1:  # the first comes of the prefill
        raise FwlocalError(f"the model ended after {result.completion_tokens} tokens; use another")
    return result.timings.prefill_tps, result.timings.decode_tps


def uses(loaded: LoadedModel) -> tuple[DeviceUse, ...]:
    """What each device was to hold and what it holds, in the plan's order: the CPU last."""
    taken = (
        {device.device: device.actual for device in loaded.audit.devices} if loaded.audit else {}
    )
    return tuple(
        DeviceUse(
            share.device,
            share.n_layers,
            Parts(share.weights_bytes, share.kv_bytes, share.compute_bytes),
            Parts(**taken[share.device]) if share.device in taken else None,
        )
        for share in loaded.plan.shares
    )


def measure(model: Path, options: EngineOptions, rounds: int) -> Measurement:
    """Load the model so and time it. Raises the errors of ``fwlocal.errors``."""
    loaded = open_model(str(model), options)
    with loaded.engine as engine:
        prefill_tps, decode_tps = speeds(engine, rounds)
    plan = loaded.plan
    return Measurement(
        n_gpu_layers=plan.n_gpu_layers,
        n_layers=plan.n_layers,
        n_ctx=plan.n_ctx,
        kv_type=plan.kv_type,
        prefill_tps=prefill_tps,
        decode_tps=decode_tps,
        devices=uses(loaded),
    )


def engine_options(arguments: argparse.Namespace) -> EngineOptions:
    """How the model is to be run: raw, for its answers mean nothing."""
    budget: int | None = arguments.budget_bytes
    return EngineOptions(
        n_ctx=arguments.n_ctx,
        n_threads=arguments.threads,
        gpu_memory=None if budget is None else (budget,),
        workers=tuple(arguments.worker),
        raw=True,
    )


def check_gpu() -> None:
    """Raise FwlocalError where llama.cpp sees no GPU: the CPU would be measured instead."""
    if not any(device.kind in ("GPU", "IGPU") for device in llama.devices()):
        raise FwlocalError(
            "llama.cpp sees no GPU; build its libraries with CUDA, for this machine's driver"
        )


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m tests.gpu.measure", description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--budget-bytes", type=int, help="of the GPU's memory (all without it)")
    options.add_argument("--n-ctx", type=int, default=0, help="0: all the model was trained on")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int)
    options.add_argument("--worker", action="append", default=[], metavar="HOST:PORT")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; stdout has the measurement, stderr an error in one line."""
    found = parser().parse_args(arguments)
    try:
        if not found.worker:
            check_gpu()
        print(measure(found.model, engine_options(found), found.rounds).to_json())
    except FwlocalError as error:
        print(f"measure: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
