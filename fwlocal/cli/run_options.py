"""The options of ``run`` alone: what goes in, what comes out, and how often."""

from __future__ import annotations

import click

from fwlocal.errors import UsageError
from fwlocal.options import stack

MOST_ANSWERS = 10**4
MOST_PARALLEL = 64
MOST_LOGPROBS = 20  # as other programs have it


def _stop_texts(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if not all(value):
        raise UsageError("--stop: the text is empty; leave it out")
    return value


input_options = stack(
    click.option(
        "-f",
        "--file",
        "files",
        type=click.Path(),
        multiple=True,
        metavar="FILE|GLOB",
        help="Text files to add, as in -f 'src/**/*.py'; may be given several times.",
    ),
    click.option(
        "--messages",
        type=click.Path(),
        metavar="FILE",
        help='A conversation as JSON, [{"role": ..., "content": ...}, ...], or what --json or '
        "`sessions export` wrote; - is stdin.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what the prompt takes; answer nothing."),
)

batch_options = stack(
    click.option(
        "--batch",
        type=click.Path(),
        metavar="IN.jsonl",
        help="Answer many prompts: a line each, an object with prompt or messages; - is stdin.",
    ),
    click.option(
        "--out",
        type=click.Path(),
        metavar="OUT.jsonl",
        help="Where their answers go; those that are there are not asked again. [default: stdout]",
    ),
    click.option(
        "--parallel",
        type=click.IntRange(1, MOST_PARALLEL),
        metavar="N",
        help="Of --batch, answer N at a time. [default: 1]",
    ),
)

output_options = stack(
    click.option("--json", "as_json", is_flag=True, help="One JSON object; with --n an array."),
    click.option("--jsonl", is_flag=True, help="Events as they come, a JSON object a line."),
    click.option(
        "--logprobs",
        type=click.IntRange(1, MOST_LOGPROBS),
        metavar="K",
        help="With JSON: each token's log-probability, and the K likeliest.",
    ),
    click.option("--stats", is_flag=True, help="Counts and speeds on stderr."),
    click.option("--quiet", "-q", is_flag=True, help="Nothing but errors on stderr."),
    click.option("--fail-on-length", is_flag=True, help="An answer that was cut is an error (1)."),
)

repetition_options = stack(
    click.option(
        "--stop",
        "stop",
        multiple=True,
        metavar="TEXT",
        callback=_stop_texts,
        help="End the answer before TEXT; may be given several times.",
    ),
    click.option(
        "--n",
        "-n",
        "n",
        type=click.IntRange(1, MOST_ANSWERS),
        metavar="N",
        help="That many answers, by seeds that follow each other.",
    ),
)
