"""The verbs by name, each imported when it is asked for: ``fwlocal run`` does not wait for others'
modules.

To click this is a group's dictionary of commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pkgutil import resolve_name

import click

# What the user types, and where its command is.
VERBS: Mapping[str, str] = {
    "run": "fwlocal.cli.run:run",
    "replay": "fwlocal.cli.replay:replay",
    "chat": "fwlocal.cli.chat:chat",
    "sessions": "fwlocal.cli.sessions:sessions",
    "prompt": "fwlocal.cli.run:prompt",
    "plan": "fwlocal.cli.plan:plan",
    "bench": "fwlocal.cli.bench:bench",
    "tune": "fwlocal.cli.tune:tune",
    "pull": "fwlocal.cli.pull:pull",
    "convert": "fwlocal.cli.conversion:convert",
    "imatrix": "fwlocal.cli.imatrix:imatrix",
    "list": "fwlocal.cli.library:list_models",
    "show": "fwlocal.cli.library:show",
    "where": "fwlocal.cli.library:where",
    "rm": "fwlocal.cli.library:rm",
    "verify": "fwlocal.cli.library:verify",
    "import": "fwlocal.cli.library:import_model",
    "cache": "fwlocal.cli.cache:cache",
    "worker": "fwlocal.cli.worker:worker",
}


class Verbs(MutableMapping[str, click.Command]):
    """Commands by name: those at ``places``, and those that are added."""

    def __init__(self, places: Mapping[str, str] = VERBS) -> None:
        self._places = dict(places)
        self._commands: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._commands:
            self._commands[name] = resolve_name(self._places[name])
        return self._commands[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        self._commands.pop(name, None)
        self._places.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._places, **self._commands})

    def __len__(self) -> int:
        return len({**self._places, **self._commands})
