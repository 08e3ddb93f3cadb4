"""``fwlocal replay``: whether a recorded answer comes out the same again."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

from fwlocal import options
from fwlocal.cli.asked import loaded_model, piped_stdin

# Options of `run` that make no sense here: each answer is evaluated and decoded as a whole.
_NOT_HERE = ("draft", "lookup", "lossless", "prefix_bytes")


def _fitted(command: click.Command) -> click.Command:
    """The engine's options as far as they mean something here."""
    command.params = [one for one in command.params if one.name not in _NOT_HERE]
    return command


@_fitted
@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="Ask this model and not the recorded one: a name, NAME:LEVEL, or a path.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--quiet", "-q", is_flag=True, help="Nothing but errors on stderr.")
@options.engine_options
@click.pass_context
def replay(context: click.Context, /, file: str, as_json: bool, quiet: bool, **rest: Any) -> None:
    """Repeat the answers in FILE, which `fwlocal run --json` wrote, and compare.

    Exits 0 where every text is the same, 1 where one is not. FILE may hold the lines of --jsonl,
    too; - is stdin. What FILE says of the KV cache, the layers, threads and batches holds where no
    option does; nothing is drafted, or taken from the prefix cache.
    """
    from fwlocal.oneshot import Output
    from fwlocal.oneshot import replay as again
    from fwlocal.oneshot.writing import json_text

    records = again.read_records(file, piped_stdin())
    first = records[0]
    on_gpus = sum(n for device, n in first.layers.items() if device != "CPU")
    recorded = {
        "model": first.model,
        "kv_type": first.kv_type,
        "flash_attn": first.flash_attn,
        "n_gpu_layers": min(on_gpus, options.MOST_LAYERS),
        "threads": first.running.get("n_threads"),
        "threads_batch": first.running.get("n_threads_batch"),
        "n_batch": first.running.get("n_batch"),
        "n_ubatch": first.running.get("n_ubatch"),
        "tuned": False,
    }
    for name, value in recorded.items():
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            rest[name] = value
    rest.update(draft="off", lookup=False, prefix_bytes=0)
    raw = first.question.prompt_format is None
    output = Output(sys.stdout, sys.stderr, quiet=quiet)
    with loaded_model(
        {**rest, "prompt_format": first.question.prompt_format, "raw": raw}, quiet=quiet
    ) as loaded:
        verdicts = []
        for number, record in enumerate(records, 1):
            verdicts.append(again.replay(loaded, record, output))
            if not as_json:
                which = f"answer {number}: " if len(records) > 1 else ""
                sys.stdout.write(which + again.lines(verdicts[-1]))
                sys.stdout.flush()
    if as_json:
        data = [again.as_data(verdict) for verdict in verdicts]
        sys.stdout.write(json_text(data, indent=2) + "\n")
    if not all(verdict.same for verdict in verdicts):
        raise SystemExit(1)
