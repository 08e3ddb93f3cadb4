"""``fwlocal run``: one answer on stdout; and ``prompt``, which shows what it would be asked."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fwlocal import options
from fwlocal.cli import run_options
from fwlocal.cli.asked import (
    answer_once,
    check_texts,
    model_name,
    piped_stdin,
    read_prompt,
    silenced,
    told,
)
from fwlocal.cli.output import notify, print_json
from fwlocal.errors import UsageError

if TYPE_CHECKING:
    from fwlocal.attachments import Attachment
    from fwlocal.oneshot import Output
    from fwlocal.prompts import Message

# What asks for one answer, and what makes no difference to the lines of a batch.
_NOT_OF_BATCH: Mapping[str, str] = {
    "files": "-f",
    "messages": "--messages",
    "dry_run": "--dry-run",
    "n": "--n",
    "as_json": "--json",
    "jsonl": "--jsonl",
    "logprobs": "--logprobs",
}
_OF_BATCH: Mapping[str, str] = {"out": "--out", "parallel": "--parallel"}


@click.command()
@click.argument("prompt", nargs=-1)
@options.model_option
@options.prompt_options
@run_options.input_options
@run_options.batch_options
@click.option("--raw", is_flag=True, help="The text is the whole prompt, control tokens included.")
@run_options.output_options
@run_options.repetition_options
@options.grammar_options
@options.sampling_options
@options.engine_options
def run(prompt: tuple[str, ...], dry_run: bool, **rest: Any) -> None:
    """Answer PROMPT on stdout.

    Files (-f) stand before it under their names, text on stdin behind it, with blank lines between.
    """
    batch = rest.pop("batch")
    if batch is not None:
        _run_batch(batch, prompt, {**rest, "dry_run": dry_run})
        return
    _leave_out(_OF_BATCH, rest, "goes with --batch IN.jsonl")
    output = _take_output(rest)
    if dry_run and rest["n"] is not None:
        raise UsageError("--dry-run answers nothing; leave --n out")
    check_texts(rest)
    asked = _take_asked(prompt, rest)
    if dry_run:
        _show_budget(asked, output, rest)
    else:
        answer_once(asked.turns, output, rest)


def _run_batch(batch: str, prompt: tuple[str, ...], rest: dict[str, Any]) -> None:
    """Answer the lines of a file. Raises UsageError for what is of one answer alone."""
    if prompt:
        raise UsageError("--batch has the prompts; leave PROMPT out")
    _leave_out(_NOT_OF_BATCH, rest, "has no place beside --batch; leave it out")
    if rest["draft"] not in ("auto", "off") and not rest["workers"]:
        raise UsageError(
            f"--draft {rest['draft']} has no place beside --batch, whose prompts are answered "
            "together; leave it out"
        )
    out, parallel = rest.pop("out"), rest.pop("parallel")
    rest.update(as_json=False, jsonl=False, logprobs=None)
    output = _take_output(rest)
    check_texts(rest)
    from fwlocal.cli.batch import run_batch

    run_batch(batch, out, parallel or 1, output, rest)


def _leave_out(names: Mapping[str, str], rest: dict[str, Any], why: str) -> None:
    """Take these options out. Raises UsageError where one of them was given."""
    for name, option in names.items():
        if rest.pop(name) not in (None, False, ()):
            raise UsageError(f"{option} {why}")


@dataclass(frozen=True)
class _Asked:
    """All that is asked: the turns, and what they were made of."""

    turns: tuple[Message, ...]
    given: tuple[Message, ...]
    prompt: str
    files: tuple[Attachment, ...]
    piped: str


def _take_output(rest: dict[str, Any]) -> Output:
    """How the answer is written. Raises UsageError."""
    from fwlocal import oneshot

    as_json, jsonl = rest.pop("as_json"), rest.pop("jsonl")
    stats, quiet = rest.pop("stats"), rest.pop("quiet")
    if as_json and jsonl:
        raise UsageError("--json and --jsonl exclude each other")
    if rest["logprobs"] is not None and not (as_json or jsonl):
        raise UsageError("--logprobs are told in JSON alone; add --json or --jsonl")
    if quiet and (stats or rest["verbose"]):
        other = "--stats" if stats else "--verbose"
        raise UsageError(f"--quiet and {other} exclude each other")
    form = oneshot.Form.JSON if as_json else oneshot.Form.EVENTS if jsonl else oneshot.Form.TEXT
    fails = rest.pop("fail_on_length")
    return oneshot.Output(sys.stdout, sys.stderr, form, stats, quiet, fails)


def _take_asked(arguments: tuple[str, ...], rest: dict[str, Any]) -> _Asked:
    """The prompt, the files, stdin and the conversation. Raises UsageError and FwlocalError."""
    from fwlocal import oneshot
    from fwlocal.attachments import read_attachments
    from fwlocal.prompts import Message

    patterns, path, raw = rest.pop("files"), rest.pop("messages"), rest["raw"]
    prompt = _one_prompt(arguments, patterns)
    if raw and (patterns or path):
        other = "-f" if patterns else "--messages"
        raise UsageError(f"a raw prompt is taken as it stands; leave {other} out")
    if "-" in patterns:
        raise UsageError("-f -: what is piped in on stdin goes along anyway; leave it out")
    files = read_attachments(patterns)
    given = oneshot.read_messages(path, piped_stdin()) if path is not None else ()
    piped = "" if path == "-" else oneshot.read_piped(piped_stdin(), raw=raw)
    text = oneshot.joined(prompt, files, piped)
    if given and given[0].role == "system" and rest["system"] is not None:
        raise UsageError("--messages begin with a system text; leave --system out")
    if not text and not given:
        raise UsageError("the prompt is empty; give it as an argument or on stdin")
    turns = (*given, Message("user", text)) if text else given
    if given:
        oneshot.check_turns(turns, "stdin" if path == "-" else path)
    return _Asked(turns, given, prompt, files, piped)


def _one_prompt(arguments: tuple[str, ...], patterns: tuple[str, ...]) -> str:
    """The prompt, of one word or more; beside -f more are a shell's doing. Raises UsageError."""
    hint = "quote the pattern, so that the shell leaves it: -f 'src/**/*.py'"
    if len(arguments) > 1 and patterns:
        raise UsageError(
            f"unexpected argument {arguments[1]!r}: with -f, PROMPT is one argument; {hint}"
        )
    prompt = " ".join(arguments)
    if patterns and _is_file(prompt):
        raise UsageError(f"the prompt {prompt!r} is the name of a file; {hint}")
    return prompt


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no name at all, or too long for one
        return False


def _show_budget(asked: _Asked, output: Output, rest: dict[str, Any]) -> None:
    """What the prompt takes of the context; an error where it does not fit."""
    from fwlocal.library import Library
    from fwlocal.oneshot import Form, budget

    if output.form is Form.EVENTS:
        raise UsageError("--dry-run answers nothing; it prints with --json, not --jsonl")
    parts = [
        *(
            budget.Part(f"message {index}, {message.role}", message.content)
            for index, message in enumerate(asked.given)
        ),
        *(budget.Part(file.name, file.block) for file in asked.files),
        budget.Part("prompt", asked.prompt),
        budget.Part("stdin", asked.piped),
    ]
    target = budget.Target(
        model=model_name(rest["model"]),
        turns=asked.turns,
        system=rest["system"],
        prompt_format=rest["prompt_format"],
        raw=rest["raw"],
        n_ctx=rest["n_ctx"],
        max_tokens=rest["max_tokens"],
    )
    with silenced(quiet=output.quiet):
        found = budget.budget(target, parts, Library.default(), told(quiet=output.quiet))
    if output.form is Form.JSON:
        print_json(budget.as_data(found))
    else:
        sys.stdout.write(budget.lines(found))
    budget.check_fits(found)


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
