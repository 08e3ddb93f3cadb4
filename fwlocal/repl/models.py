"""``/model`` and ``/format``: another model or prompt format for the same conversation."""

from __future__ import annotations

from fwlocal.errors import UsageError
from fwlocal.loader import Library, open_file
from fwlocal.prompts import FORMAT_NAMES
from fwlocal.repl.command import Command, Sitting
from fwlocal.repl.completion import formats, models
from fwlocal.sessions.recording import speaker_of


def _model(sitting: Sitting, name: str) -> str:
    if not name:
        return f"{described(sitting)}; /model NAME[:LEVEL] takes another."
    # What is wrong with it is known while the old one is there.
    file, header = open_file(name, Library.default())
    loaded = sitting.loaded
    is_level = file.spec == loaded.file.spec and header.speaks_like(loaded.header)
    with sitting.release():
        sitting.replace(sitting.load(name, loaded.prompt_format if is_level else None))
    return f"{described(sitting)} answers from now on."


def _format(sitting: Sitting, name: str) -> str:
    if not name:
        return f"The prompt format is {sitting.loaded.prompt_format}."
    if name not in FORMAT_NAMES:
        raise UsageError(
            f"there is no prompt format {name}; it is one of {', '.join(FORMAT_NAMES)}"
        )
    model = speaker_of(sitting.loaded).model
    open_file(model, Library.default())  # it may be gone since, and is all that there is
    with sitting.release():
        sitting.replace(sitting.load(model, name))
    return f"The prompt format is {name} from now on."


def described(sitting: Sitting) -> str:
    """The model that answers."""
    file = sitting.loaded.file
    return f"{file.name}{f':{file.level}' if file.level else ''} ({sitting.loaded.prompt_format})"


MODEL_COMMANDS = (
    Command("/model", "show the model, or take another", _model, "[NAME]", completes=models),
    Command(
        "/format", "show the prompt format, or take another", _format, "[NAME]", completes=formats
    ),
)
