"""``fwlocal sessions``: the chats that were saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify
from fwlocal.errors import FwlocalError, StoreError, UsageError
from fwlocal.sessions.completion import session_name

if TYPE_CHECKING:
    from fwlocal.sessions.folder import Folder
    from fwlocal.sessions.reading import Session

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_name = click.argument("name", shell_complete=session_name)


def _folder() -> Folder:
    from fwlocal.sessions.folder import default_folder

    return default_folder()


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def sessions(context: click.Context, as_json: bool) -> None:
    """List, search, show, export and remove the chats that were saved.

    Alone it lists them. FWLOCAL_SESSIONS is the folder that they are in.
    """
    if context.invoked_subcommand is None:
        _list(as_json)
    elif as_json:
        verb = context.invoked_subcommand
        raise UsageError(f"--json goes after the verb: fwlocal sessions {verb} --json")


@sessions.command("list")
@_json
def list_sessions(as_json: bool) -> None:
    """List the saved chats, the one used last first."""
    _list(as_json)


def _list(as_json: bool) -> None:
    from fwlocal.sessions.outline import outlines, table

    found = outlines(_folder(), notify)
    if as_json:
        _print_json([outline.as_data() for outline in found])
    elif found:
        from rich.console import Console

        table(found).show(Console())
    else:
        notify("no chat is saved yet; `fwlocal chat` saves as it goes")


@sessions.command()
@click.argument("text")
@_json
def search(text: str, as_json: bool) -> None:
    """Find TEXT in what was said; exits 1 where it is nowhere."""
    from fwlocal.sessions.export import shown
    from fwlocal.sessions.search import search as look

    if not text.strip():
        raise UsageError("the text to search for is empty")
    hits = list(look(text, _folder(), notify))
    if as_json:
        _print_json([hit.as_data() for hit in hits])
    for hit in [] if as_json else hits:
        click.echo(shown(f"{hit.session}  {hit.turn} {hit.role}: {hit.excerpt}"))
    if not hits:
        raise FwlocalError(f"{text!r} is in no saved chat")


@sessions.command()
@_name
@_json
def show(name: str, as_json: bool) -> None:
    """Show a saved chat."""
    from fwlocal.sessions.export import as_data, as_markdown

    session = _read(name)
    if as_json:
        _print_json(as_data(name, session))
    elif sys.stdout.isatty():
        _draw(as_markdown(name, session))
    else:
        sys.stdout.write(as_markdown(name, session))


def _draw(markdown: str) -> None:
    """Show Markdown as the chat does."""
    from fwlocal.markdown import MarkdownWriter
    from fwlocal.terminal import has_colors, terminal_size

    writer = MarkdownWriter(
        lambda text: click.echo(text, nl=False),
        width=lambda: max(1, terminal_size().columns),
        height=lambda: max(1, terminal_size().lines),
        color=has_colors(),
    )
    writer.feed(markdown)
    writer.end()


@sessions.command()
@_name
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.md|FILE.json")
def export(name: str, file: Path) -> None:
    """Write a saved chat to a new file, as Markdown or JSON."""
    from fwlocal.sessions.export import export as write

    write(name, _read(name), file.expanduser())
    notify(f"{name} written to {file}")


@sessions.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=session_name)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], yes: bool) -> None:
    """Remove saved chats for good."""
    folder = _folder()
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        folder.existing(name)
    if not yes and not _is_agreed(chosen):
        notify("nothing was removed")
        raise SystemExit(1)
    for name in chosen:
        folder.remove(name)
        notify(f"{name} removed")


def _is_agreed(names: list[str]) -> bool:
    """Ask. Raises UsageError where nobody can be asked."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("rm asks before it removes, and nobody is there to answer; say --yes")
    for name in names:
        try:
            notify(f"{name}, {_read(name).in_words()}")
        except StoreError as error:
            notify(str(error))
    return click.confirm("Remove?" if len(names) == 1 else "Remove them?", err=True)


def _read(name: str) -> Session:
    """What is whole of a session; its damaged lines are named, and left as they are."""
    from fwlocal.sessions.growing import read_file

    path = _folder().existing(name)
    session = read_file(path)
    if session.damages:
        notify(f"{path}: {session.complaint()}; the rest is whole")
    return session


def _print_json(data: object) -> None:
    from fwlocal.sessions.export import as_json

    sys.stdout.write(as_json(data))
