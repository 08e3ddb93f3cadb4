"""Frozen dataclasses as plain JSON data, and back with every type checked.

The form is the dataclass's own: an object with its fields, a tuple as an array, None as null. JSON
has no NaN and no infinity: both are written as null, and a null where a number must be is read as
NaN. A field that is missing takes its default, if it has one; keys that are not known are ignored,
so that fields can be added. What the records mean, this module does not know.
"""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


class Mismatch(Exception):
    """Data of another form: where, and what is wrong, as in ``levels[2].label is no text``."""


def plain(value: Any) -> Any:
    """A record, or what records hold, as data for ``json.dumps``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def record(kind: type[Record], data: Any, where: str = "") -> Record:
    """The record of that ``kind`` that ``data`` is. Raises Mismatch."""
    if not isinstance(data, dict):
        raise Mismatch(f"{where or 'it'} is no object")
    form: Any = kind
    types_of, made = _hints(form), dict[str, Any]()
    for field in fields(form):
        path = f"{where}.{field.name}" if where else field.name
        if field.name in data:
            made[field.name] = _value(types_of[field.name], data[field.name], path)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Mismatch(f"{path} is missing")
    return kind(**made)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(kind: Any, data: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return record(kind, data, where)
    if get_origin(kind) is tuple:
        return _array(get_args(kind), data, where)
    if get_origin(kind) is types.UnionType:
        (only,) = (part for part in get_args(kind) if part is not types.NoneType)
        return None if data is None else _value(only, data, where)
    return _scalar(kind, data, where)


def _array(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise Mismatch(f"{where} is no array")
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(data)
    if len(kinds) != len(data):
        raise Mismatch(f"{where} has {len(data)} entries and not {len(kinds)}")
    pairs = zip(kinds, data, strict=True)
    return tuple(_value(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _scalar(kind: Any, data: Any, where: str) -> Any:
    if kind is float:
        return _number(data, where)
    if type(data) is not kind:  # a bool is an int for isinstance
        raise Mismatch(f"{where} is no {_NAMES[kind]}")
    return data


def _number(data: Any, where: str) -> float:
    if data is None:
        return math.nan
    if type(data) not in (int, float):
        raise Mismatch(f"{where} is no {_NAMES[float]}")
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Mismatch(f"{where} is too large a number")
    return number
