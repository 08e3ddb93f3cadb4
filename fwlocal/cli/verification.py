"""``fwlocal verify``: whether files still are what they were when they were put there.

Each file is hashed as a whole where a manifest or models.toml says what it must be, and then its
structure, tensors' hashes and scales are looked at. The command that brings a damaged one back is
told with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadModelFile, ModelNotFound
from fwlocal.files import sha256_of
from fwlocal.splits import parts_of
from fwlocal.store import ModelFile, StoredModel, Unfinished, locate
from fwlocal.store.advice import way_back

if TYPE_CHECKING:
    from convert.verify import Verdict
    from fwlocal.library import Library

OnProgress = Callable[[float], None]
REMEDY = "convert it again with --overwrite, or fetch it again"


@dataclass(frozen=True)
class Target:
    """A level, or a file, to be looked at: its ``files``, what they must be by ``hashes`` and
    ``sizes`` where that is known, and what to do when they are not (``remedy``)."""

    title: str
    files: tuple[Path, ...]
    remedy: str
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    missing: tuple[Path, ...] = ()

    @property
    def work_bytes(self) -> int:
        """Bytes to be read."""
        present = [path for path in self.files if path.is_file()]
        hashed = [path for path in present if path.name in self.hashes]
        return sum(path.stat().st_size for path in (*present, *hashed))


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words; ``tensor`` is None for the file as a whole."""

    file: Path
    tensor: str | None
    what: str


@dataclass(frozen=True)
class Report:
    """The outcome for one target: ``hashes`` are those computed, ``verdict`` None where the
    structure could not be read."""

    target: Target
    hashes: dict[str, str]
    verdict: Verdict | None
    findings: tuple[Finding, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain data, for ``--json``."""
        verdict = {} if self.verdict is None else asdict(self.verdict)
        damaged = [{"tensor": found.tensor, "what": found.what} for found in self.findings]
        return {
            "model": self.target.title,
            "file": self.target.files[0],
            "sha256": self.hashes.get(self.target.files[0].name),
            "hashes": self.hashes,
            **verdict,
            "damaged": damaged,
        }

    def in_words(self) -> str:
        """A line on what is sound."""
        if self.verdict is None:
            return ""
        tensors = "all hashes agree" if self.verdict.n_hashed else "it carries no hashes"
        if self.verdict.has_foreign_hashes:
            tensors = "its hashes are of another file, from which a tool copied them"
        known = "sound: its SHA-256 is as recorded" if self.hashes else "sound"
        return (
            f"{self.target.files[0]}: {known}: {self.verdict.n_tensors} tensors, {tensors}, scales "
            "are finite"
        )


def whole_store(library: Library) -> list[Target]:
    """Every level that is there, and every one with a part missing."""
    registry, store = library.registry, library.store
    incomplete = [found for found in store.unfinished(registry) if found.missing]
    return [*map(_stored, store.entries(registry)), *(_incomplete(f, library) for f in incomplete)]


def target_of(model: str, library: Library) -> list[Target]:
    """What MODEL means: a file, a level, or every level of a model of the store.

    Raises ModelNotFound.
    """
    registry, store = library.registry, library.store
    if ":" not in model and "/" not in model:
        levels = store.levels_of(model, registry)
        broken = [f for f in store.unfinished(registry) if f.name == model and f.missing]
        if levels or broken:
            return [*map(_stored, levels), *(_incomplete(found, library) for found in broken)]
    file = locate(model, registry, store)
    if not file.path.exists():
        raise ModelNotFound(f"{model} is not on this disk; get it with `fwlocal pull {model}`")
    return [_of_file(file, library)]


def _of_file(file: ModelFile, library: Library) -> Target:
    stored = None
    if file.level is not None:
        stored = library.store.find(file.name, library.registry, file.level)
    if stored is not None:
        return _stored(stored)
    return Target(file.path.name, tuple(parts_of(file.path)), REMEDY)


def _stored(stored: StoredModel) -> Target:
    recorded = stored.manifest.files if stored.manifest else ()
    return Target(
        f"{stored.name}:{stored.level}",
        stored.files,
        f"get it back with `{way_back(stored.name, stored.level, stored.spec, stored.manifest)}`",
        {path.name: sha256 for path, sha256 in stored.hashes.items()},
        {file.name: file.size_bytes for file in recorded},
    )


def _incomplete(found: Unfinished, library: Library) -> Target:
    spec = library.registry.models.get(found.name)
    command = way_back(found.name, found.level, spec, found.manifest)
    return Target(
        f"{found.name}:{found.level}",
        found.paths,
        f"get it back with `{command}`",
        missing=found.missing,
    )


def verify(target: Target, on_bytes: OnProgress) -> Report:
    """Look at one target; ``on_bytes`` is told how many of its ``work_bytes`` are done."""
    from convert.verify import verify as examine

    if target.missing:
        lost = [Finding(path, None, "is missing") for path in target.missing]
        return Report(target, {}, None, tuple(lost))
    hashes: dict[str, str] = {}
    findings: list[Finding] = []
    done = 0
    for path in target.files:
        size = path.stat().st_size
        if path.name in target.hashes:

            def progress(share: float, size: int = size, done: int = done) -> None:
                on_bytes(done + share * size)

            hashes[path.name] = sha256_of(path, progress)
            done += size
        findings += _file_findings(path, size, hashes.get(path.name), target)
    total = sum(path.stat().st_size for path in target.files)
    verdict = None
    try:
        verdict = examine(target.files[0], lambda share: on_bytes(done + share * total))
    except BadModelFile as error:
        findings.append(Finding(target.files[0], None, _problem(error, target.files[0])))
    else:
        damaged = verdict.damaged
        findings += [Finding(target.files[0], found.tensor, found.what) for found in damaged]
    return Report(target, hashes, verdict, tuple(findings))


def _file_findings(path: Path, size: int, sha256: str | None, target: Target) -> Iterator[Finding]:
    """Whether a file is of the size and the bytes that were recorded."""
    expected = target.sizes.get(path.name, size)
    if size != expected:
        yield Finding(path, None, f"is {size} bytes long, and was {expected}")
    elif sha256 is not None and sha256 != target.hashes[path.name]:
        recorded = target.hashes[path.name]
        yield Finding(path, None, f"its SHA-256 is {sha256[:12]}…, and was {recorded[:12]}…")


def _problem(error: BadModelFile, path: Path) -> str:
    """The error's own words, without the file's name before them and its remedy after."""
    text = str(error).removeprefix(f"{path}: ")
    return text.rpartition("; ")[0] or text
