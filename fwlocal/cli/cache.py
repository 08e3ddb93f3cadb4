"""``fwlocal cache``: the prompts whose evaluation is kept on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify, print_json
from fwlocal.completion import stored_model
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fwlocal.prefix_cache import Described
    from fwlocal.tables import Table

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def cache(context: click.Context, as_json: bool) -> None:
    """Prompts kept evaluated on this disk, so that none is evaluated twice.

    Alone it lists them. They are kept by themselves, up to `prefix_cache` of config.toml ("4G"; 0
    turns it off), and those used longest ago leave first. Of a prompt only its token ids are kept,
    readable by you alone.
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
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import described

    found = described(default_folder())
    if as_json:
        print_json([entry.as_data() for entry in found])
    elif found:
        from rich.console import Console

        _table(found).show(Console())
    else:
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
            entry.last_used.replace("T", " ").removesuffix(":00Z").removesuffix("Z") or "-",
        )
        for entry in entries
    ]
    return Table(columns, rows)


@cache.command()
@_json
def size(as_json: bool) -> None:
    """Tell how much is kept, how much may be, and where."""
    from fwlocal.files import sized
    from fwlocal.prefix_cache import default_folder
    from fwlocal.prefix_cache.contents import described, size_bytes
    from fwlocal.sizes import gib

    folder, bound = default_folder(), _bound_bytes()
    count, taken = len(described(folder)), size_bytes(folder)
    if as_json:
        facts = {"path": str(folder), "entries": count, "size_bytes": taken, "bound_bytes": bound}
        print_json(facts)
        return
    of = f"{gib(bound)} at most" if bound else "turned off in config.toml"
    prompts = f"{count} prompt{'s' if count != 1 else ''}"
    click.echo(f"{sized(taken)} in {prompts} ({of}): {folder}")


def _bound_bytes() -> int:
    """What config.toml allows."""
    from fwlocal.config import config_folder, load_config
    from fwlocal.prefix_cache import DEFAULT_BOUND
    from fwlocal.sizes import parse_size

    text = str(vars(load_config(config_folder())).get("prefix_cache", DEFAULT_BOUND))
    return parse_size(text, "prefix_cache", may_be_zero=True)


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
        notify(f"{count} prompt{'s' if count != 1 else ''} forgotten, {sized(freed)} freed")
    else:
        notify("no prompt was kept")
