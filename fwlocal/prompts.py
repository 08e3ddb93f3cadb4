"""Prompt formats: messages become the exact text that a model was trained on.

A format is data: what stands before and after each role's text, and what ends an answer. Rendering
gives segments, because the scaffold may hold control tokens and a user's text must never become
one. The format ``gguf``, the Jinja template inside a model file, needs llama.cpp's bindings and is
rendered by ``fwlocal.llama`` behind the same function type.

Sources: the model cards of stabilityai/StableBeluga2 and stabilityai/StableBeluga1-Delta; ChatML:
https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fwlocal.errors import UsageError

Role = Literal["system", "user", "assistant"]

GGUF_FORMAT = "gguf"  # the template that the file itself carries


@dataclass(frozen=True)
class Message:
    """One turn. ``tokens`` are the ids the model itself said ``content`` with, when it did: they
    spare the KV cache a second evaluation where tokenizing the text again would give other ids."""

    role: Role
    content: str
    tokens: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt. Only the scaffold may hold control tokens; ``tokens`` as in Message:
    they spell the beginning of ``text``."""

    text: str
    scaffold: bool = False
    tokens: tuple[int, ...] = ()


Render = Callable[[Sequence[Message]], tuple[Segment, ...]]
Turn = dict[str, str]  # a message as Jinja templates take it: "role" and "content"


@dataclass(frozen=True)
class PromptFormat:
    """What stands around each role's text. ``stop`` strings that start with a newline match only
    at the start of a line, which includes the start of the answer."""

    name: str
    turns: Mapping[Role, tuple[str, str]]
    stop: tuple[str, ...]
    preamble: str = ""

    def render(self, messages: Sequence[Message]) -> tuple[Segment, ...]:
        """The prompt for the next answer: every turn, then the opening of the assistant's."""
        segments = [Segment(self.preamble, scaffold=True)] if self.preamble else []
        for message in messages:
            before, after = self.turns[message.role]
            segments += [
                Segment(before, scaffold=True),
                Segment(message.content, tokens=message.tokens),
                Segment(after, scaffold=True),
            ]
        segments.append(Segment(self.turns["assistant"][0], scaffold=True))
        return tuple(segments)


def as_messages(messages: Iterable[Message | dict[str, str]]) -> list[Message]:
    """Messages as callers may give them. Raises UsageError for what is none."""
    return [_as_message(message) for message in messages]


def _as_message(message: Message | dict[str, str]) -> Message:
    if isinstance(message, Message):
        return message
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise UsageError(
            'a message is {"role": "system", "user" or "assistant", "content": text}, '
            f"not {message!r}"
        )
    return Message(role, content)  # type: ignore[arg-type]


def prompt_of(render: Render, messages: Sequence[Message]) -> tuple[Segment, ...]:
    """The prompt that asks for the answer to ``messages``; where the last of them is the
    assistant's, for the rest of it."""
    if not messages or messages[-1].role != "assistant":
        return render(messages)
    *before, answer = messages
    return (*render(before), Segment(answer.content, tokens=answer.tokens))


def text_of(segments: Sequence[Segment]) -> str:
    """The prompt as one string."""
    return "".join(segment.text for segment in segments)


FREEWILLY2 = PromptFormat(
    name="freewilly2",
    turns={
        "system": ("### System:\n", "\n\n"),
        "user": ("### User:\n", "\n\n"),
        "assistant": ("### Assistant:\n", "\n\n"),
    },
    stop=("\n### User:", "\n### System:", "\n### Assistant:"),
)

FREEWILLY1 = PromptFormat(
    name="freewilly1",
    preamble=(
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
    ),
    turns={
        "system": ("### Instruction:\n", "\n\n"),  # the card puts the system text here
        "user": ("### Input:\n", "\n\n"),
        "assistant": ("### Response:\n", "\n\n"),
    },
    stop=("\n### Instruction:", "\n### Input:", "\n### Response:"),
)

CHATML = PromptFormat(
    name="chatml",
    turns={
        "system": ("<|im_start|>system\n", "<|im_end|>\n"),
        "user": ("<|im_start|>user\n", "<|im_end|>\n"),
        "assistant": ("<|im_start|>assistant\n", "<|im_end|>\n"),
    },
    stop=("<|im_end|>", "<|im_start|>"),
)

FORMATS: Mapping[str, PromptFormat] = {
    prompt_format.name: prompt_format for prompt_format in (FREEWILLY2, FREEWILLY1, CHATML)
}
FORMAT_NAMES = (*FORMATS, GGUF_FORMAT)


def jinja_template(prompt_format: PromptFormat) -> str:
    """The format as the Jinja template that Hugging Face and llama.cpp know, for
    ``tokenizer.chat_template``. It puts no BOS: that is the tokenizer's to add."""
    turns = "".join(
        f"{{% {'el' if index else ''}if message['role'] == '{role}' %}}"
        f"{{{{ {_quoted(before)} + message['content'] + {_quoted(after)} }}}}"
        for index, (role, (before, after)) in enumerate(prompt_format.turns.items())
    )
    preamble = f"{{{{ {_quoted(prompt_format.preamble)} }}}}" if prompt_format.preamble else ""
    opening = _quoted(prompt_format.turns["assistant"][0])
    return (
        f"{preamble}{{% for message in messages %}}{turns}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ {opening} }}}}{{% endif %}}"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def format_of_template(template: str) -> str | None:
    """The format whose template this is; None for any other."""
    return next((name for name, f in FORMATS.items() if jinja_template(f) == template), None)
