"""What verbs print besides their answer."""

from __future__ import annotations

import json
import logging
import sys

import click

from fwlocal.terminal import inert


def notify(message: str) -> None:
    """A line for the user, on stderr; above a live bar, where one is shown."""
    sys.stderr.write(f"fwlocal: {inert(message)}\n")
    sys.stderr.flush()


class NotifyHandler(logging.Handler):
    """What modules deep down log for the user, as such lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        notify(record.getMessage())


def print_json(data: object) -> None:
    """The answer as JSON, on stdout."""
    click.echo(json.dumps(data, ensure_ascii=False, indent=2, default=str))
