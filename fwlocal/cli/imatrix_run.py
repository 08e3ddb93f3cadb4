"""``fwlocal imatrix`` at work: the text cut, the model loaded, chunk after chunk collected."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fwlocal.cli.asked import model_name, report_abort
from fwlocal.cli.output import notify
from fwlocal.errors import BadModelFile, Interrupted, StoreError, UsageError
from fwlocal.progress import ProgressBar
from fwlocal.taken import take_engine_options

if TYPE_CHECKING:
    from convert.imatrix import Collection, Order, Sums
    from fwlocal.bench.text import Text
    from fwlocal.gguf import GGUFHeader
    from fwlocal.interrupts import Interrupt
    from fwlocal.loader import EngineOptions
    from fwlocal.store import ModelFile

N_CTX = 512  # as in llama-imatrix
LEAST_N_CTX = 32  # llama.cpp counts no product of fewer than 16 tokens
PLAIN_EVERY_S = 30.0


class ImatrixRun:
    """One collection: of which model, from which text, and how."""

    def __init__(self, rest: dict[str, Any], overwrite: bool) -> None:
        from fwlocal import llama

        llama.set_verbose(rest.pop("verbose"))
        llama.exit_on_abort(report_abort)
        self._model = model_name(rest.pop("model"))
        self._text: Path | None = rest.pop("text")
        self._n_ctx: int | None = rest.pop("n_ctx")
        self._chunks: int | None = rest.pop("chunks")
        self._from_chunk: int = rest.pop("from_chunk")
        self._process_output: bool = rest.pop("process_output")
        self._overwrite = overwrite
        self._engine: EngineOptions = replace(take_engine_options(rest), kv_type="f16", n_ctx=None)

    def collected(self, out: Path | None) -> Path:
        """Collect what is missing; where it is. Raises Interrupted when stopped."""
        from convert.imatrix import begun
        from fwlocal import loader
        from fwlocal.bench.text import read_text
        from fwlocal.interrupts import Interrupt, catching
        from fwlocal.locks import held

        text = read_text(self._text)
        file, header = loader.open_file(self._model, loader.Library.default(), notify)
        out = out or Path(f"{_stem(file)}.imatrix.gguf")
        _check_out(out, (file.path, self._text))
        check_place(out)
        _tell_of_quantized(file, header)
        interrupt = Interrupt()
        with catching(interrupt):
            order = self._order(out, text, file, header, interrupt)
            with held(out, "collecting an importance matrix"):
                start = begun(order, overwrite=self._overwrite)
                if start.is_whole:
                    notify(f"{out}: already there, of the same {counted(start.sums.n_chunks)}")
                    return out
                if start.n_before:
                    notify(f"{out}: going on after {start.n_before} of {counted(start.n_wanted)}")
                found = self._collect(order, start, file, header, interrupt)
        _report(found, out, interrupt)
        return out

    def _order(
        self, out: Path, text: Text, file: ModelFile, header: GGUFHeader, interrupt: Interrupt
    ) -> Order:
        from convert.imatrix import Order, Origin
        from fwlocal.model_hash import sha256_of_model

        def progress(fraction: float) -> None:
            bar.update(fraction)
            if interrupt.is_set():
                raise Interrupted(exit_code=interrupt.exit_code)

        n_ctx = self._chunk_size(file, header)
        chunks = self._cut(text, file, n_ctx)
        with ProgressBar(f"hashing {file.name}") as bar:
            # What a manifest says may be of another file that was put in its place.
            sha256 = sha256_of_model(replace(file, sha256=None), header, progress)
        if sha256 is None:
            raise BadModelFile(f"{file.path}: cannot be read any more")
        origin = Origin(sha256, text.sha256, self._from_chunk, self._process_output)
        return Order(out, chunks, n_ctx, text.name, origin)

    def _chunk_size(self, file: ModelFile, header: GGUFHeader) -> int:
        """Tokens of a chunk. Raises UsageError for more than the model knows, or too few."""
        trained = header.number("{arch}.context_length") or 0
        n_ctx = trained or N_CTX if self._n_ctx == 0 else self._n_ctx or N_CTX
        if n_ctx < LEAST_N_CTX or (trained and n_ctx > trained):
            most = trained or "any number of"
            raise UsageError(f"--n-ctx {n_ctx}: {file.name} takes {LEAST_N_CTX} to {most} tokens")
        return n_ctx

    def _cut(self, text: Text, file: ModelFile, n_ctx: int) -> list[tuple[int, ...]]:
        """The chunks to read. Raises UsageError where there is none."""
        from fwlocal import llama
        from fwlocal.bench.text import bos_of, chunks_of, tokens_of

        vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
        with contextlib.closing(vocabulary):
            tokens = tokens_of(vocabulary, text)
            chunks = chunks_of(tokens, n_ctx, bos_of(vocabulary))
        left = chunks[self._from_chunk :][: self._chunks]
        if not left:
            raise UsageError(
                f"--from-chunk {self._from_chunk}: {text.name} has {counted(len(chunks))} of "
                f"{n_ctx} tokens ({len(tokens)} tokens); take a smaller one"
            )
        return left

    def _collect(
        self,
        order: Order,
        start: Collection,
        file: ModelFile,
        header: GGUFHeader,
        interrupt: Interrupt,
    ) -> Collection:
        from convert.imatrix import collect
        from fwlocal import llama
        from fwlocal.bench.measured import Entrant
        from fwlocal.bench.opening import open_level
        from fwlocal.loader.native_plan import context_options
        from fwlocal.store.usage import note_use

        entrant = Entrant(file.name, file, header)
        with ProgressBar(f"loading {file.name}") as bar:
            opened = open_level(
                entrant,
                self._engine,
                order.chunk_size,
                notify=notify,
                on_progress=bar.update,
                interrupt=interrupt,
            )
        note_use(file)
        with opened, ProgressBar(f"reading {order.dataset}") as bar:
            opened.context().close()  # the loader's own; this one has a callback
            plan, n_threads = opened.settled.plan, opened.settled.site.n_threads
            activations = llama.Activations(
                opened.model,
                context_options(plan, n_threads, order.chunk_size),
                interrupt.is_set,
                process_output=self._process_output,
            )
            shown = _Shown(bar, start.n_before)
            with contextlib.closing(activations):
                return collect(order, start, activations.add, shown.update)


def _stem(file: ModelFile) -> str:
    """What the model is called, for a file's name."""
    from fwlocal.splits import stem_of

    return f"{file.name}-{file.level}" if file.level else stem_of(file.path.name)


def _check_out(out: Path, inputs: tuple[Path | None, ...]) -> None:
    """Raise UsageError where the matrix would take the place of what it is made from."""
    for path in inputs:
        with contextlib.suppress(OSError):
            if path is not None and os.path.samefile(out, path):
                raise UsageError(f"{out}: is what the matrix is made from; take another --out")


def check_place(out: Path) -> None:
    """Raise UsageError where there is no folder for the matrix, and StoreError where nothing can be
    written to it."""
    folder = out.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{out}: there is no folder {folder}; make it, or take another --out")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = error.strerror or error
        raise StoreError(
            f"{out}: the folder cannot be written ({problem}); take another --out"
        ) from error


def _tell_of_quantized(file: ModelFile, header: GGUFHeader) -> None:
    """A line on stderr where a better level would make a better matrix."""
    from fwlocal.levels import UNQUANTIZED

    types = {tensor.type_name for tensor in header.tensors} - {*UNQUANTIZED, "Q8_0"}
    if types:
        called = f"{file.name}:{file.level}" if file.level else file.path.name
        notify(
            f"{called} is quantized ({', '.join(sorted(types))}): a matrix from the unquantized "
            "model, or Q8_0, is better"
        )


class _Shown:
    """Chunks as they are done: a bar on a terminal, else a line now and then."""

    def __init__(self, bar: ProgressBar, n_before: int) -> None:
        self._bar, self._n_before = bar, n_before
        self._started = self._said = time.monotonic()

    def update(self, n_done: int, n_wanted: int) -> None:
        """Show that ``n_done`` of ``n_wanted`` are."""
        now = time.monotonic()
        self._bar.update(n_done / n_wanted)
        if sys.stderr.isatty() or now - self._said < PLAIN_EVERY_S or n_done == n_wanted:
            return
        self._said = now
        each_s = (now - self._started) / (n_done - self._n_before)
        left_min = each_s * (n_wanted - n_done) / 60
        notify(f"{n_done} of {counted(n_wanted)}, {left_min:.0f} min left")


def _report(found: Collection, out: Path, interrupt: Interrupt) -> None:
    """What there is now, on stderr. Raises Interrupted where that is not all."""
    n_done = found.sums.n_chunks
    if not found.is_whole:
        kept = f"; {out} has these, and the same command goes on" if n_done else ""
        raise Interrupted(
            f"interrupted after {n_done} of {counted(found.n_wanted)}{kept}",
            exit_code=interrupt.exit_code,
        )
    notify(
        f"{len(found.sums.entries)} tensors, {counted(n_done)} of {found.sums.chunk_size} tokens"
    )
    tell_of_experts(found.sums)


def counted(n_chunks: int) -> str:
    """``1 chunk``, ``2 chunks``."""
    return "1 chunk" if n_chunks == 1 else f"{n_chunks} chunks"


def tell_of_experts(sums: Sums) -> None:
    """A line on stderr where a text was too short for all experts."""
    from convert.imatrix import unreached

    n_unreached, n_experts = unreached(sums)
    if n_unreached:
        notify(
            f"{n_unreached} of {n_experts} experts' matrices were reached by no text, and weigh "
            "all their columns alike; take a longer --text"
        )
