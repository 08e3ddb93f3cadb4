"""``fwlocal run --batch``: a file of prompts becomes a file of answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.cli.asked import (
    STAND_IN_NOTE,
    is_brief,
    loaded_model,
    model_name,
    piped_stdin,
    report_abort,
    silenced,
    told,
)
from fwlocal.errors import DoesNotFit, FwlocalError, Interrupted, UsageError
from fwlocal.taken import take_engine_options, take_sampling

if TYPE_CHECKING:
    from fwlocal.gguf import GGUFHeader
    from fwlocal.interrupts import Interrupt
    from fwlocal.loader import EngineOptions
    from fwlocal.oneshot import Output
    from fwlocal.oneshot.batch import Answers, Batch, Todo
    from fwlocal.oneshot.batch_file import Before, Lines
    from fwlocal.oneshot.batch_lines import Asked, Bad
    from fwlocal.oneshot.batch_progress import BatchBar
    from fwlocal.oneshot.batch_question import Asker, Common
    from fwlocal.store import ModelFile


def run_batch(
    batch: str, out: str | None, parallel: int, output: Output, rest: dict[str, Any]
) -> None:
    """Answer the lines of ``batch``, "-" for stdin, into ``out``, "-" or None for stdout;
    ``parallel`` at a time.

    Raises FwlocalError at the end where lines failed, Interrupted where it was stopped; all that
    is whole is written before.
    """
    from fwlocal import llama, loader

    common = _common(rest)
    lines = _read(batch, out, raw=rest["raw"])
    llama.set_verbose(rest["verbose"])
    llama.exit_on_abort(report_abort)
    tell = told(quiet=output.quiet)
    with silenced(quiet=output.quiet):
        name = model_name(rest["model"])
        file, header = loader.open_file(name, loader.Library.default(), tell)
    with _answers_go_to(out, output) as (before, written):
        asker = _asker(file, header, common, rest)
        with contextlib.closing(asker):
            todo = _to_do(lines, asker, before, out)
        chosen = {**rest, "brief": _are_brief(lines, common)}
        run = _Run(file, header, parallel, output, tell, chosen)
        run.answer(todo, asker, written, out)


def _common(rest: dict[str, Any]) -> Common:
    from fwlocal.oneshot.batch_question import Common

    system, max_tokens = rest.pop("system"), rest.pop("max_tokens")
    if rest.get("raw") and system is not None:
        raise UsageError("a raw prompt has no system text of its own; leave --system out")
    stop = rest.pop("stop", ())
    return Common(system, max_tokens, take_sampling(rest), stop)


def _read(batch: str, out: str | None, *, raw: bool) -> list[Asked | Bad]:
    """All lines. Raises UsageError where there are none, FwlocalError where they cannot be read."""
    from fwlocal.oneshot.batch_lines import read_lines

    if batch == "-":
        stdin = piped_stdin()
        if stdin is None:
            raise UsageError("nothing is piped in on stdin; pipe the lines in, or name a file")
        found = list(read_lines(stdin, raw=raw))
    else:
        if out not in (None, "-") and _are_same(batch, str(out)):
            raise UsageError(f"--out {out} is the input; take another file for the answers")
        try:
            with open(batch, "rb") as file:
                found = list(read_lines(file, raw=raw))
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else None
            raise FwlocalError(f"{batch}: cannot be read: {problem or error}") from error
    if not found:
        where = "stdin" if batch == "-" else batch
        raise UsageError(f"{where}: holds no line; give an object with prompt or messages on each")
    return found


def _are_brief(lines: Sequence[Asked | Bad], common: Common) -> bool:
    """Whether all are, so that each is computed as ``run`` would."""
    from fwlocal.oneshot.batch_lines import Asked

    asked = [line for line in lines if isinstance(line, Asked)]
    return all(
        is_brief((line.system or common.system or "", *(turn.content for turn in line.turns)))
        for line in asked
    )


def _are_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there
        return False


@contextlib.contextmanager
def _answers_go_to(out: str | None, output: Output) -> Iterator[tuple[Before, Lines]]:
    from fwlocal.oneshot.batch_file import Before, Printed, appending

    if out in (None, "-"):
        yield Before(), Printed(output.stdout)
    else:
        with appending(Path(str(out))) as found:
            yield found


def _asker(file: ModelFile, header: GGUFHeader, common: Common, rest: dict[str, Any]) -> Asker:
    from fwlocal import llama
    from fwlocal.formats import choose_format
    from fwlocal.oneshot.batch_question import Asker

    raw = rest.get("raw")
    prompt_format = None if raw else choose_format(file, header, rest.get("prompt_format"))
    vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
    return Asker(file, header, prompt_format, vocabulary, common)


def _to_do(lines: list[Asked | Bad], asker: Asker, before: Before, out: str | None) -> Todo:
    """What is left; the file of answers is of this batch, and ends in a whole line now."""
    from fwlocal.oneshot.batch import fingerprints, to_do
    from fwlocal.oneshot.batch_file import check_same_batch, cut_off

    if out not in (None, "-"):
        path = Path(str(out))
        check_same_batch(before, fingerprints(lines, asker), path)
        cut_off(path, before)
    return to_do(lines, asker, before)


class _Run:
    """One run of a batch: by which model, how many at a time, and who is told."""

    def __init__(
        self,
        file: ModelFile,
        header: GGUFHeader,
        parallel: int,
        output: Output,
        tell: Callable[[str], None],
        rest: dict[str, Any],
    ) -> None:
        self._file, self._header, self._parallel = file, header, parallel
        self._output, self._tell, self._rest = output, tell, rest
        self._at_once = 1

    def answer(self, todo: Todo, asker: Asker, lines: Lines, out: str | None) -> None:
        """Answer what is to do, and say what came of it."""
        from fwlocal.interrupts import Interrupt, catching
        from fwlocal.oneshot.batch import Batch
        from fwlocal.oneshot.batch_progress import BatchBar

        if todo.n_done:
            self._tell(f"{todo.n_done} lines are answered already, {len(todo.items)} are left")
        interrupt = Interrupt()
        bar = BatchBar(len(todo.items), quiet=self._output.quiet)
        batch = Batch(todo.items, asker, lines, self._parallel, bar)
        with catching(interrupt), bar:
            if not todo.needs:
                batch.run(_nobody)
            else:
                with self._answers(todo, bar, interrupt) as answers:
                    bar.begin()
                    batch.run(answers)
        self._conclude(batch, todo, bar, out, interrupt)

    @contextlib.contextmanager
    def _answers(self, todo: Todo, bar: BatchBar, interrupt: Interrupt) -> Iterator[Answers]:
        """Whoever answers, loaded."""
        from fwlocal.oneshot.batch import one_after_the_other

        if self._rest["workers"]:
            if self._parallel > 1:
                self._tell("with --workers, prompts are answered one at a time")
            with loaded_model(dict(self._rest), quiet=self._output.quiet) as loaded:
                loaded.engine.interrupt = interrupt
                yield one_after_the_other(loaded.engine, interrupt, bar.token)
            return
        rest = dict(self._rest)
        with self._pool(todo, take_engine_options(rest), bar, interrupt) as answers:
            yield answers

    @contextlib.contextmanager
    def _pool(
        self, todo: Todo, chosen: EngineOptions, bar: BatchBar, interrupt: Interrupt
    ) -> Iterator[Answers]:
        from fwlocal.parallel import Pool, pool_size
        from fwlocal.parallel.loading import context_limit, load_several
        from fwlocal.progress import ProgressBar

        limit = context_limit(chosen, self._header)
        size = pool_size(todo.needs, self._parallel, limit)
        if todo.shares_beginnings(min(size.n_ctx, _n_batch(chosen, self._header))):
            size = pool_size(todo.needs, self._parallel, limit, keeps_prefix=True)
        with ProgressBar(f"loading {self._file.name}") as loading:
            loaded = load_several(
                self._file,
                self._header,
                chosen,
                size,
                notify=self._tell,
                on_progress=(lambda _: None) if self._output.quiet else loading.update,
                interrupt=interrupt,
            )
        self._at_once = loaded.lanes.size.n_lanes
        if self._file.spec is not None and self._file.spec.stand_in:
            self._tell(STAND_IN_NOTE.format(self._file.name))
        try:
            yield Pool(
                loaded.model,
                loaded.lanes,
                on_cpu=not loaded.plan.gpus,
                load_s=loaded.load_s,
                interrupt=interrupt,
                tell=self._tell,
                on_token=bar.token,
            ).answers
        finally:
            loaded.close()

    def _conclude(
        self, batch: Batch, todo: Todo, bar: BatchBar, out: str | None, interrupt: Interrupt
    ) -> None:
        """Say what came of it. Raises FwlocalError and Interrupted."""
        counts, left = batch.counts, len(todo.items) - batch.n_written
        if counts.n_answers:
            self._tell(
                f"{counts.n_answers} answers, {bar.n_tokens} tokens in {bar.seconds:.1f} s: "
                f"{bar.rate:.1f} tok/s, {self._at_once} at a time"
            )
        if left and interrupt.is_set():
            again = "" if out in (None, "-") else "; the same command goes on from there"
            message = f"interrupted after {batch.n_written} of {len(todo.items)} lines{again}"
            raise Interrupted(message, exit_code=interrupt.exit_code)
        n_failed = counts.n_failed + todo.n_failed
        n_all = len(todo.items) + todo.n_done
        if n_failed:
            where = "the output" if out in (None, "-") else out
            raise FwlocalError(f"{n_failed} of {n_all} lines failed; {where} says why")
        if counts.n_cut and self._output.fail_on_length:
            raise FwlocalError(
                f"{counts.n_cut} of {n_all} answers were cut; --max-tokens allows more"
            )


def _n_batch(chosen: EngineOptions, header: GGUFHeader) -> int:
    """Tokens that llama.cpp gets at once: as asked, or as `fwlocal tune` found it."""
    from fwlocal.loader.options import request_of
    from fwlocal.loader.planning import look_around, recalled

    request = request_of(chosen, header)
    try:
        found = recalled(header, look_around((), chosen.n_threads), request)
    except DoesNotFit:  # what loads it says so, if a smaller context does not fit either
        found = None
    return request.n_batch if found is None else found[1].request.n_batch


def _nobody(take: Callable[[], object]) -> Iterator[Any]:
    """Answers lines none of which can be asked."""
    while take() is not None:
        pass
    return iter(())
