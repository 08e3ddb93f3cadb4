"""What verbs print besides their answer."""

from __future__ import annotations

import json

import click

from fwlocal.terminal import inert


def notify(message: str) -> None:
    """A line for the user, on stderr."""
    click.echo(f"fwlocal: {inert(message)}", err=True)


def print_json(data: object) -> None:
    """The answer as JSON, on stdout."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))
