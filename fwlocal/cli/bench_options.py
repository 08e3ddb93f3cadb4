"""``fwlocal bench``: its options, under headings, and which of them exclude each other.

What they mean for a run is the verb's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from pathlib import Path

import click
from click.core import ParameterSource

from fwlocal import options
from fwlocal.completion import level_name
from fwlocal.errors import UsageError

LEAST_N_CTX = 32


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


def _levels(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    for value in values:
        if not value.strip(", \t\n"):
            raise UsageError(f"--levels {value!r}: names no level; give some, as in Q8_0,Q4_K_M")
    return values


_what = options.stack(
    options.model_option,
    click.option(
        "--levels",
        multiple=True,
        metavar="LEVEL,...",
        callback=_levels,
        shell_complete=level_name,
        help="The levels to measure, as in Q8_0,Q4_K_M; those that are missing are pulled or "
        "converted first, and stay in the models folder. [default: those on this disk, and if "
        "that is one, a choice beside it]",
    ),
    click.option("--reference", metavar="LEVEL|FILE",
                 help="The level, or file, that quality is measured against; it takes part itself. "
                 "[default: the most bits per weight, not made from a quantized file]"),
    click.option(
        "--imatrix",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Show each level also as made by this importance matrix; makes further files, which "
        "stay in the models folder under MODEL-imatrix.",
    ),
    click.option("--accept-licence", is_flag=True, help="Accept the licence without being asked."),
)  # fmt: skip

_speed = options.stack(
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
)  # fmt: skip

_quality = options.stack(
    click.option("--no-quality", is_flag=True, help="Measure no distance from the reference."),
    click.option("--text", type=click.Path(path_type=Path), metavar="FILE",
                 help="A text in UTF-8, in any language, that every level reads; best is one of "
                 "the kind that the model will be used for. [default: the first chapters of "
                 "Moby-Dick, which is shipped]"),
    click.option("--n-ctx", type=click.IntRange(min=LEAST_N_CTX), default=512, metavar="N",
                 help="Tokens of a chunk of the text. [default: 512]"),
    click.option("--chunks", type=click.IntRange(min=0), default=32, metavar="N",
                 help="Read no more chunks; 0 is all of the text. [default: 32; all with --until]"),
    click.option("--until", type=click.FloatRange(min=0, min_open=True), metavar="SE",
                 callback=_number,
                 help="Read until the standard error of the mean KLD is that small for every "
                 "level."),
    click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE.jsonl",
                 help="Also compare every level's greedy answers to these prompts with the "
                 "reference's; lines as for `fwlocal run --batch`."),
    click.option("--max-tokens", type=click.IntRange(min=1), default=128, metavar="N",
                 help="Longest of those answers. [default: 128]"),
)  # fmt: skip

_wishes = options.stack(
    click.option("--max-kld", type=click.FloatRange(min=0), metavar="NATS", callback=_number,
                 help="Recommend the fastest level whose mean KLD is no larger. Without it, what "
                 "is recommended is the level nearest to the reference."),
    click.option("--min-tps", type=click.FloatRange(min=0), metavar="TPS", callback=_number,
                 help="Recommend a level that decodes at least so many tokens a second."),
    click.option("--memory", metavar="SIZE", callback=_memory,
                 help="Recommend a level that takes no more memory, as in 8G: its weights, KV "
                 "cache and buffers."),
)  # fmt: skip

_out = options.stack(
    click.option("--json", "json_out", metavar="OUT",
                 help="Also write the result to this file; - prints it on stdout instead of a "
                 "table."),
    click.option("--csv", is_flag=True, help="Print CSV on stdout instead of a table."),
    click.option("--md", is_flag=True, help="Print Markdown on stdout instead of a table."),
    click.option("--plot", type=click.Path(path_type=Path), metavar="OUT.png|svg",
                 help="Draw KLD and speed over size (needs fwlocal[plot])."),
    click.option("--compare", nargs=2, type=click.Path(path_type=Path), metavar="A.json B.json",
                 help="Two results of --json side by side; measures nothing."),
)  # fmt: skip

_engine = options.stack(
    click.option("--fresh", is_flag=True, help="Measure again what was measured before."),
    click.option("--threads", type=click.IntRange(min=1), metavar="N",
                 help="[default: the fast physical cores]"),
    options.gpu_options,
    click.option("--flash-attn", type=click.Choice(options.FLASH_ATTENTION), default="auto"),
    click.option("--mmap/--no-mmap", default=None,
                 help="Map the files, or read them in. [default: as `fwlocal run` does]"),
    click.option("--verbose", is_flag=True, help="Show llama.cpp's log on stderr."),
)  # fmt: skip

bench_options = options.stack(_what, _speed, _quality, _wishes, _out, _engine)

# The option that each heading of the help begins with; the options below it follow.
_HEADINGS = {
    "model": "What takes part",
    "no_speed": "Speed",
    "no_quality": "Quality",
    "max_kld": "Wishes (exit code 1 where no level fulfils all of them)",
    "json_out": "Output",
    "fresh": "Engine and the rest",
}


class Grouped(click.Command):
    """A command whose options stand under headings in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, heading by heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        heading = ""
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Argument):
                continue
            heading = _HEADINGS.get(parameter.name or "", heading)
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


# What means nothing beside the first, and what it is about.
_VAIN = {
    "no_quality": ("quality", ("text", "until", "max_kld", "chunks", "n_ctx")),
    "no_speed": ("speed", ("min_tps", "pp", "tg", "depths", "repetitions")),
}
_WITH_COMPARE = ("compare", "json_out", "csv", "md", "plot", "verbose")  # its output is others'


def named(context: click.Context) -> set[str]:
    """The names of the parameters that the command line itself names, and no default."""
    return {
        name
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE and value != ()
    }


def check_together(context: click.Context) -> None:
    """Raise UsageError where one option leaves another without a meaning, or none anything."""
    given, of = named(context), context.params
    if "compare" in given:
        if vain := _first(context, given - set(_WITH_COMPARE)):
            raise UsageError(f"--compare measures nothing; leave {vain} out")
        return
    if "model" in given and "files" in given:
        raise UsageError("-m names a model, and FILES others; leave one of them out")
    no_speed = of["no_speed"] or not (of["pp"] or of["tg"])
    if no_speed and of["no_quality"] and not of["prompts"]:
        what = "--no-speed" if of["no_speed"] else "--pp 0 with --tg 0"
        raise UsageError(f"{what} and --no-quality leave nothing to measure; leave one out")
    for switch, (subject, names) in _VAIN.items():
        vain = _first(context, given & set(names)) if of[switch] else ""
        if vain:
            option = f"--{switch.replace('_', '-')}"
            raise UsageError(f"{vain} is about {subject}; leave it or {option} out")
    if "min_tps" in given and not of["tg"]:
        raise UsageError("--min-tps is about decoding; leave it or -n 0 out")


def _first(context: click.Context, names: Collection[str]) -> str:
    """As it is spelt, the first of these parameters; "" for none."""
    found = [one for one in context.command.params if one.name in names]
    if not found:
        return ""
    one = found[0]
    return "FILES" if isinstance(one, click.Argument) else max(one.opts, key=len)
