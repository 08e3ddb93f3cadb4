"""The command line's shared options, as decorators; ``taken`` makes objects of them.

The names of choices are spelled here again, so that ``--help`` needs no llama.cpp; a test holds
them against ``fwlocal.llama``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fwlocal.completion import any_model, format_name
from fwlocal.errors import UsageError
from fwlocal.sizes import parse_size, parse_sizes

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

KV_TYPES = ("auto", "f16", "q8_0", "q4_0")
FLASH_ATTENTION = ("auto", "on", "off")
MOST_LAYERS = 10**6  # more than any model has


def stack(*options: Any) -> Decorator[Any]:
    """All of them, in this order, as one decorator."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_option = click.option(
    "-m",
    "--model",
    envvar="FWLOCAL_MODEL",
    metavar="MODEL",
    shell_complete=any_model,
    help="A name from `fwlocal models`, NAME:LEVEL, or a path to a .gguf. "
    "[env FWLOCAL_MODEL; default: smollm2-135m]",
)

prompt_options = stack(
    click.option("--system", metavar="TEXT", help='The system text; "" leaves it out.'),
    click.option(
        "--prompt-format",
        metavar="NAME",
        shell_complete=format_name,
        help="freewilly2, freewilly1, chatml, or gguf (the template in the file).",
    ),
)

sampling_options = stack(
    click.option("--temp", type=float, metavar="T", help="Temperature; 0 is greedy."),
    click.option("--top-k", type=int, metavar="K", help="Only the K likeliest tokens; 0 is off."),
    click.option("--top-p", type=float, metavar="P", help="Nucleus sampling; 1 is off."),
    click.option(
        "--min-p", type=float, metavar="P", help="Least share of the likeliest; 0 is off."
    ),
    click.option("--repeat-penalty", type=float, metavar="X", help="1 is off."),
    click.option("--seed", type=int, metavar="N", help="The same seed gives the same text."),
    click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Longest answer."),
)


def _layers(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """``auto`` is None. Raises UsageError."""
    if value.strip().lower() == "auto":
        return None
    if not value.strip().isdecimal():
        raise UsageError(f"--n-gpu-layers {value!r}: must be a number of layers, or auto")
    return min(int(value), MOST_LAYERS)


def _sizes(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    return None if value is None else parse_sizes(value, parameter.opts[0], may_be_zero=True)


def _size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    return parse_size(value, parameter.opts[0], may_be_zero=True)


def _workers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    """The addresses, checked; without the option those of config.toml."""
    from fwlocal.config import config_folder, load_config
    from fwlocal.workers import parse_addresses

    if value is None:
        return load_config(config_folder()).workers
    return tuple(map(str, parse_addresses(value))) if value.strip() else ()


gpu_options = stack(
    click.option(
        "--n-gpu-layers",
        default="auto",
        metavar="N|auto",
        callback=_layers,
        help="Layers on the GPUs. [default: auto, as many as fit]",
    ),
    click.option(
        "--gpu-memory",
        metavar="SIZE,...",
        callback=_sizes,
        help="Use no more than that of each GPU, as in 20G.",
    ),
    click.option(
        "--gpu-margin",
        metavar="SIZE",
        default="512M",
        callback=_size,
        help="Keep that much of each GPU free. [default: 512M]",
    ),
    click.option(
        "--kv-type",
        "--kv",
        "kv_type",
        type=click.Choice(KV_TYPES),
        default="auto",
        help="KV cache type. [default: f16, or q8_0 where more layers fit by it]",
    ),
)

offload_options = stack(
    gpu_options,
    click.option(
        "--shrink-context",
        is_flag=True,
        help="Take less context, but only where the model would not load otherwise.",
    ),
    click.option(
        "--workers",
        metavar="HOST:PORT,...",
        callback=_workers,
        help="Other machines that run `fwlocal worker`. [default: those of config.toml]",
    ),
)


def _is_auto(context: click.Context, parameter: click.Parameter, value: str) -> bool:
    return value == "auto"


def _prefix_bytes(context: click.Context, parameter: click.Parameter, value: bool) -> int:
    """What config.toml allows; nothing where the cache is off."""
    from fwlocal.config import config_folder, load_config

    return load_config(config_folder()).prefix_cache_bytes if value else 0


draft_option = click.option(
    "--draft",
    metavar="MODEL|auto|off",
    default="auto",
    help="A smaller model of the same vocabulary that drafts ahead; the answer is the same. "
    "[default: auto, the one of models.toml if it is on this disk]",
)

speed_options = stack(
    draft_option,
    click.option(
        "--lookup",
        type=click.Choice(("auto", "off")),
        default="auto",
        callback=_is_auto,
        help="Draft from the prompt and the answer so far, where that pays. [default: auto]",
    ),
    click.option(
        "--lossless/--no-lossless",
        default=None,
        help="Draft only where the text stays the same to the last token. [default: on the CPU]",
    ),
    click.option(
        "--cache/--no-cache",
        "prefix_bytes",
        default=True,
        callback=_prefix_bytes,
        help="Keep long prompts, evaluated, on the disk, and use them again.",
    ),
)

engine_options = stack(
    offload_options,
    speed_options,
    click.option(
        "--n-ctx",
        type=click.IntRange(min=0),
        metavar="N",
        help="Context in tokens; 0 is all the model knows. [default: as needed]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="[default: what `fwlocal tune` found, or the fast physical cores]",
    ),
    click.option(
        "--threads-batch",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads of prefill. [default: as --threads]",
    ),
    click.option(
        "--n-batch",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tokens given to llama.cpp at once. [default: 512]",
    ),
    click.option(
        "--n-ubatch",
        type=click.IntRange(min=1),
        metavar="N",
        help="Tokens computed at once. [default: 512]",
    ),
    click.option("--flash-attn", type=click.Choice(FLASH_ATTENTION), default="auto"),
    click.option(
        "--mmap/--no-mmap",
        default=None,
        help="Map the file, or read it in. [default: read it in where huge pages make it faster]",
    ),
    click.option("--mlock/--no-mlock", default=None, help="Keep the model in RAM."),
    click.option(
        "--tuned/--no-tuned",
        default=True,
        help="Take what `fwlocal tune` found where no option says otherwise, or do not.",
    ),
    click.option("--verbose", is_flag=True, help="Show llama.cpp's log on stderr."),
)

grammar_options = stack(
    click.option(
        "--json-schema",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Answer with JSON that obeys this schema.",
    ),
    click.option(
        "--grammar",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Answer with text that obeys this GBNF grammar.",
    ),
)
