"""The pickle of a torch state dict, read by a small machine that can do nothing else.

It is never unpickled: only the opcodes that a state dict needs are known, and nothing that the
pickle names is imported or called. The opcodes: Python's pickletools.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fwlocal.errors import BadCheckpoint

MAX_OPCODES = 4_000_000

FETCH = "fetch or copy the file again"
RESAVE = "if you trust it, load it with torch and save its state dict alone again"

# How the file names a storage's type -> (ggml's name where there is one, bytes per element).
STORAGES: Mapping[str, tuple[str, int]] = {
    "torch.FloatStorage": ("F32", 4),
    "torch.HalfStorage": ("F16", 2),
    "torch.BFloat16Storage": ("BF16", 2),
    "torch.DoubleStorage": ("F64", 8),
    "torch.LongStorage": ("I64", 8),
    "torch.IntStorage": ("I32", 4),
    "torch.ShortStorage": ("I16", 2),
    "torch.CharStorage": ("I8", 1),
    "torch.ByteStorage": ("U8", 1),
    "torch.BoolStorage": ("BOOL", 1),
}
_ORDERED_DICT = "collections.OrderedDict"
_REBUILD = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_GLOBALS = {*STORAGES, _ORDERED_DICT, _REBUILD, _PARAMETER}


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class Storage:
    """A storage by its key, as the pickle gives it."""

    type_name: str
    key: str
    numel: int


@dataclass(frozen=True)
class Tensor:
    """The arguments of ``_rebuild_tensor_v2`` as the pickle gives them, not yet checked."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


class _Machine:
    """A stack machine for the pickle of a state dict. It makes dicts, lists, tuples and the few
    records above, and leaves out all that no tensor needs: keys that are no strings, and the state
    that BUILD would set (an OrderedDict's ``_metadata``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks under each MARK, as in Python's pickle
        self.memo: dict[int, Any] = {}

    def fail(self, what: str, remedy: str = RESAVE) -> BadCheckpoint:
        return BadCheckpoint(f"{self.path}: its pickle {what}; {remedy}")

    def run(self, data: bytes) -> Any:
        """The object that the pickle holds."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pickletools warns of a name's odd backslashes
                for index, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                    self.step(index, opcode.name, argument)
            return self.stack.pop()
        except (ValueError, LookupError):
            raise self.fail("is damaged", FETCH) from None

    def step(self, index: int, opcode: str, argument: Any) -> None:
        step = _STEPS.get(opcode)
        if step is None or index >= MAX_OPCODES:
            raise self.fail(f"has {opcode} (opcode {index}), not as a state dict has")
        step(self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop_last(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def put(self, index: int) -> None:
        if index > MAX_OPCODES:
            raise self.fail(f"has the memo index {index}")
        self.memo[index] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise self.fail("appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise self.fail("sets items of what is no dict")
        pairs = zip(items[::2], items[1::2], strict=True)
        target.update((key, value) for key, value in pairs if isinstance(key, str))

    def build(self, _: Any) -> None:
        self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise self.fail("sets the state of what is no OrderedDict")

    def find(self, name: str) -> None:
        if name not in _GLOBALS:
            raise self.fail(f"calls for {shown(name)}, which no state dict needs")
        self.push(_Global(name))

    def find_on_stack(self, _: Any) -> None:
        module, name = self.pop_last(2)
        self.find(f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def storage(self, _: Any) -> None:
        match self.stack.pop():
            case ("storage", _Global(name), str(key), str(), int(numel)) if name in STORAGES:
                self.push(Storage(name, key, numel))
            case _:
                raise self.fail("refers to something that is no storage of numbers")

    def reduce(self, _: Any) -> None:
        match self.pop_last(2):
            case [_Global(name), ()] if name == _ORDERED_DICT:
                self.push({})
            case [_Global(name), (storage, offset, shape, strides, *_)] if name == _REBUILD:
                self.push(Tensor(storage, offset, shape, strides))
            case [_Global(name), (Tensor() as tensor, *_)] if name == _PARAMETER:
                self.push(tensor)
            case [_Global(name), _]:
                raise self.fail(f"calls {name} with the wrong arguments")
            case _:
                raise self.fail("calls what is no function")


_PUSHED = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
)

# What protocols 2 to 5 use for a state dict; any other opcode is refused.
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(_PUSHED, _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_last(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "APPEND": lambda machine, _: machine.extend(machine.pop_last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop_last(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop_last(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop_last(3))),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": lambda machine, names: machine.find(names.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.find_on_stack,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


def state_dict(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of the state dict that the pickle ``data`` holds, or that is one level down.

    ``path`` names its file. Raises BadCheckpoint, naming what it calls for, for any other pickle.
    """
    top = _Machine(path).run(data)
    if isinstance(top, dict):
        for candidate in (top, top.get("state_dict"), top.get("model")):
            values = candidate.items() if isinstance(candidate, dict) else ()
            if tensors := {name: value for name, value in values if isinstance(value, Tensor)}:
                return tensors
    raise BadCheckpoint(f"{path}: holds no state dict: no tensors by name; {RESAVE}")


def shown(text: str) -> str:
    """A name out of the file, fit for a one-line message."""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return text if text.isprintable() else ascii(text)
