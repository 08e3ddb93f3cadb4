"""What ``run``, ``chat`` and ``prompt`` share: the model, loaded, and the text that is asked."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from fwlocal import options
from fwlocal.cli.output import notify
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from fwlocal.loader import LoadedModel
    from fwlocal.oneshot import Output

STAND_IN_NOTE = (
    "{} is a small stand-in of another family: it shows that everything works, not how well "
    "FreeWilly answers"
)


def answer_once(text: str, output: Output, rest: dict[str, Any]) -> None:
    """One answer; leaves with 130 or 143 when it was interrupted."""
    from fwlocal import oneshot

    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    if rest.get("raw") and system is not None:
        raise UsageError("a raw prompt has no system text of its own; leave --system out")
    request = oneshot.Request(text, system, max_tokens, options.take_sampling(rest))
    with loaded_model(rest) as loaded:
        exit_code = oneshot.answer(loaded, request, output)
    if exit_code:
        raise SystemExit(exit_code)


@contextlib.contextmanager
def loaded_model(rest: dict[str, Any]) -> Iterator[LoadedModel]:
    """The model, loaded with a progress bar that Ctrl-C stops, and freed at the end."""
    from fwlocal import llama, loader
    from fwlocal.interrupts import Interrupt, catching
    from fwlocal.progress import ProgressBar

    verbose = rest.pop("verbose")
    llama.set_verbose(verbose)
    llama.exit_on_abort(_report_abort)
    engine_options = options.take_engine_options(rest)
    interrupt = Interrupt()
    library = loader.Library.default()
    file, header = loader.open_file(model_name(rest.pop("model")), library, notify)
    with catching(interrupt), ProgressBar(f"loading {file.name}") as bar:
        loaded = loader.load(
            file,
            header,
            engine_options,
            notify=notify,
            on_progress=bar.update,
            interrupt=interrupt,
            verbose=verbose,
        )
    if loaded.file.spec is not None and loaded.file.spec.stand_in:
        notify(STAND_IN_NOTE.format(loaded.file.name))
    with loaded.engine:
        yield loaded


def read_prompt(argument: str | None, *, raw: bool = False) -> str:
    from fwlocal import oneshot

    piped = sys.stdin is not None and not is_terminal()
    return oneshot.read_prompt(argument, sys.stdin.buffer if piped else None, raw=raw)


def model_name(model: str | None) -> str:
    from fwlocal.registry import DEFAULT_MODEL

    if model == "":
        raise UsageError("the model's name is empty; leave -m out for the default")
    return model or DEFAULT_MODEL


def is_terminal() -> bool:
    """Whether a person types; stdin may also be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()


def _report_abort(message: str) -> NoReturn:
    """The last words before a failed check inside llama.cpp would abort the process."""
    notify(f"llama.cpp failed a check of its own: {message}; the model file may be damaged")
    os._exit(1)
