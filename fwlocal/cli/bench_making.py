"""Levels that a benchmark lacks, got: pulled as ``fwlocal pull`` would, or converted from a file.

They go to the models folder like any other level, with their manifests. Which are wanted, and from
what, is ``bench_levels``'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.cli import known_source
from fwlocal.cli.output import notify
from fwlocal.errors import BadModelFile, ModelNotFound, UsageError
from fwlocal.store.unfinished import MATRIX_FOLDER

if TYPE_CHECKING:
    from convert.job import Job, Request
    from convert.plan import PlannedLevel
    from convert.sources.location import Location
    from fwlocal.cli.known_source import Source
    from fwlocal.gguf import GGUFHeader
    from fwlocal.library import Library
    from fwlocal.pull.roads import Road
    from fwlocal.registry import ModelSpec
    from fwlocal.store import ModelFile

# Nothing of a matrix is used there: llama.cpp rounds to the nearest in any case.
MATRIX_IS_IDLE = ("F32", "F16", "BF16", "Q8_0")

_INPUTS, _REVISION = "fwlocal.inputs.sha256", "fwlocal.source.revision"
_ROWS = 256  # of a matrix on whose rows any block fits


@dataclass(frozen=True)
class Origin:
    """What levels are converted from; ``is_quantized`` where they cannot be better than it. A
    ``base`` is what a delta is added to."""

    source: Source
    is_quantized: bool = False
    base: str | None = None

    @property
    def name(self) -> str:
        """For people."""
        location = self.source.location
        return location.weights.name if location.weights is not None else location.name

    @property
    def recorded(self) -> str:
        """As a manifest names it."""
        return _recorded(self.source.location)


@dataclass(frozen=True)
class Batch:
    """Levels of one model, ``name`` in the models folder, from one origin in one pass, by the
    importance ``matrix`` if there is one."""

    origin: Origin
    name: str
    levels: tuple[str, ...]
    matrix: Path | None = None


def _recorded(location: Location) -> str:
    return location.repo or str((location.weights or location.folder).resolve())


def of_file(file: ModelFile, is_quantized: bool, library: Library, licence: str) -> Origin:
    """A GGUF as an origin. What is made of it is called as it is, and talked to in its format."""
    from fwlocal.prompts import FORMATS

    chosen = file.prompt_format if file.prompt_format in FORMATS else None
    source = known_source.find(str(file.path), None, library.registry, chosen)
    model = file.spec.name if file.spec else ""
    known = replace(source.known, model=model, licence=licence)
    return Origin(replace(source, known=known), is_quantized)


def on_the_hub(name: str, spec: ModelSpec | None, library: Library) -> Origin | None:
    """The checkpoint of a known model, or the one that levels of ``name`` were converted from: in
    Hugging Face's cache, or on the Hub. None where none is known."""
    if spec is not None and spec.checkpoints:
        checkpoint = spec.checkpoints[0]
        base = known_source.at_revision(spec.base) if spec.base else None
        repo, revision = checkpoint.repo, checkpoint.revision
        own = None if revision == "main" else revision
        return Origin(known_source.of_repository(repo, own, library.registry), base=base)
    for entry in library.store.levels_of(name, library.registry):
        made = entry.manifest
        if made is not None and made.road == "convert" and _is_repository(made.source):
            source = known_source.of_repository(made.source, made.revision, library.registry)
            return Origin(source)
    return None


def _is_repository(source: str) -> bool:
    """Whether it is owner/repo, and no path."""
    return source.count("/") == 1 and not Path(source).is_absolute()


def roads_to(
    model: str, levels: Iterable[str], library: Library
) -> tuple[dict[str, Road], ModelNotFound | None]:
    """The ways by which ``fwlocal pull`` would get the levels, and why there is none to one of the
    others. Raises what asking the Hub does."""
    from fwlocal.cli.pull import roads_for

    roads: dict[str, Road] = {}
    refusal = None
    for level in levels:
        try:
            choice = roads_for(model, (level,), library, {}, dry_run=False, overwrite=False)
        except ModelNotFound as error:
            refusal = error
            continue
        roads[level] = choice.roads[0]
        for remark in choice.remarks:
            notify(remark)
    return roads, refusal


def pulled(roads: Mapping[str, Road], library: Library, *, accepted: bool) -> dict[str, Path]:
    """Take them, conversions of one checkpoint in one pass; the (first) file of each level."""
    from fwlocal.cli.pull import take
    from fwlocal.pull.roads import describe

    if not roads:
        return {}
    for road in roads.values():
        notify(describe(road))
    paths = take(list(roads.values()), library, accepted=accepted, overwrite=False)
    return dict(zip(roads, paths, strict=True))


def converted(
    batches: Sequence[Batch], library: Library, *, n_threads: int | None, accepted: bool
) -> list[dict[str, Path]]:
    """The files of each batch's levels. All is checked before anything is written; what is there
    already, made from the same bytes by the same matrix, stays; what was made here by another
    matrix, or from the same file as it was, is replaced.

    Raises UsageError for a file of somebody else's in the way, and what ``fwlocal convert`` does.
    """
    from convert import job
    from fwlocal.cli.conversion import carry_out

    root = library.store.root
    with contextlib.ExitStack() as stack:
        works = []
        for batch in batches:
            work = job.prepare(_request(batch, root, n_threads))
            stack.callback(work.close)
            missing = _missing(work, library)
            works.append((batch, work, missing))
        for batch, _, missing in works:
            if missing:
                batch.origin.source.agree(accepted=accepted)
                notify(_told(batch, missing))
        if made := [(batch.name, levels[0].level.name) for batch, _, levels in works if levels]:
            notify(_stays(*made[0]))
        for _, work, missing in works:
            if missing:
                carry_out(replace(work, levels=missing))
        return [{p.level.name: p.files[0].path for p in work.levels} for _, work, _ in works]


def _request(batch: Batch, root: Path, n_threads: int | None) -> Request:
    return batch.origin.source.request(
        ",".join(batch.levels),
        root / batch.name,
        batch.name,
        base=batch.origin.base,
        imatrix=batch.matrix,
        n_threads=n_threads,
        overwrite=True,  # those that are not to be are left out
        allow_requantize=batch.origin.is_quantized,
    )


def _told(batch: Batch, missing: Sequence[PlannedLevel]) -> str:
    from fwlocal.files import sized

    levels = ", ".join(f"{level.level.name} ({sized(level.size_bytes)})" for level in missing)
    by = f" by {batch.matrix.name}" if batch.matrix else ""
    line = f"{batch.name}: converting {batch.origin.name} to {levels}{by}"
    again = "; it is quantized already, so what is made of it cannot be better than it"
    return line + again * batch.origin.is_quantized


def _stays(name: str, level: str) -> str:
    return (
        f"what is made stays in the models folder; `fwlocal rm {name}:{level}`, and so on, "
        "removes it"
    )


def _missing(work: Job, library: Library) -> tuple[PlannedLevel, ...]:
    """The levels to be written. Raises UsageError for a file that may not be replaced."""
    there = [level for level in work.levels if level.files[0].path.exists()]
    if not there:
        return work.levels
    hashes = _source_hashes(work)
    for level in there:
        _check_ours(work, level, library)
    current = [level for level in there if _is_current(work, level, hashes)]
    return tuple(level for level in work.levels if level not in current)


def _source_hashes(work: Job) -> list[str] | None:
    """The SHA-256 of the source's files; None where they are on the Hub, and a commit is enough."""
    from convert.integrity import Integrity

    if work.request.location.repository is not None:
        return None
    integrity = Integrity(work.model.source.files, {})
    try:
        return list(integrity.result())
    finally:
        integrity.stop()


def _is_current(work: Job, level: PlannedLevel, hashes: list[str] | None) -> bool:
    """Whether a level that is there was made from the same bytes, by the same matrix."""
    from convert.sources.tensors import SOURCE_HASHES
    from fwlocal.gguf import GGUFArray, read_header

    try:
        header = read_header(level.files[0].path)
    except BadModelFile:
        return False
    if header.text(_INPUTS) != work.model.keys[_INPUTS].value:
        return False
    if hashes is None:
        return header.text(_REVISION) == work.request.location.revision
    made_of = header.metadata.get(SOURCE_HASHES)
    return isinstance(made_of, GGUFArray) and list(made_of) == hashes


def _check_ours(work: Job, level: PlannedLevel, library: Library) -> None:
    """Raise UsageError unless the level that is there was converted, from this source or another of
    the same model."""
    path, source = level.files[0].path, _recorded(work.request.location)
    name = path.parent.name
    of_model = library.store.levels_of(name.removesuffix(MATRIX_FOLDER), library.registry)
    sources = {source, *(str(entry.path.resolve()) for entry in of_model)}
    sources |= {entry.manifest.source for entry in of_model if entry.manifest}
    stored = library.store.find(name, library.registry, level.level.name)
    manifest = stored.manifest if stored else None
    if manifest is None or manifest.road != "convert" or manifest.source not in sources:
        raise UsageError(
            f"{path}: was not made from {source}; remove it (`fwlocal rm "
            f"{name}:{level.level.name}`), or name the files to compare"
        )


def needs_matrix(level: str, header: GGUFHeader | None) -> bool:
    """Whether a level cannot be made without an importance matrix: of the model in ``header``, or,
    where none is at hand, of one whose rows any block fills."""
    from convert.recipes import LEVELS, ModelShape, needs_imatrix, tensor_types

    if level not in LEVELS:
        return False
    if header is None:
        names = ("token_embd", "blk.0.attn_q", "blk.0.ffn_gate", "blk.0.ffn_down")
        tensors = [(f"{name}.weight", (_ROWS, _ROWS)) for name in names]
        return bool(needs_imatrix(tensor_types(level, tensors, ModelShape(1, 1, 1))))
    heads = header.number("{arch}.attention.head_count") or 1
    heads_kv = header.number("{arch}.attention.head_count_kv") or heads
    shape = ModelShape(header.number("{arch}.block_count") or 1, heads, heads_kv)
    own = [(tensor.name, tensor.shape[::-1]) for tensor in header.tensors]
    return bool(needs_imatrix(tensor_types(level, own, shape)))
