"""Which way leads from a MODEL to a file in the store: decided here, taken elsewhere.

A ready-made GGUF if one is published, else a conversion. Deciding may ask the Hub what a repository
has; nothing is fetched, and nothing of the disk is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fwlocal.errors import DoesNotFit, ModelNotFound, NetworkError, UsageError
from fwlocal.files import sized
from fwlocal.hub.listing import by_level, model_of, name_of, weight_bytes, whole
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.levels import best_that_fits, estimated_sizes, level_in, needed_bytes
from fwlocal.pull.roads import Convert, Download, FromPackage, Present, Road
from fwlocal.registry import ModelSpec, Registry
from fwlocal.store import Store, StoredModel

BYTES_PER_WEIGHT = {"fp32": 4, "fp16": 2, "bf16": 2, "float32": 4, "float16": 2, "bfloat16": 2}

AskHub = Callable[[str, str], Snapshot]


@dataclass(frozen=True)
class Wanted:
    """What the user names: a model of the registry, or a repository (``file``: one GGUF in it)."""

    spec: ModelSpec | None
    repo: str | None = None
    file: str | None = None
    levels: tuple[str, ...] = ()
    revision: str = ""
    from_source: bool = False
    name: str = ""


@dataclass(frozen=True)
class Choice:
    """The roads, and why the level was chosen, "" when the user named it."""

    roads: tuple[Road, ...]
    reason: str = ""


def understand(model: str, levels: Sequence[str], registry: Registry) -> Wanted:
    """MODEL[:LEVEL] and levels named beside it. Raises UsageError, ModelNotFound."""
    name, _, level = model.partition(":")
    named = tuple(dict.fromkeys(one.upper() for one in ([level] if level else []) + list(levels)))
    if level and len(named) > 1:
        raise UsageError(f"{model}: names one level, and --quant another; leave one of them out")
    if name in registry.models or "/" not in name:
        return Wanted(registry.get(name), levels=named)
    path, _, revision = name.partition("@")
    owner, repo, *rest = path.split("/")
    repo = f"{owner}/{repo}"
    if rest and not (rest[-1].lower().endswith(".gguf")):
        raise UsageError(f"{model}: must be owner/repo, owner/repo:LEVEL or owner/repo/FILE.gguf")
    file = "/".join(rest) or None
    if file and named:
        raise UsageError(f"{model}: the file has its own level; leave {named[0]} out")
    spec = None if file else _published_in(repo, registry)
    return Wanted(spec, repo, file, named, revision)


def _published_in(repo: str, registry: Registry) -> ModelSpec | None:
    """The known model whose GGUFs or checkpoint a repository holds."""
    for spec in registry.models.values():
        if spec.gguf is not None and spec.gguf.repo.casefold() == repo.casefold():
            return spec
    return registry.by_checkpoint(repo) if "/" in repo else None


def choose(
    wanted: Wanted,
    store: Store,
    registry: Registry,
    ask_hub: AskHub,
    free_bytes: Callable[[], int],
    *,
    anew: bool = False,
) -> Choice:
    """The road for every level wanted, the best level that fits ``free_bytes`` of memory where none
    is named. ``anew`` passes over what is on the disk."""
    here = [] if anew else store.entries(registry)
    if wanted.spec is not None:
        if wanted.name:
            raise UsageError(
                f"{wanted.spec.name} is a known model and keeps its name; leave --name out"
            )
        return _known(wanted, wanted.spec, here, ask_hub, free_bytes)
    if wanted.repo is None:
        raise UsageError("name a model")
    return _unknown(wanted, wanted.repo, here, ask_hub, free_bytes)


def _known(
    wanted: Wanted,
    spec: ModelSpec,
    here: Sequence[StoredModel],
    ask_hub: AskHub,
    free_bytes: Callable[[], int],
) -> Choice:
    sizes = {level: round(gb * 1e9) for level, gb in spec.level_sizes_gb.items()}
    if spec.checkpoints and (wanted.from_source or not sizes):
        source = spec.checkpoints[0]
        weights = source.size_gb * 1e9 / BYTES_PER_WEIGHT.get(source.dtype, 2)
        sizes = dict(estimated_sizes(weights))
    levels, reason = _levels(spec.name, wanted.levels, sizes, free_bytes)
    roads = [
        _present(here, spec.name, level) or _known_road(wanted, spec, level, ask_hub)
        for level in levels
    ]
    return Choice(tuple(roads), reason)


def _known_road(wanted: Wanted, spec: ModelSpec, level: str, ask_hub: AskHub) -> Road:
    is_ready = spec.gguf is not None and not wanted.from_source
    if wanted.revision and spec.gguf and wanted.repo not in (None, spec.gguf.repo):
        is_ready = False  # that revision of the checkpoint is meant
    published = spec.gguf.levels if spec.gguf and is_ready else {}
    if level in published and spec.gguf is not None:
        revision = wanted.revision or spec.gguf.revision
        return _ready_made(spec, level, spec.gguf.repo, revision, ask_hub)
    if spec.package is not None and level == spec.default_level and not wanted.from_source:
        return FromPackage(spec)
    if spec.checkpoints:
        checkpoint = next(
            (c for c in spec.checkpoints if wanted.repo and c.is_called(wanted.repo)),
            spec.checkpoints[0],
        )
        own = "" if checkpoint.revision == "main" else checkpoint.revision
        revision = wanted.revision or own
        weights = checkpoint.size_gb * 1e9 / BYTES_PER_WEIGHT.get(checkpoint.dtype, 2)
        size = estimated_sizes(weights).get(level, 0)
        return Convert(spec.name, level, checkpoint.repo, revision, size, spec, spec.base)
    known = ", ".join(spec.level_sizes_gb) or "none"
    raise ModelNotFound(f"{spec.name} has no level {level!r}; there are {known}")


def _ready_made(spec: ModelSpec, level: str, repo: str, revision: str, ask_hub: AskHub) -> Download:
    told = spec.gguf.levels[level] if spec.gguf else None
    if told is None:
        raise ModelNotFound(f"{spec.name} has no ready-made level {level!r}")
    try:
        source = ask_hub(repo, revision)
    except NetworkError as reason:
        listed = HubFile(told.file, round(told.size_gb * 1e9), None, "")
        source = Snapshot(repo, revision, revision, spec.licence.name, {told.file: listed})
        return Download(spec.name, level, source, (listed,), spec, reason)
    return Download(spec.name, level, source, whole(source, told.file), spec)


def _unknown(
    wanted: Wanted,
    repo: str,
    here: Sequence[StoredModel],
    ask_hub: AskHub,
    free_bytes: Callable[[], int],
) -> Choice:
    name = wanted.name or (model_of(wanted.file) if wanted.file else name_of(repo))
    levels: Sequence[str] = wanted.levels
    if wanted.file is not None:
        levels = (level_in(wanted.file) or "GGUF",)
    named = [_present(here, name, level, repo) for level in levels]
    if named and all(named):
        return Choice(tuple(road for road in named if road))
    source = ask_hub(repo, wanted.revision or "main")
    if wanted.file is not None:
        files = whole(source, wanted.file)
        return Choice((Download(name, levels[0], source, files, None),))
    found = {} if wanted.from_source else by_level(source)
    if found:
        sizes = {level: sum(f.size_bytes for f in files) for level, files in found.items()}
        levels, reason = _levels(repo, levels, sizes, free_bytes)
        lacking = [level for level in levels if level not in found]
        if lacking:
            raise ModelNotFound(f"{repo} has no level {lacking[0]!r}; there are {', '.join(found)}")
        roads = [
            _present(here, name, level, repo) or Download(name, level, source, found[level], None)
            for level in levels
        ]
        return Choice(tuple(roads), reason)
    return _conversions(replace(wanted, name=name), source, here, free_bytes)


def _conversions(
    wanted: Wanted,
    source: Snapshot,
    here: Sequence[StoredModel],
    free_bytes: Callable[[], int],
) -> Choice:
    weights, name, repo = weight_bytes(source), wanted.name, source.repo
    if "config.json" not in source.files or not weights:
        raise ModelNotFound(
            f"{repo}: neither a GGUF nor a checkpoint (config.json and weights) is in it; name "
            "another repository"
        )
    sizes = estimated_sizes(source.n_params or weights / 2)
    levels, reason = _levels(repo, wanted.levels, sizes, free_bytes)
    roads = [
        _present(here, name, level, repo)
        or Convert(name, level, repo, wanted.revision, sizes.get(level, 0), None)
        for level in levels
    ]
    return Choice(tuple(roads), reason)


def _levels(
    model: str, asked: Sequence[str], sizes: Mapping[str, int], free_bytes: Callable[[], int]
) -> tuple[Sequence[str], str]:
    """The levels asked for, or the best that fits this machine and why."""
    if asked:
        return asked, ""
    if len(sizes) == 1:
        return tuple(sizes), ""
    free = free_bytes()
    best = best_that_fits(sizes, free)
    if best is None:
        least = min(sizes, key=lambda level: sizes[level])
        raise DoesNotFit(
            f"{model}: no level fits in the {sized(free)} of memory that are free: the smallest, "
            f"{least}, needs {sized(needed_bytes(sizes[least]))}; name a level to get it all the "
            f"same, as in {model}:{least}"
        )
    larger = [k for k in sizes if sizes[k] > sizes[best]]
    following = min(larger, key=lambda level: sizes[level], default=None)
    more = f"; {following} needs {sized(needed_bytes(sizes[following]))}" if following else ""
    reason = (
        f"{best} is the best level of {model} for this machine: it needs about "
        f"{sized(needed_bytes(sizes[best]))} of the {sized(free)} of memory that are free{more}"
    )
    return (best,), reason


def _present(here: Sequence[StoredModel], name: str, level: str, repo: str = "") -> Present | None:
    """The level, where it is on the disk. Raises UsageError where it is not from ``repo``."""
    for entry in here:
        if entry.name == name and entry.level.casefold() == level.casefold():
            other = entry.manifest.source if entry.manifest else "elsewhere"
            if repo and other != repo:
                raise UsageError(
                    f"{name}:{level} is on this disk, from {other}; choose another --name, or "
                    "--overwrite it"
                )
            return Present(entry)
    return None
