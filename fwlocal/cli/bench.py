"""``fwlocal bench``: which level to run, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal.cli.bench_options import Grouped, bench_options, check_together, named
from fwlocal.cli.output import notify
from fwlocal.errors import UsageError
from fwlocal.taken import take_engine_options

if TYPE_CHECKING:
    from fwlocal.bench.order import Order
    from fwlocal.bench.result import BenchResult, Settings
    from fwlocal.cli.bench_levels import Entered
    from fwlocal.loader import EngineOptions

FOLDER = ".bench"  # in the models folder
_FORMS = ("--json -", "--csv", "--md")


@click.command(cls=Grouped)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILES]...")
@bench_options
@click.pass_context
def bench(context: click.Context, /, **given: Any) -> None:
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
    check_together(context)
    compared, out = given.pop("compare"), _take_output(given)
    if compared is not None:
        a, b = compared
        _compare(a, b, out)
        return
    if given["until"] is not None and "chunks" not in named(context):
        given["chunks"] = 0
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
        result = run.result()
        _deliver(result, out)
    if stopped is None:
        _check_wishes(order, result)
    if stopped is not None and not (known and isinstance(stopped, Interrupted)):
        raise stopped
    if stopped is not None:
        raise Interrupted(
            "stopped; what was measured is kept, and the same command goes on from there",
            exit_code=stopped.exit_code,
        )


def _check_wishes(order: Order, result: BenchResult) -> None:
    """Raise FwlocalError where there are wishes that no level fulfils."""
    from fwlocal.bench.verdict import Wishes
    from fwlocal.errors import FwlocalError

    if order.wishes != Wishes() and not result.verdict.label:
        raise FwlocalError(result.verdict.reason)


def _order(given: dict[str, Any]) -> Order:
    """All that can be known to be wrong is found here, before anything is made or loaded."""
    from fwlocal.bench.answers import read_prompts
    from fwlocal.bench.order import Order
    from fwlocal.bench.text import read_text
    from fwlocal.bench.verdict import Wishes

    text = None if given["no_quality"] else read_text(given["text"])
    prompts = read_prompts(given["prompts"]) if given["prompts"] else ()
    n_ctx = given.pop("n_ctx")  # of a chunk; the engine's is what the tests need
    engine = _alike(take_engine_options(given))
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
