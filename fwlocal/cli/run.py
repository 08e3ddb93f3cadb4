"""``fwlocal run``: one answer on stdout; and ``prompt``, which shows what it would be asked."""

from __future__ import annotations

import sys
from typing import Any

import click

from fwlocal import options
from fwlocal.cli.asked import answer_once, model_name, read_prompt
from fwlocal.cli.output import notify


@click.command()
@click.argument("prompt", required=False)
@options.model_option
@options.prompt_options
@click.option("--raw", is_flag=True, help="The text is the whole prompt, control tokens included.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--stats", is_flag=True, help="Counts and speeds on stderr.")
@options.grammar_options
@options.sampling_options
@options.engine_options
def run(prompt: str | None, as_json: bool, stats: bool, **rest: Any) -> None:
    """Answer PROMPT on stdout. Text on stdin is appended to it after a blank line."""
    from fwlocal import oneshot

    text = read_prompt(prompt, raw=rest["raw"])
    answer_once(text, oneshot.Output(sys.stdout, sys.stderr, as_json, stats), rest)


@click.command()
@click.argument("text", required=False)
@options.model_option
@options.prompt_options
@click.option("--tokens", is_flag=True, help="Show the token ids and their pieces.")
def prompt(
    text: str | None,
    model: str | None,
    system: str | None,
    prompt_format: str | None,
    tokens: bool,
) -> None:
    """Show the exact prompt that TEXT becomes."""
    from fwlocal import preview
    from fwlocal.library import Library

    question = preview.Question(model_name(model), read_prompt(text), system, prompt_format)
    show = preview.token_lines if tokens else preview.prompt_text
    sys.stdout.write(show(question, Library.default(), notify))
