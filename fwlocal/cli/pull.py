"""``fwlocal pull``: from a model's name to a file on this disk."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.completion import level_name, pullable_model
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from convert.job import Job
    from fwlocal.hub.repository import Snapshot
    from fwlocal.library import Library
    from fwlocal.pull.choice import Choice
    from fwlocal.pull.roads import Convert, Road


@click.command()
@click.argument("model", metavar="MODEL[:LEVEL]", shell_complete=pullable_model)
@click.option(
    "-q",
    "--quant",
    multiple=True,
    metavar="LEVEL,...",
    shell_complete=level_name,
    help="Levels; by default the best one that fits this machine.",
)
@click.option("--from-source", is_flag=True, help="Convert, even if a ready-made GGUF exists.")
@click.option("--revision", default="", metavar="REV", help="A branch, tag or commit of the Hub.")
@click.option("--name", default="", metavar="NAME", help="What to call it here.")
@click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked.")
@click.option("--overwrite", is_flag=True, help="Fetch it again, though it is here.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def pull(
    model: str,
    quant: tuple[str, ...],
    accept_licence: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Fetch a model, ready-made where it is published, else converted as it streams in.

    MODEL is a name from `fwlocal models`, owner/repo[@REV] on Hugging Face's Hub, or one GGUF
    there, owner/repo/FILE.gguf. An interrupted pull goes on where it stopped. The path of the file
    is printed on stdout.

    \b
      fwlocal pull stable-beluga-7b                     the best level for this machine
      fwlocal pull freewilly2 --quant Q4_K_M
      fwlocal pull owner/repo:Q5_K_M
    """
    from fwlocal.library import Library
    from fwlocal.pull import roads

    library = Library.default()
    chosen = roads_for(model, quant, library, wishes, dry_run=dry_run, overwrite=overwrite)
    for remark in chosen.remarks:
        notify(remark)
    if dry_run:
        told = [roads.as_data(road) for road in chosen.roads]
        print_json(told) if as_json else click.echo("\n".join(map(roads.describe, chosen.roads)))
        return
    for road in chosen.roads:
        notify(roads.describe(road))
    paths = take(chosen.roads, library, accepted=accept_licence, overwrite=overwrite)
    for road in chosen.roads:
        if not isinstance(road, roads.Present):
            notify(f"talk to it with `fwlocal chat -m {roads.stored_name(road)}`")
    if as_json:
        print_json(
            [_told(road, path, library) for road, path in zip(chosen.roads, paths, strict=True)]
        )
    else:
        click.echo("\n".join(map(str, paths)))


def roads_for(
    model: str,
    quant: tuple[str, ...],
    library: Library,
    wishes: dict[str, Any],
    *,
    dry_run: bool,
    overwrite: bool,
) -> Choice:
    """The roads, each to a level that there is."""
    from convert.recipes import level_named
    from fwlocal.hub.repository import snapshot_or_cached
    from fwlocal.pull import choice
    from fwlocal.pull.roads import Convert
    from fwlocal.pull.wanted import understand

    levels = [one for text in quant for one in re.split(r"[,\s]+", text) if one]
    if quant and not levels:
        raise UsageError("--quant names no level")
    means = choice.Means(
        snapshot_or_cached, _dtype, _free_bytes, must_fit=not dry_run, anew=overwrite
    )
    wanted = understand(model, levels, library.registry, library.store, **wishes)
    chosen = choice.choose(wanted, library.store, library.registry, means)
    for road in chosen.roads:
        if isinstance(road, Convert):
            level_named(road.level)
    return chosen


def _free_bytes() -> int:
    from fwlocal import hardware, llama

    return hardware.machine(llama.devices()).free_bytes


def _dtype(source: Snapshot) -> str:
    """What a checkpoint's weights are kept in, as its config.json says."""
    from convert.sources.json_file import read_json
    from fwlocal.hub.repository import fetch_small

    config = read_json(fetch_small(source, ["config.json"]) / "config.json")
    told = config if isinstance(config, dict) else {}
    return str(told.get("torch_dtype") or told.get("dtype") or "float32")


def _told(road: Road, path: Path, library: Library) -> dict[str, Any]:
    """The road and what is there now."""
    from fwlocal.pull.roads import as_data

    told = as_data(road)
    stored = library.store.find(told["model"], library.registry, told["level"])
    if stored is None:
        return {**told, "path": path}
    manifest = stored.manifest
    known = {"source": manifest.source, "revision": manifest.revision} if manifest else {}
    return {**told, **known, "path": path, "files": stored.files, "size_bytes": stored.size_bytes}


def take(roads: Sequence[Road], library: Library, *, accepted: bool, overwrite: bool) -> list[Path]:
    """Take every road, once all that can be known to be wrong is known, and all licences are
    accepted; conversions of one source in one pass."""
    from fwlocal.cli.agreement import agree
    from fwlocal.pull.roads import Convert, Download, Present

    conversions = [road for road in roads if isinstance(road, Convert)]
    paths: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        conversion = None
        if conversions:
            conversion = _prepare(conversions, library, overwrite=overwrite)
            stack.callback(conversion.work.close)
            conversion.source.agree(accepted=accepted)
        for road in roads:
            if isinstance(road, Download):
                agree(road.spec, road.source, library.store.root, accepted=accepted)
        for road in roads:
            if isinstance(road, Present):
                paths[road.entry.level] = road.entry.path
            elif not isinstance(road, Convert):
                level = road.level if isinstance(road, Download) else road.spec.default_level
                paths[level] = _fetch(road, library, overwrite=overwrite)
        if conversion is not None:
            paths.update(conversion.carry_out())
    return [paths[_level(road)] for road in roads]


def _level(road: Road) -> str:
    from fwlocal.pull.roads import as_data

    return str(as_data(road)["level"])


def _fetch(road: Any, library: Library, *, overwrite: bool) -> Path:
    from fwlocal.progress import TransferBar
    from fwlocal.pull import fetch

    with TransferBar() as bar:

        def show(now: fetch.Progress) -> None:
            of = f" ({now.index + 1} of {now.n_files})" if now.n_files > 1 else ""
            name = f"{now.name}{of}" if now.is_fetched else f"checking {now.name}{of}"
            bar.update(name, now.done_bytes, now.total_bytes)

        return fetch.fetch(road, library.store.root, notify, show, overwrite=overwrite)


@dataclass(frozen=True)
class _Conversion:
    """A conversion that is known to be possible."""

    source: Any  # known_source.Source
    work: Job

    def carry_out(self) -> dict[str, Path]:
        """Do it, after whoever else is at it, and take what that one made; the path of each
        level."""
        from fwlocal.cli.conversion import carry_out
        from fwlocal.locks import Busy, held

        while True:
            try:
                carry_out(self.work)
                return {level.level.name: level.files[0].path for level in self.work.levels}
            except Busy:
                for file in self.work.files:
                    with held(file.path, "waiting", wait=True, on_wait=_tell_wait):
                        pass


def _prepare(roads: Sequence[Convert], library: Library, *, overwrite: bool) -> _Conversion:
    """All levels of one source, for one pass."""
    from convert import job
    from fwlocal.cli import known_source

    road = roads[0]
    source = known_source.of_repository(road.repo, road.revision or None, library.registry)
    request = source.request(
        ",".join(road.level for road in roads),
        library.store.root / road.name,
        road.name,
        base=known_source.at_revision(road.base) if road.base else None,
        overwrite=overwrite,
    )
    return _Conversion(source, job.prepare(request))


def _tell_wait(holder: str) -> None:
    notify(f"{holder}; waiting for it")
