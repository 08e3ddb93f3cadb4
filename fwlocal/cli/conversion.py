"""The verbs of files: convert, verify, show."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.errors import FwlocalError, UsageError

if TYPE_CHECKING:
    from convert.checkpoint import Location
    from convert.metadata import Known
    from fwlocal.registry import ModelSpec

_SIZES = {"K": 10**3, "M": 10**6, "G": 10**9}  # as llama-gguf-split counts them


def _size(_: click.Context, __: click.Parameter, text: str | None) -> int:
    """ "2G" in bytes; 0 for nothing."""
    if text is None:
        return 0
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdigit() or not int(number) or unit not in {"", *_SIZES}:
        raise click.BadParameter("must be a number with K, M or G, as in 2G")
    return int(number) * _SIZES.get(unit, 1)


_convert_options = (
    click.option("-q", "--quant", default="Q4_K_M", show_default=True, metavar="LEVEL,...",
                 help="Levels to write, all in one pass; `all` lists them."),
    click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
                 help="Where to; by default the models folder for a known model, else here."),
    click.option("--name", default="", metavar="NAME", help="Files are NAME-LEVEL.gguf."),
    click.option("--base", metavar="SOURCE", help="What a delta is added to, such as LLaMA-65B."),
    click.option("--imatrix", type=click.Path(path_type=Path), metavar="FILE",
                 help="Importance matrix of llama-imatrix; the IQ levels need one."),
    click.option("--prompt-format", metavar="NAME",
                 help="The format that goes into the file: freewilly2, freewilly1, chatml."),
    click.option("--split-size", callback=_size, metavar="SIZE",
                 help="Split each level into files of at most SIZE (2G)."),
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
    source: str, quant: str, prompt_format: str | None, dry_run: bool, as_json: bool, **rest: Any
) -> None:
    """Turn a checkpoint into quantized GGUFs, several levels in one pass.

    SOURCE is the folder of a Hugging Face Llama checkpoint (safetensors or torch .bin), one file of
    weights, a GGUF in F32, F16 or BF16, or owner/repo in Hugging Face's cache. An interrupted run
    goes on where it stopped. The paths of the files are printed on stdout.
    """
    from convert import display, job
    from convert.checkpoint import locate
    from convert.run import run_job

    request = _request(source, quant, prompt_format, locate(_repo_of(source)), rest)
    work = job.prepare(request)
    try:
        if dry_run:
            plan = display.describe(work)
            print_json(plan) if as_json else display.print_plan(plan)
            return
        started = time.monotonic()
        with display.shown(work) as on_progress:
            outcome = run_job(work, notify, on_progress)
    finally:
        work.close()
    for path in outcome.present:
        notify(f"{path}: already there, made from the same source")
    if as_json:
        print_json({"wrote": outcome.wrote, "present": outcome.present})
        return
    notify(display.summary(outcome, time.monotonic() - started))
    for level in work.levels:
        click.echo(level.files[0].path)


def _request(
    source: str, quant: str, prompt_format: str | None, location: Location, rest: dict[str, Any]
) -> Any:
    from convert.job import Request
    from convert.recipes import level_named

    spec = _spec_of(location)
    names = list(dict.fromkeys(name.strip() for name in quant.split(",") if name.strip()))
    if not names:
        raise UsageError("--quant names no level")
    return Request(
        location,
        tuple(dict.fromkeys(level_named(name) for name in names)),
        rest.pop("out") or _default_out(spec),
        name=rest.pop("name") or (spec.name if spec else ""),
        n_threads=rest.pop("threads"),
        split_bytes=rest.pop("split_size"),
        known=_known(spec, location, prompt_format),
        **rest,
    )


def _registry() -> Any:
    from fwlocal.registry import load_registry, user_file

    return load_registry(user_file())


def _repo_of(source: str) -> str:
    """The repository that a registry name means; anything else is itself."""
    spec = _registry().models.get(source)
    if spec is None or Path(source).exists():
        return source
    if not spec.checkpoints:
        raise UsageError(f"{source}: no checkpoint of it is known; name a folder or a repository")
    return str(spec.checkpoints[0].repo)


def _spec_of(location: Location) -> ModelSpec | None:
    found: ModelSpec | None = _registry().by_checkpoint(location.repo or location.name)
    return None if location.is_gguf else found


def _default_out(spec: ModelSpec | None) -> Path:
    from fwlocal.store import default_root

    return Path() if spec is None else default_root() / spec.name


def _known(spec: ModelSpec | None, location: Location, prompt_format: str | None) -> Known:
    from convert.metadata import Known
    from fwlocal.prompts import FORMATS, jinja_template

    if prompt_format is not None and prompt_format not in FORMATS:
        raise UsageError(
            f"no prompt format is called {prompt_format!r}; there are {', '.join(FORMATS)}"
        )
    chosen = FORMATS.get(prompt_format or (spec.prompt_format if spec else ""))
    template = jinja_template(chosen) if chosen else ""
    if spec is None:
        return Known(chat_template=template)
    repo = location.repo or location.name
    checkpoint = next(c for c in spec.checkpoints if c.is_called(repo))
    return Known(
        model=spec.name,
        licence=spec.licence.name,
        chat_template=template,
        is_delta=checkpoint.delta,
        base_repo=spec.base.repo if spec.base else "",
    )


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify(file: Path, as_json: bool) -> None:
    """Check a GGUF: its structure, its tensors' hashes, and that its scales are finite.

    Exits 1 naming every damaged tensor.
    """
    from convert.verify import verify as examine
    from fwlocal.progress import ProgressBar

    with ProgressBar(f"verifying {file.name}") as bar:
        verdict = examine(file, bar.update)
    if as_json:
        damaged = [{"tensor": d.tensor, "what": d.what} for d in verdict.damaged]
        print_json({"tensors": verdict.n_tensors, "hashed": verdict.n_hashed, "damaged": damaged})
    for damage in verdict.damaged:
        notify(f"{file}: {damage.tensor}: {damage.what}")
    if verdict.damaged:
        raise FwlocalError(
            f"{file}: {len(verdict.damaged)} of {verdict.n_tensors} tensors are damaged; convert "
            "or fetch the file again"
        )
    if not as_json:
        hashes = "all hashes agree" if verdict.n_hashed else "it carries no hashes"
        click.echo(f"{file}: sound: {verdict.n_tensors} tensors, {hashes}, all scales are finite")


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(model: str, as_json: bool) -> None:
    """Show what a GGUF holds: metadata, tensors by type, bits per weight, provenance.

    MODEL is a file, or a name from `fwlocal models`.
    """
    from fwlocal import inspection
    from fwlocal.gguf import read_header
    from fwlocal.loader import Library
    from fwlocal.store import locate

    library = Library.default()
    header = read_header(locate(model, library.registry, library.store).path)
    if as_json:
        print_json(inspection.describe(header))
    else:
        sys.stdout.write(inspection.text(header))
