"""Levels of one model, each wish fulfilled: what is here, and what is pulled or converted.

An unquantized file that is here comes before the network, and a quantized one is the last resort:
what is made of it cannot be better than it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fwlocal.cli import bench_making as making
from fwlocal.cli.bench_subject import Subject, levels_here, readable, stored
from fwlocal.cli.output import notify
from fwlocal.errors import BadCheckpoint, FwlocalError, ModelNotFound, NetworkError, UsageError
from fwlocal.files import sized
from fwlocal.store.unfinished import MATRIX_FOLDER

if TYPE_CHECKING:
    from fwlocal.bench.entrants import Entry
    from fwlocal.library import Library
    from fwlocal.pull.roads import Road

MOST_UNASKED_BYTES = 10_000_000_000  # that come over the network without being asked for by name

Roads = Mapping[str, "Road"]


@dataclass(frozen=True)
class Wish:
    """A level, plain or by an importance matrix."""

    level: str
    by_matrix: bool = False

    @property
    def label(self) -> str:
        """As the user asks for it."""
        from fwlocal.bench.entrants import WITH_IMATRIX

        return self.level + WITH_IMATRIX * self.by_matrix


@dataclass(frozen=True)
class Means:
    """How levels are made: by the matrix in ``imatrix``, if any; ``accepted``: the licence."""

    library: Library
    imatrix: Path | None = None
    n_threads: int | None = None
    accepted: bool = False


def provide(
    subject: Subject, wishes: Sequence[Wish], means: Means, *, is_unasked: bool
) -> tuple[str, list[Entry]]:
    """The model's name in the models folder, and an entry for each wish. Where the levels are
    ``is_unasked``, no large ones are fetched, and what is here is enough.

    Raises what ``fwlocal pull`` and ``fwlocal convert`` do.
    """
    if not is_unasked:
        return _provide(subject, wishes, means)
    here = [wish for wish in wishes if wish.level in subject.here and not wish.by_matrix]
    try:
        return _provide(subject, wishes, means, is_unasked=True)
    except (NetworkError, BadCheckpoint) as error:
        if not here or means.imatrix is not None:
            raise
        notify(f"only what is on this disk takes part: {error}")
        return _provide(subject, here, means)


def _provide(
    subject: Subject, wishes: Sequence[Wish], means: Means, *, is_unasked: bool = False
) -> tuple[str, list[Entry]]:
    missing = [w.level for w in wishes if not w.by_matrix and w.level not in subject.here]
    roads: Roads
    roads, refusal = _roads(subject, missing, means.library)
    if is_unasked:
        wishes, roads = _affordable(subject, wishes, roads)
    subject = _pulled(subject, roads, means)
    plain = [w.level for w in wishes if not w.by_matrix and w.level not in subject.here]
    matrix = [w.level for w in wishes if w.by_matrix]
    batches = _batches(subject, plain, matrix, means, refusal)
    made = making.converted(
        batches, means.library, n_threads=means.n_threads, accepted=means.accepted
    )
    paths = {Wish(level): file.path for level, file in subject.here.items()}
    derived: set[Wish] = set()
    for batch, files in zip(batches, made, strict=True):
        own = {Wish(level, batch.matrix is not None): path for level, path in files.items()}
        paths.update(own)
        derived |= set(own) if batch.origin.is_quantized else set()
    before = levels_here(f"{subject.name}{MATRIX_FOLDER}", means.library)
    paths = {**{Wish(level, True): file.path for level, file in before.items()}, **paths}
    entries = [
        _entry(subject, wish, paths[wish], means.library, is_derived=wish in derived)
        for wish in wishes
    ]
    return subject.name, entries


def _roads(
    subject: Subject, missing: Iterable[str], library: Library
) -> tuple[dict[str, Road], ModelNotFound | None]:
    """The ways over the network, where nothing here is as good to convert from; of a model inside
    a package that one level, which the others are made of."""
    origin = subject.origin or _best(subject, library)
    if not subject.model or (origin is not None and not origin.is_quantized):
        return {}, None
    spec = subject.spec
    first = [spec.default_level] if spec and spec.package and not subject.here else []
    return making.roads_to(subject.model, dict.fromkeys((*first, *missing)), library)


def _affordable(subject: Subject, wishes: Sequence[Wish], roads: Roads) -> tuple[list[Wish], Roads]:
    """What may be fetched though nobody named it; where anything is, nothing is made of quantized
    files. Raises UsageError where that leaves nothing."""
    sizes = {level: getattr(road, "size_bytes", 0) for level, road in roads.items()}
    total = sum(sizes.values())
    if not total:
        return list(wishes), roads
    kept = {**subject.here, **roads}
    if total > MOST_UNASKED_BYTES:
        levels, name = ",".join(roads), subject.name or subject.model
        if not subject.here:
            raise UsageError(
                f"{name}: none of it is on this disk, and {levels} are {sized(total)}; name the "
                "levels that you want with --levels"
            )
        notify(
            f"{name}: only {', '.join(subject.here)} is on this disk and takes part; --levels "
            f"{levels} gets others too ({sized(total)})"
        )
        kept, roads = dict(subject.here), {}
    return [wish for wish in wishes if wish.level in kept], roads


def _pulled(subject: Subject, roads: Roads, means: Means) -> Subject:
    """The same with the levels that the roads lead to."""
    from fwlocal.store import locate

    library = means.library
    paths = making.pulled(roads, library, accepted=means.accepted)
    if not paths:
        return subject
    files = {
        level: locate(str(path), library.registry, library.store) for level, path in paths.items()
    }
    if not subject.name:
        subject = stored(next(iter(files.values())).name, subject.model, library)
    return replace(subject, here={**subject.here, **files})


def _batches(
    subject: Subject,
    plain: Sequence[str],
    matrix: Sequence[str],
    means: Means,
    refusal: FwlocalError | None,
) -> list[making.Batch]:
    """What is to be converted. Raises ModelNotFound where there is nothing to convert from."""
    if means.imatrix is None:
        matrix = ()
    if not plain and not matrix:
        return []
    name = subject.name
    origin = subject.origin or _best(subject, means.library)
    batches = []
    if plain:
        batches.append(making.Batch(_found(origin, subject, refusal), name, tuple(plain)))
    if matrix:
        if origin is None or origin.is_quantized:
            origin = making.on_the_hub(name, subject.spec, means.library) or origin
        folder = f"{name}{MATRIX_FOLDER}"
        origin = _found(origin, subject, refusal)
        batches.append(making.Batch(origin, folder, tuple(matrix), means.imatrix))
    return batches


def _found(
    origin: making.Origin | None, subject: Subject, refusal: FwlocalError | None
) -> making.Origin:
    if origin is None:
        name = subject.name or subject.model
        raise refusal or ModelNotFound(
            f"{name}: nothing to convert is on this disk; get it with `fwlocal pull {name}`"
        )
    return origin


def _best(subject: Subject, library: Library) -> making.Origin | None:
    """The level here that others are best made of: one that is not quantized, else the largest that
    was not made of a quantized one itself."""
    from fwlocal.bench.entrants import is_derived, is_quantized

    files = [
        (file, header)
        for file, header in readable(subject.here.values())
        if (header.number("split.count") or 0) < 2  # the converter reads no parts
    ]
    own = [(file, header) for file, header in files if not is_derived(header)] or files
    if not own:
        return None
    file, header = max(own, key=lambda one: (not is_quantized(one[1]), one[1].file_size_bytes))
    entry = library.store.find(subject.name, library.registry, file.level)
    licence = (entry.licence if entry else "") or header.text("general.license") or ""
    loses = is_quantized(header) or is_derived(header)
    return making.of_file(file, loses, library, licence)


def _entry(
    subject: Subject, wish: Wish, path: Path, library: Library, *, is_derived: bool
) -> Entry:
    """Under its label; talked to as the model's other levels are."""
    from fwlocal.bench.entrants import Entry
    from fwlocal.store import locate

    file = locate(str(path), library.registry, library.store)
    spec, chosen = file.spec or subject.spec, file.prompt_format or subject.prompt_format
    return Entry(replace(file, spec=spec, prompt_format=chosen), wish.label, is_derived)
