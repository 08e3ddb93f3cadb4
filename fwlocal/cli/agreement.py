"""A licence's terms, shown to a person and accepted, once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fwlocal.cli.output import notify
from fwlocal.errors import FwlocalError

if TYPE_CHECKING:
    from fwlocal.hub.repository import Snapshot
    from fwlocal.registry import ModelSpec


def agree(spec: ModelSpec | None, source: Snapshot, root: Path, *, accepted: bool) -> None:
    """Show the terms of a non-commercial model and have them accepted, unless they were before.

    Raises UsageError where nobody can be asked, FwlocalError for a no.
    """
    from fwlocal.pull import licences

    terms = licences.terms_of(spec, source)
    if terms is None or licences.is_accepted(root, terms):
        return
    if not accepted:
        if not (sys.stdin and sys.stdin.isatty()):
            raise licences.refuse(terms)
        notify(f"{terms.model}: {terms.licence}")
        notify(terms.notice)
        if terms.path is not None:
            notify(f"the licence itself: {terms.path}")
        if not click.confirm("Do you accept?", err=True):
            raise FwlocalError(f"{terms.model}: its licence was not accepted; nothing was fetched")
    licences.accept(root, terms)
