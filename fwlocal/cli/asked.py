"""What ``run``, ``chat`` and ``prompt`` share: the model, loaded, and the text that is asked."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from fwlocal.cli.output import notify
from fwlocal.errors import UsageError
from fwlocal.taken import take_engine_options, take_sampling

if TYPE_CHECKING:
    from fwlocal.interrupts import Interrupt
    from fwlocal.loader import EngineOptions, LoadedModel
    from fwlocal.oneshot import Output
    from fwlocal.prompts import Message

STAND_IN_NOTE = (
    "{} is a small stand-in of another family: it shows that everything works, not how well "
    "FreeWilly answers"
)
BRIEF_BYTES = 600


def answer_once(asked: str | Sequence[Message], output: Output, rest: dict[str, Any]) -> None:
    """Answer a text, or a conversation's last message; leaves with 130 or 143 when it was
    interrupted."""
    from fwlocal import oneshot
    from fwlocal.prompts import Message

    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    if rest.get("raw") and system is not None:
        raise UsageError("a raw prompt has no system text of its own; leave --system out")
    turns = (Message("user", asked),) if isinstance(asked, str) else tuple(asked)
    stop, n, logprobs = rest.pop("stop", ()), rest.pop("n", None), rest.pop("logprobs", None)
    sampling = take_sampling(rest)
    if n is not None and n > 1 and sampling["temperature"] == 0:
        raise UsageError(f"--n {n}: at temperature 0 all answers are the same; leave one out")
    request = oneshot.Request(turns, system, max_tokens, sampling, stop, n, logprobs or 0)
    rest["brief"] = is_brief((system or "", *(turn.content for turn in turns)))
    with loaded_model(rest, quiet=output.quiet) as loaded:
        exit_code = oneshot.answer(loaded, request, output)
    if exit_code:
        raise SystemExit(exit_code)


def is_brief(texts: Iterable[str]) -> bool:
    """Whether they are some 150 tokens at most, so that an answer may end within 256."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts) <= BRIEF_BYTES


def check_texts(rest: Mapping[str, Any]) -> None:
    """Raise FwlocalError for an option whose text is no UTF-8, which no model could be asked."""
    from fwlocal.oneshot import checked

    checked(rest["system"] or "", "--system")
    for text in rest.get("stop", ()):
        checked(text, "--stop")


@contextlib.contextmanager
def loaded_model(rest: dict[str, Any], *, quiet: bool = False) -> Iterator[LoadedModel]:
    """The model that the options name, loaded, and freed at the end; ``quiet`` tells nothing but
    errors."""
    verbose, model = rest.pop("verbose"), model_name(rest.pop("model"))
    loaded = load_model(
        model,
        take_engine_options(rest),
        draft=rest.pop("draft"),
        quiet=quiet,
        verbose=verbose,
    )
    with loaded.engine:
        yield loaded


def report_abort(message: str) -> NoReturn:
    """The last words before a failed check inside llama.cpp would abort the process."""
    notify(f"llama.cpp failed a check of its own: {message}; the model file may be damaged")
    os._exit(1)


def load_model(
    model: str,
    engine_options: EngineOptions,
    *,
    draft: str = "off",
    quiet: bool = False,
    verbose: bool = False,
    last_words: Callable[[str], NoReturn] = report_abort,
    interrupt: Interrupt | None = None,
) -> LoadedModel:
    """Load a model with a progress bar that Ctrl-C stops; ``last_words`` are for a failed check of
    llama.cpp's. An ``interrupt`` that is given is all that Ctrl-C sets, however often; without one
    the second Ctrl-C ends the process."""
    from fwlocal import llama, loader
    from fwlocal.interrupts import Interrupt, catching
    from fwlocal.progress import ProgressBar

    llama.set_verbose(verbose)
    llama.exit_on_abort(last_words)
    patient, interrupt = interrupt is not None, interrupt or Interrupt()
    library, tell = loader.Library.default(), told(quiet=quiet)
    with silenced(quiet=quiet):
        file, header = loader.open_file(model, library, tell)
        draft_file = loader.find_draft(draft, file, header, library, tell)
    with catching(interrupt, patient=patient), ProgressBar(f"loading {file.name}") as bar:
        loaded = loader.load(
            file,
            header,
            engine_options,
            notify=tell,
            on_progress=_nobody if quiet else bar.update,
            interrupt=interrupt,
            verbose=verbose,
            draft=draft_file,
        )
    if loaded.file.spec is not None and loaded.file.spec.stand_in:
        tell(STAND_IN_NOTE.format(loaded.file.name))
    return loaded


def told(*, quiet: bool) -> Callable[[str], None]:
    """Who gets the lines for the user: nobody, where ``quiet`` is asked for."""
    return _nobody if quiet else notify


@contextlib.contextmanager
def silenced(*, quiet: bool) -> Iterator[None]:
    """While inside, where ``quiet`` is asked for, nothing in Python writes to stderr; from then on
    modules deep down log errors alone."""
    if not quiet:
        yield
        return
    logging.getLogger("fwlocal").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _nobody(_: object) -> None:
    """Hears it, and tells it to no one."""


def read_prompt(argument: str | None, *, raw: bool = False) -> str:
    from fwlocal import oneshot

    return oneshot.read_prompt(argument, piped_stdin(), raw=raw)


def piped_stdin() -> BinaryIO | None:
    """stdin, where no person types there."""
    return sys.stdin.buffer if sys.stdin is not None and not is_terminal() else None


def model_name(model: str | None) -> str:
    from fwlocal.registry import DEFAULT_MODEL

    if model == "":
        raise UsageError("the model's name is empty; leave -m out for the default")
    return model or DEFAULT_MODEL


def is_terminal() -> bool:
    """Whether a person types; stdin may also be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()
