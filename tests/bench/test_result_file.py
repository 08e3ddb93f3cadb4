"""A result is written and read back as it was; what is no result is refused in one line."""

from __future__ import annotations

import json
import math
import types
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fwlocal.bench import result_file
from fwlocal.bench.result import (
    SCHEMA,
    BenchResult,
    LevelResult,
    Machine,
    Quality,
    Settings,
    Speed,
    SpeedTest,
    Value,
)
from fwlocal.bench.result_file import BadResult, as_json, read_result, write_result
from fwlocal.errors import StoreError

MACHINE = Machine("a CPU", 8, 32 << 30, ("a GPU",), "Linux", 4.1e10)
SETTINGS = Settings(512, 512, 512, "f16", "auto", 3, 16, tests=(SpeedTest(512, 0),))
LEVEL = LevelResult("Q4_0", "/m/a.gguf", 1000, 4.5, speeds=(Speed(SpeedTest(512, 0), (9.5, 10)),))
RESULT = BenchResult("a", "2026-01-01T00:00:00Z", "1", "b1", MACHINE, SETTINGS, "", (LEVEL,))


ABOVE_ZERO = st.floats(1e-3, 1e9)
SCALAR_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=8),
    bool: st.booleans(),
}
# What the reader insists on besides types.
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "tps": st.lists(ABOVE_ZERO, min_size=1, max_size=3).map(tuple),
    "n_prompt": st.integers(1),
    "ppl": st.builds(Value, ABOVE_ZERO),
    "ppl_ratio": st.builds(Value, ABOVE_ZERO),
    "schema": st.just(SCHEMA),
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Anything of a type that a result has in it."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind).items()
        parts = {n: SPECIAL[n] if n in SPECIAL else values(hint) for n, hint in hints}
        return st.builds(kind, **parts)
    if get_origin(kind) is tuple:
        inner = values(get_args(kind)[0])
        return st.lists(inner, max_size=2, unique_by=_label).map(tuple)
    if get_origin(kind) is types.UnionType:
        return st.one_of(*(values(part) for part in get_args(kind)))
    return st.none() if kind is types.NoneType else SCALAR_VALUES[kind]


def _label(item: Any) -> object:
    """Levels have distinct ones; other things may be twice."""
    return getattr(item, "label", None) or object()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(result=values(BenchResult))
def test_what_is_written_is_read(tmp_path: Path, result: BenchResult) -> None:
    path = tmp_path / "result.json"
    write_result(path, result)
    assert read_result(path) == result


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    nothing = Value(math.nan)
    names = [field.name for field in fields(Quality)][3:-2]
    quality = Quality(2, 0, 510, **dict.fromkeys(names, nothing), kld_by_chunk=(math.nan, 0.5))  # type: ignore[arg-type]
    path = tmp_path / "result.json"
    write_result(path, replace(RESULT, levels=(replace(LEVEL, quality=quality),)))
    written = json.loads(path.read_text())["levels"][0]["quality"]
    assert written["ppl"] == {"value": None, "se": None}
    assert written["kld_by_chunk"] == [None, 0.5]
    read = read_result(path).levels[0].quality
    assert read is not None
    assert math.isnan(read.ppl.value)
    assert read.ppl.se is None
    assert math.isnan(read.kld_by_chunk[0])


def test_names_that_are_no_unicode_survive(tmp_path: Path) -> None:
    named = replace(RESULT, levels=(replace(LEVEL, file="/m/\udcff.gguf"),))
    write_result(tmp_path / "r.json", named)
    assert read_result(tmp_path / "r.json") == named


def test_a_result_of_an_older_writer_takes_defaults_and_a_newer_one_may_say_more(
    tmp_path: Path,
) -> None:
    data = json.loads(as_json(RESULT))
    del data["levels"][0]["bandwidth_share"], data["differences"]
    data["weather"] = "rain"
    (tmp_path / "r.json").write_text(json.dumps(data))
    assert read_result(tmp_path / "r.json") == RESULT


def _with(**changes: Any) -> str:
    return json.dumps({**json.loads(as_json(RESULT)), **changes})


def _level(**changes: Any) -> str:
    return _with(levels=[{**json.loads(as_json(RESULT))["levels"][0], **changes}])


TEST = {"n_prompt": 512, "n_gen": 0, "n_depth": 0}
BAD = {
    "": r"no JSON \(line 1\); name a file made by `fwlocal bench --json`",
    "GGUF": r"no JSON",
    "[" * 100_000: r"no JSON",
    '{"schema": NaN}': r"no JSON",
    "[1]": r"no result of a benchmark",
    '{"name": "fwlocal"}': r"no result of a benchmark",
    '{"schema": "1"}': r"no result of a benchmark",
    '{"schema": true}': r"no result of a benchmark",
    '{"schema": 1}': r"model is missing; make the file anew",
    _with(schema=2): r"of schema version 2, and this fwlocal reads version 1; use a newer fwlocal",
    _with(schema=0): r"of schema version 0, .*; make it anew by `fwlocal bench --json`",
    _with(model=7): r"model is no text",
    _with(levels={}): r"levels is no array",
    _with(levels=[3]): r"levels\[0\] is no object",
    _with(machine=None): r"machine is no object",
    _level(label=None): r"levels\[0\].label is no text",
    _level(size_bytes=1.5): r"levels\[0\].size_bytes is no whole number",
    _level(size_bytes=True): r"levels\[0\].size_bytes is no whole number",
    _level(is_reference=1): r"levels\[0\].is_reference is no true or false",
    _level(bits_per_weight="4"): r"levels\[0\].bits_per_weight is no number",
    _level(bits_per_weight=10**400): r"levels\[0\].bits_per_weight is too large a number",
    _level(quality={}): r"levels\[0\].quality.n_chunks is missing",
    _level(speeds=[{"test": TEST, "tps": []}]): r"levels\[0\].speeds\[0\].tps is empty",
    _level(speeds=[{"test": TEST, "tps": [0]}]): r"tps has what is no speed",
    _level(speeds=[{"test": TEST, "tps": [None]}]): r"tps has what is no speed",
    _level(speeds=[{"test": {**TEST, "n_prompt": 0}, "tps": [1]}]): r"test tests nothing",
    _with(levels=[{"label": "a", "file": "", "size_bytes": 1, "bits_per_weight": 1}] * 2): (
        r"levels\[1\].label is there twice"
    ),
}


@pytest.mark.parametrize(("text", "says"), BAD.items(), ids=range(len(BAD)))
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(BadResult, match=says) as caught:
        read_result(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(BadResult, match=r"none.json: cannot be read \(No such file"):
        read_result(tmp_path / "none.json")
    with pytest.raises(BadResult, match="cannot be read"):
        read_result(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(BadResult, match="no JSON"):
        read_result(tmp_path / "bytes.json")
    with pytest.raises(StoreError, match=r"r.json: cannot be written .*; choose another place"):
        write_result(tmp_path / "none" / "r.json", RESULT)


# -- schema.json ---------------------------------------------------------------------------------

SCALARS = {int: "integer", float: ["number", "null"], str: "string", bool: "boolean"}
# What types do not say and the reader checks.
CHECKED = {
    ("BenchResult", "schema"): {"const": SCHEMA},
    ("Speed", "tps"): {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 1,
    },
}


def _form(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type."""
    if is_dataclass(kind):
        return {"$ref": f"#/$defs/{kind.__name__}"}  # type: ignore[union-attr]
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _form(get_args(kind)[0])}
    if get_origin(kind) is types.UnionType:
        (only,) = set(get_args(kind)) - {types.NoneType}
        form = _form(only)
        if "$ref" in form:
            return {"anyOf": [form, {"type": "null"}]}
        named = form["type"] if isinstance(form["type"], list) else [form["type"], "null"]
        return {"type": named}
    return {"type": SCALARS[kind]}


def _kinds(kind: Any) -> set[type]:
    """The dataclasses that a type has in it."""
    if is_dataclass(kind) and isinstance(kind, type):
        inner = [_kinds(hint) for hint in get_type_hints(kind).values()]
        return {kind}.union(*inner)
    return set[type]().union(*map(_kinds, get_args(kind)))


def _object(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    required = [
        field.name
        for field in fields(kind)
        if (field.default is MISSING and field.default_factory is MISSING) or field.name == "schema"
    ]
    return {
        "type": "object",
        "properties": {
            field.name: CHECKED.get((kind.__name__, field.name)) or _form(hints[field.name])
            for field in fields(kind)
        },
        "required": required,
    }


def derived_schema() -> dict[str, Any]:
    """The schema as the dataclasses say it, without a word of explanation."""
    definitions = {kind.__name__: _object(kind) for kind in _kinds(BenchResult)}
    top = definitions.pop("BenchResult")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def _without_words(schema: Any) -> Any:
    """A schema without its descriptions and titles, which are texts."""
    if isinstance(schema, dict):
        return {
            key: _without_words(value)
            for key, value in schema.items()
            if not (key in ("description", "title") and isinstance(value, str))
        }
    return [_without_words(item) for item in schema] if isinstance(schema, list) else schema


def _schema() -> Any:
    path = Path(result_file.__file__).with_name("schema.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_schema_is_the_form_of_the_dataclasses() -> None:
    assert _without_words(_schema()) == derived_schema()


def test_the_schema_explains_every_record_and_names_its_version() -> None:
    schema = _schema()
    assert schema["description"]
    assert f"version {SCHEMA}" in schema["title"]
    assert all(form["description"] for form in schema["$defs"].values())
