"""What MODEL means to ``fwlocal plan``: the levels of a model, whether they are there or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.errors import FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.forecast.estimate import CONVERTED, NO_LEVEL, ON_DISK, PUBLISHED, Candidate
from fwlocal.forecast.outline import TypesOf, as_published, outline, rescaled
from fwlocal.levels import level_in
from fwlocal.store.advice import CONVERTIBLE, how_to_get, levels_to_get, published_level

if TYPE_CHECKING:
    from fwlocal.gguf import GGUFHeader
    from fwlocal.hub.repository import Snapshot
    from fwlocal.library import Library
    from fwlocal.pull.wanted import Wanted
    from fwlocal.registry import ModelSpec
    from fwlocal.shapes import LlamaShape
    from fwlocal.store import StoredModel

USUAL_LEVEL = "Q4_K_M"  # that stands for one of which only the size is known


@dataclass(frozen=True)
class Subject:
    """A model's levels; ``chosen`` is the one that was named, or that `fwlocal run` would take."""

    name: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None

    @property
    def is_one(self) -> bool:
        """Whether a single level is meant."""
        return len(self.candidates) == 1


def find(model: str, library: Library) -> Subject:
    """The levels of what MODEL names: a file, a checkpoint's folder, a known model or one on this
    disk, a repository of the Hub or a file in it; with or without a level.

    Raises ModelNotFound, BadModelFile, BadCheckpoint, UsageError, NetworkError.
    """
    name, _, level = model.partition(":")
    folder = Path(model).expanduser()
    if name in library.registry.models:
        return _of_known(library.registry.models[name], _listed(level), library)
    if (folder / "config.json").is_file():
        shape, n_ctx_train = _shape_in(folder / "config.json")
        return _subject(folder.name, _convertible(folder.name, shape, n_ctx_train, CONVERTIBLE))
    if _is_on_the_hub(model):
        return _of_repository(model, library)
    return _on_this_disk(model, library)


def find_draft(named: str, subject: Subject, library: Library) -> Candidate | None:
    """The model that ``named`` means, as it does to ``fwlocal.loader.find_draft``; it need not be
    on this disk, but for "auto". Raises what ``find`` does."""
    if named == "off":
        return None
    if named != "auto":
        return _file_here(named, library) or _to_get(find(named, library), library)
    models = library.registry.models
    said = subject.candidates[0].header.text("fwlocal.model")  # a file of ours, whatever its name
    spec = models.get(subject.name) or models.get(said or "")
    try:
        return _file_here(spec.draft, library) if spec is not None and spec.draft else None
    except FwlocalError:
        return None


def _file_here(name: str, library: Library) -> Candidate | None:
    """What `fwlocal run` would take, if it is on this disk. Raises BadModelFile."""
    from fwlocal.store import locate

    try:
        file = locate(name, library.registry, library.store)
    except ModelNotFound:
        return None
    if not file.path.exists():
        return None  # it would be fetched
    return Candidate(file.level or level_in(file.path.name) or NO_LEVEL, _read(file.path), ON_DISK)


def _to_get(subject: Subject, library: Library) -> Candidate:
    """The level that was named, else the one that `fwlocal pull` would get."""
    spec = library.registry.models.get(subject.name)
    level = spec.default_level if spec is not None else USUAL_LEVEL
    by_level = {candidate.level: candidate for candidate in subject.candidates}
    return subject.chosen or by_level.get(level) or subject.candidates[0]


def _listed(levels: str) -> tuple[str, ...]:
    return tuple(level for level in levels.replace(",", " ").split() if level)


def _is_on_the_hub(model: str) -> bool:
    """Whether it is owner/repo..., and no file here."""
    is_path = model.startswith((".", "/", "~", "\\")) or Path(model).exists()
    return not is_path and (model.count("/") > 1 or ("/" in model and ".gguf" not in model.lower()))


def _subject(
    name: str, candidates: Iterable[Candidate], chosen: Candidate | None = None
) -> Subject:
    """The smallest first, those that are not here called as the user does; the only one there is
    is chosen."""
    called = (candidate.of_model(name) for candidate in candidates)
    ordered = tuple(sorted(called, key=lambda candidate: candidate.size_bytes))
    return Subject(name, ordered, ordered[0] if len(ordered) == 1 else chosen)


def _on_this_disk(model: str, library: Library) -> Subject:
    """A file, or what is in the store under a name that models.toml does not know."""
    from fwlocal.store import locate

    file = locate(model, library.registry, library.store)
    if file.level is None or ":" in model or model.lower().endswith(".gguf"):
        level = file.level or level_in(file.path.name) or NO_LEVEL
        return _subject(file.name, [Candidate(level, _read(file.path), ON_DISK)])
    here = [_stored(e) for e in library.store.levels_of(file.name, library.registry)]
    chosen = next(candidate for candidate in here if candidate.level == file.level)
    return _subject(file.name, here, chosen)


def _stored(entry: StoredModel) -> Candidate:
    return Candidate(entry.level, _read(entry.path), ON_DISK)


def _read(path: Path) -> GGUFHeader:
    from fwlocal.soundness import check_sound
    from fwlocal.whole import read_whole

    header = read_whole(path)
    check_sound(header)
    return header


def _of_known(spec: ModelSpec, asked: Sequence[str], library: Library) -> Subject:
    """The levels of a model of models.toml: those on this disk as they are, the others by its
    shape, or by the header of one on the Hub."""
    entries = {entry.level: entry for entry in library.store.levels(spec)}
    known = tuple(dict.fromkeys((*levels_to_get(spec), *entries)))
    names = tuple(dict.fromkeys(_spelt(level, known, spec) for level in asked)) or known
    here = {name: _stored(entries[name]) for name in names if name in entries}
    others = [name for name in names if name not in here]
    found = [*here.values(), *(_not_here(spec, others) if others else ())]
    if not found:
        raise ModelNotFound(how_to_get(spec, spec.default_level))
    first = next(iter(here), None)
    return _subject(spec.name, found, here[first] if first and not asked else None)


def _spelt(level: str, known: Sequence[str], spec: ModelSpec) -> str:
    """A level as it is spelt here. Raises ModelNotFound."""
    found = next((one for one in known if one.casefold() == level.casefold()), None)
    if found is None:
        raise ModelNotFound(how_to_get(spec, published_level(spec, level)))
    return found


def _not_here(spec: ModelSpec, levels: Sequence[str]) -> list[Candidate]:
    """Levels that can be had. Raises UsageError where nothing tells how large their tensors are."""
    sizes = {level: round(size * 1e9) for level, size in spec.level_sizes_gb.items()}
    known = (spec.shape, spec.context_length) if spec.shape else _shape_of_checkpoint(spec)
    if known is not None:
        return _convertible(spec.name, *known, levels, sizes)
    if spec.gguf is None:
        raise UsageError(
            f"{spec.name} is not on this disk, and models.toml does not say how large it is; add "
            f"its [{spec.name}.shape], or get it with `fwlocal pull {spec.name}`"
        )
    source = _snapshot(spec.gguf.repo, spec.gguf.revision)
    files = {level: file.file for level, file in spec.gguf.levels.items() if level in levels}
    return _published(source, files, {level: sizes[level] for level in files})


def _shape_of_checkpoint(spec: ModelSpec) -> tuple[LlamaShape, int] | None:
    """By the config.json of the checkpoint that it is converted from."""
    if not spec.checkpoints:
        return None
    checkpoint = spec.checkpoints[0]
    return _shape_at(_snapshot(checkpoint.repo, checkpoint.revision))


def _convertible(
    name: str,
    shape: LlamaShape,
    n_ctx_train: int,
    levels: Sequence[str],
    published: Mapping[str, int] | None = None,
) -> list[Candidate]:
    """Levels of a Llama of that shape, as llama-quantize makes them; ``published`` ones as large as
    they are."""
    from convert.recipes import LEVELS, needs_imatrix

    published = published or {}
    found = []
    for level in levels:
        types = _types_of(shape)
        recipe = level if level in LEVELS else USUAL_LEVEL
        header = outline(shape, n_ctx_train, recipe, types, Path(f"{name}-{level}.gguf"))
        if level in published:
            found.append(Candidate(level, as_published(header, published[level]), PUBLISHED))
        else:
            needy = bool(needs_imatrix({t.name: t.type_name for t in header.tensors}))
            found.append(Candidate(level, header, CONVERTED, needy))
    return found


def _types_of(shape: LlamaShape) -> TypesOf:
    """The converter's types; with an importance matrix where a level needs one."""
    from convert.recipes import ModelShape, needs_imatrix, tensor_types

    numbers = ModelShape(shape.n_layer, shape.n_head, shape.n_head_kv)

    def types(level: str, tensors: Sequence[tuple[str, tuple[int, ...]]]) -> Mapping[str, str]:
        found = tensor_types(level, tensors, numbers)
        if needs_imatrix(found):
            return tensor_types(level, tensors, numbers, has_imatrix=True)
        return found

    return types


def _shape_in(config: Path) -> tuple[LlamaShape, int]:
    """The shape that a checkpoint's config.json tells, and its context. Raises BadCheckpoint."""
    from convert.llama_config import read_config
    from fwlocal.shapes import LlamaShape

    told = read_config(config)
    shape = LlamaShape(
        n_layer=told.num_hidden_layers,
        n_embd=told.hidden_size,
        n_ff=told.intermediate_size,
        n_head=told.num_attention_heads,
        n_head_kv=told.num_key_value_heads,
        n_vocab=told.vocab_size,
        head_dim=told.head_dim,
        tied=told.tie_word_embeddings,
    )
    return shape, told.max_position_embeddings


def _snapshot(repo: str, revision: str) -> Snapshot:
    from fwlocal.hub.repository import snapshot_or_cached

    return snapshot_or_cached(repo, revision or "main")


def _shape_at(source: Snapshot) -> tuple[LlamaShape, int]:
    from fwlocal.hub.repository import fetch_small

    return _shape_in(fetch_small(source, ["config.json"]) / "config.json")


def _of_repository(model: str, library: Library) -> Subject:
    """What a repository of the Hub holds, ready-made or to be converted, and what of it is here."""
    from fwlocal.hub.listing import by_level, of_level, weight_bytes, whole
    from fwlocal.pull.wanted import understand

    wanted = understand(model, (), library.registry, library.store)
    if wanted.spec is not None and wanted.file is None:
        return _of_known(wanted.spec, wanted.levels, library)
    repo = wanted.repo or model
    here = {c.level: c for c in _here(repo, wanted, library)}
    try:
        source = _snapshot(repo, wanted.revision)
    except NetworkError:
        if not here or wanted.file:
            raise
        return _subject(repo, here.values(), next(iter(here.values())))
    if wanted.file is not None:
        level = level_in(wanted.file) or NO_LEVEL
        return _subject(repo, _published(source, {level: wanted.file}))
    found = by_level(source)
    if not found and ("config.json" not in source.files or not weight_bytes(source)):
        raise source.reason or ModelNotFound(
            f"{repo}: neither a GGUF nor a checkpoint (config.json and weights) is in it; name "
            "another repository"
        )
    names = [n for n in wanted.levels or found or CONVERTIBLE if n not in here]
    if found:
        files = {level: of_level(source, found, level) for level in names}
        sizes = {n: sum(f.size_bytes for f in whole(source, file)) for n, file in files.items()}
        others = _published(source, files, sizes) if files else []
    else:
        others = _convertible(repo, *_shape_at(source), [_convertible_level(n) for n in names])
    first = next(iter(here.values()), None)
    return _subject(repo, [*here.values(), *others], None if wanted.levels else first)


def _convertible_level(level: str) -> str:
    from convert.recipes import level_named

    return level_named(level).name


def _here(repo: str, wanted: Wanted, library: Library) -> list[Candidate]:
    """The levels wanted of a repository that are on this disk."""
    return [
        _stored(entry)
        for entry in library.store.entries(library.registry)
        if entry.manifest is not None
        and entry.manifest.source.casefold() == repo.casefold()
        and (not wanted.levels or entry.level in wanted.levels)
    ]


def _published(
    source: Snapshot, files: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> list[Candidate]:
    """Levels on the Hub: the header of one is read, the others are the same at other sizes."""
    from fwlocal.hub.listing import whole
    from fwlocal.hub.remote_header import remote_header
    from fwlocal.soundness import check_sound

    read = USUAL_LEVEL if USUAL_LEVEL in files else next(iter(files))
    header = remote_header(source, whole(source, files[read]))
    check_sound(header)
    others = [
        Candidate(
            level, rescaled(header, Path(source.repo) / file, (sizes or {})[level]), PUBLISHED
        )
        for level, file in files.items()
        if level != read
    ]
    return [Candidate(read, header, PUBLISHED), *others]
