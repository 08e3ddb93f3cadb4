"""``fwlocal convert``: from a checkpoint to GGUFs."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.completion import format_name, level_name
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from convert.job import Job, Request
    from convert.run import Outcome
    from fwlocal.cli.known_source import Source

_SIZES = {"M": 10**6, "G": 10**9}  # as llama-gguf-split counts them


def _size(_: click.Context, __: click.Parameter, text: str | None) -> int:
    """ "2G" in bytes; 0 for nothing."""
    if text is None:
        return 0
    match = re.fullmatch(r"(\d+)([MG])B?", text.strip().upper())
    if match is None or not int(match[1]):
        raise click.BadParameter("must be a number with M or G, as in 2G")
    return int(match[1]) * _SIZES[match[2]]


def _list_levels(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from convert.recipes import LEVELS

        for level in LEVELS.values():
            click.echo(f"{level.name:8} {level.description}")
        context.exit()


_convert_options = (
    click.option("-q", "--quant", multiple=True, default=("Q4_K_M",), show_default=True,
                 metavar="LEVEL,...", shell_complete=level_name,
                 help="Levels to write, all in one pass."),
    click.option("--list-levels", is_flag=True, is_eager=True, expose_value=False,
                 callback=_list_levels, help="Print the levels and exit."),
    click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                 help="Where to; by default the models folder for a known model, else here."),
    click.option("--name", default="", metavar="NAME",
                 help="Files are NAME-LEVEL.gguf; by default the source's name."),
    click.option("--base", metavar="SOURCE", help="What a delta is added to, such as LLaMA-65B."),
    click.option("--imatrix", type=click.Path(path_type=Path), metavar="FILE",
                 help="Importance matrix (`fwlocal imatrix`); IQ2 levels and some IQ3 need one."),
    click.option("--prompt-format", metavar="NAME", shell_complete=format_name,
                 help="The format that goes into the file: freewilly2, freewilly1, chatml."),
    click.option("--split-size", callback=_size, metavar="SIZE",
                 help="Split each level into files of about SIZE (2G), no tensor cut."),
    click.option("--threads", type=click.IntRange(min=1), metavar="N",
                 help="All cores by default."),
    click.option("--revision", metavar="REV", help="A branch, tag or commit of the Hub."),
    click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked."),
    click.option("--overwrite", is_flag=True, help="Replace files that are there."),
    click.option("--allow-nan", is_flag=True,
                 help="Convert NaN and Inf too; where quantized they become 0."),
    click.option("--allow-requantize", is_flag=True, help="From a GGUF that is quantized already."),
    click.option("--dry-run", is_flag=True, help="Print the plan and write nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print a JSON object."),
)  # fmt: skip


def _with_options(command: Any) -> Any:
    for option in reversed(_convert_options):
        command = option(command)
    return command


@click.command()
@click.argument("source")
@_with_options
def convert(
    source: str,
    quant: tuple[str, ...],
    prompt_format: str | None,
    dry_run: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Turn a checkpoint into quantized GGUFs, several levels in one pass.

    SOURCE is the folder of a Hugging Face Llama checkpoint (safetensors or torch .bin), one file of
    weights, a GGUF in F32, F16 or BF16, or owner/repo[@revision] on Hugging Face's Hub, whose
    weights stream in and are never stored. An interrupted run goes on where it stopped. The paths
    of the files are printed on stdout.
    """
    from convert import display, job, preview
    from convert.run import check

    accepted = rest.pop("accept_licence")
    found, request = _request(source, quant, prompt_format, rest)
    with contextlib.closing(job.prepare(request)) as work:
        if dry_run:
            plan = preview.describe(work)
            print_json(plan) if as_json else preview.show(plan)
            check(work)
            return
        found.agree(accepted=accepted)
        outcome, seconds = carry_out(work)
    if as_json:
        levels = [preview.describe_level(work, level) for level in work.levels]
        print_json({"wrote": outcome.wrote, "present": outcome.present, "levels": levels})
        return
    if not work.has_chat_template:
        notify("no chat template in the source; name its format with --prompt-format, now or later")
    if outcome.wrote:
        notify(display.summary(outcome, seconds))
    for level in work.levels:
        click.echo(level.files[0].path)


def carry_out(work: Job) -> tuple[Outcome, float]:
    """The conversion, shown as it goes; what was done, and in how many seconds. What is in the
    models folder gets its manifests."""
    from convert import display
    from convert.run import run_job
    from fwlocal.cli.recording import record

    started = time.monotonic()
    with display.shown(work) as on_progress:
        outcome = run_job(work, notify, on_progress)
    seconds = time.monotonic() - started
    for path in outcome.present:
        notify(f"{path}: already there, made from the same source (`fwlocal verify` checks it)")
    record(work, outcome.wrote)
    return outcome, seconds


def _request(
    source: str,
    quant: tuple[str, ...],
    prompt_format: str | None,
    rest: dict[str, Any],
) -> tuple[Source, Request]:
    from fwlocal.cli import known_source
    from fwlocal.registry import load_registry, user_file

    registry = load_registry(user_file())
    found = known_source.find(source, rest.pop("revision"), registry, prompt_format)
    spec, known = found.spec, found.known
    if spec is not None:
        notify(f"{source}: {spec.title}, {spec.licence.name}; {spec.licence.note}".rstrip("; "))
        if rest["base"] is not None and not known.is_delta:
            raise UsageError(f"{source}: is no delta; leave --base out")
    name, out = rest.pop("name").removesuffix(".gguf"), rest.pop("out")
    if out is not None and out.suffix == ".gguf":
        raise UsageError(f"{out}: --out names a folder; the files are called by --name")
    request = found.request(
        ",".join(quant),
        out or known_source.default_out(spec, name),
        name or (spec.name if spec else ""),
        base=rest.pop("base"),
        n_threads=rest.pop("threads"),
        split_bytes=rest.pop("split_size"),
        **rest,
    )
    return found, request
