"""What the shell offers after a TAB: the names of sessions, none where they cannot be read."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fwlocal.errors import FwlocalError


def session_name(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of sessions that begin so, in whatever case, the one used last first."""
    from fwlocal.sessions.folder import default_folder

    try:
        names = default_folder().names()
    except FwlocalError:
        return []
    start = incomplete.casefold()
    return [CompletionItem(name) for name in names if name.casefold().startswith(start)]
