"""What to tell a user who lacks a model, or whose file of it is damaged: the command that helps.

Pure: it knows the registry's entries, manifests and notes, and neither disk nor network.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from fwlocal.files import sized
from fwlocal.levels import level_in
from fwlocal.registry import ModelSpec
from fwlocal.store.beginnings import Beginning
from fwlocal.store.manifest import Manifest

# What the converter makes, in its order; a test holds it against `fwlocal convert --list-levels`.
CONVERTIBLE = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M"),
    *("Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_NL", "IQ4_XS"),
    *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M"),
    *("F16", "BF16", "F32"),
)


def published_level(spec: ModelSpec, level: str) -> str:
    """``level`` as the model's own list, or else the converter's, spells it, whatever its case."""
    known = (*spec.level_sizes_gb, *CONVERTIBLE)
    return next((name for name in known if name.lower() == level.lower()), level)


def levels_to_get(spec: ModelSpec) -> tuple[str, ...]:
    """All levels of a known model that `fwlocal pull` brings: first those that are published."""
    made = CONVERTIBLE if spec.checkpoints else ()
    return tuple(dict.fromkeys((*spec.level_sizes_gb, *made)))


def how_to_get(spec: ModelSpec, level: str) -> str:
    """For a level of a known model that is not on this disk."""
    sizes, wanted = spec.level_sizes_gb, f"{spec.name}:{level}"
    if level in sizes:
        size = sized(sizes[level] * 1e9)
        return f"{wanted} is not on this disk ({size}); get it with `fwlocal pull {wanted}`"
    if level in levels_to_get(spec):
        return (
            f"{wanted} is not on this disk; get it with `fwlocal pull {wanted}`, which converts it"
        )
    if not levels_to_get(spec):
        return f"{spec.name} is not on this disk and no source of it is known"
    known = [*sizes, *(["all of `fwlocal convert --list-levels`"] if spec.checkpoints else [])]
    is_or_are = "are" if len(known) > 1 else "is"
    return f"{spec.name} has no level {level!r}; there {is_or_are} {', '.join(known)}"


def way_back(name: str, level: str, spec: ModelSpec | None, manifest: Manifest | None) -> str:
    """The command that brings a stored level back as it was."""
    road = manifest.road if manifest is not None else _likely_road(spec, level)
    if road in ("import", ""):
        file = shlex.quote(manifest.source) if manifest is not None else "FILE"
        return f"fwlocal import {file} --name {_called(name, level)} --overwrite"
    if road == "convert":
        source = manifest.source if manifest is not None else name
        if spec is not None and spec.checkpoints and (manifest is None or "/" in source):
            return f"{_convert(spec, level)} --overwrite"
        source = shlex.quote(source) if source else "SOURCE"
        return f"fwlocal convert {source} --quant {level} --name {name} --overwrite"
    known = spec is not None and level in spec.level_sizes_gb
    wanted = name if known or manifest is None or not manifest.source else manifest.source
    return f"fwlocal pull {_called(wanted, level)} --overwrite"


def way_on(
    name: str, level: str, spec: ModelSpec | None, beginning: Beginning | None, folder: Path
) -> str:
    """The command that goes on with an unfinished level in ``folder``, "" where none is known."""
    if beginning is None:
        known = spec is not None and level in levels_to_get(spec)
        return f"fwlocal pull {_called(name, level)}" if known else ""
    on = _download_on if beginning.road == "download" else _convert_on
    return on(name, level, spec, beginning, folder)


def _download_on(
    name: str, level: str, spec: ModelSpec | None, beginning: Beginning, _: Path
) -> str:
    repo, file = beginning.source, beginning.file
    if spec is not None and spec.gguf is not None and spec.gguf.repo.lower() == repo.lower():
        return f"fwlocal pull {_called(name, level)}"
    if (level_in(file) or "").lower() != level.lower():
        return f"fwlocal pull {shlex.quote(f'{repo}/{file}')} --name {shlex.quote(name)}"
    return f"fwlocal pull {_called(repo, level)}{_named(name, repo)}"


def _convert_on(
    name: str, level: str, spec: ModelSpec | None, beginning: Beginning, folder: Path
) -> str:
    source = beginning.source
    own = [checkpoint.repo for checkpoint in spec.checkpoints] if spec is not None else []
    if source in own[:1] and spec is not None:
        from_source = " --from-source" if level in spec.level_sizes_gb else ""
        return f"fwlocal pull {_called(name, level)}{from_source}"
    if "/" in source:
        named = "" if source in own else _named(name, source)
        return f"fwlocal pull {_called(source, level)} --from-source{named}"
    base = f" --base {shlex.quote(beginning.base)}" if beginning.base else ""
    place = "" if spec else f" --name {shlex.quote(name)} --out {shlex.quote(str(folder))}"
    return f"fwlocal convert {shlex.quote(source)} --quant {level}{base}{place}"


def _called(name: str, level: str) -> str:
    """NAME:LEVEL, for a shell."""
    return shlex.quote(f"{name}:{level}")


def _named(name: str, repo: str) -> str:
    """The option that a pull of ``repo`` needs to call it ``name``, "" where it does so anyway."""
    by_itself = re.sub(r"[-_.]gguf$", "", repo.split("/")[-1], flags=re.IGNORECASE)
    return "" if name == by_itself else f" --name {shlex.quote(name)}"


def _likely_road(spec: ModelSpec | None, level: str) -> str:
    """How a level without a manifest came here, "" where nobody knows."""
    if spec is None:
        return ""
    return "download" if level in spec.level_sizes_gb else "convert" if spec.checkpoints else ""


def _convert(spec: ModelSpec, level: str) -> str:
    base = f" --base {spec.base.repo}" if spec.base else ""
    return f"fwlocal convert {spec.name} --quant {level}{base}"
