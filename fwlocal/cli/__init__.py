"""The command line: one thin function per verb, and the boundary where errors become one line.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from typing import Any, NoReturn

import click

import fwlocal.bash_completion  # noqa: F401 (it registers itself, before any verb is there)
from fwlocal import __version__
from fwlocal.cli.output import NotifyHandler, notify, print_json
from fwlocal.cli.verbs import Verbs
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted


class _ReaderGone(Exception):
    """stdout was closed by whoever read it."""


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would leave with 1
            raise _ReaderGone from None


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Group, commands=Verbs(), context_settings=_SETTINGS, invoke_without_command=True)
@click.version_option(__version__, prog_name="fwlocal")
@click.pass_context
def cli(context: click.Context) -> None:
    """Chat with FreeWilly, the Stable Belugas and any GGUF model on this machine.

    \b
      fwlocal chat                               chat in the terminal
      fwlocal run "Why is the sky blue?"         one answer on stdout
      git diff | fwlocal run "Write a commit message"
      fwlocal convert ./StableBeluga-7B --quant Q4_K_M,Q8_0
      fwlocal plan freewilly2                    what of it this machine can hold
      fwlocal bench -m freewilly2                which level to run, measured
      fwlocal models                             what there is
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


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
