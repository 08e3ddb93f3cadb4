"""The slash commands: one table is what they do, what ``/help`` says and what TAB offers."""

from __future__ import annotations

from fwlocal.errors import UsageError
from fwlocal.repl.ab import AB_COMMANDS
from fwlocal.repl.command import Command, Sitting
from fwlocal.repl.completion import unknown_command
from fwlocal.repl.context import CONTEXT_COMMANDS
from fwlocal.repl.files import FILE_COMMANDS
from fwlocal.repl.models import MODEL_COMMANDS
from fwlocal.repl.saved import SAVED_COMMANDS
from fwlocal.repl.settings import SETTINGS_COMMANDS
from fwlocal.repl.showing import HISTORY_COMMANDS
from fwlocal.repl.talk import TALK_COMMANDS

KEYS_HELP = (
    "Enter sends, Alt-Enter begins a new line, TAB completes, Ctrl-R searches what was typed.",
    'Text between """ and """ may have many lines; //text begins with a slash.',
    "Ctrl-C stops an answer, Ctrl-D leaves.",
)


# What people type who come from elsewhere.
ALIASES = {"/quit": "/exit", "/bye": "/exit", "/new": "/reset", "/clear": "/reset", "/?": "/help"}


def _help(sitting: Sitting, name: str) -> str:
    if name:
        command, _ = find(f"/{name.removeprefix('/')}")
        return f"{command.usage}: {command.help}."
    width = max(len(command.usage) for command in COMMANDS)
    if width + 2 > sitting.screen.width() // 2:  # too narrow for two columns
        rows = [f"  {command.usage}\n      {command.help}" for command in COMMANDS]
    else:
        rows = [f"  {command.usage:<{width}}  {command.help}" for command in COMMANDS]
    return "\n".join([*rows, *KEYS_HELP])


COMMANDS = (
    Command("/help", "show this, or one command", _help, "[COMMAND]"),
    *TALK_COMMANDS,
    *FILE_COMMANDS,
    *MODEL_COMMANDS,
    *AB_COMMANDS,
    *SETTINGS_COMMANDS,
    *CONTEXT_COMMANDS,
    *HISTORY_COMMANDS,
    *SAVED_COMMANDS,
    Command("/exit", "leave", lambda _, __: None),
)
BY_NAME = {command.name: command for command in COMMANDS}


def find(text: str) -> tuple[Command, str]:
    """The command that ``text`` names, and its argument. Raises UsageError, offering the nearest
    for an unknown one, and for an argument that it does not take."""
    typed, *rest = text.split(maxsplit=1)
    name = ALIASES.get(typed.lower(), typed.lower())
    argument = rest[0].strip() if rest else ""
    command = BY_NAME.get(name)
    if command is None:
        raise UsageError(unknown_command(text, BY_NAME))
    if argument and not command.argument:
        raise UsageError(f"{name} takes nothing after it; type {name} alone")
    return command, argument
