"""A benchmark's result as a JSON file, and back: the form of ``schema.json``, beside this module.

The form is that of ``fwlocal.bench.result``, with its number under "schema". Whoever reads it
checks all of it, for it may come from another machine, another version, or nowhere good.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from fwlocal.bench.records import Mismatch, plain, record
from fwlocal.bench.result import SCHEMA, BenchResult
from fwlocal.errors import FwlocalError, StoreError
from fwlocal.files import write_atomically

MAX_BYTES = 256 << 20
_MADE_BY = "`fwlocal bench --json`"


class BadResult(FwlocalError):
    """A file that holds no result of a benchmark, or one of another form."""


def as_json(result: BenchResult) -> str:
    """The file's text. Halves of surrogate pairs, as names of files may have, are escaped."""
    text = json.dumps(plain(result), ensure_ascii=False, allow_nan=False, indent=2)
    return text.encode("utf-8", "backslashreplace").decode() + "\n"


def write_result(path: Path, result: BenchResult) -> None:
    """Put the result at ``path``, whole, in place of what is there. Raises StoreError."""
    try:
        write_atomically(path, as_json(result))
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place"
        ) from error


def read_result(path: Path) -> BenchResult:
    """The result in a file.

    Raises BadResult for a file that cannot be read, is no JSON, is JSON of another kind, of another
    schema version, or has something missing or wrong in it.
    """
    data = _json(path)
    version = data.get("schema") if isinstance(data, dict) else None
    if type(version) is not int:
        raise BadResult(f"{path}: no result of a benchmark; name a file made by {_MADE_BY}")
    if version != SCHEMA:
        raise BadResult(
            f"{path}: a result of schema version {version}, and this fwlocal reads version {SCHEMA}"
            f"; {'use a newer fwlocal' if version > SCHEMA else f'make it anew by {_MADE_BY}'}"
        )
    try:
        result = record(BenchResult, data)
        _check(result)
    except Mismatch as error:
        raise BadResult(f"{path}: {error}; make the file anew by {_MADE_BY}") from None
    return result


def _json(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadResult(
            f"{path}: cannot be read ({error.strerror or error}); name a file made by {_MADE_BY}"
        ) from error
    if len(content) > MAX_BYTES:
        raise BadResult(f"{path}: too large for a result; name a file made by {_MADE_BY}")
    try:
        found: object = json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadResult(f"{path}: no JSON{at}; name a file made by {_MADE_BY}") from None
    return found


def _no_number(name: str) -> float:
    raise ValueError(name)


def _check(result: BenchResult) -> None:
    """What types do not say, and whoever shows or compares results relies on."""
    labels = [level.label for level in result.levels]
    for place, level in enumerate(result.levels):
        if level.label in labels[:place]:
            raise Mismatch(f"levels[{place}].label is there twice")
        if level.quality and (level.quality.ppl.value <= 0 or level.quality.ppl_ratio.value <= 0):
            raise Mismatch(f"levels[{place}].quality has no perplexity above 0")
        for number, speed in enumerate(level.speeds):
            where = f"levels[{place}].speeds[{number}]"
            if not speed.tps:
                raise Mismatch(f"{where}.tps is empty")
            if not all(math.isfinite(tps) and tps > 0 for tps in speed.tps):
                raise Mismatch(f"{where}.tps has what is no speed")
            if not speed.test.n_prompt and not speed.test.n_gen:
                raise Mismatch(f"{where}.test tests nothing")
