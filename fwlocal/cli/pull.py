"""``fwlocal pull``: from a model's name to a file on this disk."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify, print_json

if TYPE_CHECKING:
    from fwlocal.library import Library
    from fwlocal.pull.roads import Convert, Road


@click.command()
@click.argument("model")
@click.option(
    "-q",
    "--quant",
    multiple=True,
    metavar="LEVEL,...",
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
    from_source: bool,
    revision: str,
    name: str,
    accept_licence: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch a model, ready-made where it is published, else converted as it streams in.

    \b
      fwlocal pull stable-beluga-7b                     the best level for this machine
      fwlocal pull freewilly2 --quant Q4_K_M
      fwlocal pull owner/repo:Q5_K_M                    from Hugging Face's Hub
      fwlocal pull owner/repo/file.gguf

    An interrupted pull goes on where it stopped. The path of the file is printed on stdout.
    """
    from fwlocal.hub.repository import snapshot
    from fwlocal.library import Library
    from fwlocal.pull import choice, roads

    library = Library.default()
    levels = [one for text in quant for one in re.split(r"[,\s]+", text) if one]
    wanted = choice.understand(model, levels, library.registry)
    wanted = dataclasses.replace(
        wanted, from_source=from_source, revision=revision or wanted.revision, name=name
    )
    chosen = choice.choose(
        wanted, library.store, library.registry, snapshot, _free_bytes, anew=overwrite
    )
    if chosen.reason:
        notify(chosen.reason)
    if dry_run:
        told = [roads.as_data(road) for road in chosen.roads]
        print_json(told) if as_json else click.echo("\n".join(map(roads.describe, chosen.roads)))
        return
    for road in chosen.roads:
        notify(roads.describe(road))
    _agree(chosen.roads, library, accepted=accept_licence)
    paths = _take(chosen.roads, library, overwrite=overwrite)
    for road in chosen.roads:
        if not isinstance(road, roads.Present):
            notify(f"talk to it with `fwlocal chat -m {roads.stored_name(road)}`")
    if as_json:
        told = [roads.as_data(road) for road in chosen.roads]
        print_json([{**one, "path": path} for one, path in zip(told, paths, strict=True)])
    else:
        click.echo("\n".join(map(str, paths)))


def _free_bytes() -> int:
    from fwlocal import hardware, llama, offload

    return offload.free_bytes(hardware.memory(), llama.devices())


def _agree(roads: Sequence[Road], library: Library, *, accepted: bool) -> None:
    """Have the licence of what will be fetched accepted, once."""
    from fwlocal.cli.agreement import agree
    from fwlocal.hub.repository import snapshot
    from fwlocal.pull.roads import Convert, Download

    for road in roads:
        if isinstance(road, Download | Convert):
            source = (
                road.source
                if isinstance(road, Download)
                else snapshot(road.repo, road.revision or "main")
            )
            agree(road.spec, source, library.store.root, accepted=accepted)


def _take(roads: Sequence[Road], library: Library, *, overwrite: bool) -> list[Path]:
    """Take every road; conversions of one source in one pass."""
    from fwlocal.progress import TransferBar
    from fwlocal.pull import fetch as pulling
    from fwlocal.pull.roads import Convert, Present

    paths: dict[int, Path] = {}
    for index, road in enumerate(roads):
        if isinstance(road, Present):
            paths[index] = road.entry.path
        elif not isinstance(road, Convert):
            with TransferBar() as bar:

                def show(now: pulling.Progress, bar: TransferBar = bar) -> None:
                    of = f" ({now.index + 1} of {now.n_files})" if now.n_files > 1 else ""
                    bar.update(f"{now.name}{of}", now.done_bytes, now.total_bytes)

                root = library.store.root
                paths[index] = pulling.fetch(road, root, notify, show, overwrite=overwrite)
    conversions = [(i, road) for i, road in enumerate(roads) if isinstance(road, Convert)]
    if conversions:
        made = _convert([road for _, road in conversions], library, overwrite=overwrite)
        paths.update(zip((i for i, _ in conversions), made, strict=True))
    return [paths[index] for index in range(len(roads))]


def _convert(roads: Sequence[Convert], library: Library, *, overwrite: bool) -> list[Path]:
    """All levels of one source, streamed in one pass."""
    from fwlocal.cli import known_source
    from fwlocal.cli.conversion import carry_out

    road = roads[0]
    found = known_source.find(road.repo, road.revision or None, library.registry, None)
    request = found.request(
        ",".join(road.level for road in roads),
        library.store.root / road.name,
        road.name,
        base=known_source.at_revision(road.base) if road.base else None,
        overwrite=overwrite,
    )
    work, _, _ = carry_out(request)
    return [level.files[0].path for level in work.levels]
