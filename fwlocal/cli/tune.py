"""``fwlocal tune``: settings that fit a model and this machine, measured once and remembered."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from fwlocal import options
from fwlocal.cli.output import notify, print_json
from fwlocal.completion import any_model
from fwlocal.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fwlocal.bench.measured import Entrant
    from fwlocal.tune.questions import Question
    from fwlocal.tune.run import Heard
    from fwlocal.tuned import Finding, Tuned

# As in fwlocal.tune.questions, spelled again for --help; a test holds them against it.
SETTINGS = (
    "n_threads",
    "n_threads_batch",
    "n_ubatch",
    "flash_attn",
    "kv_type",
    "mmap",
    "mlock",
    "numa",
    "huge_pages",
)
LEAST_PAIRS = 2


def _only(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in found:
        if name not in SETTINGS:
            raise UsageError(f"--only {name!r}: must be of {', '.join(SETTINGS)}")
    return found


@click.command()
@click.argument("named", metavar="[MODEL]", required=False, shell_complete=any_model)
@options.model_option
@click.option(
    "--only",
    default="",
    metavar="SETTING,...",
    callback=_only,
    help=f"Of {', '.join(SETTINGS)}. [default: all]",
)
@click.option(
    "-r",
    "--repetitions",
    type=click.IntRange(LEAST_PAIRS, 1000),
    default=6,
    metavar="N",
    help="Pairs that decide on a setting. [default: 6]",
)
@click.option(
    "--allow-lossy",
    is_flag=True,
    help="Also take what changes answers by more than rounding: a KV cache in q8_0.",
)
@click.option("--show", is_flag=True, help="Show what is remembered; measure nothing.")
@click.option("--forget", is_flag=True, help="Forget what is remembered; measure nothing.")
@options.gpu_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Nothing but errors on stderr.")
@click.option("--verbose", is_flag=True, help="Show llama.cpp's log on stderr.")
def tune(named: str | None, model: str | None, show: bool, forget: bool, **given: Any) -> None:
    """Find the settings that fit MODEL and this machine, and use them from now on.

    Threads, micro-batches, flash attention and how the file is held in memory are tried one after
    the other, each against the default in turns; what is faster beyond noise is taken, and shown
    with what it brought. `fwlocal run`, `chat` and `run --batch` then load the model so, and every
    model of its shape; what is asked for by an option stays. Other settings round otherwise: an
    answer may differ from one of the defaults' in a token, and from then on.

    \b
      fwlocal tune -m freewilly2
      fwlocal tune -m freewilly2 --only n_threads,n_threads_batch
      fwlocal tune -m freewilly2 --show
    """  # fmt: skip
    from fwlocal import llama
    from fwlocal.cli.asked import model_name, report_abort, silenced, told

    if show and forget:
        raise UsageError("--show and --forget exclude each other")
    llama.set_verbose(given.pop("verbose"))
    llama.exit_on_abort(report_abort)
    quiet = given.pop("quiet")
    name = model_name(named if named is not None else model)
    with silenced(quiet=quiet):
        entrant = _entrant(name, told(quiet=quiet))
    as_json = given.pop("as_json")
    if forget:
        _forget(entrant, as_json=as_json)
    elif show:
        _show(_remembered(entrant), entrant, as_json=as_json)
    else:
        _show([_measured(entrant, given, quiet=quiet)], entrant, as_json=as_json)


def _entrant(model: str, tell: Callable[[str], None]) -> Entrant:
    from fwlocal import loader
    from fwlocal.bench.measured import Entrant

    file, header = loader.open_file(model, loader.Library.default(), tell)
    return Entrant(file.level or file.name, file, header)


def _measured(entrant: Entrant, given: dict[str, Any], *, quiet: bool) -> Tuned:
    """Measure, and remember what was found. Ctrl-C keeps nothing."""
    from fwlocal.cli.asked import told
    from fwlocal.interrupts import Interrupt, catching
    from fwlocal.loader import EngineOptions
    from fwlocal.tune.run import Run, Wish, called
    from fwlocal.tune.view import conclusion
    from fwlocal.tuned import check_folder, default_folder, keep, merged, recall

    tell, folder = told(quiet=quiet), default_folder()
    check_folder(folder)
    wish = Wish(given.pop("only"), given.pop("repetitions"), given.pop("allow_lossy"))
    interrupt, status = Interrupt(), _Status(quiet=quiet)
    with catching(interrupt):
        tell(f"tuning {called(entrant.file)}: trying it out ...")
        heard = _heard(entrant, tell, status)
        run = Run(entrant, EngineOptions(**given), wish, heard, interrupt)
        try:
            outcome = run.measure()
        except Interrupted as error:
            message = "stopped; nothing of it is kept"
            raise Interrupted(message, exit_code=error.exit_code) from None
        finally:
            status.clear()
    now = outcome.tuned
    tuned = merged(recall(folder, now.shape, now.where, now.placed), now)
    keep(folder, tuned)
    if outcome.exact is not None:
        outcome.exact.keep()
    tell(conclusion(tuned, now.findings))
    return tuned


class _Status:
    """What is being timed, in a line that the next one takes the place of; on a terminal alone.
    Nothing is drawn meanwhile: it would take its time from what is timed."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not quiet
        self._length = 0

    def show(self, question: Question) -> None:
        """A question begins."""
        if not self._is_shown or not question.candidates:
            return
        labels = ", ".join(candidate.label for candidate in question.candidates)
        text = f"timing {question.setting}: {question.default} against {labels}"
        sys.stderr.write(text)
        sys.stderr.flush()
        self._length = len(text)

    def clear(self) -> None:
        """It is answered, or given up."""
        if self._length:
            sys.stderr.write(f"\r{' ' * self._length}\r")
        self._length = 0


def _heard(entrant: Entrant, tell: Callable[[str], None], status: _Status) -> Heard:
    from fwlocal.bench.progress import duration
    from fwlocal.tune import view
    from fwlocal.tune.run import Heard, called

    def estimate(seconds: float) -> None:
        tell(
            f"tuning {called(entrant.file)} takes about {duration(max(1.0, seconds))} from here; "
            "leave the machine alone meanwhile. Ctrl-C stops it, and keeps nothing"
        )

    def found(finding: Finding) -> None:
        status.clear()
        tell(view.line(finding))

    return Heard(estimate, status.show, found, lambda known: tell(view.exact(known)))


def _remembered(entrant: Entrant) -> list[Tuned]:
    """What is remembered for the model on this machine."""
    from fwlocal import hardware, llama
    from fwlocal.tuned import PLACED, default_folder, recall, shape_of, this_machine

    where = this_machine(hardware.machine(llama.devices()).gpus, llama.build_info())
    shape = shape_of(entrant.header)
    found = [recall(default_folder(), shape, where, placed) for placed in PLACED]
    return [tuned for tuned in found if tuned is not None]


def _forget(entrant: Entrant, *, as_json: bool) -> None:
    from fwlocal.loader.exact_rows import forget_exact
    from fwlocal.tune.run import called
    from fwlocal.tuned import default_folder, forget, shape_of

    shape = shape_of(entrant.header)
    count = forget(default_folder(), shape) + forget_exact(shape)
    if as_json:
        print_json({"forgotten": count})
    elif count:
        notify(f"the settings of {called(entrant.file)} are forgotten")
    else:
        notify(f"nothing was remembered for {called(entrant.file)}")


def _show(found: Sequence[Tuned], entrant: Entrant, *, as_json: bool) -> None:
    """The table of each, or one JSON object, which is null where nothing is remembered."""
    from fwlocal.tune.run import called
    from fwlocal.tune.view import as_data, table

    if as_json:
        data = [as_data(tuned) for tuned in found]
        print_json(data[0] if len(data) == 1 else data or None)
        return
    if not found:
        notify(
            f"nothing is remembered for {called(entrant.file)} on this machine; "
            "`fwlocal tune` measures it"
        )
        return
    from rich.console import Console

    for tuned in found:
        if len(found) > 1:
            sys.stdout.write(f"layers on {tuned.placed}\n")
        table(tuned.findings).show(Console())
