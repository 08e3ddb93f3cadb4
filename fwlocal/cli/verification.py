"""``fwlocal verify``: whether files still are what they were when they were put there.

Each file is hashed as a whole where a manifest or models.toml says what it must be, and then its
structure, tensors' hashes and scales are looked at. The command that brings a damaged one back is
told with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.errors import BadModelFile, ModelNotFound
from fwlocal.files import sha256_of
from fwlocal.gguf import MAGIC
from fwlocal.splits import parts_of
from fwlocal.store import ModelFile, StoredModel, Unfinished, locate
from fwlocal.store.advice import way_back
from fwlocal.store.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from convert.verify import Verdict
    from fwlocal.library import Library

OnProgress = Callable[[float], None]
REMEDY = "convert it again with --overwrite, or fetch it again"


@dataclass(frozen=True)
class Target:
    """A level, or a file (``level`` None), to be looked at: its ``files``, what they must be by
    ``hashes`` and ``sizes`` where that is known, and what to do when they are not (``remedy``)."""

    name: str
    level: str | None
    files: tuple[Path, ...]
    remedy: str
    hashes: dict[Path, str] = field(default_factory=dict)
    sizes: dict[Path, int] = field(default_factory=dict)
    missing: tuple[Path, ...] = ()
    manifest: Manifest | None = None

    @property
    def title(self) -> str:
        """What it is called before people."""
        return f"{self.name}:{self.level}" if self.level else self.files[0].name

    @property
    def work_bytes(self) -> int:
        """Bytes to be read."""
        times = {path: 2 if path in self.hashes else 1 for path in self.files}
        return sum(times[path] * (_stamp(path) or _NOTHING).size_bytes for path in self.files)


@dataclass(frozen=True)
class Stamp:
    """Which file a name means, and as of when."""

    inode: int
    modified_ns: int
    size_bytes: int


_NOTHING = Stamp(0, 0, 0)


def _stamp(path: Path) -> Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return Stamp(stat.st_ino, stat.st_mtime_ns, stat.st_size)


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words; ``tensor`` is None for the file as a whole."""

    file: Path
    tensor: str | None
    what: str


@dataclass(frozen=True)
class Report:
    """The outcome for one target: ``hashes`` are those computed, ``verdict`` None where the
    structure could not be read, ``change`` what somebody else did to it meanwhile, "" if nothing:
    then nothing is known of it, and nothing found."""

    target: Target
    hashes: dict[Path, str]
    verdict: Verdict | None
    findings: tuple[Finding, ...]
    change: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it was looked at and nothing is wrong."""
        return not self.findings and not self.change

    def as_data(self) -> dict[str, Any]:
        """Plain data, for ``--json``."""
        verdict = {} if self.verdict is None else asdict(self.verdict)
        damaged = [{"tensor": found.tensor, "what": found.what} for found in self.findings]
        files = self.target.files
        return {
            "model": self.target.name,
            "level": self.target.level,
            "path": files[0],
            "files": files,
            "size_bytes": sum((_stamp(path) or _NOTHING).size_bytes for path in files),
            "sha256": self.hashes.get(files[0]) if len(files) == 1 else None,
            "hashes": {path.name: sha256 for path, sha256 in self.hashes.items()},
            **verdict,
            "damaged": damaged,
            "change": self.change or None,
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
    """A file under the name that was asked for, be it another one of a stored file."""
    files = tuple(parts_of(file.path))
    stored = None
    if file.level is not None:
        stored = library.store.find(file.name, library.registry, file.level)
    if stored is None:
        _check_is_gguf(file.path)
        return Target(file.name, None, files, REMEDY)
    target = _stored(stored)
    if file.path == stored.path or len(files) != len(stored.files):
        return target
    asked = dict(zip(stored.files, files, strict=True))
    return replace(
        target,
        files=files,
        hashes={asked[path]: sha256 for path, sha256 in target.hashes.items()},
        sizes={asked[path]: size for path, size in target.sizes.items()},
    )


def _check_is_gguf(path: Path) -> None:
    """Raise BadModelFile for a file that never was a GGUF: no conversion mends it."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise BadModelFile(f"{path}: cannot be read: {error.strerror or error}") from error
    if start != MAGIC:
        raise BadModelFile(f"{path}: is no GGUF, and only GGUFs are verified")


def _stored(stored: StoredModel) -> Target:
    recorded = stored.manifest.files if stored.manifest else ()
    sizes = {file.name: file.size_bytes for file in recorded}
    return Target(
        stored.name,
        stored.level,
        stored.files,
        f"get it back with `{way_back(stored.name, stored.level, stored.spec, stored.manifest)}`",
        stored.hashes,
        {path: sizes[path.name] for path in stored.files if path.name in sizes},
        manifest=stored.manifest,
    )


def _incomplete(found: Unfinished, library: Library) -> Target:
    spec = library.registry.models.get(found.name)
    command = way_back(found.name, found.level, spec, found.manifest)
    remedy = f"get it back with `{command}`"
    return Target(found.name, found.level, found.paths, remedy, missing=found.missing)


def verify(target: Target, library: Library, on_bytes: OnProgress) -> Report:
    """Look at one target; ``on_bytes`` is told how many of its ``work_bytes`` are done."""
    if target.missing:
        lost = [Finding(path, None, "is missing") for path in target.missing]
        return Report(target, {}, None, tuple(lost))
    before = [_stamp(path) for path in target.files]
    report = _look(target, on_bytes)
    change = _change(target, before, library) if report.findings else ""
    return Report(target, {}, None, (), change) if change else report


def _change(target: Target, before: list[Stamp | None], library: Library) -> str:
    """What somebody else did to the files while they were looked at, "" for nothing."""
    after = [_stamp(path) for path in target.files]
    if None in after:
        return "was removed while it was verified"
    now = None
    if target.level is not None:
        now = read_manifest(library.store.manifest_path(target.name, target.level))
    if before == after and _recorded(now) == _recorded(target.manifest):
        return ""
    return "was replaced while it was verified; verify it again"


def _recorded(manifest: Manifest | None) -> Manifest | None:
    """The manifest but for its use, which may be noted at any time."""
    return None if manifest is None else replace(manifest, last_used="")


def _look(target: Target, on_bytes: OnProgress) -> Report:
    from convert.verify import verify as examine

    hashes: dict[Path, str] = {}
    findings: list[Finding] = []
    done, total = 0, sum((_stamp(path) or _NOTHING).size_bytes for path in target.files)
    verdict = None
    first = target.files[0]
    try:
        for path in target.hashes:
            size = path.stat().st_size

            def progress(share: float, size: int = size, done: int = done) -> None:
                on_bytes(done + share * size)

            hashes[path] = sha256_of(path, progress)
            done += size
        for path in target.files:
            findings += _file_findings(path, path.stat().st_size, hashes.get(path), target)
        verdict = examine(first, lambda share: on_bytes(done + share * total))
    except BadModelFile as error:
        findings.append(Finding(first, None, _problem(error, first)))
    except OSError as error:
        found = Path(error.filename) if error.filename else first
        findings.append(Finding(found, None, f"cannot be read: {error.strerror or error}"))
    else:
        findings += [Finding(first, found.tensor, found.what) for found in verdict.damaged]
    return Report(target, hashes, verdict, tuple(findings))


def _file_findings(path: Path, size: int, sha256: str | None, target: Target) -> Iterator[Finding]:
    """Whether a file is of the size and the bytes that were recorded."""
    expected = target.sizes.get(path, size)
    if size != expected:
        yield Finding(path, None, f"is {size} bytes long, and was {expected}")
    elif sha256 is not None and sha256 != target.hashes[path]:
        recorded = target.hashes[path]
        yield Finding(path, None, f"its SHA-256 is {sha256[:12]}…, and was {recorded[:12]}…")


def _problem(error: BadModelFile, path: Path) -> str:
    """The error's own words, without the file's name before them and its remedy after."""
    text = str(error).removeprefix(f"{path}: ")
    return text.rpartition("; ")[0] or text
