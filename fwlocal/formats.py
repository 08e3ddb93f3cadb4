"""Which prompt format a model's file is talked to in.

It decides by names and metadata; how a format renders messages is the business of
``fwlocal.prompts`` and the template in the file.
"""

from __future__ import annotations

from fwlocal.errors import UsageError
from fwlocal.gguf import GGUFHeader
from fwlocal.prompts import FORMAT_NAMES, FORMATS, GGUF_FORMAT, format_of_template
from fwlocal.store import ModelFile


def choose_format(file: ModelFile, header: GGUFHeader, asked: str | None) -> str:
    """The prompt format: the one asked for, else the one that the file was stored with, else one of
    ours whose template the file carries, else the registry's, else the file's template.

    Raises UsageError where there is none of them: a wrong format makes a model talk nonsense.
    """
    if asked is not None and asked not in FORMAT_NAMES:
        known = ", ".join(FORMAT_NAMES)
        raise UsageError(f"no prompt format is called {asked!r}; there are {known}")
    template = header.text("tokenizer.chat_template")
    stored = file.prompt_format if file.prompt_format in FORMAT_NAMES else None
    own = format_of_template(template or "")
    chosen = asked or stored or own or (file.spec.prompt_format if file.spec else GGUF_FORMAT)
    if chosen == GGUF_FORMAT and template is None:
        raise UsageError(
            f"{file.path} carries no chat template; name its format with --prompt-format "
            f"({', '.join(FORMATS)}), or use --raw"
        )
    return chosen
