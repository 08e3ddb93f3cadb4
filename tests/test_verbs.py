"""The verbs by name: each is where its place says, and no other is imported for it."""

from __future__ import annotations

import click
import pytest

from fwlocal.cli.verbs import VERBS, Verbs


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_called_as_its_command(name: str) -> None:
    command = Verbs()[name]

    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str()


def test_a_place_is_looked_at_when_its_verb_is_asked_for() -> None:
    verbs = Verbs({"run": "fwlocal.cli.run:run", "gone": "fwlocal.cli.no_such_module:verb"})

    assert verbs["run"] is verbs["run"]
    assert (list(verbs), len(verbs)) == (["run", "gone"], 2)
    with pytest.raises(ModuleNotFoundError):
        verbs["gone"]
    assert verbs.get("never") is None


def test_commands_are_added_and_taken_out() -> None:
    group = click.Group("program", commands=Verbs({"run": "fwlocal.cli.run:run"}))

    @group.command()
    def models() -> None:
        """List them."""

    assert group.list_commands(click.Context(group)) == ["models", "run"]
    assert group.commands["models"] is models
    del group.commands["models"], group.commands["run"]
    assert not group.commands
