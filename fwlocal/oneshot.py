"""``fwlocal run``: arguments and stdin become one answer on stdout, as text or as JSON.

stdout gets the answer alone; everything else goes to stderr.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, TextIO

from fwlocal.answer import Generation, Result
from fwlocal.conversation import Conversation
from fwlocal.errors import FwlocalError, UsageError
from fwlocal.interrupts import catching
from fwlocal.loader import LoadedModel
from fwlocal.offload import OffloadPlan, where_layers_are
from fwlocal.prompts import Message
from fwlocal.store import ModelFile
from fwlocal.terminal import inert


@dataclass(frozen=True)
class Output:
    """How the answer is written, and where."""

    stdout: TextIO
    stderr: TextIO
    as_json: bool = False
    stats: bool = False


@dataclass(frozen=True)
class Request:
    """What is asked. ``system`` None is the model's own; ``sampling`` are changes to the
    model's."""

    text: str
    system: str | None
    max_tokens: int | None
    sampling: Mapping[str, Any]


def read_prompt(argument: str | None, stdin: BinaryIO | None, *, raw: bool = False) -> str:
    """PROMPT, with the text on ``stdin`` (None for a terminal) appended after a blank line.

    The line end that closes stdin is dropped, unless the prompt is ``raw``. Raises UsageError when
    both are empty, FwlocalError for text that is no UTF-8 or holds NUL.
    """
    given = _checked(argument or "", "the prompt")
    piped = "" if stdin is None else _decoded(stdin.read())
    if not raw:
        piped = piped.replace("\r\n", "\n").rstrip("\n")
    prompt = "\n\n".join(text for text in (given, piped) if text.strip())
    if not prompt:
        raise UsageError("the prompt is empty; give it as an argument or on stdin")
    return prompt


def answer(loaded: LoadedModel, request: Request, output: Output) -> int:
    """Answer, and return the exit code: 0, or a signal's when one stopped it."""
    engine, interrupt = loaded.engine, loaded.engine.interrupt
    sampling, limit = engine.sampling.updated(request.sampling), request.max_tokens
    with catching(interrupt):
        if loaded.prompt_format is None:
            tokens = engine.text_tokens(request.text)
            generation = engine.generate(tokens, sampling=sampling, max_tokens=limit)
        else:
            system = engine.system if request.system is None else request.system
            conversation = Conversation(system, [Message("user", request.text)])
            messages = conversation.messages
            generation = engine.chat(messages, sampling=sampling, max_tokens=limit)
        file, prompt_format, plan = loaded.file, loaded.prompt_format, loaded.plan
        result = write_answer(generation, output, file, prompt_format, plan)
    if result.finish_reason == "length" and limit is None:
        output.stderr.write(f"fwlocal: {cut_notice(result)}\n")
    return interrupt.exit_code if result.finish_reason == "interrupt" else 0


def write_answer(
    generation: Generation,
    output: Output,
    file: ModelFile,
    prompt_format: str | None,
    plan: OffloadPlan,
) -> Result:
    """Write an answer as it comes, or as one JSON object at its end."""
    if output.as_json:
        for _ in generation:
            pass
        record = describe(generation.result, file, prompt_format, plan)
        output.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
    else:
        shown = inert if output.stdout.isatty() else str
        for text in ending_in_one_newline(generation):
            output.stdout.write(shown(text))
            output.stdout.flush()
    output.stdout.flush()
    if output.stats:
        output.stderr.write(f"{stats_line(generation.result)}; {where_layers_are(plan)}\n")
    return generation.result


def cut_notice(result: Result) -> str:
    """What to say of an answer that ended at a limit that nobody asked for."""
    return (
        f"the answer was cut after {result.completion_tokens} tokens; --max-tokens allows more, "
        "within the context"
    )


def ending_in_one_newline(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, but with exactly one newline at the end of all."""
    held = ""
    for piece in pieces:
        text = held + piece
        kept = text.rstrip("\n")
        held = text[len(kept) :]
        if kept:
            yield kept
    yield "\n"


def describe(
    result: Result, file: ModelFile, prompt_format: str | None, plan: OffloadPlan
) -> dict[str, object]:
    """The object that ``--json`` prints; ``prompt_format`` None for a raw prompt."""
    return {
        "text": result.text,
        "finish_reason": result.finish_reason,
        "model": {"name": file.name, "file": str(file.path), "sha256": file.sha256},
        "prompt_format": prompt_format,
        "layers": {share.device: share.n_layers for share in plan.shares if share.n_layers},
        "kv_type": plan.kv_type,
        "seed": result.seed,
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "reused_tokens": result.reused_tokens,
        "timings": {key: round(value, 4) for key, value in asdict(result.timings).items()},
    }


def stats_line(result: Result) -> str:
    """Counts and speeds in one line."""
    t = result.timings
    return (
        f"[{result.finish_reason}] prompt {result.prompt_tokens} tokens "
        f"({result.reused_tokens} reused) at {t.prefill_tps:.1f} tok/s, answer "
        f"{result.completion_tokens} tokens at {t.decode_tps:.1f} tok/s, load {t.load_s:.2f} s, "
        f"first token {t.ttft_s:.2f} s, seed {result.seed}"
    )


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FwlocalError(
            f"stdin is not UTF-8 (byte {error.start}); convert it first, as with: "
            "iconv -f latin1 -t utf-8"
        ) from None
    return _checked(text, "stdin")


def _checked(text: str, where: str) -> str:
    if "\0" in text:
        raise FwlocalError(f"{where} holds a NUL byte at {text.index(chr(0))}; is it a text?")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise FwlocalError(f"{where} is not valid UTF-8")
    return text
