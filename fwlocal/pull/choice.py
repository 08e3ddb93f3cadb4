"""Which way leads from a MODEL to a file in the store: decided here, taken elsewhere.

A ready-made GGUF if one is published, else a conversion. Deciding may ask the Hub what a repository
has; nothing is fetched, and nothing of the disk is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fwlocal.errors import DoesNotFit, FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.files import sized
from fwlocal.hub.listing import (
    NO_LEVEL,
    by_level,
    model_of,
    name_of,
    of_level,
    weight_bytes,
    whole,
)
from fwlocal.hub.remote_file import HubFile
from fwlocal.hub.repository import Snapshot
from fwlocal.levels import best_that_fits, estimated_sizes, level_in, needed_bytes
from fwlocal.pull.roads import Convert, Download, FromPackage, Present, Road
from fwlocal.pull.wanted import Wanted
from fwlocal.registry import Checkpoint, ModelSpec, Registry
from fwlocal.splits import parse, part_name
from fwlocal.store import Store, StoredModel
from fwlocal.store.importing import folder_name

BYTES_PER_WEIGHT = {"fp32": 4, "fp16": 2, "bf16": 2, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Choice:
    """The roads, and remarks on them: why a level was chosen, what will not fit."""

    roads: tuple[Road, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Means:
    """What a choice is made with: the Hub (``dtype`` is a checkpoint's, as its config.json says),
    the models on this disk, and the memory that is free. ``must_fit``: a level that no one named
    has to; ``anew`` passes over what is on the disk."""

    ask: Callable[[str, str], Snapshot]
    dtype: Callable[[Snapshot], str]
    free_bytes: Callable[[], int]
    must_fit: bool = True
    anew: bool = False


def choose(wanted: Wanted, store: Store, registry: Registry, means: Means) -> Choice:
    """The road for every level wanted, or for the best one that fits where none is named."""
    here = [] if means.anew else [e for e in store.entries(registry) if _is_whole(e)]
    if wanted.spec is not None and wanted.file is None:
        return _known(wanted, wanted.spec, here, means)
    if wanted.repo is None:
        raise UsageError("name a model")
    return _unknown(wanted, wanted.repo, here, means, registry)


def _is_whole(entry: StoredModel) -> bool:
    """Whether its files have the sizes that they had."""
    recorded = entry.manifest.files if entry.manifest else ()
    return not recorded or sum(file.size_bytes for file in recorded) == entry.size_bytes


def _known(wanted: Wanted, spec: ModelSpec, here: Sequence[StoredModel], means: Means) -> Choice:
    sizes = {level: round(gb * 1e9) for level, gb in spec.level_sizes_gb.items()}
    if spec.checkpoints:
        estimated = estimated_sizes(_weights(spec.checkpoints[0]))
        from_source = wanted.from_source or not sizes
        sizes = dict(estimated) if from_source else {**estimated, **sizes}
    elif wanted.from_source:
        raise UsageError(f"{spec.name}: no checkpoint of it is known; leave --from-source out")
    ready = {level: sizes[level] for level in spec.level_sizes_gb if level in sizes}
    offered = sizes if wanted.from_source or wanted.levels or not ready else ready
    levels, remarks = _levels(spec.name, wanted.levels, offered, means)
    roads: list[Road] = []
    for level in levels:
        present = _present(here, spec.name, level, wanted)
        if present is not None:
            roads.append(present)
            continue
        road, remark = _known_road(wanted, spec, level, sizes.get(level, 0), means)
        roads.append(road)
        remarks = (*remarks, *remark)
    return Choice(tuple(roads), remarks)


def _weights(checkpoint: Checkpoint) -> float:
    return checkpoint.size_gb * 1e9 / BYTES_PER_WEIGHT.get(checkpoint.dtype, 2)


def _known_road(
    wanted: Wanted, spec: ModelSpec, level: str, size_bytes: int, means: Means
) -> tuple[Road, tuple[str, ...]]:
    remarks: tuple[str, ...] = ()
    is_meant = not wanted.revision or spec.gguf is None or wanted.repo in (None, spec.gguf.repo)
    if spec.gguf and level in spec.gguf.levels and is_meant and not wanted.from_source:
        try:
            return _ready_made(spec, level, wanted.revision, means), ()
        except ModelNotFound as error:
            if not spec.checkpoints:
                raise
            remarks = (f"the list names a ready-made {level}, but {error}",)
    if spec.package is not None and level == spec.default_level:
        return FromPackage(spec), remarks
    if not spec.checkpoints:
        known = ", ".join(spec.level_sizes_gb) or "none"
        raise ModelNotFound(f"{spec.name} has no level {level!r}; there is {known}")
    checkpoint = next(
        (c for c in spec.checkpoints if wanted.repo and c.is_called(wanted.repo)),
        spec.checkpoints[0],
    )
    own = "" if checkpoint.revision == "main" else checkpoint.revision
    revision = wanted.revision or own
    return (
        Convert(spec.name, level, checkpoint.repo, revision, size_bytes, spec, spec.base),
        remarks,
    )


def _ready_made(spec: ModelSpec, level: str, revision: str, means: Means) -> Download:
    """Raises ModelNotFound where the list is wrong."""
    release = spec.gguf
    if release is None:
        raise ModelNotFound(f"{spec.name} has no ready-made level {level!r}")
    told, revision = release.levels[level], revision or release.revision
    try:
        source = means.ask(release.repo, revision)
        return Download(spec.name, level, source, whole(source, told.file), spec)
    except NetworkError as reason:
        files = tuple(HubFile(n, 0, None, "") for n in _part_names(told.file))
        files = (replace(files[0], size_bytes=round(told.size_gb * 1e9)), *files[1:])
        listed = {file.name: file for file in files}
        source = Snapshot(release.repo, revision, revision, "", listed, reason=reason)
        return Download(spec.name, level, source, files, spec)


def _part_names(file: str) -> list[str]:
    split = parse(file)
    if split is None:
        return [file]
    return [part_name(split.stem, n, split.count) for n in range(1, split.count + 1)]


def _unknown(
    wanted: Wanted, repo: str, here: Sequence[StoredModel], means: Means, registry: Registry
) -> Choice:
    wanted = replace(wanted, name=_name(wanted, repo, registry))
    named = [_present(here, wanted.name, level, wanted, repo) for level in wanted.levels]
    if named and all(named) and wanted.file is None:
        return Choice(tuple(road for road in named if road))
    try:
        source = means.ask(repo, wanted.revision or "main")
    except NetworkError:
        ours = [e for e in here if e.manifest is not None and e.manifest.source == repo]
        if wanted.levels or wanted.file or not ours:
            raise
        return Choice((Present(ours[0]),), ("the Hub cannot be asked; this is what is here",))
    if wanted.file is not None:
        return Choice((_one_file(wanted, source, here),))
    found = {} if wanted.from_source else by_level(source)
    if not found:
        return _conversions(wanted, source, here, means)
    sizes = {level: sum(f.size_bytes for f in whole(source, n[0])) for level, n in found.items()}
    levels, remarks = _levels(repo, wanted.levels, sizes, means)
    roads: list[Road] = []
    for level in levels:
        files = whole(source, of_level(source, found, level))
        present = _present(here, wanted.name, level, wanted, repo)
        roads.append(present or Download(wanted.name, level, source, files, wanted.spec))
    return Choice(tuple(roads), remarks)


def _name(wanted: Wanted, repo: str, registry: Registry) -> str:
    """What it is called in the store: never as a known model that it is not."""
    if wanted.spec is not None or wanted.name:
        return wanted.spec.name if wanted.spec else wanted.name
    own = model_of(wanted.file) if wanted.file else name_of(repo)
    name = folder_name(own) or "model"
    return folder_name(repo) if name in registry.models else name


def _one_file(wanted: Wanted, source: Snapshot, here: Sequence[StoredModel]) -> Road:
    """The file that was named; of a split model, the whole."""
    level = wanted.levels[0] if wanted.levels else level_in(wanted.file or "") or NO_LEVEL
    files = whole(source, wanted.file or "")
    road = Download(wanted.name, level, source, files, wanted.spec)
    present = _present(here, wanted.name, level, wanted, source.repo)
    if present is None:
        return road
    recorded = present.entry.manifest.files if present.entry.manifest else ()
    if source.reason is None and [f.sha256 for f in recorded] != [f.sha256 for f in files]:
        raise UsageError(
            f"{wanted.name}:{level} is on this disk, and is another file of {source.repo}; choose "
            "another --name, or --overwrite it"
        )
    return present


def _conversions(
    wanted: Wanted, source: Snapshot, here: Sequence[StoredModel], means: Means
) -> Choice:
    weights, name, repo = weight_bytes(source), wanted.name, source.repo
    if "config.json" not in source.files or not weights:
        raise source.reason or ModelNotFound(
            f"{repo}: neither a GGUF nor a checkpoint (config.json and weights) is in it; name "
            "another repository"
        )
    n_weights = source.n_params or weights / BYTES_PER_WEIGHT.get(means.dtype(source), 2)
    sizes = estimated_sizes(n_weights)
    levels, remarks = _levels(repo, wanted.levels, sizes, means)
    roads = [
        _present(here, name, level, wanted, repo)
        or Convert(name, level, repo, wanted.revision, sizes.get(level, 0), None)
        for level in levels
    ]
    return Choice(tuple(roads), remarks)


def _levels(
    model: str, asked: Sequence[str], sizes: Mapping[str, int], means: Means
) -> tuple[Sequence[str], tuple[str, ...]]:
    """The levels asked for, or the best that fits this machine and why."""
    if len(sizes) == 1 and not asked:
        return tuple(sizes), ()
    free = means.free_bytes()
    if asked:
        large = [level for level in asked if needed_bytes(sizes.get(level, 0)) > free]
        return asked, tuple(
            f"{model}:{level} needs about {sized(needed_bytes(sizes[level]))} of memory to run, "
            f"{sized(free)} are free here"
            for level in large
        )
    best = best_that_fits(sizes, free)
    if best is None:
        least = min(sizes, key=lambda level: sizes[level])
        problem = (
            f"{model}: no level fits in the {sized(free)} of memory that are free: the smallest, "
            f"{least}, needs {sized(needed_bytes(sizes[least]))}"
        )
        if means.must_fit:
            raise DoesNotFit(
                f"{problem}; name a level to get it all the same, as in {model}:{least}"
            )
        return (least,), (problem,)
    larger = [k for k in sizes if sizes[k] > sizes[best]]
    following = min(larger, key=lambda level: sizes[level], default=None)
    more = f"; {following} needs {sized(needed_bytes(sizes[following]))}" if following else ""
    reason = (
        f"{best} is the best level of {model} for this machine: it needs about "
        f"{sized(needed_bytes(sizes[best]))} of the {sized(free)} of memory that are free{more}"
    )
    return (best,), (reason,)


def _present(
    here: Sequence[StoredModel], name: str, level: str, wanted: Wanted, repo: str = ""
) -> Present | None:
    """The level, where it is on the disk. Raises UsageError where it is not what is wanted."""
    for entry in here:
        if entry.name == name and entry.level.casefold() == level.casefold():
            problem = _other_than(entry, wanted, repo)
            if problem is not None:
                raise problem
            return None if repo and entry.manifest is None else Present(entry)
    return None


def _other_than(entry: StoredModel, wanted: Wanted, repo: str) -> FwlocalError | None:
    """How an entry differs from what is wanted; one without a manifest is looked at later."""
    manifest = entry.manifest
    if manifest is None:
        return None
    what = f"{entry.name}:{entry.level} is on this disk"
    if repo and manifest.source != repo:
        return UsageError(
            f"{what}, from {manifest.source}; choose another --name, or --overwrite it"
        )
    if wanted.from_source and manifest.road != "convert":
        return UsageError(f"{what}, ready-made; --overwrite converts it in its place")
    if wanted.revision and not manifest.revision.startswith(wanted.revision):
        return UsageError(
            f"{what}, of commit {manifest.revision[:12] or 'unknown'}; --overwrite puts "
            f"{wanted.revision} in its place"
        )
    return None
