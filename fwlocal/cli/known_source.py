"""A source to be converted, and what models.toml knows of it: its name, format, licence, base."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.cli.output import notify
from fwlocal.errors import ModelNotFound, UsageError
from fwlocal.prompts import FORMATS, jinja_template
from fwlocal.registry import Checkpoint, ModelSpec, Registry
from fwlocal.store import default_root

if TYPE_CHECKING:
    from convert.job import Request
    from convert.metadata import Known
    from convert.sources.location import Location


@dataclass(frozen=True)
class Source:
    """Where the weights are, and what is known of them; ``spec`` None for an unknown model."""

    location: Location
    spec: ModelSpec | None
    known: Known
    revision: str | None  # as the user asked for it

    def agree(self, *, accepted: bool) -> None:
        """Have the licence accepted before anything is fetched from the Hub."""
        from convert.sources.repository import HubRepository
        from fwlocal.cli.agreement import agree

        if isinstance(self.location.repository, HubRepository):
            snapshot = self.location.repository.snapshot
            agree(self.spec, snapshot, default_root(), accepted=accepted)

    def request(
        self, quant: str, out: Path, name: str, *, base: str | None, **rest: Any
    ) -> Request:
        """A conversion of it to the levels in ``quant``, separated by commas. The base of a delta
        on the Hub is fetched too, unless another is named. Raises UsageError."""
        from convert.job import Request
        from convert.recipes import level_named

        levels = [level for level in re.split(r"[,\s]+", quant) if level]
        if not levels:
            raise UsageError("--quant names no level")
        own = self.spec.base if self.spec else None
        if base is None and own and self.known.is_delta and self.location.repository is not None:
            base = at_revision(own)
            notify(f"{self.location.repo} is a delta; its base {base} is read with it")
        request = Request(
            self.location,
            tuple(dict.fromkeys(level_named(level) for level in levels)),
            out,
            name=name,
            base=base,
            known=self.known,
            **rest,
        )
        return request if self.revision else _as_begun(request)


def _as_begun(request: Request) -> Request:
    """The same, but where an unfinished run began with other commits of the same repositories,
    with those: branches move while a conversion takes its days."""
    from convert.sources.location import locate
    from convert.writer import begun_from

    stem = f"{request.name or request.location.name}-{request.levels[0].name}"
    begun = begun_from(request.out, stem)
    repo, commit = request.location.repo, begun.get("fwlocal.source.revision")
    if request.location.repository is None or commit is None or begun["fwlocal.source"] != repo:
        return request
    base_commit = begun.get("fwlocal.base.revision")
    if base_commit and request.base == begun.get("fwlocal.base"):
        request = replace(request, base=f"{request.base}@{base_commit}")
    if commit == request.location.revision:
        return request
    with contextlib.suppress(ModelNotFound):  # a history that was written anew
        location = locate(f"{repo}@{commit}")
        notify(f"{repo} has a new commit; going on with {commit[:12]}, with which this began "
               "(--revision main starts anew)")  # fmt: skip
        return replace(request, location=location)
    return request


def find(
    source: str, revision: str | None, registry: Registry, prompt_format: str | None
) -> Source:
    """What SOURCE means: a folder, a file, a repository, or a known model's checkpoint.

    Raises UsageError, and what the Hub says.
    """
    from convert.sources.location import locate

    location = locate(_repository(source, revision, registry), revision)
    spec = None if location.is_gguf else registry.by_checkpoint(_called(location))
    return Source(location, spec, _known(spec, location, prompt_format), revision)


def of_repository(repo: str, revision: str | None, registry: Registry) -> Source:
    """A repository, in Hugging Face's cache on this disk if it is whole there, else on the Hub."""
    from convert.sources.location import locate_repository

    location = locate_repository(repo, revision)
    spec = registry.by_checkpoint(_called(location))
    return Source(location, spec, _known(spec, location, None), revision)


def _repository(source: str, revision: str | None, registry: Registry) -> str:
    """The repository that a registry name means; anything else is itself."""
    spec = registry.models.get(source)
    if spec is None or Path(source).exists():
        return source
    if not spec.checkpoints:
        raise UsageError(f"{source}: no checkpoint of it is known; name a folder or a repository")
    checkpoint = spec.checkpoints[0]
    return checkpoint.repo if revision else at_revision(checkpoint)


def at_revision(checkpoint: Checkpoint) -> str:
    """``owner/repo@revision``, as the converter names it."""
    main = checkpoint.revision == "main"
    return checkpoint.repo if main else f"{checkpoint.repo}@{checkpoint.revision}"


def _called(location: Location) -> str:
    return location.repo or location.name


def default_out(spec: ModelSpec | None, name: str) -> Path:
    """The models folder for a known model under its own name, else the current folder."""
    return Path() if spec is None or name else default_root() / spec.name


def _known(spec: ModelSpec | None, location: Location, prompt_format: str | None) -> Known:
    """What goes into the files beside the source's own facts. Raises UsageError for no format."""
    from convert.metadata import Known

    if prompt_format is not None and prompt_format not in FORMATS:
        raise UsageError(
            f"no prompt format is called {prompt_format!r}; there are {', '.join(FORMATS)}"
        )
    chosen = FORMATS.get(prompt_format or (spec.prompt_format if spec else ""))
    known = Known(chat_template=jinja_template(chosen) if chosen else "")
    if spec is None:
        return known
    checkpoint = next(c for c in spec.checkpoints if c.is_called(_called(location)))
    return replace(
        known,
        model=spec.name,
        licence=spec.licence.name,
        is_delta=checkpoint.delta,
        base_repo=spec.base.repo if spec.base else "",
    )
