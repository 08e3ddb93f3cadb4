"""``fwlocal prompt``: the exact prompt that a text becomes, as text or as tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fwlocal import llama
from fwlocal.conversation import Conversation
from fwlocal.encoding import encode
from fwlocal.loader import Library, choose_format, open_file, renderer
from fwlocal.prompts import GGUF_FORMAT, Segment, text_of


@dataclass(frozen=True)
class Rendered:
    """A prompt, and the vocabulary to cut it with."""

    segments: Sequence[Segment]
    model: llama.Model

    @property
    def text(self) -> str:
        """The prompt itself."""
        return text_of(self.segments)

    def token_lines(self) -> str:
        """One token per line: its id and its piece."""
        ids = encode(self.model, self.segments)
        return "".join(f"{token:>7}  {self.model.spelling(token)!r}\n" for token in ids)


def render(
    model: str,
    text: str,
    system: str | None,
    prompt_format: str | None,
    notify: Callable[[str], None],
) -> Rendered:
    """``text`` as the first message of a conversation with ``model``; only its vocabulary is
    loaded."""
    file, header = open_file(model, Library.default(), notify)
    chosen = choose_format(file, header, prompt_format)
    vocabulary = llama.Model(file.path, llama.LoadOptions(vocab_only=True))
    own = file.spec.system if file.spec and chosen != GGUF_FORMAT else None
    conversation = Conversation(own if system is None else system)
    conversation.ask(text)
    return Rendered(renderer(chosen, header, vocabulary)(conversation.messages), vocabulary)
