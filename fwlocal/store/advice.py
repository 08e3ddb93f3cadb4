"""What to tell a user who lacks a model, or whose file of it is damaged: the command that helps.

Pure: it knows the registry's entries and manifests, and neither disk nor network.
"""

from __future__ import annotations

import shlex

from fwlocal.files import sized
from fwlocal.registry import ModelSpec
from fwlocal.store.manifest import Manifest


def published_level(spec: ModelSpec, level: str) -> str:
    """``level`` as the model's own list spells it, whatever its case."""
    return next((known for known in spec.level_sizes_gb if known.lower() == level.lower()), level)


def how_to_get(spec: ModelSpec, level: str) -> str:
    """For a level of a known model that is not on this disk."""
    sizes = spec.level_sizes_gb
    if level in sizes:
        return (
            f"{spec.name}:{level} is not on this disk ({sized(sizes[level] * 1e9)}); get it with "
            f"`fwlocal pull {spec.name}:{level}`"
        )
    if sizes:
        is_or_are = "are" if len(sizes) > 1 else "is"
        return f"{spec.name} has no level {level!r}; there {is_or_are} {', '.join(sizes)}"
    if not spec.checkpoints:
        return f"{spec.name} is not on this disk and no source of it is known"
    return (
        f"{spec.name}:{level} is not on this disk and no GGUF of it is published; make it with "
        f"`fwlocal pull {spec.name}:{level}`, which converts it"
    )


def way_back(name: str, level: str, spec: ModelSpec | None, manifest: Manifest | None) -> str:
    """The command that brings a stored level back as it was."""
    road = manifest.road if manifest is not None else _likely_road(spec, level)
    if road in ("import", ""):
        file = shlex.quote(manifest.source) if manifest is not None else "FILE"
        return f"fwlocal import {file} --name {name}:{level} --overwrite"
    if road == "convert":
        source = manifest.source if manifest is not None else name
        if spec is not None and spec.checkpoints and (manifest is None or "/" in source):
            return f"{_convert(spec, level)} --overwrite"
        source = shlex.quote(source) if source else "SOURCE"
        return f"fwlocal convert {source} --quant {level} --name {name} --overwrite"
    known = spec is not None and level in spec.level_sizes_gb
    wanted = name if known or manifest is None or not manifest.source else manifest.source
    return f"fwlocal pull {wanted}:{level} --overwrite"


def _likely_road(spec: ModelSpec | None, level: str) -> str:
    """How a level without a manifest came here, "" where nobody knows."""
    if spec is None:
        return ""
    return "download" if level in spec.level_sizes_gb else "convert" if spec.checkpoints else ""


def _convert(spec: ModelSpec, level: str) -> str:
    base = f" --base {spec.base.repo}" if spec.base else ""
    return f"fwlocal convert {spec.name} --quant {level}{base}"
