"""How much of the memory's bandwidth a level's decoding makes use of. Pure.

For a token every device reads its layers' weights and what the KV cache holds, one device after the
other, as in ``fwlocal.forecast.estimate``; the time for that alone, at full bandwidth, is the
limit that no decoding beats. The RAM's bandwidth is measured, a GPU's is its data sheet's.
"""

from __future__ import annotations

from collections.abc import Mapping

from fwlocal.bench.measured import Round
from fwlocal.bench.result import Machine, Speed, SpeedTest
from fwlocal.forecast.cards import of_name
from fwlocal.forecast.estimate import HOST
from fwlocal.gguf import GGUFHeader
from fwlocal.offload import Footprint, footprint
from fwlocal.offload.context import rounded_n_ctx


def bandwidth_share(
    header: GGUFHeader, measured: Round, decode: Speed, machine: Machine
) -> float | None:
    """The median of ``decode``, a test that generates, as a share of the limit, by the devices that
    one round of the level took. None where the bandwidth of any of them is not known."""
    read = bytes_read(footprint(header), measured, decode.test)
    speeds = _speeds(measured, machine)
    if not read or not read.keys() <= speeds.keys():
        return None
    return decode.median * sum(n_bytes / speeds[device] for device, n_bytes in read.items())


def bytes_read(model: Footprint, measured: Round, test: SpeedTest) -> dict[str, float]:
    """What each device reads for one token of ``test``, in the mean; without those that read
    nothing.

    Of a mixture's experts only those that are used, as a part of all weights; of the KV cache what
    the test has filled at its middle. The table that tokens are looked up in is not read, but where
    it is the output as well.
    """
    active = _active_share(model)
    n_cached = test.n_depth + test.n_gen / 2
    filled = min(1.0, n_cached / _n_ctx(measured))
    read = {
        device.device: active * _weights_read(model, measured, device.device, device.weights)
        + filled * device.kv
        for device in measured.devices
    }
    return {device: n_bytes for device, n_bytes in read.items() if n_bytes > 0}


def _weights_read(model: Footprint, measured: Round, device: str, weights: int) -> int:
    if device != HOST:
        return weights
    is_output = model.is_tied and not measured.n_gpu_layers
    return weights if is_output else max(0, weights - model.input_bytes)


def _active_share(model: Footprint) -> float:
    """Of the layers' and the output's weights, those that one token needs."""
    experts = sum(layer.expert_bytes for layer in model.layers)
    all_of = model.output_bytes + sum(layer.weights_bytes for layer in model.layers)
    unused = 1 - model.n_expert_used / model.n_expert if model.n_expert else 0.0
    return 1 - unused * experts / all_of if all_of else 1.0


def _n_ctx(measured: Round) -> int:
    """The context that the round's tests were given."""
    tests = [test for test, _ in measured.speeds]
    longest = max((test.n_depth + test.n_prompt + test.n_gen for test in tests), default=1)
    return rounded_n_ctx(longest)


def _speeds(measured: Round, machine: Machine) -> Mapping[str, float]:
    """Bytes per second by device; of GPUs only if all of the machine are equally fast, since a
    result does not say which is which."""
    speeds = {}
    if machine.bandwidth_bytes_per_s:
        speeds[HOST] = machine.bandwidth_bytes_per_s
    known = [of_name(gpu) for gpu in machine.gpus]
    rates = {speed.bytes_per_s if speed else None for speed in known}
    rate = rates.pop() if len(rates) == 1 else None
    if rate is not None:
        speeds |= {d.device: rate for d in measured.devices if d.device != HOST}
    return speeds
