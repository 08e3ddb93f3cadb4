"""The verbs of files: convert, verify, show."""

from __future__ import annotations

import dataclasses
import re
import sys
import time
from pathlib import Path
from typing import Any

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.errors import FwlocalError, ModelNotFound, UsageError

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
                 metavar="LEVEL,...", help="Levels to write, all in one pass."),
    click.option("--list-levels", is_flag=True, is_eager=True, expose_value=False,
                 callback=_list_levels, help="Print the levels and exit."),
    click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                 help="Where to; by default the models folder for a known model, else here."),
    click.option("--name", default="", metavar="NAME",
                 help="Files are NAME-LEVEL.gguf; by default the source's name."),
    click.option("--base", metavar="SOURCE", help="What a delta is added to, such as LLaMA-65B."),
    click.option("--imatrix", type=click.Path(path_type=Path), metavar="FILE",
                 help="Importance matrix of llama-imatrix; IQ2 levels and some IQ3 need one."),
    click.option("--prompt-format", metavar="NAME",
                 help="The format that goes into the file: freewilly2, freewilly1, chatml."),
    click.option("--split-size", callback=_size, metavar="SIZE",
                 help="Split each level into files of about SIZE (2G), no tensor cut."),
    click.option("--threads", type=click.IntRange(min=1), metavar="N",
                 help="All cores by default."),
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
    weights, a GGUF in F32, F16 or BF16, or owner/repo in Hugging Face's cache. An interrupted run
    goes on where it stopped. The paths of the files are printed on stdout.
    """
    from convert import display, job, preview
    from convert.run import check, run_job

    work = job.prepare(_request(source, quant, prompt_format, rest))
    try:
        if dry_run:
            plan = preview.describe(work)
            print_json(plan) if as_json else preview.show(plan)
            check(work)
            return
        started = time.monotonic()
        with display.shown(work) as on_progress:
            outcome = run_job(work, notify, on_progress)
        seconds = time.monotonic() - started
    finally:
        work.close()
    for path in outcome.present:
        notify(f"{path}: already there, made from the same source (`fwlocal verify` checks it)")
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


def _request(
    source: str, quant: tuple[str, ...], prompt_format: str | None, rest: dict[str, Any]
) -> Any:
    from convert.job import Request
    from convert.recipes import level_named
    from convert.sources.checkpoint import locate
    from fwlocal.cli import known_source
    from fwlocal.registry import load_registry, user_file

    registry = load_registry(user_file())
    location = locate(known_source.repository(source, registry))
    spec = known_source.recognised(location, registry)
    known = known_source.known(spec, location, prompt_format)
    if spec is not None:
        notify(f"{source}: {spec.title}, {spec.licence.name}; {spec.licence.note}".rstrip("; "))
        if rest["base"] is not None and not known.is_delta:
            raise UsageError(f"{source}: is no delta; leave --base out")
    levels = [name for name in ",".join(quant).split(",") if name.strip()]
    if not levels:
        raise UsageError("--quant names no level")
    name, out = rest.pop("name").removesuffix(".gguf"), rest.pop("out")
    if out is not None and out.suffix == ".gguf":
        raise UsageError(f"{out}: --out names a folder; the files are called by --name")
    return Request(
        location,
        tuple(dict.fromkeys(level_named(level) for level in levels)),
        out or known_source.default_out(spec, name),
        name=name or (spec.name if spec else ""),
        n_threads=rest.pop("threads"),
        split_bytes=rest.pop("split_size"),
        known=known,
        **rest,
    )


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verify(models: tuple[str, ...], as_json: bool) -> None:
    """Check GGUFs: structure, the tensors' hashes, and that their scales are finite.

    MODEL is a file, or a name from `fwlocal models`. Exits 1 naming every damaged tensor.
    """
    from convert.verify import verify as examine
    from fwlocal.progress import ProgressBar

    found = []
    for path in map(_path_of, models):
        with ProgressBar(f"verifying {path.name}") as bar:
            found.append((path, examine(path, bar.update)))
    if as_json:
        print_json([{"file": path, **dataclasses.asdict(verdict)} for path, verdict in found])
    for path, verdict in found:
        for damage in verdict.damaged:
            notify(f"{path}: {damage.tensor}: {damage.what}")
        if not verdict.damaged and not as_json:
            hashes = "all hashes agree" if verdict.n_hashed else "it carries no hashes"
            if verdict.has_foreign_hashes:
                hashes = "its hashes are of another file, from which a tool copied them"
            click.echo(f"{path}: sound: {verdict.n_tensors} tensors, {hashes}, scales are finite")
    damaged = [path for path, verdict in found if verdict.damaged]
    if damaged:
        raise FwlocalError(
            f"{damaged[0]}: damaged; convert it again with --overwrite, or fetch it again"
        )


@click.command()
@click.argument("model")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(model: str, tensors: bool, as_json: bool) -> None:
    """Show what a GGUF holds: metadata, tensors by type, bits per weight, provenance.

    MODEL is a file, or a name from `fwlocal models`.
    """
    from fwlocal import inspection
    from fwlocal.gguf import read_header

    header = read_header(_path_of(model))
    if as_json:
        print_json(inspection.describe(header))
        return
    sys.stdout.write(inspection.text(header))
    if tensors:
        sys.stdout.write("\n" + inspection.tensor_lines(header))


def _path_of(model: str) -> Path:
    from fwlocal.loader import Library
    from fwlocal.store import locate

    library = Library.default()
    path = locate(model, library.registry, library.store).path
    if not path.exists():
        raise ModelNotFound(f"{model} is not on this disk yet; `fwlocal run -m {model}` fetches it")
    return path
