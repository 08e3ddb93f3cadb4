"""``fwlocal bench``: which level to run, measured."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal import options
from fwlocal.cli.output import notify
from fwlocal.completion import level_name
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from fwlocal.bench.order import Order
    from fwlocal.bench.result import BenchResult, Settings
    from fwlocal.cli.bench_levels import Entered
    from fwlocal.loader import EngineOptions

FOLDER = ".bench"  # in the models folder
LEAST_N_CTX = 32
_FORMS = ("--json -", "--csv", "--md")


def _depths(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    texts = [text for text in re.split(r"[,\s]+", value) if text]
    if not texts or not all(re.fullmatch(r"[0-9]{1,9}", text) for text in texts):
        raise UsageError(f"--depths {value!r}: must be numbers of tokens, as in 0,2048,4096")
    return tuple(sorted(set(map(int, texts))))


def _number(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    if value is not None and not math.isfinite(value):  # a range of click's lets NaN pass
        raise UsageError(f"{parameter.opts[0]} {value}: must be a number")
    return value


def _memory(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    from fwlocal.sizes import parse_size

    return None if value is None else parse_size(value, "--memory")


_what = options.stack(
    options.model_option,
    click.option(
        "--levels",
        multiple=True,
        metavar="LEVEL,...",
        shell_complete=level_name,
        help="Which; missing ones are pulled or converted. [default: those on this disk, and if "
        "that is one, a choice]",
    ),
    click.option("--reference", metavar="LEVEL", help="What is held against. [default: the best]"),
    click.option(
        "--imatrix",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Show each level also as made by this importance matrix.",
    ),
    click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked."),
)

_how = options.stack(
    click.option("--no-speed", is_flag=True, help="Measure no speed."),
    click.option("-p", "--pp", type=click.IntRange(min=0), default=512, metavar="N",
                 help="Tokens of prefill (pp); 0 is none. [default: 512]"),
    click.option("-n", "--tg", type=click.IntRange(min=0), default=128, metavar="N",
                 help="Tokens decoded (tg); 0 is none. [default: 128]"),
    click.option("-d", "--depths", default="0,2048,4096", metavar="N,...", callback=_depths,
                 help="Tokens in the KV cache before. [default: 0,2048,4096]"),
    click.option("-r", "--repetitions", type=click.IntRange(1, 1000), default=3, metavar="N",
                 help="Rounds; in each every level has its turn. [default: 3]"),
    click.option("--no-cold", is_flag=True, help="Do not time loads from the disk."),
    click.option("--no-quality", is_flag=True, help="Measure no distance from the reference."),
    click.option("--text", type=click.Path(path_type=Path), metavar="FILE",
                 help="What is read for it. [default: the first chapters of Moby-Dick]"),
    click.option("--n-ctx", type=click.IntRange(min=LEAST_N_CTX), default=512, metavar="N",
                 help="Tokens of a chunk of the text. [default: 512]"),
    click.option("--chunks", type=click.IntRange(min=0), default=32, metavar="N",
                 help="Read no more; 0 is all of it. [default: 32]"),
    click.option("--until", type=click.FloatRange(min=0, min_open=True), metavar="SE",
                 callback=_number,
                 help="Read until the standard error of the mean KLD is that small."),
    click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE.jsonl",
                 help="Also compare greedy answers; lines as for `run --batch`."),
    click.option("--max-tokens", type=click.IntRange(min=1), default=128, metavar="N",
                 help="Longest of those answers. [default: 128]"),
    click.option("--fresh", is_flag=True, help="Measure again what was measured before."),
)  # fmt: skip

_wishes = options.stack(
    click.option("--max-kld", type=click.FloatRange(min=0), metavar="NATS", callback=_number,
                 help="Name the fastest level whose mean KLD is no larger."),
    click.option("--min-tps", type=click.FloatRange(min=0), metavar="TPS", callback=_number,
                 help="... that decodes at least so fast."),
    click.option("--memory", metavar="SIZE", callback=_memory, help="... that takes no more."),
)  # fmt: skip

_out = options.stack(
    click.option("--json", "json_out", metavar="OUT", help="Write the result; - is stdout."),
    click.option("--csv", is_flag=True, help="Print CSV instead of a table."),
    click.option("--md", is_flag=True, help="Print Markdown instead of a table."),
    click.option("--plot", type=click.Path(path_type=Path), metavar="OUT.png|svg",
                 help="Draw KLD and speed over size (needs fwlocal[plot])."),
    click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="A.json B.json",
                 help="Two results of --json side by side; measures nothing."),
)  # fmt: skip

_engine = options.stack(
    click.option("--threads", type=click.IntRange(min=1), metavar="N",
                 help="[default: the fast physical cores]"),
    options.gpu_options,
    click.option("--flash-attn", type=click.Choice(options.FLASH_ATTENTION), default="auto"),
    click.option("--mmap/--no-mmap", default=True, help="Map the files, or read them in."),
    click.option("--verbose", is_flag=True, help="Show llama.cpp's log on stderr."),
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILES]...")
@_what
@_how
@_wishes
@_out
@_engine
def bench(files: tuple[Path, ...], **given: Any) -> None:
    """Measure levels of a model, or FILES: size, memory, speed, and distance from the best one.

    Speed is by llama-bench's definitions, quality by llama-perplexity's, with the KV cache in f16
    where no other is named. What is measured is kept: Ctrl-C loses nothing, and the same command
    goes on.

    \b
      fwlocal bench -m freewilly2                         the levels on this disk
      fwlocal bench -m stable-beluga-7b --levels Q8_0,Q5_K_M,Q4_K_M --memory 8G
      fwlocal bench *.gguf --md --plot levels.svg         files of one model
      fwlocal bench --compare before.json after.json
    """
    compared, out = given.pop("compare"), _take_output(given)
    if compared is not None:
        if files or given["levels"]:
            raise UsageError("--compare measures nothing; leave the files and levels out")
        a, b = compared
        _compare(a, b, out)
        return
    given["files"] = files
    _measure(given, out)


def _take_output(given: dict[str, Any]) -> dict[str, Any]:
    """Where the result goes, taken out of ``given``. Raises UsageError before hours pass."""
    out = {name: given.pop(name) for name in ("json_out", "csv", "md", "plot")}
    asked = [form for form, wanted in zip(_FORMS, (out["json_out"] == "-", out["csv"], out["md"]),
             strict=True) if wanted]  # fmt: skip
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} both go to stdout; leave one out")
    if out["plot"] is not None:
        from fwlocal.bench.plot import check_plot

        check_plot(out["plot"])
    if out["json_out"] not in (None, "-"):
        _check_place(Path(out["json_out"]))
    return out


def _check_place(path: Path) -> None:
    """Raise UsageError where ``--json`` could not write."""
    if path.is_dir():
        raise UsageError(f"--json {path}: is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--json {path}: there is no folder {path.absolute().parent}; make it")


def _measure(given: dict[str, Any], out: dict[str, Any]) -> None:
    from fwlocal import llama
    from fwlocal.bench.kept import Kept
    from fwlocal.bench.progress import BenchView
    from fwlocal.bench.run import Run
    from fwlocal.cli.asked import report_abort
    from fwlocal.errors import FwlocalError, Interrupted
    from fwlocal.interrupts import Interrupt, catching
    from fwlocal.store import default_root

    llama.set_verbose(given.pop("verbose"))
    llama.exit_on_abort(report_abort)
    order = _order(given)
    interrupt = Interrupt()
    labels = [entrant.label for entrant in order.entrants]
    with catching(interrupt), BenchView(labels, 0, notify) as view:
        run = Run(order, Kept(default_root() / FOLDER), view, interrupt)
        stopped: FwlocalError | None = None
        try:
            run.measure()
        except FwlocalError as error:
            stopped = error
    known = any(level.rounds or level.scores or level.answers for level in run.state.levels)
    if stopped is None or known:
        _deliver(run.result(), out)
    if stopped is not None and not (known and isinstance(stopped, Interrupted)):
        raise stopped
    if stopped is not None:
        raise Interrupted(
            "stopped; what was measured is kept, and the same command goes on from there",
            exit_code=stopped.exit_code,
        )


def _order(given: dict[str, Any]) -> Order:
    """All that can be known to be wrong is found here, before anything is made or loaded."""
    from fwlocal.bench.answers import read_prompts
    from fwlocal.bench.order import Order
    from fwlocal.bench.text import read_text
    from fwlocal.bench.verdict import Wishes

    no_speed = given["no_speed"] or not (given["pp"] or given["tg"])
    if no_speed and given["no_quality"] and not given["prompts"]:
        what = "--no-speed" if given["no_speed"] else "--pp 0 with --tg 0"
        raise UsageError(f"{what} and --no-quality leave nothing to measure; leave one out")
    if given["no_quality"] and (given["text"] or given["until"] or given["max_kld"] is not None):
        raise UsageError("--text, --until and --max-kld are about quality; leave --no-quality out")
    text = None if given["no_quality"] else read_text(given["text"])
    prompts = read_prompts(given["prompts"]) if given["prompts"] else ()
    n_ctx = given.pop("n_ctx")  # of a chunk; the engine's is what the tests need
    engine = _alike(options.take_engine_options(given))
    settings = _settings(n_ctx, given, engine)
    entered = _entered(given, engine.n_threads)
    return Order(
        model=entered.model,
        entrants=entered.entrants,
        options=engine,
        settings=settings,
        text=text,
        unreadable=entered.problems,
        reference=entered.reference.label if given["reference"] else None,
        prompts=prompts,
        prompts_path=given["prompts"],
        max_tokens=given["max_tokens"],
        wishes=Wishes(given["max_kld"], given["min_tps"], given["memory"]),
        cold=not given["no_cold"],
        fresh=given["fresh"],
    )


def _alike(engine: EngineOptions) -> EngineOptions:
    """One KV cache for all levels: by itself one might get another, and would be compared by it."""
    return replace(engine, kv_type="f16") if engine.kv_type == "auto" else engine


def _settings(n_ctx: int, given: dict[str, Any], engine: EngineOptions) -> Settings:
    from fwlocal.bench.result import Settings
    from fwlocal.bench.speed import series
    from fwlocal.offload import Request

    plan = Request(n_ctx)
    tests = () if given["no_speed"] else series(given["pp"], given["tg"], given["depths"])
    return Settings(
        n_ctx=n_ctx,
        n_batch=plan.n_batch,
        n_ubatch=plan.n_ubatch,
        kv_type=engine.kv_type,
        flash_attn=engine.flash_attn,
        repetitions=given["repetitions"],
        chunks=0 if given["no_quality"] else given["chunks"],
        until=given["until"],
        tests=tests,
    )


def _entered(given: dict[str, Any], n_threads: int | None) -> Entered:
    from fwlocal.cli.asked import model_name
    from fwlocal.cli.bench_levels import Asked, enter
    from fwlocal.library import Library

    asked = Asked(
        model=model_name(given["model"]),
        levels=given["levels"],
        files=given["files"],
        imatrix=given["imatrix"],
        reference=given["reference"],
        n_threads=n_threads,
        accepted=given["accept_licence"],
    )
    return enter(asked, Library.default())


def _deliver(result: BenchResult, out: dict[str, Any]) -> None:
    """The files first, then what is printed."""
    from fwlocal.bench.result_file import as_json, write_result

    if out["json_out"] not in (None, "-"):
        write_result(Path(out["json_out"]), result)
    if out["plot"] is not None:
        from fwlocal.bench.plot import draw

        draw(result, out["plot"])
    if out["json_out"] == "-":
        click.echo(as_json(result), nl=False)
    elif out["csv"]:
        from fwlocal.bench.csv_file import csv_text

        click.echo(csv_text(result), nl=False)
    elif out["md"]:
        from fwlocal.bench.markdown import markdown

        click.echo(markdown(result), nl=False)
    else:
        from rich.console import Console

        from fwlocal.bench.table import show

        show(result, Console())


def _compare(a: Path, b: Path, out: dict[str, Any]) -> None:
    from fwlocal.bench.comparison import compare
    from fwlocal.bench.comparison_view import markdown, show
    from fwlocal.bench.result_file import read_result

    if out["csv"] or out["plot"] or out["json_out"]:
        raise UsageError("--compare prints a table, or Markdown with --md; leave the rest out")
    found = compare(read_result(a), read_result(b), a.name, b.name)
    if out["md"]:
        click.echo(markdown(found), nl=False)
        return
    from rich.console import Console

    show(found, Console())
