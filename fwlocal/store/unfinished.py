"""What to say of a level that is not whole: how far it is, who is at it, which command goes on."""

from __future__ import annotations

import shlex

from fwlocal.files import sized
from fwlocal.locks import holder_of
from fwlocal.registry import ModelSpec
from fwlocal.store.advice import way_back, way_on
from fwlocal.store.models import Unfinished

MATRIX_FOLDER = "-imatrix"  # at the end of a model's name: levels that a bench made by a matrix


def command(found: Unfinished, spec: ModelSpec | None) -> str:
    """The command that makes it whole, "" where nothing tells from where it came."""
    if found.missing:
        return way_back(found.name, found.level, spec, found.manifest)
    if _is_of_bench(found):
        return _bench(found)
    return way_on(found.name, found.level, spec, found.beginning, found.paths[0].parent)


def in_words(found: Unfinished, spec: ModelSpec | None) -> str:
    """One line about it, its name first."""
    what = f"{found.name}:{found.level}: {sized(found.size_bytes)} so far"
    way = command(found, spec)
    if found.missing:
        lost = found.missing[0].name
        return f"{what}, incomplete: {lost} is missing; put it there, or get it with `{way}`"
    holder = next(filter(None, map(holder_of, found.paths)), None)
    if holder is not None:
        return f"{what}, {holder} now"
    if way:
        return f"{what}, unfinished; go on with `{way}`"
    remove = f"remove it with `fwlocal rm {found.name}:{found.level}`"
    if found.beginning is not None:
        return f"{what}, unfinished; repeat the command that began it, or {remove}"
    return f"{what}, unfinished; {remove}"


def _model(found: Unfinished) -> str:
    """The model that a bench made it for."""
    return found.name.removesuffix(MATRIX_FOLDER)


def _is_of_bench(found: Unfinished) -> bool:
    """Whether it is made by a matrix, or from another level of the model: `fwlocal convert` would
    have to be told more than is known here."""
    beginning = found.beginning
    if beginning is None or beginning.road != "convert":
        return False
    if found.name.endswith(MATRIX_FOLDER):
        return True
    return (found.paths[0].parent / f"{beginning.source}.gguf").is_file()


def _bench(found: Unfinished) -> str:
    """The command, "" where the model itself is not in the models folder: where that was, nobody
    noted."""
    model = _model(found)
    if not any((found.paths[0].parent.parent / model).glob("*.gguf")):
        return ""
    by = " --imatrix FILE" if found.name.endswith(MATRIX_FOLDER) else ""
    return f"fwlocal bench -m {shlex.quote(model)} --levels {found.level}{by}"
