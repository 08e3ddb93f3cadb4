"""``fwlocal cache``: the prompts whose evaluation is kept on disk."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.completion import stored_model
from fwlocal.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fwlocal.prefix_cache import Described
    from fwlocal.tables import Table

_BOUND = re.compile(r"""^[ \t]*["']?prefix_cache["']?[ \t]*=[^\n#]*[^\n# \t]""", re.MULTILINE)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def cache(context: click.Context, as_json: bool) -> None:
    """Prompts kept evaluated on this disk, so that none is evaluated twice.

    Alone it lists them. They are kept by themselves, 4G of them unless `fwlocal cache size` is told
    otherwise, and those used longest ago leave first. Their texts are kept as token ids, readable
    by you alone; --no-cache keeps and reads none.
    """
    if context.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        verb = context.invoked_subcommand
        raise UsageError(f"--json goes after the verb: fwlocal cache {verb} --json")


@cache.command("list")
@_json
def list_entries(as_json: bool) -> None:
    """List what is kept, the one used last first: model, tokens, size."""
    _list(as_json)


def _list(as_json: bool) -> None:
    from fwlocal.config import DEFAULT_PREFIX_CACHE
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import described

    found = described(default_folder())
    if as_json:
        print_json([entry.as_data() for entry in found])
    elif found:
        from rich.console import Console

        _table(found).show(Console())
    if not as_json and not _bound_bytes():
        notify(f"the prefix cache is off; `fwlocal cache size {DEFAULT_PREFIX_CACHE}` turns it on")
    elif not as_json and not found:
        notify("no prompt is kept yet; `fwlocal run` and `fwlocal chat` keep long ones")


def _table(entries: Sequence[Described]) -> Table:
    from fwlocal.files import sized
    from fwlocal.tables import Column, Table

    columns = (
        Column("MODEL"),
        Column("TOKENS", right=True),
        Column("SIZE", right=True),
        Column("USED", left_out=1),
    )
    rows = [
        (
            entry.model,
            str(entry.n_tokens),
            sized(entry.size_bytes),
            _local(entry.last_used),
        )
        for entry in entries
    ]
    return Table(columns, rows)


def _local(moment: str) -> str:
    """A moment for people, by their own clock, as `fwlocal sessions` tells it."""
    if not moment:
        return "-"
    utc = datetime.fromisoformat(moment.replace("Z", "+00:00"))  # Python 3.10 reads no Z
    return utc.astimezone().strftime("%Y-%m-%d %H:%M")


@cache.command()
@click.argument("most", required=False, metavar="[MOST]")
@_json
def size(most: str | None, as_json: bool) -> None:
    """Tell how much is kept and where, or bound it by MOST.

    MOST is a size as in 2G, or 0, which turns the cache off. It is written into config.toml, and
    what is more than that is forgotten, those used longest ago first.
    """
    from fwlocal.files import sized
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import described, hindrance, size_bytes

    folder = default_folder()
    if most is not None:
        _bound_by(most)
    bound = _bound_bytes()
    count, taken = len(described(folder)), size_bytes(folder)
    if as_json:
        facts = {"path": str(folder), "entries": count, "size_bytes": taken, "bound_bytes": bound}
        print_json(facts)
        return
    of = f"{sized(bound)} at most" if bound else "turned off in config.toml"
    click.echo(f"{sized(taken)} in {_prompts(count)} ({of}): {folder}")
    if bound and (reason := hindrance(folder)):
        notify(f"nothing new is kept: {reason}")


def _bound_by(most: str) -> None:
    """Write what is allowed into config.toml, and forget what is more. Raises UsageError,
    RegistryError, StoreError."""
    from fwlocal.config import config_folder, load_config
    from fwlocal.files import sized
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import disk_bytes, trim
    from fwlocal.sizes import parse_size

    most_bytes = parse_size(most, "MOST", may_be_zero=True)
    has_bytes = disk_bytes(default_folder())
    if most_bytes > has_bytes > 0:
        raise UsageError(
            f"MOST {most!r}: is more than the {sized(has_bytes)} of the disk of "
            f"{default_folder()}; take less, or set FWLOCAL_CACHE to a folder on another disk"
        )
    load_config(config_folder())  # whoever edits it by hand hears first what is wrong in it
    _write_bound(config_folder(), most.strip())
    count, freed = trim(default_folder(), most_bytes)
    if count:
        notify(f"{_prompts(count)} forgotten, {sized(freed)} freed")


def _write_bound(folder: Path, most: str) -> None:
    """Put ``prefix_cache`` into the config.toml of ``folder``, and leave all else as it is."""
    from fwlocal.config import FILE_NAME
    from fwlocal.files import write_atomically

    path, line = folder / FILE_NAME, f'prefix_cache = "{most}"'
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        changed, n_found = _BOUND.subn(line, text)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path.resolve(), changed if n_found else f"{line}\n{text}")
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); make it writable, or put "
            f"{line} there yourself"
        ) from error


def _prompts(count: int) -> str:
    return f"{count} prompt{'s' if count != 1 else ''}"


def _bound_bytes() -> int:
    """What config.toml allows."""
    from fwlocal.config import config_folder, load_config

    return load_config(config_folder()).prefix_cache_bytes


@cache.command()
@click.argument("model", required=False, default="", shell_complete=stored_model)
@_json
def clear(model: str, as_json: bool) -> None:
    """Forget all prompts, or those of MODEL; nothing is lost but time."""
    from fwlocal.files import sized
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import clear as forget

    count, freed = forget(default_folder(), model)
    if as_json:
        print_json({"removed": count, "freed_bytes": freed})
    elif count or freed:
        notify(f"{_prompts(count)} forgotten, {sized(freed)} freed")
    else:
        notify("no prompt was kept")
