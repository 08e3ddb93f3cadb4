"""What models.toml knows of a source to be converted: its name, format, licence, and folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.errors import UsageError
from fwlocal.prompts import FORMATS, jinja_template
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store import default_root

if TYPE_CHECKING:
    from convert.metadata import Known
    from convert.sources.checkpoint import Location


def repository(source: str, registry: Registry) -> str:
    """The repository that a registry name means; anything else is itself."""
    spec = registry.models.get(source)
    if spec is None or Path(source).exists():
        return source
    if not spec.checkpoints:
        raise UsageError(f"{source}: no checkpoint of it is known; name a folder or a repository")
    return spec.checkpoints[0].repo


def recognised(location: Location, registry: Registry) -> ModelSpec | None:
    """The model that a checkpoint is, by its repository's or folder's name."""
    return None if location.is_gguf else registry.by_checkpoint(_called(location))


def _called(location: Location) -> str:
    return location.repo or location.name


def default_out(spec: ModelSpec | None, name: str) -> Path:
    """The models folder for a known model under its own name, else the current folder."""
    return Path() if spec is None or name else default_root() / spec.name


def known(spec: ModelSpec | None, location: Location, prompt_format: str | None) -> Known:
    """What goes into the files beside the source's own facts. Raises UsageError for no format."""
    from convert.metadata import Known

    if prompt_format is not None and prompt_format not in FORMATS:
        raise UsageError(
            f"no prompt format is called {prompt_format!r}; there are {', '.join(FORMATS)}"
        )
    chosen = FORMATS.get(prompt_format or (spec.prompt_format if spec else ""))
    template = jinja_template(chosen) if chosen else ""
    if spec is None:
        return Known(chat_template=template)
    checkpoint = next(c for c in spec.checkpoints if c.is_called(_called(location)))
    return Known(
        model=spec.name,
        licence=spec.licence.name,
        chat_template=template,
        is_delta=checkpoint.delta,
        base_repo=spec.base.repo if spec.base else "",
    )
