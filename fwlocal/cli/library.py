"""The verbs of the store: list, show, where, rm, verify, import."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.completion import format_name, stored_model
from fwlocal.errors import Damaged, ModelNotFound, UsageError
from fwlocal.splits import parts_of

if TYPE_CHECKING:
    from fwlocal.cli.verification import Report, Target
    from fwlocal.library import Library
    from fwlocal.store import ModelFile
    from fwlocal.store.removal import Doomed


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_models(as_json: bool) -> None:
    """List the models on this disk: size, bits per weight, dates, source."""
    from fwlocal import listing

    library = _library()
    if as_json:
        print_json(listing.describe(library.store, library.registry))
        return
    from rich.console import Console

    if not listing.show(library.store, library.registry, Console()):
        notify("no model is on this disk yet; `fwlocal models` lists what `fwlocal pull` can get")


@click.command()
@click.argument("model", shell_complete=stored_model)
@click.option("--metadata", is_flag=True, help="List the file's own keys too.")
@click.option("--tensors", is_flag=True, help="List every tensor too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, with all of it.")
def show(model: str, metadata: bool, tensors: bool, as_json: bool) -> None:
    """Show what a GGUF is: size, licence, provenance, tensors by type.

    MODEL is a name from `fwlocal list`, NAME:LEVEL, or a path to a .gguf.
    """
    from fwlocal import inspection, provenance
    from fwlocal.whole import read_whole

    library = _library()
    file = _located(model, library)
    header = read_whole(file.path)
    stored = library.store.find(file.name, library.registry, file.level) if file.level else None
    facts = provenance.describe(file, header, stored.manifest if stored else None)
    if as_json:
        print_json({**facts, **inspection.describe(header)})
        return
    told = provenance.in_words(facts)
    told = {"model": told.pop("model"), **inspection.in_words(header), **told}
    sys.stdout.write(inspection.text(header, told, with_metadata=metadata))
    if tensors:
        sys.stdout.write("\n" + inspection.tensor_lines(header))


@click.command()
@click.argument("model", shell_complete=stored_model)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def where(model: str, as_json: bool) -> None:
    """Print the path of a model's file, for other runners; of a split model, the first."""
    library = _library()
    file = _located(model, library)
    if not as_json:
        click.echo(file.path)
        return
    files = parts_of(file.path)
    stored = library.store.find(file.name, library.registry, file.level) if file.level else None
    known = stored.as_data() if stored else {"source": None, "revision": None, "licence": None}
    own = {"model": file.name, "level": file.level, "path": file.path, "files": files}
    size_bytes = sum(path.stat().st_size for path in files if path.is_file())
    print_json({**own, "size_bytes": size_bytes, **known, **own})


@click.command()
@click.argument(
    "models", metavar="MODEL[:LEVEL]...", nargs=-1, required=True, shell_complete=stored_model
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")  # fmt: skip
def rm(models: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove models from this disk: one level, or every level of a model; unfinished ones too."""
    from fwlocal.files import sized
    from fwlocal.store import removal

    library = _library()
    found = [
        level
        for model in models
        for level in removal.doomed(model, library.registry, library.store)
    ]
    levels = list({level.manifest_path: level for level in found}.values())
    if not yes and not _is_agreed(levels):
        notify("nothing was removed")
        raise SystemExit(1)
    freed = sum(map(removal.remove, levels))
    if as_json:
        print_json({"removed": [level.as_data() for level in levels], "freed_bytes": freed})
        return
    named = ", ".join(f"{level.name}:{level.level}" for level in levels)
    told = f"{sized(freed)} freed" if freed else "nothing freed: its bytes have other names"
    notify(f"{named} removed, {told}")


def _is_agreed(levels: list[Doomed]) -> bool:
    """Ask. Raises UsageError where nobody can be asked."""
    from fwlocal.files import sized

    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("rm asks before it removes, and nobody is there to answer; say --yes")
    for level in levels:
        notify(
            f"{level.name}:{level.level}, {sized(level.size_bytes)} in {level.manifest_path.parent}"
        )
    return click.confirm("Remove?", err=True)


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1, shell_complete=stored_model)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def verify(models: tuple[str, ...], as_json: bool) -> None:
    """Check that files are what they were: SHA-256, structure, the tensors' hashes and scales.

    MODEL is a file, or a name from `fwlocal list`; with none, the whole store. Exits 3 naming
    every damage and the way back.
    """
    from fwlocal.cli import verification

    library = _library()
    if models:
        targets = [target for model in models for target in verification.target_of(model, library)]
    else:
        targets = verification.whole_store(library)
    reports = _verified(targets, library)
    if as_json:
        print_json([report.as_data() for report in reports])
    else:
        for report in reports:
            if report.is_sound:
                click.echo(report.in_words())
    if not reports:
        notify("no model is on this disk yet")
    _tell_changes([report for report in reports if report.change], n_all=len(reports))
    _tell_damage([report for report in reports if report.findings])


def _tell_changes(changed: list[Report], *, n_all: int) -> None:
    """What somebody else removed or replaced meanwhile, on stderr. Raises ModelNotFound if that is
    all that was to be looked at."""
    lines = [f"{report.target.files[0]}: {report.change}" for report in changed]
    if lines and len(lines) == n_all:
        raise ModelNotFound("; ".join(lines))
    for line in lines:
        notify(line)


def _tell_damage(damaged: list[Report]) -> None:
    """Every damage on stderr. Raises Damaged with the last way back, if there is any damage."""
    for report in damaged:
        for finding in report.findings:
            tensor = f"{finding.tensor}: " if finding.tensor else ""
            notify(f"{finding.file}: {tensor}{finding.what}")
    ways = [f"{r.findings[0].file}: damaged; {r.target.remedy}" for r in damaged]
    for way in ways[:-1]:
        notify(way)
    if ways:
        raise Damaged(ways[-1])


def _verified(targets: list[Target], library: Library) -> list[Report]:
    from fwlocal.cli.verification import verify as look
    from fwlocal.progress import ProgressBar

    total = sum(target.work_bytes for target in targets) or 1
    names = targets[0].title if len(targets) == 1 else f"{len(targets)} models"
    reports, done = [], 0
    with ProgressBar(f"verifying {names}") as bar:
        for target in targets:
            work_bytes = target.work_bytes

            def progress(n_bytes: float, done: int = done) -> None:
                bar.update(min(1.0, (done + n_bytes) / total))

            reports.append(look(target, library, progress))
            done += work_bytes
    return reports


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.gguf")
@click.option(
    "--name",
    default="",
    metavar="NAME[:LEVEL]",
    help="What to call it; by default as the file says.",
)
@click.option(
    "--prompt-format",
    default="",
    metavar="NAME",
    shell_complete=format_name,
    help="The format to talk to it in: freewilly2, freewilly1, chatml, gguf.",
)
@click.option("--copy", is_flag=True, help="Copy the bytes, rather than give them a second name.")
@click.option("--overwrite", is_flag=True, help="Replace a level that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")  # fmt: skip
def import_model(
    file: Path, name: str, prompt_format: str, copy: bool, overwrite: bool, as_json: bool
) -> None:
    """Take a GGUF from elsewhere into the store, and print its NAME:LEVEL.

    Where the disk allows it the file gets a second name in the store (a hard link) and takes no
    room; else it is copied. Of a split model, name any part.
    """
    from fwlocal.progress import ProgressBar
    from fwlocal.store import importing

    library = _library()
    request = importing.Request(file.expanduser(), name, prompt_format, copy, overwrite)
    arrival = importing.check(request, library.registry, library.store)
    spec = library.registry.models.get(arrival.name)
    if spec is not None and name:
        notify(f"{arrival.name} is a known model, so the file is treated as {spec.title}: its "
               "prompt format, system text and licence")  # fmt: skip
    with ProgressBar(f"importing {file.name}") as bar:
        importing.take_in(arrival, library.store, bar.update)
    called = f"{arrival.name}:{arrival.level}"
    if as_json:
        stored = library.store.find(arrival.name, library.registry, arrival.level)
        print_json(stored.as_data() if stored else None)
    else:
        click.echo(called)
    notify(f"talk to it with `fwlocal chat -m {shlex.quote(called)}`")


def _library() -> Library:
    from fwlocal.library import Library

    return Library.default()


def _located(model: str, library: Library) -> ModelFile:
    """The file that MODEL means, which must be there."""
    from fwlocal.store import locate

    file = locate(model, library.registry, library.store)
    if not file.path.exists():
        raise ModelNotFound(f"{model} is not on this disk; get it with `fwlocal pull {model}`")
    return file
