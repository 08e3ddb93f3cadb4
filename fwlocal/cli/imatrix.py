"""``fwlocal imatrix``: from a model and a text, or from other matrices, to an importance matrix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fwlocal import options
from fwlocal.cli.output import notify
from fwlocal.errors import UsageError

# Options of `run` that make no sense here: the cache is F16, as in llama-imatrix, and holds a
# chunk; what a worker computes is not seen by the callback.
_NOT_HERE = ("kv_type", "shrink_context", "workers", "draft", "lookup", "prefix_bytes")
_OWN_HELP = {"n_ctx": "Tokens of a chunk; 0 is all the model knows. [default: 512]"}


def _fitted(command: click.Command) -> click.Command:
    """The engine's options as far as they mean something here."""
    command.params = [one for one in command.params if one.name not in _NOT_HERE]
    for option in command.params:
        if isinstance(option, click.Option):
            option.help = _OWN_HELP.get(option.name or "", option.help)
    return command


@_fitted
@click.command()
@click.argument("files", nargs=-1, metavar="[FILES]...", type=click.Path(path_type=Path))
@options.model_option
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A text in UTF-8 of the kind that the model will be used for. "
    "[default: Moby-Dick, which is shipped]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to. [default: NAME.imatrix.gguf, here]",
)
@click.option(
    "--chunks",
    type=click.IntRange(min=1),
    metavar="N",
    help="No more chunks than that. [default: all of the text]",
)
@click.option(
    "--from-chunk",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Leave out the first N chunks.",
)
@click.option("--process-output", is_flag=True, help="Collect for output.weight, too.")
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever is in the file.")
@click.option(
    "--merge", "is_merge", is_flag=True, help="Add the matrices in FILES; no model is needed."
)
@options.engine_options
def imatrix(
    files: tuple[Path, ...], is_merge: bool, out: Path | None, overwrite: bool, **rest: Any
) -> None:
    """Measure which weights matter, for `fwlocal convert --imatrix`.

    The model reads a text, and what meets each column of its matrices is summed; quantizing errs
    less where that is large. Best is the unquantized model, or Q8_0. The file is llama.cpp's. An
    interrupted run goes on where it was last saved; its path is printed on stdout.

    \b
      fwlocal imatrix -m MyLlama-F16.gguf --text texts.txt
      fwlocal convert MyLlama-F16.gguf --quant IQ3_M --imatrix MyLlama-F16.imatrix.gguf
      fwlocal imatrix --merge a.gguf b.gguf --out both.gguf
    """
    if is_merge:
        click.echo(_merged(files, out, overwrite, rest))
        return
    if files:
        raise UsageError(
            f"{files[0]}: which of --text, --model and --out is it? Files alone are for --merge"
        )
    from fwlocal.cli.imatrix_run import ImatrixRun

    click.echo(ImatrixRun(rest, overwrite).collected(out))


def _merged(
    files: tuple[Path, ...], out: Path | None, overwrite: bool, rest: dict[str, Any]
) -> Path:
    """Write the sum of ``files``; where it is."""
    from convert.imatrix import merge, read_sums, write_sums
    from fwlocal.cli.imatrix_run import check_place, counted, tell_of_experts

    if not files or out is None:
        raise UsageError("--merge takes the matrices to add and --out FILE for the result")
    given = ("text", "chunks", "from_chunk", "process_output")
    if vain := next((name for name in given if rest[name]), None):
        raise UsageError(f"--{vain.replace('_', '-')} is for collecting; leave it or --merge out")
    if out.exists() and not overwrite:
        raise UsageError(f"{out}: is there already; take another --out, or --overwrite it")
    seen: set[str] = set()
    for path in files:
        if (real := os.path.realpath(path)) in seen:
            raise UsageError(f"{path}: is named twice, and would be added twice; leave one out")
        seen.add(real)
    check_place(out)
    parts = [(path, read_sums(path)) for path in files]
    merged = merge(parts, rest["n_ctx"])
    write_sums(out, merged)
    called = "1 matrix" if len(parts) == 1 else f"{len(parts)} matrices"
    notify(f"{called} added: {len(merged.entries)} tensors, {counted(merged.n_chunks)}")
    tell_of_experts(merged)
    return out
