"""The command line: one thin function per verb, and the boundary where errors become one line.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fwlocal import __version__, options
from fwlocal.cli.conversion import convert
from fwlocal.cli.library import import_model, list_models, rm, show, verify, where
from fwlocal.cli.output import NotifyHandler, notify, print_json
from fwlocal.cli.plan import plan
from fwlocal.cli.pull import pull
from fwlocal.cli.worker import worker
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted, UsageError

if TYPE_CHECKING:
    from fwlocal.loader import LoadedModel
    from fwlocal.oneshot import Output

STAND_IN_NOTE = (
    "{} is a small stand-in of another family: it shows that everything works, not how well "
    "FreeWilly answers"
)


class _ReaderGone(Exception):
    """stdout was closed by whoever read it."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would leave with 1
            raise _ReaderGone from None


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Group, context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, prog_name="fwlocal")
@click.pass_context
def cli(context: click.Context) -> None:
    """Chat with FreeWilly, the Stable Belugas and any GGUF model on this machine.

    \b
      fwlocal chat                               chat in the terminal
      fwlocal run "Why is the sky blue?"         one answer on stdout
      git diff | fwlocal run "Write a commit message"
      fwlocal convert ./StableBeluga-7B --quant Q4_K_M,Q8_0
      fwlocal models                             what there is
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("prompt", required=False)
@options.model_option
@options.prompt_options
@click.option("--raw", is_flag=True, help="The text is the whole prompt, control tokens included.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--stats", is_flag=True, help="Counts and speeds on stderr.")
@options.grammar_options
@options.sampling_options
@options.engine_options
def run(prompt: str | None, as_json: bool, stats: bool, **rest: Any) -> None:
    """Answer PROMPT on stdout. Text on stdin is appended to it after a blank line."""
    from fwlocal import oneshot

    text = _read_prompt(prompt, raw=rest["raw"])
    _answer(text, oneshot.Output(sys.stdout, sys.stderr, as_json, stats), rest)


@cli.command()
@options.model_option
@options.prompt_options
@options.sampling_options
@options.engine_options
def chat(**rest: Any) -> None:
    """Chat in the terminal. Without one on stdin, answer the text there and exit."""
    from fwlocal import oneshot

    if not _is_terminal():
        _answer(_read_prompt(None), oneshot.Output(sys.stdout, sys.stderr), rest)
        return
    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    sampling = options.take_sampling(rest)
    with _loaded(rest) as loaded:
        from fwlocal.offload import summary
        from fwlocal.repl.screen import chat_on_terminal

        notify(summary(loaded.plan))
        engine = loaded.engine
        engine.sampling = engine.sampling.updated(sampling)
        chat_on_terminal(loaded, engine.system if system is None else system, max_tokens)


@cli.command()
@click.argument("text", required=False)
@options.model_option
@options.prompt_options
@click.option("--tokens", is_flag=True, help="Show the token ids and their pieces.")
def prompt(
    text: str | None,
    model: str | None,
    system: str | None,
    prompt_format: str | None,
    tokens: bool,
) -> None:
    """Show the exact prompt that TEXT becomes."""
    from fwlocal import preview
    from fwlocal.library import Library

    question = preview.Question(_model_name(model), _read_prompt(text), system, prompt_format)
    show = preview.token_lines if tokens else preview.prompt_text
    sys.stdout.write(show(question, Library.default(), notify))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def models(as_json: bool) -> None:
    """List the known models and which are on this disk."""
    from fwlocal import catalogue
    from fwlocal.registry import load_registry, user_file
    from fwlocal.store import Store, default_root

    registry, store = load_registry(user_file()), Store(default_root())
    if as_json:
        print_json(catalogue.describe(registry, store))
    else:
        from rich.console import Console

        catalogue.show(registry, store, Console())


for verb in (pull, convert, list_models, show, where, rm, verify, import_model, plan, worker):
    cli.add_command(verb)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def doctor(as_json: bool) -> None:
    """Check this installation and machine.

    Shows what there is and what is wrong, with the fix; exits 1 if anything is.
    """
    from fwlocal import doctor as examination

    report = examination.examine()
    if as_json:
        print_json(examination.as_data(report))
    else:
        from rich.console import Console

        examination.show(report, Console())
    if report.problems:
        raise SystemExit(1)


def _answer(text: str, output: Output, rest: dict[str, Any]) -> None:
    """One answer; leaves with 130 or 143 when it was interrupted."""
    from fwlocal import oneshot

    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    if rest.get("raw") and system is not None:
        raise UsageError("a raw prompt has no system text of its own; leave --system out")
    request = oneshot.Request(text, system, max_tokens, options.take_sampling(rest))
    with _loaded(rest) as loaded:
        exit_code = oneshot.answer(loaded, request, output)
    if exit_code:
        raise SystemExit(exit_code)


@contextlib.contextmanager
def _loaded(rest: dict[str, Any]) -> Iterator[LoadedModel]:
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
    file, header = loader.open_file(_model_name(rest.pop("model")), library, notify)
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


def _read_prompt(argument: str | None, *, raw: bool = False) -> str:
    from fwlocal import oneshot

    piped = sys.stdin is not None and not _is_terminal()
    return oneshot.read_prompt(argument, sys.stdin.buffer if piped else None, raw=raw)


def _model_name(model: str | None) -> str:
    from fwlocal.registry import DEFAULT_MODEL

    if model == "":
        raise UsageError("the model's name is empty; leave -m out for the default")
    return model or DEFAULT_MODEL


def _is_terminal() -> bool:
    """Whether a person types; stdin may also be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()


def _report_abort(message: str) -> NoReturn:
    """The last words before a failed check inside llama.cpp would abort the process."""
    notify(f"llama.cpp failed a check of its own: {message}; the model file may be damaged")
    os._exit(1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """The program: run a verb, turn every error into one line and an exit code."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Windows code pages, LANG=C
            stream.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    logging.getLogger("fwlocal").addHandler(NotifyHandler())
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        cli.main(arguments, prog_name="fwlocal", standalone_mode=False)
        sys.stdout.flush()
        return 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    except (_ReaderGone, BrokenPipeError):
        # The reader has what it wanted; the interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        notify("interrupted")
        return 130
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        help_line = f" (see {command} --help)" if command else ""
        return _fail(error, error.format_message() + help_line, error.exit_code)
    except FwlocalError as error:
        return _fail(error, str(error), error.exit_code)
    except OSError as error:
        where = error.filename or "stdout"
        code = DoesNotFit.exit_code if error.errno == errno.ENOSPC else 1
        return _fail(error, f"{where}: {error.strerror or error}", code)
    except Exception as error:
        hint = "a bug in fwlocal; FWLOCAL_DEBUG=1 shows where"
        return _fail(error, f"{type(error).__name__}: {error} ({hint})", 1)


def _fail(error: Exception, message: str, exit_code: int) -> int:
    if os.environ.get("FWLOCAL_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    notify(" ".join(message.split()))
    return exit_code


def _terminate(signum: int, frame: object) -> NoReturn:
    signal.signal(signum, signal.SIG_DFL)  # a second one ends it at once
    raise Interrupted("terminated", exit_code=128 + signum)
