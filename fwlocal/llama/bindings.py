"""The library itself: llama-cpp-python's ctypes bindings, and llama.cpp's log."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import re
import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any

from fwlocal.errors import FwlocalError
from fwlocal.llama.buffers import Buffer, buffer_in, refused_buffer

LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CONTINUED = 1, 2, 3, 4, 5  # ggml_log_level


def _import_bindings() -> Any:
    """llama_cpp.llama_cpp without the package's own ``__init__``.

    That one brings numpy, jinja2 and diskcache for the high-level class, which is not used here:
    a third of a one-shot answer's time. The real package can still be imported afterwards.
    """
    if "llama_cpp" in sys.modules:
        return importlib.import_module("llama_cpp.llama_cpp")
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("llama-cpp-python is not installed")
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["llama_cpp"] = package
    try:
        return importlib.import_module("llama_cpp.llama_cpp")
    finally:
        del sys.modules["llama_cpp"]


try:
    lib: Any = _import_bindings()
except (ImportError, OSError, RuntimeError, AttributeError) as error:
    if isinstance(error.__context__, FwlocalError):  # SIGTERM while the library was being read
        raise error.__context__ from None
    raise FwlocalError(
        f"llama-cpp-python cannot be loaded ({error}); `fwlocal doctor` says how to install it"
    ) from error


class Asked:
    """A Python function that native code asks. ctypes would print and forget an exception in it;
    this keeps it, answers ``failed``, and raises it when the native call is over."""

    def __init__(self, function: Callable[..., bool]) -> None:
        self._function = function
        self._failure: BaseException | None = None

    def __call__(self, *arguments: Any, failed: bool) -> bool:
        if self._failure is not None:
            return failed
        try:
            return self._function(*arguments)
        except BaseException as failure:
            self._failure = failure
            return failed

    def raise_failure(self) -> None:
        """Raise what was kept, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class _Log:
    """llama.cpp's log: the last lines are kept for error messages, those of buffers and those of
    rotated keys as they are; all go to stderr if verbose."""

    def __init__(self) -> None:
        self.verbose = False
        self.errors: deque[str] = deque(maxlen=8)
        self.warnings: deque[str] = deque(maxlen=8)
        self.buffers: list[Buffer] = []
        self.rotations: list[str] = []
        self._level = 0
        self._callback = lib.llama_log_callback(self._receive)
        self.attach()

    def attach(self) -> None:
        """Take the log, from its default or from llama-cpp-python's own callback."""
        lib.llama_log_set(self._callback, None)

    def _receive(self, level: int, text: bytes, _: object) -> None:
        self._level = self._level if level == LOG_CONTINUED else level
        if self._level == LOG_DEBUG:
            return
        line = text.decode("utf-8", "replace")
        if self.verbose:
            sys.stderr.write(line)
        if self._level == LOG_INFO and (buffer := buffer_in(line)) is not None:
            self.buffers.append(buffer)
        if "attn_rot_k" in line:
            self.rotations.append(line)
        kept = {LOG_WARN: self.warnings, LOG_ERROR: self.errors}.get(self._level)
        if kept is not None and line.strip():
            kept.append(line.strip())

    def clear(self) -> None:
        """Forget the lines so far, before a call whose own lines will matter."""
        self.errors.clear()
        self.warnings.clear()
        self.buffers.clear()
        self.rotations.clear()

    def refusal(self) -> str | None:
        """The line, without its function, of a buffer that could not be allocated."""
        for line in self.errors:
            if refused_buffer(line) is not None:
                return re.sub(r"^[\w:~]+: ", "", line)
        lines = (line for line in self.errors if "allocate" in line or "out of memory" in line)
        return next(lines, None)

    def last_error(self) -> str:
        """The newest error line without the C++ function it came from, for a message."""
        for line in reversed(self.errors):
            text = line.split(": ", 1)[-1] if re.match(r"[\w:~]+: ", line) else line
            if not text.startswith("failed to load model"):
                return text
        return "it gave no reason"


log = _Log()
lib.llama_backend_init()


def set_verbose(verbose: bool) -> None:
    """Show llama.cpp's log on stderr, or stop showing it."""
    log.verbose = verbose


def library(name: str) -> ctypes.CDLL:
    """The library ``name`` that libllama itself uses, such as "ggml-base".

    Opening it by its file name would be wrong: wheels hold copies where a build has links, and a
    copy has devices and callbacks of its own. dlsym looks through libllama's dependencies.
    """
    if os.name != "nt":
        return lib._lib  # type: ignore[no-any-return]
    extensions = importlib.import_module("llama_cpp._ctypes_extensions")
    return extensions.load_shared_library(name, lib._base_path)  # type: ignore[no-any-return]


def call(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """Call a function that the bindings do not declare, with its result type."""
    function = getattr(library, name)
    function.restype = result
    return function(*arguments)
