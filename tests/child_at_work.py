"""What the children of tests/test_children.py do: each message names a piece of work."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

from fwlocal import errors
from fwlocal.children import Parent


def echo(*said: object) -> Iterator[object]:
    yield from said


def arguments() -> Iterator[object]:
    yield sys.argv[1:]


def search_path() -> Iterator[object]:
    yield sys.path


def shout() -> Iterator[object]:
    """Print the way that Python and native code do."""
    print("printed by Python", flush=True)
    os.write(1, b"printed by native code\n")
    yield sys.stdin.read()


def fail(name: str, text: str) -> Iterator[object]:
    yield "so far"
    raise getattr(errors, name)(text)


def terminated() -> Iterator[object]:
    raise errors.Interrupted("terminated", exit_code=143)
    yield


def bug() -> Iterator[object]:
    raise ValueError("a wrong value")
    yield


def abort() -> Iterator[object]:
    """Fail a check of llama.cpp's."""
    from fwlocal.llama import bindings

    parent.report_aborts()
    yield "still here"
    ggml = bindings.library("ggml-base")
    bindings.call(ggml, "ggml_abort", None, b"whale.cpp", 7, b"the sea is gone")


def leave(status: int) -> Iterator[object]:
    os._exit(status)
    yield


def sleep() -> Iterator[object]:
    yield "asleep"
    time.sleep(600)


def work() -> Iterator[object]:
    """Native code without end, and without Python, until it is interrupted."""
    yield "busy"
    while not parent.interrupt.is_set():
        hashlib.pbkdf2_hmac("sha256", b"whale", b"sea", 100_000)
    yield parent.interrupt.signal


WORK: Mapping[str, Callable[..., Iterator[object]]] = {
    function.__name__: function
    for function in (
        echo,
        arguments,
        search_path,
        shout,
        fail,
        terminated,
        bug,
        abort,
        leave,
        sleep,
        work,
    )
}


def handle(message: object) -> Iterator[object]:
    assert isinstance(message, tuple)
    yield from WORK[message[0]](*message[1:])


if __name__ == "__main__":
    parent = Parent()
    parent.serve(handle)
