"""``fwlocal plan``: what would run where, and how fast, before anything is downloaded or loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fwlocal import options
from fwlocal.cli.output import print_json
from fwlocal.errors import DoesNotFit, UsageError

if TYPE_CHECKING:
    from fwlocal.cli.candidates import Subject
    from fwlocal.forecast.view import View
    from fwlocal.forecast.what_if import Setup
    from fwlocal.gguf import GGUFHeader
    from fwlocal.hardware import Device
    from fwlocal.offload import Request

KV_TYPES = ("auto", *options.KV_TYPES)
ALL_LAYERS = 10**6  # more than any model has


@click.command()
@options.model_option
@click.option(
    "--gpu-memory",
    metavar="SIZE,...",
    help="For a machine with GPUs of these sizes; a card sold with 24 GB has 24G. 0 is none.",
)
@click.option("--ram", metavar="SIZE", help="For a machine with that much RAM, all of it free.")
@click.option(
    "--gpu-bandwidth",
    metavar="GB/S,...",
    help="Of the GPUs' memory; by default as the GPU's name or size tells.",
)
@click.option("--workers", metavar="HOST:PORT,...", help="Other machines that lend their devices.")
@click.option(
    "--n-ctx",
    type=click.IntRange(min=0),
    metavar="N",
    help="Context in tokens; 0 is all the model knows. [default: 4096, or what the model knows]",
)
@click.option("--kv", "--kv-type", "kv_type", type=click.Choice(KV_TYPES), default="auto",
              help="KV cache type.")  # fmt: skip
@click.option("--n-gpu-layers", default="auto", metavar="N|auto", help="Layers on the GPUs.")
@click.option("--gpu-margin", metavar="SIZE", help="Kept free on each GPU. [default: 512M]")
@click.option("--shrink-context", is_flag=True, help="Take less context where that is needed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def plan(model: str | None, as_json: bool, **wishes: Any) -> None:
    """Show what of a model goes on which device, and how fast it would be.

    MODEL is what `fwlocal run` takes, or what `fwlocal pull` does: of a model that is not on this
    disk nothing but its header is read. Without a level all of them are listed.

    \b
      fwlocal plan -m freewilly2                      on this machine
      fwlocal plan -m freewilly2 --gpu-memory 24G     with a 24 GB card in it
      fwlocal plan -m freewilly2:Q4_K_M --gpu-memory 24G,24G --ram 64G
    """
    from fwlocal.cli.candidates import find
    from fwlocal.library import Library
    from fwlocal.registry import DEFAULT_MODEL

    if model == "":
        raise UsageError("the model's name is empty; leave -m out for the default")
    take = _wanted(wishes)
    setup = _setup(wishes)
    subject = find(model or DEFAULT_MODEL, Library.default())
    view = _view(subject, setup, take)
    if subject.is_one and view.chosen is not None and view.chosen.plan is None:
        raise DoesNotFit(view.chosen.refusal)
    if as_json:
        from fwlocal.forecast.view import as_data

        print_json(as_data(view))
        return
    from rich.console import Console

    from fwlocal.forecast.view import show

    show(view, Console())


def _wanted(wishes: dict[str, Any]) -> dict[str, Any]:
    """What is asked of a plan, whatever the model: keywords of Request. Raises UsageError."""
    from fwlocal.offload import DEFAULT_MARGIN_BYTES
    from fwlocal.sizes import parse_size

    margin = wishes["gpu_margin"]
    return {
        "n_ctx": wishes["n_ctx"],
        "kv_type": wishes["kv_type"],
        "n_gpu_layers": _n_gpu_layers(wishes["n_gpu_layers"]),
        "shrink_context": wishes["shrink_context"],
        "margin_bytes": DEFAULT_MARGIN_BYTES
        if margin is None
        else parse_size(margin, "--gpu-margin", may_be_zero=True),
    }


def _n_gpu_layers(text: str) -> int | None:
    """A number, -1 for all; None for "auto"."""
    if text == "auto":
        return None
    if text == "-1":
        return ALL_LAYERS
    if not (text.isascii() and text.isdecimal()) or int(text) > ALL_LAYERS:
        raise UsageError(f"--n-gpu-layers {text!r}: must be a number, -1 for all of them, or auto")
    return int(text)


def _setup(wishes: dict[str, Any]) -> Setup:
    """The machine to plan for: this one, but for what is named of another."""
    from fwlocal import hardware
    from fwlocal.forecast import what_if
    from fwlocal.forecast.cards import Speed
    from fwlocal.sizes import parse_size, parse_sizes
    from fwlocal.workers import parse_addresses, worker_devices

    bandwidths = what_if.parse_bandwidths(wishes["gpu_bandwidth"])
    sizes, ram = wishes["gpu_memory"], wishes["ram"]
    gpus: tuple[Device, ...] | None = None
    if sizes is not None:
        gpus = what_if.imagined_gpus(parse_sizes(sizes, "--gpu-memory", may_be_zero=True))
    if ram is not None:
        n_bytes = parse_size(ram, "--ram")
        memory, speed = hardware.Memory(n_bytes, n_bytes), what_if.ASSUMED_RAM
    else:
        memory = hardware.memory()
        speed = Speed(hardware.cached_memory_bandwidth(), "measured")
    workers = wishes["workers"]
    lent = worker_devices(parse_addresses(workers)) if workers is not None else ()
    if gpus is None:
        from fwlocal import llama

        gpus = llama.devices()
    return what_if.setup(gpus, lent, memory, ram_speed=speed, gpu_bandwidths=bandwidths)


def _view(subject: Subject, setup: Setup, wanted: dict[str, Any]) -> View:
    """Every level's plan."""
    from fwlocal.forecast.estimate import forecast
    from fwlocal.forecast.view import View

    found = [
        forecast(candidate, setup.machine, _request(wanted, candidate.header), setup.speeds)
        for candidate in subject.candidates
    ]
    chosen = next((one for one in found if one.candidate is subject.chosen), None)
    return View(subject.name, found, chosen, setup)


def _request(wanted: dict[str, Any], header: GGUFHeader) -> Request:
    """For one model. Raises UsageError for a context that it does not know."""
    from fwlocal.offload import MIN_N_CTX, Request, default_n_ctx

    trained = header.number("{arch}.context_length") or 0
    n_ctx = wanted["n_ctx"]
    if n_ctx is None:
        n_ctx = default_n_ctx(trained)
    elif n_ctx == 0:
        n_ctx = trained or default_n_ctx(0)
    elif n_ctx < min(MIN_N_CTX, trained or MIN_N_CTX) or (trained and n_ctx > trained):
        raise UsageError(
            f"--n-ctx {n_ctx}: {header.path.name} takes {min(MIN_N_CTX, trained or MIN_N_CTX)} to "
            f"{trained or 'any number of'} tokens (0 for all)"
        )
    return Request(**{**wanted, "n_ctx": n_ctx})
