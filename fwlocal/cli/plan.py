"""``fwlocal plan``: what would run where, and how fast, before anything is downloaded or loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fwlocal import options
from fwlocal.cli.output import notify, print_json
from fwlocal.completion import any_model
from fwlocal.errors import DoesNotFit, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fwlocal.cli.candidates import Subject
    from fwlocal.forecast.estimate import Candidate
    from fwlocal.forecast.view import View
    from fwlocal.forecast.what_if import Setup
    from fwlocal.offload import Request

OTHER_MACHINE = ("gpu_memory", "ram", "unified")  # the options that name one
FOR_GPUS = ("n_gpu_layers", "gpu_margin", "gpu_bandwidth")  # the options that need one

# The options of `run` that have a meaning of their own here.
OWN_HELP = {
    "gpu_memory": "For a machine with GPUs of these sizes, as in 24G,16G or 2x24G (a card sold "
    "with 24 GB has 24G); 0 is none.",
    "workers": "Other machines that run `fwlocal worker`. [default: those of config.toml; none "
    "with --gpu-memory, --ram or --unified]",
    "draft": "A smaller model of the same vocabulary that drafts ahead: it is placed first. "
    "[default: auto, the one of models.toml if it is on this disk]",
}


def _with_own_help(command: click.Command) -> click.Command:
    for option in command.params:
        if isinstance(option, click.Option):
            option.help = OWN_HELP.get(option.name or "", option.help)
    return command


@_with_own_help
@click.command()
@click.argument("named", metavar="[MODEL]", required=False, shell_complete=any_model)
@options.model_option
@click.option("--ram", metavar="SIZE", help="For a machine with that much RAM, all of it free.")
@click.option(
    "--unified",
    metavar="SIZE",
    help="For a Mac (Apple Silicon) with that much memory, all of it free.",
)
@click.option(
    "--gpu-bandwidth",
    metavar="GB/S,...",
    help="Of the GPUs' memory, in the order shown, or one for all. [default: as the GPU's name "
    "or size tells; a worker's is not known]",
)
@click.option(
    "--n-ctx",
    type=click.IntRange(min=0),
    metavar="N",
    help="Context in tokens; 0 is all the model knows. [default: 4096, or what the model knows]",
)
@options.offload_options
@options.draft_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def plan(
    context: click.Context, /, named: str | None, model: str | None, as_json: bool, **wishes: Any
) -> None:
    """Show what of a model goes on which device, and how fast it would be.

    MODEL is anything that `fwlocal run` or `fwlocal pull` takes, and need not be on this disk:
    no weights are downloaded. Without a level, every level is listed.

    \b
      fwlocal plan freewilly2                         on this machine
      fwlocal plan freewilly2 --gpu-memory 24G        with a 24 GB card in it
      fwlocal plan freewilly2 --unified 64G           on a Mac with 64 GB
      fwlocal plan freewilly2:Q4_K_M --gpu-memory 2x24G --ram 64G
      fwlocal plan freewilly2 --gpu-memory 48G --draft stable-beluga-7b
    """
    from fwlocal.cli.candidates import find, find_draft
    from fwlocal.library import Library

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is ParameterSource.COMMANDLINE}
    model = _model(named, model, given)
    setup = _setup(wishes, given)
    library = Library.default()
    subject = find(model, library)
    draft = find_draft(wishes["draft"], subject, library)
    view = _view(subject, setup, wishes, draft)
    if subject.is_one and view.chosen is not None and view.chosen.plan is None:
        raise DoesNotFit(view.chosen.refusal)
    _tell_of_what_has_no_effect(setup, wishes, given)
    if as_json:
        from fwlocal.forecast.data import as_data

        print_json(as_data(view))
        return
    from rich.console import Console

    from fwlocal.forecast.view import show

    show(view, Console())


def _model(named: str | None, model: str | None, given: set[str]) -> str:
    """MODEL, else -m, else the environment's, else the default. Raises UsageError."""
    from fwlocal.registry import DEFAULT_MODEL

    if named is not None and "model" in given and named != model:
        raise UsageError(f"MODEL is {named!r} and -m is {model!r}; leave one of the two out")
    found = model if named is None else named
    if found == "":
        raise UsageError("the model's name is empty; leave it out for the default")
    return found or DEFAULT_MODEL


def _setup(wishes: Mapping[str, Any], given: set[str]) -> Setup:
    """The machine to plan for: this one, but for what is named of another. Raises UsageError, and
    NetworkError for a worker that is not there."""
    from fwlocal import hardware
    from fwlocal.forecast import what_if
    from fwlocal.forecast.cards import Speed
    from fwlocal.sizes import parse_size
    from fwlocal.workers import parse_addresses, worker_devices

    others = given.intersection(OTHER_MACHINE)
    if "unified" in others and len(others) > 1:
        raise UsageError("--unified is all of a machine's memory; leave --gpu-memory and --ram out")
    bandwidths = what_if.parse_bandwidths(wishes["gpu_bandwidth"])
    unified = parse_size(wishes["unified"], "--unified") if "unified" in others else 0
    ram = parse_size(wishes["ram"], "--ram") if "ram" in others else 0
    addresses = wishes["workers"] if "workers" in given or not others else ()
    lent = worker_devices(parse_addresses(",".join(addresses))) if addresses else ()
    if unified:
        return what_if.mac(unified, lent, bandwidths)
    if "gpu_memory" in others:
        gpus = what_if.imagined_gpus(wishes["gpu_memory"])
    else:
        from fwlocal import llama

        gpus = llama.devices()
    if ram:
        memory, speed = hardware.Memory(ram, ram), what_if.ASSUMED_RAM
    else:
        memory = hardware.memory()
        speed = Speed(hardware.cached_memory_bandwidth(), "measured")
    return what_if.setup(gpus, lent, memory, ram_speed=speed, gpu_bandwidths=bandwidths)


def _view(
    subject: Subject, setup: Setup, wishes: Mapping[str, Any], draft: Candidate | None
) -> View:
    """Every level's plan. Raises UsageError for a draft that was named and cannot draft."""
    from fwlocal.forecast.estimate import Draft, forecast
    from fwlocal.forecast.view import View

    in_the_way = [_in_the_way(draft, candidate) for candidate in subject.candidates]
    is_asked = wishes["draft"] != "auto"
    if is_asked:
        _refuse_draft(subject, in_the_way)
    found = []
    for candidate, error in zip(subject.candidates, in_the_way, strict=True):
        request, own = _request(wishes, candidate), None if error else draft
        machine, speeds = setup.machine, setup.speeds
        one = forecast(candidate, machine, request, speeds, own, is_asked=is_asked)
        if error is not None and draft is not None and is_asked and one.plan is not None:
            one = replace(one, draft=Draft(draft, None, str(error)))
        found.append(one)
    chosen = next((one for one in found if one.candidate is subject.chosen), None)
    return View(subject.name, found, chosen, setup)


def _in_the_way(draft: Candidate | None, candidate: Candidate) -> UsageError | None:
    """Why the draft cannot draft for that level, if it cannot."""
    from fwlocal.draft.compatible import check_draft, check_outline
    from fwlocal.forecast.estimate import ON_DISK
    from fwlocal.gguf.header import VOCABULARY

    if draft is None:
        return None
    models = candidate, draft
    is_outline = any(m.origin != ON_DISK and VOCABULARY not in m.header.metadata for m in models)
    try:
        (check_outline if is_outline else check_draft)(*(model.called_header for model in models))
    except UsageError as error:
        return error
    return None


def _refuse_draft(subject: Subject, in_the_way: Sequence[UsageError | None]) -> None:
    """Raise what is in the way of the level that is meant, or of all."""
    levels = zip(subject.candidates, in_the_way, strict=True)
    chosen = next((error for candidate, error in levels if candidate is subject.chosen), None)
    if chosen is not None:
        raise chosen
    if in_the_way and all(in_the_way):
        raise next(filter(None, in_the_way))


def _request(wishes: Mapping[str, Any], candidate: Candidate) -> Request:
    """For one model. Raises UsageError for a context that it does not know."""
    from fwlocal.offload import MIN_N_CTX, Request, default_n_ctx

    trained = candidate.header.number("{arch}.context_length") or 0
    n_ctx, least = wishes["n_ctx"], min(MIN_N_CTX, trained or MIN_N_CTX)
    if n_ctx is None:
        n_ctx = default_n_ctx(trained)
    elif n_ctx == 0:
        n_ctx = trained or default_n_ctx(0)
    elif n_ctx < least or (trained and n_ctx > trained):
        raise UsageError(
            f"--n-ctx {n_ctx}: {candidate.called} takes {least} to {trained or 'any number of'} "
            "tokens (0 for all)"
        )
    return Request(
        n_ctx=n_ctx,
        kv_type=wishes["kv_type"],
        n_gpu_layers=wishes["n_gpu_layers"],
        margin_bytes=wishes["gpu_margin"],
        shrink_context=wishes["shrink_context"],
    )


def _tell_of_what_has_no_effect(setup: Setup, wishes: Mapping[str, Any], given: set[str]) -> None:
    """A line on stderr about options for GPUs where there is none, and on what a supposed GPU's
    size does not limit."""
    supposed = "gpu_memory" in given and any(wishes["gpu_memory"] or ())
    if supposed and any(gpu.backend == "RPC" for gpu in setup.machine.gpus):
        notify("--gpu-memory supposes this machine's GPUs; the workers count with all they offer")
    vain = [name for name in FOR_GPUS if name in given and wishes[name] not in (None, 0)]
    if not vain or setup.machine.gpus:
        return
    named = " and ".join(f"--{name.replace('_', '-')}" for name in vain)
    notify(f"{named} {'has' if len(vain) == 1 else 'have'} no effect: the machine has no GPU")
